//! Runs as a recording may hold them: guests that boot, work, have a bad minute and idle; with the columns and rows of the
//! real drill-downs.

use std::{collections::BTreeMap, time::Duration};

use kvm_utils::bpf::rows::{RowStats, Slice};
use kvm_utils::decode::Isa;
use kvm_utils::drilldown::exits::{
    self,
    rows::{Code, Whole, row},
    stats::ExitStats,
};
use kvm_utils::drilldown::msr::WRMSR;
use kvm_utils::drilldown::noun::{Build, NO_AIDS, Noun, Numbers};
use kvm_utils::drilldown::time::TIME;
use kvm_utils::model::{Fingerprint, History, KvmStat, Proof, Report, Row, Vcpu, Vm, arrange};
use kvm_utils_common::hist;
use kvm_utils_common::numbers::ledger::{BUCKETS, EXITS};
use kvm_utils_common::rows::{RowKey, RowNoun};

use crate::fixture;

/// A guest.
pub struct Guest {
    pub name: String,
    pub pid: u32,
    pub vcpus: u32,
    /// How much it does, 1 being usual.
    pub load: f64,
    /// When it boots, works and so on: a part of the run by which it is late.
    pub late: f64,
}

impl Guest {
    pub fn new(name: &str, pid: u32, vcpus: u32, load: f64, late: f64) -> Self {
        Self { name: name.to_owned(), pid, vcpus, load, late }
    }
}

/// Why a guest leaves: SVM's code, how often a second in each phase (boot, work, bad, idle), how long it takes (median,
/// ns) and how much of that is the VMM's.
struct Reason {
    code: u64,
    rates: [f64; 4],
    median: f64,
    spread: f64,
    vmm: f64,
}

const fn reason(code: u64, rates: [f64; 4], median: f64, spread: f64, vmm: f64) -> Reason {
    Reason { code, rates, median, spread, vmm }
}

const HLT: u64 = 0x78;
const REASONS: &[Reason] = &[
    reason(0x7b, [9_000.0, 600.0, 14_000.0, 40.0], 5_200.0, 0.45, 0.7),
    reason(0x400, [7_000.0, 350.0, 500.0, 20.0], 2_900.0, 0.6, 0.0),
    reason(0x7c, [2_500.0, 4_200.0, 3_800.0, 300.0], 1_150.0, 0.3, 0.0),
    reason(0x60, [1_200.0, 2_100.0, 2_600.0, 120.0], 1_700.0, 0.5, 0.0),
    reason(0x72, [3_800.0, 60.0, 50.0, 10.0], 900.0, 0.25, 0.0),
    reason(0x64, [40.0, 35.0, 60.0, 2.0], 1_000.0, 0.3, 0.0),
    reason(0x77, [20.0, 900.0, 1_600.0, 5.0], 1_300.0, 0.5, 0.0),
    reason(0x10, [20.0, 0.3, 0.3, 0.0], 800.0, 0.3, 0.0),
    reason(0x14, [12.0, 0.1, 0.1, 0.0], 900.0, 0.3, 0.0),
    reason(0x81, [3.0, 1.0, 1.0, 0.2], 1_400.0, 0.3, 0.0),
    reason(HLT, [5.0, 190.0, 40.0, 60.0], 1_900_000.0, 0.9, 0.0),
];

/// The same numbers every time: xorshift64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// About normal: mean 0, deviation 1.
    fn normal(&mut self) -> f64 {
        ((0..4).map(|_| self.roll()).sum::<f64>() - 2.0) * 3.0_f64.sqrt()
    }
}

/// How much of each phase (boot, work, bad, idle) there is at a part of the run.
fn phases(part: f64) -> [f64; 4] {
    let past = |at: f64| ((part - at) / 0.03 + 0.5).clamp(0.0, 1.0);
    let (boot, bad, idle) = (1.0 - past(0.2), past(0.56) - past(0.67), past(0.9));
    [boot, (1.0 - boot - bad - idle).max(0.0), bad, idle]
}

/// What one vCPU did in an interval.
#[derive(Clone, Default)]
struct Work {
    exits: BTreeMap<Code, ExitStats>,
    ledger: [u64; 7],
}

impl Work {
    fn add(&mut self, more: &Self) {
        for (code, stats) in &more.exits {
            self.exits.entry(*code).or_default().add(stats);
        }
        self.ledger.iter_mut().zip(more.ledger).for_each(|(sum, ns)| *sum += ns);
    }

    fn count(&self) -> u64 {
        self.exits.values().map(|stats| stats.count).sum()
    }
}

fn work(dice: &mut Dice, guest: &Guest, part: f64, seconds: f64) -> Work {
    let phases = phases((part - guest.late).max(0.0));
    let bad = phases[2];
    let wave = 1.0 + 0.25 * (part * 40.0).sin() * (part * 13.0).cos();
    let mut work = Work::default();
    let (mut kvm, mut vmm, mut idle) = (0, 0, 0);
    let wall = (seconds * 1e9) as u64;
    let busy: f64 = [0.9, 0.5, 0.75, 0.04].iter().zip(phases).map(|(busy, phase)| busy * phase).sum();
    let idles = wall as f64 * (1.0 - busy * wave * (0.9 + 0.2 * dice.roll())).clamp(0.01, 0.97);
    for reason in REASONS {
        let rate: f64 = reason.rates.iter().zip(phases).map(|(rate, phase)| rate * phase).sum();
        let rate = rate * guest.load * wave * (0.85 + 0.3 * dice.roll());
        let count = (rate * seconds + dice.roll()) as u64;
        let slow = if reason.vmm > 0.0 { 1.0 + 4.0 * bad } else { 1.0 };
        let mut stats = ExitStats { count, timed: count, ..ExitStats::default() };
        let mut buckets = vec![0_u64; hist::BUCKETS];
        for _ in 0..count {
            let tail = if dice.roll() < 0.004 { 20.0 } else { 1.0 };
            let ns = (reason.median * slow * tail * (reason.spread * dice.normal()).exp()) as u64;
            let ns = if reason.code == HLT {
                (ns as f64 / reason.median * idles / count as f64 / 1.5) as u64
            } else {
                ns
            };
            buckets[hist::bucket(ns)] += 1;
            stats.total_ns += ns;
            stats.min_ns = Some(stats.min_ns.map_or(ns, |min| min.min(ns)));
            stats.max_ns = stats.max_ns.max(Some(ns));
        }
        stats.within_ns = stats.total_ns;
        stats.hist = (0..).zip(buckets).filter(|(_, count)| *count > 0).collect();
        let user = (stats.total_ns as f64 * reason.vmm) as u64;
        match reason.code {
            HLT => idle += stats.total_ns,
            _ => (kvm, vmm) = (kvm + stats.total_ns - user, vmm + user),
        }
        if count > 0 {
            work.exits.insert(Code { isa: 2, code: reason.code }, stats);
        }
    }
    let steal = (wall as f64 * (0.008 + 0.2 * bad) * dice.roll()) as u64;
    let other = wall / 900;
    let idle = idle.min(wall.saturating_sub(kvm + vmm + steal + other));
    let poll = idle / 12;
    let guest = wall.saturating_sub(kvm + vmm + idle + steal + other);
    work.ledger = [guest, kvm, vmm, poll, idle - poll, steal, other];
    work
}

/// A run of these guests, as `exits`, `time` and `wrmsr` saw it.
pub fn run(guests: &[Guest], intervals: usize, length: Duration) -> Vec<History> {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut sums: Vec<Vec<Work>> =
        guests.iter().map(|guest| vec![Work::default(); guest.vcpus as usize]).collect();
    let mut histories = [Vec::new(), Vec::new(), Vec::new()];
    let end = |i: usize| fixture::time() + length * u32::try_from(i).unwrap();
    for i in 0..intervals {
        let part = i as f64 / intervals as f64;
        let works: Vec<Vec<Work>> = guests
            .iter()
            .map(|g| (0..g.vcpus).map(|_| work(&mut dice, g, part, length.as_secs_f64())).collect())
            .collect();
        for (sum, work) in sums.iter_mut().flatten().zip(works.iter().flatten()) {
            sum.add(work);
        }
        for (history, report) in histories.iter_mut().zip(reports(guests, &works, length)) {
            history.push(Report { time: end(i + 1), ..report });
        }
    }
    let wholes = reports(guests, &sums, length * u32::try_from(intervals).unwrap());
    let facts = [("kernel", "6.12.107"), ("isa", "svm"), ("vm web-1 vcpus", "2")];
    let facts = facts.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let fingerprint = Fingerprint { facts };
    let pairs = histories.into_iter().zip(wholes);
    pairs
        .map(|(intervals, whole)| History {
            fingerprint: fingerprint.clone(),
            whole: Report { summary: true, time: end(intervals.len()), ..whole },
            intervals,
        })
        .collect()
}

/// The rows of a vCPU's work, or of several together, the last being how many.
type Rows<'a> = dyn Fn(&Work, Option<u32>, usize) -> Vec<Row> + 'a;

/// The reports of `exits`, `time` and `wrmsr`.
fn reports(guests: &[Guest], works: &[Vec<Work>], length: Duration) -> [Report; 3] {
    let wall = |vcpus: usize| length.as_nanos() as u64 * vcpus as u64;
    let rows = |work: &Work, vcpus: usize| {
        let whole = Whole { count: work.count(), interval: length, wall_ns: wall(vcpus) };
        let mut rows = work.exits.iter().map(|(code, stats)| row(*code, stats, whole)).collect();
        arrange(&mut rows, &exits::rows::COLUMNS, "count", None);
        rows
    };
    let share = |work: &Work, waiting: bool, vcpus: usize| {
        let of = work.exits.iter().filter(|(code, _)| code.is_waiting() == waiting);
        Some(of.map(|(_, stats)| stats.within_ns).sum::<u64>() as f64 / wall(vcpus) as f64)
    };
    let body = |counted: fn(&Work) -> u64, rows: &Rows<'_>, shares: bool| {
        let mut vms = Vec::new();
        let mut total = Work::default();
        for (guest, works) in guests.iter().zip(works) {
            let mut sum = Work::default();
            works.iter().for_each(|work| sum.add(work));
            total.add(&sum);
            let vcpu = |(id, work): (u32, &Work)| Vcpu {
                vcpu: Some(id),
                tid: guest.pid + 4 + id,
                others: false,
                events: counted(work),
                running: None,
                rows: rows(work, Some(id), 1),
            };
            vms.push(Vm {
                events: counted(&sum),
                busy_share: share(&sum, false, works.len()).filter(|_| shares),
                waiting_share: share(&sum, true, works.len()).filter(|_| shares),
                rows: rows(&sum, None, works.len()),
                vcpus: (0..).zip(works).map(vcpu).collect(),
                ..fixture::vm(guest.pid, &guest.name, &[], 0)
            });
        }
        vms.sort_by_key(|vm| (std::cmp::Reverse(vm.events), vm.pid));
        let vcpus = works.iter().map(Vec::len).sum();
        (counted(&total), rows(&total, None, vcpus), vms)
    };
    let base = Report { interval: length, hints: Vec::new(), ..fixture::one_vm() };

    let (events, totals, vms) = body(Work::count, &|work, _, vcpus| rows(work, vcpus), true);
    let hints = vec!["kvm-utils io --vm web-1     half of these exits are port I/O".to_owned()];
    let exits = Report {
        columns: &exits::rows::COLUMNS,
        proof: fixture::proof(events),
        vms,
        totals,
        events,
        hints,
        ..base.clone()
    };

    let of_noun = |noun: &'static Noun, counted: fn(&Work) -> u64, slice: fn(&Work) -> Slice| {
        let build: Build = noun.build.unwrap();
        let rows = |work: &Work, vcpu: Option<u32>, vcpus: usize| {
            let slice = slice(work);
            let events = build.events(&slice);
            let numbers = Numbers {
                slice: &slice,
                events,
                interval: length,
                wall_ns: wall(vcpus),
                isa: Some(Isa::Svm),
                vcpus: &[0],
                vcpu,
                aids: &NO_AIDS,
            };
            let mut rows = (build.rows)(&numbers);
            arrange(&mut rows, noun.columns, noun.sort, None);
            rows
        };
        let (events, totals, vms) = body(counted, &rows, false);
        Report {
            noun: noun.name,
            counting: noun.counting,
            columns: noun.columns,
            one_row: build.one_row,
            proof: Proof { kvm_stat: KvmStat::NotKept, ..fixture::proof(events) },
            vms,
            totals,
            events,
            ..base.clone()
        }
    };
    let time = of_noun(&TIME, Work::count, |work| {
        let mut slice = Slice { counters: vec![0; TIME.counters], ..Slice::default() };
        slice.counters[BUCKETS..BUCKETS + 7].copy_from_slice(&work.ledger);
        slice.counters[EXITS] = work.count();
        slice
    });
    let wrmsr = of_noun(&WRMSR, msr_writes, |work| {
        let n = msr_writes(work);
        let counts = [(0x6e0, n - n / 3 - n / 5), (0x830, n / 3), (0x80b, n / 5)];
        let rows = counts.map(|(index, count)| {
            (RowKey::new(RowNoun::Msr, 0, 1, index), RowStats { count, ..RowStats::default() })
        });
        let counters = vec![0; WRMSR.counters];
        Slice { rows: BTreeMap::from(rows), counters, ..Slice::default() }
    });
    [exits, time, wrmsr]
}

fn msr_writes(work: &Work) -> u64 {
    work.exits.iter().filter(|(code, _)| code.code == 0x7c).map(|(_, stats)| stats.count).sum()
}

/// One VM with two vCPUs, three minutes.
pub fn one_vm() -> Vec<History> {
    run(&[Guest::new("web-1", 4711, 2, 0.6, 0.0)], 180, Duration::from_secs(1))
}

/// A few VMs, of which one is noisy.
pub fn several_vms() -> Vec<History> {
    let guests = [
        Guest::new("web-1", 4711, 2, 0.10, 0.0),
        Guest::new("db", 5222, 4, 0.035, 0.08),
        Guest::new("build", 6001, 2, 0.08, 0.2),
        Guest::new("mail", 6100, 1, 0.02, 0.05),
    ];
    run(&guests, 120, Duration::from_secs(1))
}

/// More VMs than have pictures of their own.
pub fn many_vms() -> Vec<History> {
    let guest = |i: u32| {
        let late = f64::from(i % 9) / 20.0;
        let vcpus = if i.is_multiple_of(20) { 8 } else { 1 };
        Guest::new(&format!("guest-{i:03}"), 1000 + 20 * i, vcpus, 0.001 + 0.004 / f64::from(1 + i % 7), late)
    };
    let guests: Vec<Guest> = (0..100).map(guest).collect();
    run(&guests, 40, Duration::from_secs(1))
}
