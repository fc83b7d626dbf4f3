//! One source, one target: running, halted, or the source itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::helper::Spinner;
use super::super::{Opened, Place, Refusal, Spec, Target, fill, witness};
use super::way::{Via, Way, handled};
use crate::measure::disturbance::run_delay_ns;
use crate::measure::round::{Details, histogram, pairs};
use crate::measure::skew::Skew;
use crate::shared::bracket::{self, Sample};

use hdrhistogram::Histogram;

/// How long a target is left alone before it is taken for halted, microseconds: longer than guests and hosts poll by
/// default before they halt (guest_halt_poll_ns and halt_poll_ns, 200 us each).
const ALONE: u64 = 300;

/// How long after the answer the target's note of it may take, cycles.
const NOTE: u64 = 300_000;

pub(super) fn open(spec: &Spec, place: Place, is_halted: bool) -> Opened {
    let dst = super::target(spec, place)?;
    let alone = if is_halted { spec.number("sleep_us", ALONE)? } else { 0 };
    Ok(Box::new(Single {
        way: super::way(spec, dst, !is_halted)?,
        is_halted,
        alone: Duration::from_micros(alone),
        overhead: crate::measure::overhead::measure().cycles,
        spinner: None,
        skew: None,
        split: Split::new(),
        run_delay_ns: 0,
    }))
}

/// Neither of its ways makes the kernel interrupt its own CPU: it is what everything but the interrupt costs.
pub(super) fn open_self(spec: &Spec, place: Place) -> Opened {
    let way = match super::via(spec)? {
        Some(Via::Signal | Via::Msr) => {
            return Err(Refusal::new(
                "to oneself these are no interrupt and no baseline of one",
                "use --via perf or --via membarrier",
            ));
        }
        Some(via) => Way::open(via, place.cpu, true)?,
        None => Way::choose(place.cpu, true)?,
    };
    Ok(Box::new(Oneself(way)))
}

struct Oneself(Way);

impl Target for Oneself {
    fn fill(&mut self, samples: &mut [Sample], repeat: u32) -> Result<(), Refusal> {
        let mut is_ok = true;
        fill(samples, repeat, || is_ok &= self.0.send());
        if is_ok { Ok(()) } else { Err(super::failed(self.0.via)) }
    }

    fn details(&mut self) -> Details {
        let via = format!("{} of its own CPU, without an interrupt", self.0.via.about());
        Details { notes: BTreeMap::from([("via".to_owned(), via)]), ..Details::default() }
    }
}

struct Single {
    way: Way,
    is_halted: bool,
    /// How long the target is left alone before each sample.
    alone: Duration,
    /// Of the bracket, cycles.
    overhead: u64,
    spinner: Option<Spinner>,
    skew: Option<Skew>,
    split: Split,
    /// This thread's when the round began.
    run_delay_ns: u64,
}

/// The two parts of the way that the target's notes tell.
struct Split {
    /// From the call to the moment when the target's thread is interrupted.
    one_way: Histogram<u64>,
    /// From the call to the moment when it goes on.
    handled: Histogram<u64>,
}

impl Split {
    fn new() -> Self {
        Self { one_way: histogram(), handled: histogram() }
    }
}

impl Single {
    /// Notes when the target was interrupted for the sample that started then.
    fn note(&mut self, start: u64, gaps: u64) {
        let (Some(spinner), Some(skew)) = (&self.spinner, self.skew) else { return };
        let Some(gap) = spinner.line().gap_after(gaps, NOTE) else { return };
        if let (Some(from), Some(to)) = (skew.from_here(start, gap.from), skew.from_here(start, gap.to)) {
            // The bracket reads before it begins: half of its cost is not the interrupt's.
            self.split.one_way.saturating_record(from.saturating_sub(self.overhead / 2));
            self.split.handled.saturating_record(to.saturating_sub(self.overhead / 2));
        }
    }
}

impl Target for Single {
    fn begin(&mut self) -> Result<(), Refusal> {
        self.split = Split::new();
        self.run_delay_ns = run_delay_ns();
        if !self.is_halted {
            let spinner = Spinner::start(self.way.dst)?;
            self.skew = Skew::better(self.skew, spinner.line().skew());
            self.way.aim(&spinner);
            self.spinner = Some(spinner);
        }
        Ok(())
    }

    fn end(&mut self) {
        self.spinner = None;
    }

    fn fill(&mut self, samples: &mut [Sample], repeat: u32) -> Result<(), Refusal> {
        for sample in samples {
            if !self.alone.is_zero() {
                let since = Instant::now();
                while since.elapsed() < self.alone {
                    std::hint::spin_loop();
                }
            }
            self.way.prepare()?;
            let gaps = self.spinner.as_ref().map_or(0, |spinner| spinner.line().gaps());
            let signals = handled(self.way.dst);
            let mut is_ok = true;
            let start = bracket::start();
            for _ in 0..repeat {
                is_ok &= self.way.send();
            }
            let (stop, aux) = bracket::stop();
            *sample = Sample { cycles: stop.wrapping_sub(start), aux };
            if !is_ok {
                return Err(super::failed(self.way.via));
            }
            if !self.way.settle(signals) {
                return Err(Refusal::new(
                    format!("the thread on CPU {} takes no signal", self.way.dst),
                    "see what else runs there",
                ));
            }
            if repeat == 1 {
                self.note(start, gaps);
            }
        }
        Ok(())
    }

    fn sleeps(&self) -> bool {
        // The completion's wake-up is an interrupt of its own.
        self.way.via == Via::Msr
    }

    fn evidence(&mut self) -> BTreeMap<String, u64> {
        let mut counted = witness::interrupts(&[self.way.via.kind()], &[self.way.dst]);
        if let (true, Some(idle)) = (self.is_halted, witness::idle(self.way.dst)) {
            counted.insert(witness::name("halts", self.way.dst), idle.halts);
        }
        counted
    }

    fn details(&mut self) -> Details {
        let mut details = Details::default();
        let delay = run_delay_ns().saturating_sub(self.run_delay_ns);
        details.totals.insert("run_delay_ns".into(), delay);
        details.notes.insert("via".into(), self.way.via.about().into());
        let target = match (self.is_halted, witness::idle(self.way.dst)) {
            (false, _) => "running",
            (true, Some(_)) => "halted",
            (true, None) => "left to halt, which this kernel does not count (no cpuidle driver)",
        };
        details.notes.insert("target".into(), target.into());
        let Some(skew) = self.skew else { return details };
        details.notes.insert("skew".into(), skew.words());
        if self.split.one_way.is_empty() {
            return details;
        }
        if skew.allows(self.split.one_way.value_at_quantile(0.5) as f64) {
            details.series.insert("one_way".into(), pairs(&self.split.one_way));
            details.series.insert("handled".into(), pairs(&self.split.handled));
        } else {
            let why = "the counters' skew is not known to 5 % of it";
            details.notes.insert("one_way".into(), why.into());
        }
        details
    }

    fn doubt(&self, operations: u64, counted: &BTreeMap<String, u64>) -> Option<String> {
        let dst = self.way.dst;
        let why = if self.is_halted {
            "an idle loop that polls needs no interrupt, and membarrier reaches running threads only"
        } else {
            "its thread was not running then, because other work was"
        };
        if let Some(doubt) = witness::doubt(counted, self.way.via.kind(), dst, operations) {
            return Some(format!("{doubt}: {why}"));
        }
        let halts = counted.get(&witness::name("halts", dst)).copied().filter(|_| self.is_halted)?;
        ((halts as f64) < operations as f64 * 0.9).then(|| {
            format!("CPU {dst} was halted {halts} times for {operations} operations: other work runs there")
        })
    }
}
