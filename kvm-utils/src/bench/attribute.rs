//! The tracer beside the guest: what it says between the two marks of each round belongs to that round's operation.

use std::collections::BTreeMap;

use kvm_bench::measure::{
    round::{Pairs, Span},
    worker::Ready,
};
use kvm_bench::ops::Spec;
use kvm_bench::shared::marks;
use kvm_utils_common::{
    ledger::BUCKET_COUNT,
    numbers::ledger::{BUCKETS, EXITS},
};
use serde::Deserialize;

use super::{Error, Observer};
use crate::bpf::rows::Slice;
use crate::drilldown::exits::rows::Code;
use crate::session::Session;

/// By the vCPU's id.
pub type Each<T> = BTreeMap<u32, T>;

/// What the tracer says of one round.
pub trait Meter {
    /// Its numbers.
    type Reading;

    /// The round's first sample comes next.
    ///
    /// # Errors
    /// When the tracer cannot be read.
    fn begin(&mut self) -> Result<(), Error>;

    /// The round's last sample has been taken. None if the tracer does not know the vCPU.
    ///
    /// # Errors
    /// When the tracer cannot be read.
    fn end(&mut self) -> Result<Self::Reading, Error>;
}

/// One round as the tracer saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<R> {
    /// The operation with its arguments.
    pub title: String,
    /// How often it was done.
    pub operations: u64,
    /// All of its time as the guest saw it, and who took part.
    pub span: Span,
    /// What the tracer says.
    pub reading: R,
}

/// Collects what the guest prints, and what a meter reads for each round.
pub struct Beside<'a, M: Meter> {
    meter: M,
    /// The round whose marks have both come, and whose result has not.
    pending: Option<M::Reading>,
    /// Each round.
    pub rounds: Vec<Seen<M::Reading>>,
    /// All that was printed.
    pub lines: Vec<String>,
    progress: &'a mut dyn FnMut(&str),
}

/// As much of a line of the payload as names its operation.
#[derive(Deserialize)]
struct Named {
    #[serde(flatten)]
    spec: Spec,
    ready: Ready,
    all: Pairs,
    #[serde(default)]
    span: Span,
}

impl<'a, M: Meter> Beside<'a, M> {
    /// With nothing seen yet; `progress` hears each line.
    pub fn new(meter: M, progress: &'a mut dyn FnMut(&str)) -> Self {
        Self { meter, pending: None, rounds: Vec::new(), lines: Vec::new(), progress }
    }
}

impl<M: Meter> Observer for Beside<'_, M> {
    fn line(&mut self, line: &str) -> Result<(), Error> {
        (self.progress)(line);
        if let (Ok(named), Some(reading)) = (serde_json::from_str::<Named>(line), self.pending.take()) {
            let samples: u64 = named.all.iter().map(|(_, count)| count).sum();
            let operations = samples * u64::from(named.ready.repeat);
            self.rounds.push(Seen { title: named.spec.title(), operations, span: named.span, reading });
        }
        self.lines.push(line.to_owned());
        Ok(())
    }

    fn mark(&mut self, mark: u32) -> Result<(), Error> {
        self.pending = None;
        if mark == marks::END {
            self.pending = Some(self.meter.end()?);
            return Ok(());
        }
        self.meter.begin()
    }
}

/// Nothing is traced.
pub struct Untraced;

impl Meter for Untraced {
    type Reading = ();

    fn begin(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// Exits by reason, of each vCPU.
pub struct Exits<'a>(pub &'a mut Session);

impl Meter for Exits<'_> {
    type Reading = Each<BTreeMap<Code, u64>>;

    fn begin(&mut self) -> Result<(), Error> {
        self.end().map(|_| ())
    }

    fn end(&mut self) -> Result<Self::Reading, Error> {
        let counts = self.0.interval_counts_by_vcpu().map_err(|error| Error::Watcher(error.to_string()))?;
        let some = |(vcpu, mut counts): (u32, BTreeMap<Code, u64>)| {
            counts.retain(|_, count| *count > 0);
            (!counts.is_empty()).then_some((vcpu, counts))
        };
        Ok(counts.into_iter().filter_map(some).collect())
    }
}

/// Where the time of each vCPU went.
pub struct Times<'a> {
    session: &'a mut Session,
    began: Each<Slice>,
}

impl<'a> Times<'a> {
    /// Of a session of the noun `time`.
    pub fn new(session: &'a mut Session) -> Self {
        Self { session, began: Each::default() }
    }
}

/// Time in each bucket of the ledger, ns, and exits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// In the order of [`kvm_utils_common::ledger::Bucket`].
    pub buckets: [u64; BUCKET_COUNT],
    /// How often the guest was left.
    pub exits: u64,
}

impl Ledger {
    fn between(before: &Slice, after: &Slice) -> Self {
        let counted = after.since(before);
        let buckets = std::array::from_fn(|bucket| counted.counter(BUCKETS + bucket));
        Self { buckets, exits: counted.counter(EXITS) }
    }
}

impl Meter for Times<'_> {
    type Reading = Each<Ledger>;

    fn begin(&mut self) -> Result<(), Error> {
        // Last: what comes before it is not the round's.
        self.began = self.session.counters_now();
        Ok(())
    }

    fn end(&mut self) -> Result<Self::Reading, Error> {
        let now = self.session.counters_now();
        // One that comes later has no beginning to be counted from.
        let both = |(vcpu, after)| Some((vcpu, Ledger::between(self.began.get(&vcpu)?, &after)));
        Ok(now.into_iter().filter_map(both).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts its readings.
    struct Count(u32);

    impl Meter for Count {
        type Reading = u32;

        fn begin(&mut self) -> Result<(), Error> {
            self.0 += 100;
            Ok(())
        }

        fn end(&mut self) -> Result<u32, Error> {
            self.0 += 1;
            Ok(self.0)
        }
    }

    #[test]
    fn readings_belong_to_the_round_that_is_told_after_them() {
        let mut heard = 0;
        let mut progress = |_: &str| heard += 1;
        let mut beside = Beside::new(Count(0), &mut progress);
        let round = |op: &str, args: &str| {
            format!(
                r#"{{"op":"{op}","args":{args},"ready":{{"repeat":4,"overhead":52,"quantum":26}},"all":[[100,3],[120,2]],"span":{{"cycles":900,"targets":1,"enclosed":true,"interrupts":true}}}}"#
            )
        };
        beside.line(r#"{"kvm_bench":"payload/v1"}"#).unwrap();
        for mark in [7, marks::END] {
            beside.mark(mark).unwrap();
        }
        beside.line(&round("cpuid", "{}")).unwrap();
        // An exception after the first mark: there is no reading, and no round.
        beside.mark(7).unwrap();
        beside.line(r#"{"op":"msr:read","skipped":{"reason":"a GP fault","hint":"none"}}"#).unwrap();
        for mark in [7, marks::END] {
            beside.mark(mark).unwrap();
        }
        beside.line(&round("msr:write", r#"{"index":"0x3b"}"#)).unwrap();
        let span = Span { cycles: 900, targets: 1, enclosed: true, interrupts: true };
        let seen = |title: &str, reading| Seen { title: title.to_owned(), operations: 20, span, reading };
        assert_eq!(beside.rounds, [seen("cpuid", 101), seen("msr:write index=0x3b", 302)]);
        assert_eq!(beside.lines.len(), 4);
        assert_eq!(heard, 4);
    }
}
