//! Who takes the time of an operation.
//!
//! The ledger says where each vCPU's time went between the two marks of a round, the guest's counter how long its samples took.
//! Where samples are all that the measuring vCPU does, all time outside of the guest is that of the samples. Where it arms, waits
//! or ends something between two samples, nobody can tell the time of exits there from the samples': then the whole round is
//! split, from mark to mark. So is the time of the vCPUs that get interrupts, which take no samples at all.

use kvm_bench::measure::{Round, round::Span, supervisor::Measured, worker::Ready};
use kvm_bench::stats::{Scale, Summary};
use kvm_utils_common::ledger::Bucket;

use super::attribute::{Each, Ledger, Seen};

/// What a split is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The samples, without the bracket.
    #[default]
    Samples,
    /// All of the round, also what lies between two samples.
    Round,
}

/// Where one operation's time on one vCPU goes, TSC cycles of the guest: means of the round whose round trip is the median of
/// all rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Split {
    /// What it is of.
    pub of: Scope,
    /// How often the operation was done in that round.
    pub operations: u64,
    /// What the others add up to, as the guest measured it with the tracer beside it: the mean of all samples, or the round's
    /// whole time for each operation.
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
    /// The round's whole time for each operation.
    pub whole: f64,
    /// The guest's time as the ledger has it, by the host's clock: of whole rounds, it is what `guest` should be.
    pub guest_in_ledger: f64,
}

/// The splits of one operation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Splits {
    /// Of the vCPU that measures.
    pub measuring: Split,
    /// Of each vCPU that gets its interrupts.
    pub targets: Each<Split>,
}

/// What the marks of a round take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// On the vCPU that makes them.
    ledger: Ledger,
    /// From reading to reading beside the round itself, ns.
    wall_ns: u64,
}

/// A round's times by vCPU.
type Timed = Seen<Each<Ledger>>;

fn ns(cycles: u64, tsc_khz: u32) -> u64 {
    u64::try_from(u128::from(cycles) * 1_000_000 / u128::from(tsc_khz.max(1))).unwrap_or(u64::MAX)
}

impl Ledger {
    fn total(&self) -> u64 {
        self.buckets.iter().sum()
    }

    fn outside(&self) -> u64 {
        self.buckets.iter().skip(1).sum()
    }
}

fn first(round: &Timed) -> Ledger {
    round.reading.get(&0).copied().unwrap_or_default()
}

impl Marks {
    /// From rounds of the empty operation: the one in which the host did least beside.
    pub fn of(rounds: &[&Timed], tsc_khz: u32) -> Self {
        let Some(round) = rounds.iter().min_by_key(|round| first(round).outside()) else {
            return Self::default();
        };
        let ledger = first(round);
        Self { ledger, wall_ns: ledger.total().saturating_sub(ns(round.span.cycles, tsc_khz)) }
    }
}

impl Split {
    /// The same with all of it the guest's.
    pub(super) fn all_guest(self) -> Self {
        let Self { of, operations, round_trip, whole, guest_in_ledger, .. } = self;
        let guest = round_trip;
        Self { of, operations, round_trip, guest, whole, guest_in_ledger, ..Self::default() }
    }

    /// The thread had no CPU.
    #[must_use]
    pub fn off_cpu(&self) -> f64 {
        self.idle + self.steal + self.other
    }

    /// `buckets`: ns of the whole round. `round_trip`: what they shall add up to.
    fn new(of: Scope, round: &Timed, tsc_khz: u32, buckets: Ledger, round_trip: Option<f64>) -> Self {
        let operations = round.operations.max(1) as f64;
        let cycles =
            |bucket: Bucket| buckets.buckets[bucket as usize] as f64 * f64::from(tsc_khz) / 1e6 / operations;
        let whole = round.span.cycles as f64 / operations;
        let mut split = Self {
            of,
            operations: round.operations,
            round_trip: round_trip.unwrap_or(whole),
            guest: 0.0,
            kvm: cycles(Bucket::Kvm),
            vmm: cycles(Bucket::Vmm),
            poll: cycles(Bucket::Poll),
            idle: cycles(Bucket::Idle),
            steal: cycles(Bucket::RunQueue),
            other: cycles(Bucket::Other),
            whole,
            guest_in_ledger: cycles(Bucket::Guest),
        };
        split.guest = split.round_trip - split.kvm - split.vmm - split.poll - split.off_cpu();
        split
    }

    /// An operation whose time outside of the guest exceeds what the guest saw by more than this share of the round is suspect:
    /// below it the difference is the host's own work between two samples.
    const TOLERANCE: f64 = 0.02;
    /// By more than this share the host's clock and the guest's counter must not differ of a whole round.
    const CLOCKS: f64 = 0.05;

    /// Why it is not to be trusted, if so.
    pub(super) fn doubt(&self) -> Option<String> {
        if self.of == Scope::Round && (self.guest - self.guest_in_ledger).abs() > Self::CLOCKS * self.whole {
            return Some(format!(
                "of {:.0} cycles per operation by the guest's counter {:.0} are left for the guest, and the host's clock has {:.0}",
                self.whole, self.guest, self.guest_in_ledger
            ));
        }
        (self.guest < -Self::TOLERANCE * self.whole.max(self.round_trip)).then(|| {
            format!(
                "the host counts {:.0} cycles outside of the guest, more than the {:.0} of the round trip that the guest saw",
                self.round_trip - self.guest,
                self.round_trip
            )
        })
    }
}

impl Splits {
    fn new(round: &Round, ready: Ready, timed: &Timed, marks: &Marks, tsc_khz: u32) -> Option<Self> {
        let sample = mean(round, ready)?;
        let of = if timed.span.enclosed { Scope::Samples } else { Scope::Round };
        let mut own = first(timed);
        for (bucket, mark) in own.buckets.iter_mut().zip(marks.ledger.buckets).skip(1) {
            *bucket = bucket.saturating_sub(mark);
        }
        let round_trip = (of == Scope::Samples).then_some(sample);
        let measuring = Split::new(of, timed, tsc_khz, own, round_trip);
        let target = |vcpu: u32| {
            let mut ledger = *timed.reading.get(&vcpu)?;
            // While the first vCPU makes the marks this one halts or, if it never does, spins in the guest.
            let idle = ledger.buckets[Bucket::Idle as usize].min(marks.wall_ns);
            let spun = ledger.buckets[Bucket::Guest as usize].min(marks.wall_ns - idle);
            ledger.buckets[Bucket::Idle as usize] -= idle;
            ledger.buckets[Bucket::Guest as usize] -= spun;
            Some((vcpu, Split::new(Scope::Round, timed, tsc_khz, ledger, None)))
        };
        let targets = (1..=timed.span.targets).filter_map(target).collect();
        Some(Self { measuring, targets })
    }

    /// All of them.
    pub fn each(&self) -> impl Iterator<Item = &Split> {
        std::iter::once(&self.measuring).chain(self.targets.values())
    }
}

/// Splits the round in the middle: of several rounds the columns would add up only if those that something disturbed were in.
///
/// # Errors
/// Why nothing can be split, in words.
pub(super) fn split(
    measured: Option<&Measured>,
    rounds: &[&Timed],
    marks: &Marks,
    tsc_khz: u32,
) -> Result<Splits, &'static str> {
    let measured = measured.ok_or("it was not measured in the run whose time is split")?;
    if rounds.len() != measured.rounds.len() {
        return Err("some of its rounds have no time of their own: the run was ended early");
    }
    let both = measured.rounds.iter().zip(rounds);
    let splits = both.filter_map(|(round, timed)| Splits::new(round, measured.ready, timed, marks, tsc_khz));
    let none = match measured.spec.op.as_str() {
        "jitter" => "no gap was seen, and what it looks for is all that there is to split",
        _ => "it has no samples",
    };
    median(splits.collect(), |splits| splits.measuring.round_trip).ok_or(none)
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

/// What a split of this scope would add up to, of the round in the middle: the mean of all samples, or the whole time for each
/// operation, TSC cycles.
#[must_use]
pub fn typical(measured: &Measured, of: Scope) -> Option<f64> {
    let whole = |round: &Round| {
        let Span { cycles, .. } = round.span?;
        let operations = round.samples() * u64::from(measured.ready.repeat);
        (operations > 0).then(|| cycles as f64 / operations as f64)
    };
    let value = |round: &Round| match of {
        Scope::Samples => mean(round, measured.ready),
        Scope::Round => whole(round),
    };
    median(measured.rounds.iter().filter_map(value).collect(), |value| *value)
}

#[cfg(test)]
pub(super) mod tests {
    use kvm_bench::measure::supervisor::Status;
    use kvm_bench::ops::Spec;

    use super::*;

    /// 2 GHz: two cycles in a nanosecond.
    const KHZ: u32 = 2_000_000;

    pub fn measured(op: &str, cycles: &[u64]) -> Measured {
        let round = |cycles: &u64| Round { all: vec![(*cycles, 1000)], ..Round::default() };
        Measured {
            spec: Spec::new(op),
            status: Status::Ok,
            ready: Ready { overhead: 50, quantum: 1, repeat: 1, ..Ready::default() },
            rounds: cycles.iter().map(round).collect(),
        }
    }

    /// A round of 1000 operations, each vCPU's times in ns.
    pub fn timed(op: &str, span: Span, each: &[[u64; 7]]) -> Timed {
        let ledger =
            |(vcpu, buckets): (usize, &[u64; 7])| (vcpu as u32, Ledger { buckets: *buckets, exits: 0 });
        let reading = each.iter().enumerate().map(ledger).collect();
        Seen { title: op.to_owned(), operations: 1000, span, reading }
    }

    pub const ENCLOSED: Span = Span { cycles: 3_100_000, targets: 0, enclosed: true, interrupts: false };

    fn splits(op: &str, cycles: &[u64], rounds: &[Timed], marks: &Marks) -> Splits {
        let measured = measured(op, cycles);
        split(Some(&measured), &rounds.iter().collect::<Vec<_>>(), marks, KHZ).unwrap()
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 3.0
    }

    fn adds_up(split: &Split) {
        let sum = split.guest + split.kvm + split.vmm + split.poll + split.off_cpu();
        assert!((sum - split.round_trip).abs() < 1e-6, "{split:?}");
    }

    fn marks() -> Marks {
        let empty = Span { cycles: 18, ..ENCLOSED };
        let nulls = [
            timed("null", empty, &[[9, 900, 40, 0, 0, 70, 0], [1019, 0, 0, 0, 0, 0, 0]]),
            timed("null", empty, &[[9, 100, 40, 0, 0, 0, 0], [149, 0, 0, 0, 0, 0, 0]]),
        ];
        Marks::of(&nulls.iter().collect::<Vec<_>>(), KHZ)
    }

    #[test]
    fn columns_add_up_to_the_round_trip_and_marks_are_subtracted() {
        assert_eq!(marks().wall_ns, 140);
        let round = timed("pio:user-in", ENCLOSED, &[[9, 500_100, 200_040, 10_000, 30_000, 20_000, 10_000]]);
        let split = splits("pio:user-in", &[3050], &[round], &marks()).measuring;
        assert!(near(split.kvm, 1000.0) && near(split.vmm, 400.0) && near(split.poll, 20.0), "{split:?}");
        assert!(near(split.off_cpu(), 120.0) && near(split.round_trip, 3000.0), "{split:?}");
        assert!(near(split.guest, 1460.0) && split.doubt().is_none(), "{split:?}");
        assert_eq!(split.of, Scope::Samples);
        adds_up(&split);
    }

    #[test]
    fn more_time_outside_than_the_guest_saw_is_suspect() {
        let round = timed("cpuid", ENCLOSED, &[[0, 2_000_000, 0, 0, 0, 0, 0]]);
        let split = splits("cpuid", &[3050], &[round], &Marks::default()).measuring;
        assert!(split.guest < 0.0 && split.doubt().unwrap().contains("more than"), "{split:?}");
        // Little of a long round is no cause for doubt.
        let long = Span { cycles: 100_000_000, ..ENCLOSED };
        let round = timed("ipi:single", long, &[[0, 2_000_000, 0, 0, 0, 0, 0]]);
        assert_eq!(splits("ipi:single", &[3050], &[round], &Marks::default()).measuring.doubt(), None);
    }

    #[test]
    fn the_round_in_the_middle_is_split_whatever_disturbed_another() {
        let rounds =
            [1_000_000, 300_000, 90_000_000].map(|kvm| timed("cpuid", ENCLOSED, &[[0, kvm, 0, 0, 0, 0, 0]]));
        let cycles = [4050, 1050, 900_050];
        let split = splits("cpuid", &cycles, &rounds, &Marks::default()).measuring;
        assert!(near(split.kvm, 2000.0) && (split.round_trip - 4000.0).abs() < 5.0, "{split:?}");
        assert_eq!(typical(&measured("cpuid", &cycles), Scope::Samples), Some(split.round_trip));
    }

    #[test]
    fn what_leaves_the_guest_between_samples_is_split_as_a_whole() {
        // 10,000 cycles each: 5,000 ns by the host's clock.
        let span = Span { cycles: 10_000_000, targets: 0, enclosed: false, interrupts: true };
        let round = timed("hlt", span, &[[1_000_009, 2_000_100, 40, 500_000, 1_500_000, 0, 0]]);
        let split = splits("hlt", &[3050], &[round], &marks()).measuring;
        assert!(split.of == Scope::Round && near(split.round_trip, 10_000.0), "{split:?}");
        assert!(near(split.guest, 2000.0) && near(split.kvm, 4000.0), "{split:?}");
        assert!(near(split.poll, 1000.0) && near(split.idle, 3000.0) && split.doubt().is_none(), "{split:?}");
        adds_up(&split);
        let mut told = measured("hlt", &[3050]);
        told.rounds[0].span = Some(span);
        assert_eq!(typical(&told, Scope::Round), Some(10_000.0));
    }

    #[test]
    fn clocks_that_disagree_about_a_whole_round_are_suspect() {
        let span = Span { cycles: 20_000_000, targets: 0, enclosed: false, interrupts: true };
        let round = timed("hlt", span, &[[1_000_000, 2_000_000, 0, 0, 2_000_000, 0, 0]]);
        let split = splits("hlt", &[3050], &[round], &Marks::default()).measuring;
        assert!(split.doubt().is_some_and(|why| why.contains("the host's clock has 2000")), "{split:?}");
    }

    #[test]
    fn each_target_has_its_own_time_and_the_marks_are_where_it_waits() {
        let span = Span { cycles: 10_000_000, targets: 2, enclosed: true, interrupts: true };
        let sender = [4_000_009, 1_000_100, 40, 0, 0, 0, 0];
        let spinning = [4_000_140, 1_000_000, 0, 0, 0, 0, 0];
        let halted = [100_000, 900_000, 0, 0, 4_000_140, 0, 0];
        let round = timed("ipi:broadcast", span, &[sender, spinning, halted, [0, 9, 0, 0, 0, 0, 0]]);
        let splits = splits("ipi:broadcast", &[3050], &[round], &marks());
        assert_eq!(splits.targets.len(), 2);
        assert!(splits.measuring.of == Scope::Samples && near(splits.measuring.kvm, 2000.0), "{splits:?}");
        let (spinning, halted) = (splits.targets[&1], splits.targets[&2]);
        assert!(near(spinning.guest, 8000.0) && near(spinning.kvm, 2000.0), "{spinning:?}");
        assert!((halted.idle - 8000.0).abs() < 1e-6 && near(halted.guest, 200.0), "{halted:?}");
        for split in splits.each() {
            adds_up(split);
            assert_eq!(split.doubt(), None, "{split:?}");
        }
    }

    #[test]
    fn what_cannot_be_split_says_why() {
        let round = timed("cpuid", ENCLOSED, &[[0; 7]]);
        let no = |measured: Option<&Measured>, rounds: &[&Timed]| {
            split(measured, rounds, &Marks::default(), KHZ).unwrap_err()
        };
        assert!(no(None, &[&round]).contains("not measured"));
        assert!(no(Some(&measured("cpuid", &[50, 50])), &[&round]).contains("ended early"));
        let mut jitter = measured("jitter", &[50]);
        jitter.rounds[0].all.clear();
        assert!(no(Some(&jitter), &[&round]).contains("no gap"));
    }
}
