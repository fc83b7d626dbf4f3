//! Reports as a host would give them: the columns of `exits`, times that are not round, two vendors.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kvm_utils::model::{Cell, Column, Host, KvmStat, Place, Proof, Report, Row, Running, Unit, Vcpu, Vm};

const fn column(id: &'static str, title: &'static str, unit: Unit, importance: Option<u8>) -> Column {
    Column::new(id, title, unit, importance)
}

/// The columns of `exits`.
pub const COLUMNS: &[Column] = &[
    column("reason", "REASON", Unit::Text, Some(0)),
    column("code", "CODE", Unit::Text, None),
    column("isa", "ISA", Unit::Text, None),
    column("class", "CLASS", Unit::Text, None),
    column("flags", "FLAGS", Unit::Text, Some(4)),
    column("count", "COUNT", Unit::Count, Some(0)),
    column("rate", "/s", Unit::PerSecond, Some(1)),
    column("share", "SHARE", Unit::Share, Some(2)),
    column("time_share", "TIME", Unit::TimeShare, Some(1)),
    column("total_ns", "TOTAL", Unit::Nanoseconds, Some(8)),
    column("p50_ns", "p50", Unit::Nanoseconds, Some(2)),
    column("p90_ns", "p90", Unit::Nanoseconds, Some(5)),
    column("p99_ns", "p99", Unit::Nanoseconds, Some(3)),
    column("max_ns", "MAX", Unit::Nanoseconds, Some(3)),
    column("mean_ns", "MEAN", Unit::Nanoseconds, Some(6)),
    column("min_ns", "MIN", Unit::Nanoseconds, Some(7)),
];

/// An exit reason for [`row`].
#[derive(Clone)]
pub struct Exit {
    pub reason: &'static str,
    pub code: u64,
    pub isa: &'static str,
    pub class: &'static str,
    pub flags: &'static [&'static str],
    pub count: u64,
    /// min, p50, p90, p99, max in ns; the last but max may be unknown.
    pub ns: [Option<u64>; 5],
}

/// A row over 10 s of `vcpus` vCPUs, of `all` exits.
pub fn row(exit: &Exit, all: u64, vcpus: u64) -> Row {
    let known = |ns: Option<u64>| ns.map_or(Cell::Unknown, Cell::Number);
    let [min, p50, p90, p99, max] = exit.ns;
    let mean = p50.or(min).map(|ns| ns + ns / 8);
    let total = mean.map_or(0, |mean| mean * exit.count);
    let text = |s: &str| Cell::Text(s.to_owned());
    Row {
        cells: vec![
            text(exit.reason),
            Cell::Number(exit.code),
            text(exit.isa),
            text(exit.class),
            Cell::List(exit.flags.iter().map(|flag| (*flag).to_owned()).collect()),
            Cell::Number(exit.count),
            Cell::Real(exit.count as f64 / 10.0),
            Cell::Real(exit.count as f64 / all as f64),
            Cell::Real(total as f64 / (vcpus as f64 * 1e10)),
            Cell::Number(total),
            known(p50),
            known(p90),
            known(p99),
            known(max),
            mean.map_or(Cell::Unknown, |mean| Cell::Real(mean as f64)),
            known(min),
        ],
        waiting: exit.class == "hlt",
        ..Row::default()
    }
}

const fn exit(reason: &'static str, code: u64, class: &'static str, count: u64, ns: [u64; 5]) -> Exit {
    let [min, p50, p90, p99, max] = ns;
    let ns = [Some(min), Some(p50), Some(p90), Some(p99), Some(max)];
    Exit { reason, code, isa: "svm", class, flags: &[], count, ns }
}

/// What a booting Linux guest does on AMD.
pub const SVM: &[Exit] = &[
    exit("io", 0x7b, "io", 10_835, [12_400, 61_200, 98_000, 210_400, 1_104_000]),
    exit("npf", 0x400, "ept", 6_212, [9_800, 58_100, 97_000, 180_300, 900_700]),
    exit("msr", 0x7c, "msr", 1_877, [3_100, 19_020, 31_000, 44_900, 101_300]),
    exit("interrupt", 0x60, "interrupt", 1_711, [2_900, 12_060, 20_100, 99_600, 999_600]),
    exit("write_cr4", 0x14, "cr", 1_204, [1_200, 4_100, 5_000, 9_960, 31_000]),
    exit("cpuid", 0x72, "cpuid", 532, [900, 1_310, 2_040, 9_949, 11_000]),
    exit("0x12345", 0x12345, "other", 2, [700, 950, 999, 999, 1_000]),
    exit("hlt", 0x78, "hlt", 107, [40_000, 81_300_000, 190_000_000, 210_000_000, 2_304_000_000]),
];

/// The same on Intel, with flags, an unfinished reason and one without percentiles.
pub fn vmx() -> Vec<Exit> {
    let vmx = |exit: Exit| Exit { isa: "vmx", ..exit };
    let mut exits = vec![
        vmx(exit("EXTERNAL_INTERRUPT", 1, "interrupt", 20_011, [800, 2_060, 3_100, 9_600, 99_600])),
        vmx(exit("EPT_MISCONFIG", 49, "mmio", 9_100, [2_800, 8_100, 17_000, 80_300, 800_700])),
        vmx(exit("MSR_WRITE", 32, "msr-write", 4_099, [400, 1_020, 1_900, 4_900, 41_300])),
        Exit {
            flags: &["bus-lock"],
            ..vmx(exit("EPT_VIOLATION", 48, "ept", 64, [900, 9_020, 11_000, 14_900, 61_300]))
        },
        vmx(exit("NOTIFY", 75, "other", 1, [5_000, 5_000, 5_000, 5_000, 5_000])),
        vmx(exit("HLT", 12, "hlt", 950, [30_000, 4_300_000, 9_000_000, 31_000_000, 250_000_000])),
    ];
    exits[4].ns = [None; 5];
    exits[2].ns[1] = None;
    exits[2].ns[2] = None;
    exits[2].ns[3] = None;
    exits
}

pub fn rows(exits: &[Exit], vcpus: u64) -> Vec<Row> {
    let all = exits.iter().map(|exit| exit.count).sum();
    exits.iter().map(|exit| row(exit, all, vcpus)).collect()
}

pub fn count(exits: &[Exit]) -> u64 {
    exits.iter().map(|exit| exit.count).sum()
}

/// Some exits shared out to vCPUs, the last of which gets what is left over.
fn split(exits: &[Exit], vcpus: u64) -> Vec<Vec<Exit>> {
    let part = |vcpu| {
        let share =
            |n: u64| if vcpu + 1 == vcpus { n - n / (vcpus + 1) * (vcpus - 1) } else { n / (vcpus + 1) };
        exits.iter().map(|e| Exit { count: share(e.count), ..*e }).filter(|e| e.count > 0).collect()
    };
    (0..vcpus).map(part).collect()
}

/// The same reasons of two VMs added up.
fn sum(a: &[Exit], b: &[Exit]) -> Vec<Exit> {
    let of_b = |reason| b.iter().find(|e| e.reason == reason).map_or(0, |e| e.count);
    a.iter().map(|e| Exit { count: e.count + of_b(e.reason), ..*e }).collect()
}

pub fn time() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_795_170_896_789)
}

pub fn host(isa: &str) -> Host {
    Host {
        kernel: "6.12.107".to_owned(),
        isa: isa.to_owned(),
        cpus: 2,
        cpu: "AMD EPYC 7B13 64-Core Processor".to_owned(),
    }
}

pub fn proof(counted: u64) -> Proof {
    Proof {
        source: "raw_tracepoint",
        counted,
        kvm_stat: KvmStat::Between { least: counted, most: counted },
        missed: Some(0),
        unpaired: 0,
        entries_without_exit: 0,
        in_progress: 1,
        vcpus_full: 0,
        histograms_full: 0,
        unreadable: 0,
        rows_full: 0,
        own_cost: Some(0.001_2),
    }
}

pub fn vm(pid: u32, name: &str, exits: &[Exit], vcpus: u64) -> Vm {
    let shown = (0..).zip(split(exits, vcpus)).map(|(id, exits)| Vcpu {
        vcpu: Some(id),
        tid: pid + 4 + id,
        others: false,
        events: count(&exits),
        running: None,
        rows: rows(&exits, 1),
    });
    Vm {
        pid,
        name: name.to_owned(),
        vmm: "qemu".to_owned(),
        uuid: None,
        id: None,
        within: Vec::new(),
        ended: false,
        events: count(exits),
        busy_share: Some(0.119),
        waiting_share: Some(0.601),
        rows: rows(exits, vcpus),
        vcpus: shown.collect(),
    }
}

/// One booting VM on AMD, everything in order.
pub fn one_vm() -> Report {
    let mut web = vm(4711, "web-1", SVM, 2);
    web.vcpus[0].running = Some(Running { reason: "hlt".to_owned(), for_ns: 81_300_000 });
    Report {
        noun: "exits",
        counting: ("exit", "exits"),
        columns: COLUMNS,
        one_row: false,
        time: time(),
        interval: Duration::from_micros(10_000_213),
        summary: false,
        host: host("svm"),
        proof: proof(count(SVM)),
        vms: vec![web],
        totals: rows(SVM, 2),
        events: count(SVM),
        hints: vec!["kvm-utils io --vm web-1     half of these exits are port I/O".to_owned()],
        notes: Vec::new(),
    }
}

/// Two VMs on Intel, one of which ended; KVM's statistic has gone with it.
pub fn two_vms() -> Report {
    let vmx = vmx();
    let db = vm(5222, "db", &vmx, 2);
    let mut build = vm(6001, "build", &vmx[1..4], 1);
    build.vmm = "unknown".to_owned();
    build.ended = true;
    build.busy_share = None;
    build.waiting_share = None;
    build.vcpus[0].vcpu = None;
    let events = db.events + build.events;
    Report {
        host: host("vmx"),
        proof: Proof {
            kvm_stat: KvmStat::Unknown(
                "/sys/kernel/debug is not mounted, or another tool reads it; mount -t debugfs none /sys/kernel/debug"
                    .to_owned(),
            ),
            missed: None,
            in_progress: 0,
            histograms_full: 2,
            own_cost: None,
            ..proof(events)
        },
        vms: vec![db, build],
        totals: rows(&sum(&vmx, &vmx[1..4]), 3),
        events,
        summary: true,
        hints: Vec::new(),
        notes: vec!["The VM build ended during the run; what it did until then is counted.".to_owned()],
        ..one_vm()
    }
}

fn place(kind: &'static str, name: &str) -> Place {
    Place { kind, name: name.to_owned() }
}

/// A VM of KubeVirt in a pod.
pub fn in_a_pod() -> Report {
    let mut report = one_vm();
    let vm = &mut report.vms[0];
    vm.name = "default_web-1".to_owned();
    vm.uuid = Some("5c6fa8f7-c3f6-4b3f-b596-d16ea3912302".to_owned());
    vm.within = vec![
        place("pod", "08ff2263-5cf1-49f7-b3e7-80b6e0840fd5"),
        place("container", "1a5b9a1eb29e863bf504561344f7ffc67cfc469150418b7727c8959e0c5f8982"),
    ];
    report
}

/// A VM of each of several managers.
pub fn many_managers() -> Report {
    let uuid = || Some("7b10d7af-b932-4c66-b2c3-3996152ec465".to_owned());
    let sandbox = "94a6391dde707330a94acb3e684ee7048d085e7b6d9b1feda0cc1151b90606b2";
    let of = |pid, name: &str, id: Option<&str>, within: &[Place]| Vm {
        id: id.map(str::to_owned),
        within: within.to_vec(),
        ..vm(pid, name, &SVM[..1], 1)
    };
    let pod = place("pod", "3a864680-ceaf-4acd-83fd-20a4d542b651");
    let vms = vec![
        Vm { uuid: uuid(), ..of(101, "libvirt-1", None, &[place("machine", "qemu-1-libvirt-1")]) },
        Vm { uuid: uuid(), ..of(102, "proxmox", Some("8006"), &[place("unit", "8006.scope")]) },
        of(103, &format!("sandbox-{sandbox}"), Some(sandbox), &[pod, place("container", sandbox)]),
        of(104, "docker", None, &[place("unit", "x.service"), place("container", sandbox)]),
        of(105, "fc-1", Some("fc-1"), &[place("cgroup", "/firecracker/fc-1")]),
        of(106, "service", None, &[place("unit", r"firecracker@web\x2d1.service")]),
    ];
    let events = vms.iter().map(|vm| vm.events).sum();
    Report { vms, events, proof: proof(events), ..one_vm() }
}

/// Everything that can be doubted is.
pub fn doubtful() -> Report {
    let mut report = one_vm();
    report.proof = Proof {
        kvm_stat: KvmStat::Between { least: 23_011, most: 23_014 },
        missed: Some(531),
        unpaired: 7,
        entries_without_exit: 3,
        in_progress: 2,
        vcpus_full: 12_000,
        unreadable: 5,
        rows_full: 0,
        ..report.proof
    };
    report
}

/// Nothing ran.
pub fn empty() -> Report {
    Report {
        vms: Vec::new(),
        totals: Vec::new(),
        events: 0,
        interval: Duration::from_secs(1),
        proof: Proof { in_progress: 0, own_cost: Some(0.0), ..proof(0) },
        hints: vec!["kvm-utils caps     whether this host can trace at all".to_owned()],
        ..one_vm()
    }
}

/// A name that wants to own the terminal, the largest numbers there are, a reason nobody thought of.
pub fn hostile() -> Report {
    let mut report = one_vm();
    let vm = &mut report.vms[0];
    vm.name = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}データベース\n\"quoted\", and much too long for a name"
        .to_owned();
    vm.vmm = "\u{9b}31mvmm".to_owned();
    vm.id = Some("\u{1b}[2J\u{202e}".repeat(9));
    vm.within = vec![place("unit", &"\u{9b}5m\\x2dデータ".repeat(9))];
    vm.pid = u32::MAX;
    vm.events = u64::MAX;
    vm.busy_share = Some(f64::NAN);
    let number = |column: &Column| match column.unit {
        Unit::Text => {
            Cell::Text("\u{1b}[31m a reason that nobody thought of when this was written".to_owned())
        }
        Unit::Share | Unit::TimeShare => Cell::Real(1e18),
        Unit::PerSecond => Cell::Real(f64::MAX),
        Unit::Count | Unit::Nanoseconds => Cell::Number(u64::MAX),
    };
    let row = Row { cells: COLUMNS.iter().map(number).collect(), ..Row::default() };
    vm.rows =
        vec![row.clone(), Row { waiting: true, ..row.clone() }, Row { cells: Vec::new(), ..Row::default() }];
    vm.vcpus[0].running = Some(Running { reason: "\u{1b}[5m".to_owned(), for_ns: u64::MAX });
    vm.vcpus[0].rows = vm.rows.clone();
    report.totals = vec![row];
    report.events = u64::MAX;
    report.proof = Proof {
        counted: u64::MAX,
        kvm_stat: KvmStat::Between { least: 0, most: u64::MAX },
        missed: Some(u64::MAX),
        unpaired: u64::MAX,
        own_cost: Some(f64::INFINITY),
        ..report.proof
    };
    report.hints = vec!["kvm-utils io --vm '\u{1b}[2J'     clears the screen".to_owned()];
    report.interval = Duration::ZERO;
    report
}
