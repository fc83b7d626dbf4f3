//! A host with many VMs, made up: reports as the tracer gives them, of any drill-down, without a tracer.

use std::time::{Duration, SystemTime};

use kvm_utils::{
    drilldown::{noun::Noun, registry::REGISTRY},
    model::{Cell, Durations, Host, KvmStat, Proof, Report, Role, Row, Unit, Vcpu, Vm},
};
use kvm_utils_common::hist;

/// Reasons for exits, with how long most of them take, ns.
const REASONS: [(&str, &str, u64); 20] = [
    ("io", "io", 61_200),
    ("npf", "ept", 58_100),
    ("msr", "msr", 19_020),
    ("interrupt", "interrupt", 12_060),
    ("vintr", "irq-window", 2_100),
    ("write_cr4", "cr", 4_100),
    ("write_cr0", "cr", 4_000),
    ("read_cr4", "cr", 3_900),
    ("read_cr0", "cr", 3_800),
    ("cpuid", "cpuid", 1_310),
    ("hypercall", "hypercall", 1_700),
    ("wbinvd", "wbinvd", 48_000),
    ("read_dr0", "dr", 1_500),
    ("write_dr0", "dr", 1_600),
    ("UD excp", "exception", 3_000),
    ("DB excp", "exception", 3_100),
    ("pause", "pause", 900),
    ("rsm", "smm", 700_000),
    ("invlpga", "tlb", 1_100),
    ("hlt", "hlt", 1_600_000),
];

/// The host.
#[derive(Clone, Copy)]
pub struct Fleet {
    pub vms: u32,
    pub vcpus: u32,
}

impl Fleet {
    /// How often each vCPU left for each reason by the `nth` look, counted from 1: a prime for each.
    pub fn count(self, vm: u32, reason: usize, nth: u64) -> u64 {
        const PRIMES: [u64; 7] = [1009, 503, 211, 307, 101, 53, 31];
        PRIMES[(vm as usize + reason) % PRIMES.len()] * nth
    }

    /// A VM's name.
    pub fn name(vm: u32) -> String {
        format!("web-{vm}")
    }

    /// A VM's process.
    pub fn pid(vm: u32) -> u32 {
        4000 + vm
    }

    /// The exits so far, at the `nth` look.
    pub fn exits(self, nth: u64) -> Report {
        let noun = named("exits");
        let vms = (0..self.vms).map(|vm| {
            let rows = |vcpus: u64| -> Vec<Row> {
                let row = |at: usize| exit(at, self.count(vm, at, nth) * vcpus);
                (0..REASONS.len()).map(row).collect()
            };
            let vcpus = (0..self.vcpus).map(|id| vcpu(vm, id, rows(1))).collect();
            named_vm(vm, rows(self.vcpus.into()), vcpus)
        });
        report(noun, vms.collect())
    }

    /// Reports of every drill-down that there is, of each its plainest form, with one or two rows for each VM.
    pub fn everything(self) -> Vec<Report> {
        let mut nouns: Vec<&'static Noun> = Vec::new();
        for noun in REGISTRY {
            if !nouns.iter().any(|of| of.name == noun.name) {
                nouns.push(noun);
            }
        }
        nouns
            .into_iter()
            .map(|noun| if noun.name == "exits" { self.exits(1) } else { self.any(noun) })
            .collect()
    }

    fn any(self, noun: &'static Noun) -> Report {
        let rows = |vm: u32| {
            let row = |at: u64| {
                let cells = noun.columns.iter().map(|column| match (column.role, column.unit) {
                    (Role::Key, Unit::Text) => Cell::Text(format!("{} {vm} {at}", column.id)),
                    (Role::Sum, _) => Cell::Number(1009 * (at + 1)),
                    _ => Cell::Unknown,
                });
                let durations = (noun.name == "halt").then(|| durations(17, 81_300_000));
                Row { cells: cells.collect(), durations, ..Row::default() }
            };
            let many = if noun.build.is_some_and(|build| build.one_row) { 1 } else { 2 };
            (0..many).map(row).collect::<Vec<_>>()
        };
        let vms = (0..self.vms).map(|vm| {
            let vcpus = (0..self.vcpus).map(|id| vcpu(vm, id, rows(vm))).collect();
            named_vm(vm, rows(vm), vcpus)
        });
        report(noun, vms.collect())
    }
}

fn named(name: &str) -> &'static Noun {
    REGISTRY.iter().find(|noun| noun.name == name).expect("a drill-down of this name")
}

/// A few that take as long as most, half as long and sixteen times as long.
fn durations(count: u64, most_ns: u64) -> Durations {
    let (short, long) = (count / 10, count / 100);
    let parts = [(most_ns / 2, short), (most_ns, count - short - long), (most_ns * 16, long)];
    let filled = parts.iter().filter(|(_, n)| *n > 0);
    Durations {
        timed: count,
        total_ns: parts.iter().map(|(ns, n)| ns * n).sum(),
        buckets: filled.map(|(ns, n)| (hist::bucket(*ns) as u16, *n)).collect(),
        unbinned: 0,
    }
}

fn exit(at: usize, count: u64) -> Row {
    let (reason, class, ns) = REASONS[at];
    let durations = durations(count, ns);
    let cells = named("exits").columns.iter().map(|column| match column.id {
        "reason" => Cell::Text(reason.to_owned()),
        "class" => Cell::Text(class.to_owned()),
        "isa" => Cell::Text("svm".to_owned()),
        "code" => Cell::Number(at as u64),
        "flags" => Cell::List(Vec::new()),
        "count" => Cell::Number(count),
        "total_ns" => Cell::Number(durations.total_ns),
        _ => Cell::Unknown,
    });
    Row { cells: cells.collect(), waiting: class == "hlt", durations: Some(durations), ..Row::default() }
}

fn vcpu(vm: u32, id: u32, rows: Vec<Row>) -> Vcpu {
    Vcpu { vcpu: Some(id), tid: Fleet::pid(vm) + 1 + id, others: false, events: 0, running: None, rows }
}

fn named_vm(vm: u32, rows: Vec<Row>, vcpus: Vec<Vcpu>) -> Vm {
    Vm {
        pid: Fleet::pid(vm),
        name: Fleet::name(vm),
        vmm: "qemu".to_owned(),
        uuid: Some(format!("5c6fa8f7-c3f6-4b3f-b596-{vm:012x}")),
        rows,
        vcpus,
        ..Vm::default()
    }
}

fn report(noun: &'static Noun, vms: Vec<Vm>) -> Report {
    let totals: Vec<Row> = vms.first().map(|vm| vm.rows.clone()).unwrap_or_default();
    let proof = Proof {
        source: "raw_tracepoint",
        counted: 22_480,
        kvm_stat: KvmStat::Between { least: 22_480, most: 22_481 },
        missed: Some(0),
        unpaired: 0,
        entries_without_exit: 0,
        in_progress: 1,
        vcpus_full: 0,
        histograms_full: 0,
        unreadable: 0,
        rows_full: 0,
        own_cost: Some(0.001_2),
    };
    Report {
        noun: noun.name,
        counting: noun.counting,
        columns: noun.columns,
        one_row: noun.build.is_some_and(|build| build.one_row),
        time: SystemTime::now(),
        interval: Duration::from_secs(60),
        summary: true,
        host: Host {
            kernel: "6.12.107".to_owned(),
            isa: "svm".to_owned(),
            cpus: 64,
            cpu: "AMD EPYC 7B13".to_owned(),
        },
        proof,
        vms,
        totals,
        events: 22_480,
        hints: Vec::new(),
        notes: Vec::new(),
    }
}
