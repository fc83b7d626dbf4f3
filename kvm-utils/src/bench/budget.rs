//! The exit budget: each operation's round trip, split into who took the time, and the exits that it made, beside those that
//! the list of operations states.

use std::collections::BTreeMap;

use kvm_bench::measure::{Round, supervisor::Measured, worker::Ready};
use kvm_bench::shared::ops::{self, Exits};
use kvm_bench::stats::{Scale, Summary};
use kvm_utils_common::ledger::Bucket;

use super::attribute::{Ledger, Seen};
use crate::decode::Class;
use crate::drilldown::exits::rows::Code;

/// Exits for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The kernel's name.
    pub name: String,
    /// Its class.
    pub class: Class,
    /// How many.
    pub count: u64,
}

/// Exits of all rounds of one operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// How often it was done.
    pub operations: u64,
    /// What it made the guest leave for, the most frequent first; without what marks the rounds.
    pub exits: Vec<Reason>,
    /// The host's own interrupts meanwhile, and memory that the guest had not touched before.
    pub background: Vec<Reason>,
    /// The class and number for each operation that are stated, if they are.
    pub stated: Option<(&'static str, u32)>,
}

/// Where one operation's time goes, TSC cycles of the guest: means of the round whose mean is the median of all rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Split {
    /// How often it was done in that round.
    pub operations: u64,
    /// Mean of all samples, without the bracket, as the guest measured it with the tracer beside it.
    pub round_trip: f64,
    /// The guest, and the processor's way out and in: the round trip minus all others.
    pub guest: f64,
    /// KVM.
    pub kvm: f64,
    /// The VMM in user space.
    pub vmm: f64,
    /// KVM's polling for the end of a halt.
    pub poll: f64,
    /// The thread was blocked while the vCPU halted.
    pub idle: f64,
    /// The thread waited for a CPU.
    pub steal: f64,
    /// The thread was blocked otherwise.
    pub other: f64,
}

impl Split {
    /// The same with all of it the guest's.
    fn all_guest(self) -> Self {
        let (operations, round_trip) = (self.operations, self.round_trip);
        Self { operations, round_trip, guest: round_trip, ..Self::default() }
    }

    /// The thread had no CPU.
    #[must_use]
    pub fn off_cpu(&self) -> f64 {
        self.idle + self.steal + self.other
    }
}

/// One operation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Budget {
    /// Its exits.
    pub counted: Option<Counted>,
    /// Its time; None if it does more than what its samples are of.
    pub split: Option<Split>,
}

/// The operation that does nothing: its rounds say what the marks take.
pub const EMPTY: &str = "null";

/// Everything that was seen, by the operation's title.
pub fn budgets(
    counted: &[Seen<BTreeMap<Code, u64>>],
    timed: &[Seen<Ledger>],
    measured: &[Measured],
    tsc_khz: u32,
) -> BTreeMap<String, Budget> {
    let mut all: BTreeMap<String, Budget> = BTreeMap::new();
    for (title, rounds) in by_title(counted) {
        all.entry(title.to_owned()).or_default().counted = Some(count(title, &rounds));
    }
    let marks = by_title(timed).get(EMPTY).map_or_else(Ledger::default, |rounds| cheapest(rounds));
    for (title, rounds) in by_title(timed) {
        let one = measured.iter().find(|one| one.spec.title() == title);
        let budget = all.entry(title.to_owned()).or_default();
        budget.split = one.and_then(|one| split(one, &rounds, &marks, tsc_khz));
        // What the host did meanwhile is none of an operation that never leaves the guest.
        let stays = budget.counted.as_ref().is_some_and(|counted| counted.exits.is_empty());
        budget.split = budget.split.map(|split| if stays { split.all_guest() } else { split });
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

/// What the marks themselves take: the empty round in which the host did least beside.
fn cheapest(rounds: &[&Seen<Ledger>]) -> Ledger {
    let outside = |ledger: &Ledger| ledger.buckets.iter().skip(1).sum::<u64>();
    rounds.iter().map(|round| round.reading).min_by_key(outside).unwrap_or_default()
}

fn count(title: &str, rounds: &[&Seen<BTreeMap<Code, u64>>]) -> Counted {
    let mut sums: BTreeMap<Code, u64> = BTreeMap::new();
    for round in rounds {
        for (code, count) in &round.reading {
            *sums.entry(*code).or_default() += count;
        }
    }
    // Of the two marks of a round the second is an exit within it.
    let mut marks = rounds.len() as u64;
    for (code, count) in &mut sums {
        if class(*code) == Class::Io {
            let mark = marks.min(*count);
            *count -= mark;
            marks -= mark;
        }
    }
    let op = title.split(' ').next().and_then(ops::find);
    let stated = match op.map(|op| op.exits) {
        Some(Exits::Each(class, each)) => Some((class, each)),
        _ => None,
    };
    let mut reasons: Vec<_> = sums
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(code, count)| Reason { name: code.name(), class: class(code), count })
        .collect();
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.count));
    let operations = rounds.iter().map(|round| round.operations).sum();
    let ours = |reason: &Reason| {
        !is_background(reason, operations) || stated.is_some_and(|(class, _)| is_of(reason.class, class))
    };
    let (exits, background) = reasons.into_iter().partition(ours);
    Counted { operations, exits, background, stated }
}

fn class(code: Code) -> Class {
    code.reason().map_or(Class::Other, |reason| reason.class())
}

/// Whether the host, not the operation, makes these: its interrupts at any time, and the first touch of a page, which happens
/// far less often than an operation that touches one each time.
fn is_background(reason: &Reason, operations: u64) -> bool {
    match reason.class {
        Class::Interrupt | Class::Nmi | Class::IrqWindow => true,
        Class::Ept | Class::Exception => reason.count < operations.div_ceil(2),
        _ => false,
    }
}

/// Whether an exit of this class may be one that is stated as `stated`: what the vendors do not tell apart.
fn is_of(class: Class, stated: &str) -> bool {
    match class {
        // Device memory is a nested page fault with SVM and a misconfigured entry with VMX.
        Class::Ept | Class::Mmio => stated == Class::Ept.id() || stated == Class::Mmio.id(),
        // SVM's exit code does not tell reads from writes.
        Class::Msr => stated == Class::MsrRead.id() || stated == Class::MsrWrite.id(),
        class => stated == class.id(),
    }
}

impl Counted {
    /// Exits of the stated class.
    #[must_use]
    pub fn of_stated(&self) -> Option<u64> {
        let (stated, _) = self.stated?;
        Some(self.exits.iter().filter(|reason| is_of(reason.class, stated)).map(|reason| reason.count).sum())
    }

    /// Exits of other classes that the host did not make, where it is stated what there must be.
    #[must_use]
    pub fn unexplained(&self) -> u64 {
        let Some(stated) = self.of_stated() else { return 0 };
        self.exits.iter().map(|reason| reason.count).sum::<u64>() - stated
    }

    /// Whether what was counted is what is stated; None if nothing is.
    #[must_use]
    pub fn agrees(&self) -> Option<bool> {
        let (_, each) = self.stated?;
        Some(self.of_stated()? == self.operations * u64::from(each))
    }
}

/// Mean of all samples of a round, without the bracket, TSC cycles.
fn mean(round: &Round, ready: Ready) -> Option<f64> {
    Summary::of(&[&round.all], Scale::Net(ready)).map(|summary| summary.mean)
}

/// The one in the middle, if any: what disturbed other rounds does not move it.
fn median<T>(mut all: Vec<T>, value: impl Fn(&T) -> f64) -> Option<T> {
    all.sort_by(|a, b| value(a).total_cmp(&value(b)));
    let middle = all.len().saturating_sub(1) / 2;
    all.into_iter().nth(middle)
}

/// Mean of all samples of the round in the middle, TSC cycles.
#[must_use]
pub fn typical(measured: &Measured) -> Option<f64> {
    let means = measured.rounds.iter().filter_map(|round| mean(round, measured.ready));
    median(means.collect(), |mean| *mean)
}

/// Whether the operation does more than what its samples are of: interrupts have to be sent, timers armed and handlers ended
/// around the bracket, and the gap detector keeps gaps only. Then the time between two marks is not that of the samples.
fn does_more(round: &Round) -> bool {
    ["sent", "watched_ns"].iter().any(|name| round.evidence.contains_key(*name))
}

/// Splits the round in the middle: of several rounds the columns would add up only if those that something disturbed were in.
fn split(measured: &Measured, rounds: &[&Seen<Ledger>], marks: &Ledger, tsc_khz: u32) -> Option<Split> {
    if rounds.len() != measured.rounds.len() || measured.rounds.iter().any(does_more) {
        return None;
    }
    let both = measured.rounds.iter().zip(rounds);
    let splits = both.filter_map(|(round, seen)| {
        let round_trip = mean(round, measured.ready)?;
        Some(split_round(round_trip, seen, marks, tsc_khz))
    });
    median(splits.collect(), |split| split.round_trip)
}

fn split_round(round_trip: f64, seen: &Seen<Ledger>, marks: &Ledger, tsc_khz: u32) -> Split {
    let cycles = |bucket: Bucket| {
        let (all, marks) = (seen.reading.buckets[bucket as usize], marks.buckets[bucket as usize]);
        all.saturating_sub(marks) as f64 * f64::from(tsc_khz) / 1e6 / seen.operations.max(1) as f64
    };
    let mut split = Split {
        operations: seen.operations,
        round_trip,
        guest: 0.0,
        kvm: cycles(Bucket::Kvm),
        vmm: cycles(Bucket::Vmm),
        poll: cycles(Bucket::Poll),
        idle: cycles(Bucket::Idle),
        steal: cycles(Bucket::RunQueue),
        other: cycles(Bucket::Other),
    };
    split.guest = round_trip - split.kvm - split.vmm - split.poll - split.off_cpu();
    split
}

/// An operation whose time outside of the guest exceeds what the guest saw by more than this share is suspect: below it the
/// difference is the host's own work between two samples.
const TOLERANCE: f64 = 0.02;

impl Budget {
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
        let split = self.split?;
        (split.guest < -TOLERANCE * split.round_trip).then(|| {
            format!(
                "the host counts {:.0} cycles outside of the guest, more than the {:.0} of the round trip that the guest saw",
                split.round_trip - split.guest,
                split.round_trip
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_bench::measure::supervisor::Status;
    use kvm_bench::ops::Spec;

    const SVM: u32 = 2;

    fn seen<R>(title: &str, operations: u64, reading: R) -> Seen<R> {
        Seen { title: title.to_owned(), operations, reading }
    }

    fn exits(counts: &[(u64, u64)]) -> BTreeMap<Code, u64> {
        counts.iter().map(|(code, count)| (Code { isa: SVM, code: *code }, *count)).collect()
    }

    const CPUID: u64 = 0x72;
    const IO: u64 = 0x7b;
    const INTERRUPT: u64 = 0x60;
    const NPF: u64 = 0x400;
    const MSR: u64 = 0x7c;

    fn counted(rounds: &[Seen<BTreeMap<Code, u64>>]) -> Counted {
        let all = budgets(rounds, &[], &[], 0);
        assert_eq!(all.len(), 1);
        all.into_values().next().unwrap().counted.unwrap()
    }

    #[test]
    fn what_is_counted_is_held_against_what_is_stated() {
        let two = [
            seen("cpuid", 1009, exits(&[(CPUID, 1009), (IO, 1), (INTERRUPT, 3)])),
            seen("cpuid", 1009, exits(&[(CPUID, 1009), (IO, 1), (NPF, 1)])),
        ];
        let counted = counted(&two);
        assert_eq!(
            (counted.operations, counted.of_stated(), counted.agrees()),
            (2018, Some(2018), Some(true))
        );
        assert_eq!((counted.unexplained(), counted.exits.len(), counted.background.len()), (0, 1, 2));
        let budget = Budget { counted: Some(counted), split: None };
        assert_eq!(budget.doubt(), None);
    }

    #[test]
    fn an_operation_that_does_not_exit_as_stated_is_suspect() {
        let counted = counted(&[seen("cpuid leaf=0x1", 1009, exits(&[(CPUID, 1008), (IO, 1), (MSR, 5)]))]);
        assert_eq!((counted.agrees(), counted.unexplained()), (Some(false), 5));
        let doubt = Budget { counted: Some(counted), split: None }.doubt().unwrap();
        assert!(doubt.contains("1008 exits of class cpuid for 1009 operations, not 1 each"), "{doubt}");
    }

    #[test]
    fn vendors_name_the_same_exit_differently_and_marks_are_no_operations() {
        assert_eq!(counted(&[seen("pio:user-in", 7, exits(&[(IO, 8)]))]).agrees(), Some(true));
        assert_eq!(counted(&[seen("mmio:ioapic", 7, exits(&[(NPF, 7), (IO, 1)]))]).agrees(), Some(true));
        assert_eq!(counted(&[seen("timer:arm", 7, exits(&[(MSR, 7), (IO, 1)]))]).agrees(), Some(true));
        let vmx = BTreeMap::from([(Code { isa: 1, code: 49 }, 7), (Code { isa: 1, code: 30 }, 1)]);
        assert_eq!(counted(&[seen("mmio:ioapic", 7, vmx)]).agrees(), Some(true));
        let depends = counted(&[seen("ipi:self", 7, exits(&[(MSR, 14), (IO, 1)]))]);
        assert_eq!((depends.agrees(), depends.exits[0].count), (None, 14));
    }

    fn measured(op: &str, cycles: &[u64]) -> Measured {
        let round = |cycles: &u64| Round { all: vec![(*cycles, 1000)], ..Round::default() };
        Measured {
            spec: Spec::new(op),
            status: Status::Ok,
            ready: Ready { overhead: 50, quantum: 1, repeat: 1, ..Ready::default() },
            rounds: cycles.iter().map(round).collect(),
        }
    }

    #[test]
    fn columns_add_up_to_the_round_trip_and_marks_are_subtracted() {
        let ledger = |buckets| Ledger { buckets, exits: 0 };
        let timed = [
            seen("null", 1000, ledger([9, 100, 40, 0, 0, 0, 0])),
            seen("null", 1000, ledger([9, 900, 40, 0, 0, 70, 0])),
            seen("pio:user-in", 1000, ledger([9, 500_100, 200_040, 10_000, 30_000, 20_000, 10_000])),
        ];
        let measured = [measured("null", &[50, 50]), measured("pio:user-in", &[3050])];
        // 2 GHz: two cycles in a nanosecond.
        let all = budgets(&[], &timed, &measured, 2_000_000);
        let split = all["pio:user-in"].split.unwrap();
        let near = |a: f64, b: f64| (a - b).abs() < 3.0;
        assert!(near(split.kvm, 1000.0) && near(split.vmm, 400.0) && near(split.poll, 20.0), "{split:?}");
        assert!(near(split.off_cpu(), 120.0) && near(split.round_trip, 3000.0), "{split:?}");
        let sum = split.guest + split.kvm + split.vmm + split.poll + split.off_cpu();
        assert!((sum - split.round_trip).abs() < 1e-6);
        assert!(near(split.guest, 1460.0) && all["pio:user-in"].doubt().is_none(), "{split:?}");
        assert_eq!(all["null"].split.unwrap().vmm, 0.0);
    }

    #[test]
    fn more_time_outside_than_the_guest_saw_is_suspect() {
        let timed = [seen("cpuid", 1000, Ledger { buckets: [0, 2_000_000, 0, 0, 0, 0, 0], exits: 1000 })];
        let all = budgets(&[], &timed, &[measured("cpuid", &[3050])], 2_000_000);
        assert!(all["cpuid"].split.unwrap().guest < 0.0);
        assert!(all["cpuid"].doubt().unwrap().contains("more than"));
    }

    #[test]
    fn the_round_in_the_middle_is_split_whatever_disturbed_another() {
        let ledger = |kvm| Ledger { buckets: [0, kvm, 0, 0, 0, 0, 0], exits: 0 };
        let timed = [1_000_000, 300_000, 90_000_000].map(|kvm| seen("cpuid", 1000, ledger(kvm)));
        let measured = measured("cpuid", &[4050, 1050, 900_050]);
        let all = budgets(&[], &timed, std::slice::from_ref(&measured), 2_000_000);
        let split = all["cpuid"].split.unwrap();
        assert!((split.kvm - 2000.0).abs() < 1.0 && (split.round_trip - 4000.0).abs() < 5.0, "{split:?}");
        assert_eq!(typical(&measured), Some(split.round_trip));
        // Rounds that cannot be put side by side are not guessed at.
        let all = budgets(&[], &timed[1..], &[measured], 2_000_000);
        assert_eq!(all["cpuid"].split, None);
    }

    #[test]
    fn what_never_leaves_the_guest_is_all_the_guests_and_what_does_more_is_not_split() {
        let ledger = Ledger { buckets: [0, 2_000, 90_000, 0, 0, 0, 0], exits: 3 };
        let counted = [seen("cr:cr8-read", 1000, exits(&[(IO, 1), (INTERRUPT, 2)]))];
        let timed = [seen("cr:cr8-read", 1000, ledger), seen("eoi", 1000, ledger)];
        let mut eoi = measured("eoi", &[80]);
        eoi.rounds[0].evidence.insert("sent".to_owned(), 1000);
        let all = budgets(&counted, &timed, &[measured("cr:cr8-read", &[80]), eoi], 2_000_000);
        let split = all["cr:cr8-read"].split.unwrap();
        assert_eq!((split.guest, split.round_trip, split.kvm, split.vmm), (30.0, 30.0, 0.0, 0.0));
        assert_eq!((all["cr:cr8-read"].doubt(), all["eoi"].split), (None, None));
    }
}
