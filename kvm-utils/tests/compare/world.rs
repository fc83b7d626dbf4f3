//! Recordings of guests whose truth is known: how often they exit for what, for how long, and how the load of their machine
//! goes up and down.

use std::{
    collections::BTreeMap,
    time::{Duration, UNIX_EPOCH},
};

use kvm_utils::{
    compare::Recorded,
    drilldown::exits::{
        rows::{COLUMNS, Code, Whole, row},
        stats::ExitStats,
    },
    model::{Fingerprint, History, Host, KvmStat, Proof, Report, Row, Vcpu, Vm},
};
use kvm_utils_common::hist;

use crate::simulated::{Noise, Random};

/// SVM, include/uapi/asm/svm.h.
pub const SVM: u32 = 2;
pub const CPUID: u64 = 0x72;
pub const IO: u64 = 0x7b;
pub const MSR: u64 = 0x7c;
pub const HLT: u64 = 0x78;
pub const NPF: u64 = 0x400;
pub const INTERRUPT: u64 = 0x60;
pub const WRITE_CR4: u64 = 0x14;
pub const READ_DR0: u64 = 0x20;
pub const WRITE_DR0: u64 = 0x30;

/// A guest.
#[derive(Clone, Debug)]
pub struct World {
    /// Exits per second and their mean duration in ns, by code.
    pub exits: BTreeMap<u64, (f64, f64)>,
    /// How the load goes.
    pub noise: Noise,
    /// By how much: standard deviation of its logarithm.
    pub load: f64,
    /// How much of that lengthens exits as well.
    pub slowdown: f64,
    /// Runs differ from each other by this much.
    pub between_runs: f64,
    /// How many intervals, and how long they are in seconds.
    pub intervals: usize,
    pub seconds: f64,
}

impl World {
    /// Much as a Linux guest that serves something.
    pub fn usual() -> Self {
        let exits = [
            (CPUID, 440.0, 12e3),
            (MSR, 390.0, 44e3),
            (IO, 240.0, 61e3),
            (INTERRUPT, 240.0, 96e3),
            (NPF, 115.0, 21e3),
            (HLT, 150.0, 4e6),
            (WRITE_CR4, 12.0, 27e3),
            (READ_DR0, 0.02, 11e3),
            (WRITE_DR0, 0.02, 13e3),
        ];
        Self {
            exits: exits.map(|(code, rate, ns)| (code, (rate, ns))).into(),
            noise: Noise::Correlated(0.5),
            load: 0.05,
            slowdown: 0.3,
            between_runs: 0.0,
            intervals: 60,
            seconds: 1.0,
        }
    }

    /// A guest that also does this, so often a second, and for so long.
    pub fn with(mut self, code: u64, rate: f64, ns: f64) -> Self {
        self.exits.entry(code).or_insert((0.0, ns)).0 += rate;
        self
    }

    /// Records it.
    pub fn record(&self, random: &mut Random, name: &str) -> Recorded {
        let load = self.noise.series(random, self.intervals);
        let run = (self.between_runs * random.normal()).exp();
        let mut whole: BTreeMap<Code, ExitStats> = BTreeMap::new();
        let mut intervals = Vec::new();
        for load in load {
            let load = (self.load * load).exp();
            let mut stats = BTreeMap::new();
            for (code, (rate, ns)) in &self.exits {
                let count = random.poisson(rate * self.seconds * load * run);
                let slow = load.powf(self.slowdown) * (1.0 + 0.02 * random.normal()).abs();
                if count > 0 {
                    stats.insert(Code { isa: SVM, code: *code }, exits(count, ns * slow, random));
                }
            }
            for (code, stats) in &stats {
                whole.entry(*code).or_default().add(stats);
            }
            intervals.push(report(&stats, self.seconds, false));
        }
        let whole = report(&whole, self.seconds * self.intervals as f64, true);
        history(name, intervals, whole)
    }
}

/// So many exits, most of them about as long, some shorter, some much longer.
fn exits(count: u64, ns: f64, random: &mut Random) -> ExitStats {
    let mut stats = ExitStats { count, timed: count, ..ExitStats::default() };
    let mut buckets: BTreeMap<u16, u64> = BTreeMap::new();
    let mut left = count;
    for (share, length) in [(0.02, 6.0), (0.3, 0.6), (0.3, 1.4), (1.0, 0.9)] {
        let part = if share < 1.0 { random.poisson(count as f64 * share).min(left) } else { left };
        left -= part;
        if part > 0 {
            let ns = (ns * length).max(1.0) as u64;
            *buckets.entry(hist::bucket(ns) as u16).or_default() += part;
            stats.total_ns += part * ns;
            stats.min_ns = stats.min_ns.into_iter().chain([ns]).min();
            stats.max_ns = stats.max_ns.max(Some(ns));
        }
    }
    stats.hist = buckets.into_iter().collect();
    stats
}

pub fn history(name: &str, intervals: Vec<Report>, whole: Report) -> Recorded {
    let facts = [("kernel", "6.12.107"), ("isa", "svm"), ("vms", "web-1 (qemu, 1 vCPUs)")];
    let facts = facts.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    Recorded {
        name: name.to_owned(),
        histories: vec![History { fingerprint: Fingerprint { facts }, intervals, whole }],
        notes: Vec::new(),
    }
}

fn report(stats: &BTreeMap<Code, ExitStats>, seconds: f64, summary: bool) -> Report {
    let interval = Duration::from_secs_f64(seconds);
    let count = stats.values().map(|stats| stats.count).sum();
    let whole = Whole { count, interval, wall_ns: (seconds * 2e9) as u64 };
    let rows: Vec<Row> = stats.iter().map(|(code, stats)| row(*code, stats, whole)).collect();
    Report { summary, ..report_of(rows, count, interval) }
}

pub fn report_of(rows: Vec<Row>, events: u64, interval: Duration) -> Report {
    let vcpu = Vcpu { vcpu: Some(0), tid: 4715, others: false, events, running: None, rows: rows.clone() };
    let vm = Vm {
        pid: 4711,
        name: "web-1".to_owned(),
        vmm: "qemu".to_owned(),
        uuid: None,
        id: None,
        within: Vec::new(),
        ended: false,
        events,
        busy_share: None,
        waiting_share: None,
        rows: rows.clone(),
        vcpus: vec![vcpu],
    };
    Report {
        noun: "exits",
        counting: ("exit", "exits"),
        columns: &COLUMNS,
        one_row: false,
        time: UNIX_EPOCH,
        interval,
        summary: false,
        host: Host { kernel: "6.12.107".to_owned(), isa: "svm".to_owned(), cpus: 2, cpu: "EPYC".to_owned() },
        proof: Proof {
            source: "raw_tracepoint",
            counted: events,
            kvm_stat: KvmStat::Between { least: events, most: events },
            missed: Some(0),
            unpaired: 0,
            entries_without_exit: 0,
            in_progress: 0,
            vcpus_full: 0,
            histograms_full: 0,
            unreadable: 0,
            rows_full: 0,
            own_cost: Some(0.001),
        },
        vms: vec![vm],
        totals: rows,
        events,
        hints: Vec::new(),
        notes: Vec::new(),
    }
}
