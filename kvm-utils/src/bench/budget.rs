//! The exit budget: each operation's round trip, split into who took the time, and the exits that it made, beside those that
//! the list of operations states.

use std::collections::BTreeMap;

use kvm_bench::measure::supervisor::Measured;

use super::attribute::{Each, Ledger, Seen};
use super::counted::{Counted, count};
use super::split::{Marks, Splits, split};
use crate::drilldown::exits::rows::Code;

/// One operation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Budget {
    /// Its exits.
    pub counted: Option<Counted>,
    /// Its time; None if the run that tells was not made.
    pub splits: Option<Result<Splits, &'static str>>,
}

/// The operation that does nothing: its rounds say what the marks take.
pub const EMPTY: &str = "null";

/// Everything that was seen, by the operation's title.
pub fn budgets(
    counted: &[Seen<Each<BTreeMap<Code, u64>>>],
    timed: &[Seen<Each<Ledger>>],
    measured: &[Measured],
    tsc_khz: u32,
) -> BTreeMap<String, Budget> {
    let mut all: BTreeMap<String, Budget> = BTreeMap::new();
    for (title, rounds) in by_title(counted) {
        all.entry(title.to_owned()).or_default().counted = Some(count(title, &rounds));
    }
    let timed = by_title(timed);
    let marks = timed.get(EMPTY).map_or_else(Marks::default, |rounds| Marks::of(rounds, tsc_khz));
    for (title, rounds) in timed {
        let one = measured.iter().find(|one| one.spec.title() == title);
        let budget = all.entry(title.to_owned()).or_default();
        let mut splits = split(one, &rounds, &marks, tsc_khz);
        // What the host did meanwhile is none of an operation that never leaves the guest, unless that is what it looks for.
        let stays = budget.counted.as_ref().is_some_and(|counted| counted.exits.is_empty());
        let is_enclosed = rounds.iter().all(|round| round.span.enclosed);
        if let Ok(splits) = &mut splits
            && stays
            && is_enclosed
        {
            splits.measuring = splits.measuring.all_guest();
        }
        budget.splits = Some(splits);
    }
    all
}

type Rounds<'a, R> = Vec<&'a Seen<R>>;

fn by_title<R>(seen: &[Seen<R>]) -> BTreeMap<&str, Rounds<'_, R>> {
    let mut all: BTreeMap<&str, Rounds<'_, R>> = BTreeMap::new();
    for one in seen {
        all.entry(&one.title).or_default().push(one);
    }
    all
}

impl Budget {
    /// The times, where there are any.
    #[must_use]
    pub fn split(&self) -> Option<&Splits> {
        self.splits.as_ref()?.as_ref().ok()
    }

    /// Why the operation is not to be trusted, if so.
    #[must_use]
    pub fn doubt(&self) -> Option<String> {
        if let Some(counted) = &self.counted
            && let (Some((class, each)), Some(false), Some(seen)) =
                (counted.stated, counted.agrees(), counted.of_stated())
        {
            return Some(format!(
                "the tracer counted {seen} exits of class {class} for {} operations, not {each} each",
                counted.operations
            ));
        }
        self.split()?.each().find_map(super::split::Split::doubt)
    }
}

#[cfg(test)]
mod tests {
    use kvm_bench::measure::round::Span;

    use super::super::split::tests::{ENCLOSED, measured, timed};
    use super::*;

    const KHZ: u32 = 2_000_000;

    fn seen(title: &str, span: Span, counts: &[(u64, u64)]) -> Seen<Each<BTreeMap<Code, u64>>> {
        let counts = counts.iter().map(|(code, count)| (Code { isa: 2, code: *code }, *count)).collect();
        Seen { title: title.to_owned(), operations: 1000, span, reading: BTreeMap::from([(0, counts)]) }
    }

    const CPUID: u64 = 0x72;
    const IO: u64 = 0x7b;
    const INTERRUPT: u64 = 0x60;

    #[test]
    fn an_operation_that_does_not_exit_as_stated_is_suspect() {
        let all = budgets(&[seen("cpuid leaf=0x1", ENCLOSED, &[(CPUID, 999), (IO, 1)])], &[], &[], 0);
        let doubt = all["cpuid leaf=0x1"].doubt().unwrap();
        assert!(doubt.contains("999 exits of class cpuid for 1000 operations, not 1 each"), "{doubt}");
        let all = budgets(&[seen("cpuid", ENCLOSED, &[(CPUID, 1000), (IO, 1)])], &[], &[], 0);
        assert_eq!((all["cpuid"].doubt(), all["cpuid"].split()), (None, None));
    }

    #[test]
    fn what_never_leaves_the_guest_is_all_the_guests() {
        let counted = [seen("cr:cr8-read", ENCLOSED, &[(IO, 1), (INTERRUPT, 2)])];
        let timed = [timed("cr:cr8-read", ENCLOSED, &[[0, 2_000, 90_000, 0, 0, 0, 0]])];
        let all = budgets(&counted, &timed, &[measured("cr:cr8-read", &[80])], KHZ);
        let split = all["cr:cr8-read"].split().unwrap().measuring;
        assert_eq!((split.guest, split.round_trip, split.kvm, split.vmm), (30.0, 30.0, 0.0, 0.0));
        assert_eq!(all["cr:cr8-read"].doubt(), None);
    }

    #[test]
    fn the_gaps_of_a_vcpu_that_spins_are_the_hosts() {
        let span = Span { cycles: 200_000_000, interrupts: true, ..ENCLOSED };
        let counted = [seen("jitter", span, &[(IO, 1), (INTERRUPT, 990)])];
        let timed = [timed("jitter", span, &[[0, 1_000_000, 0, 0, 0, 200_000, 0]])];
        let mut jitter = measured("jitter", &[3000]);
        jitter.ready.overhead = 0;
        let all = budgets(&counted, &timed, &[jitter], KHZ);
        let split = all["jitter"].split().unwrap().measuring;
        assert!((split.kvm, split.steal, split.doubt()) == (2000.0, 400.0, None), "{split:?}");
        assert!((split.guest - 600.0).abs() < 5.0, "{split:?}");
    }
}
