//! A host with VMs that are busy in different ways, reported interval by interval, always the same from the same seed.
//! Columns are those of the real drill-downs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kvm_utils::drilldown::{noun::Noun, registry::REGISTRY};
use kvm_utils::model::{
    Cell, Column, Durations, Host, KvmStat, Place, Proof, Report, Row, Running, Vcpu, Vm,
};
use kvm_utils_common::hist;

/// What one kind of exit is like: reason, class, code, exits per second and vCPU, ns.
type Exit = (&'static str, &'static str, u64, f64, f64);

/// A VM of the fleet.
#[derive(Clone, Debug)]
pub struct Guest {
    pub name: String,
    pub vmm: &'static str,
    pub pid: u32,
    pub vcpus: u32,
    pub exits: Vec<Exit>,
    /// Shares of time: guest, KVM, VMM, poll, idle, steal, other.
    pub time: [f64; 7],
    pub ended: bool,
}

/// The host.
#[derive(Clone, Debug)]
pub struct Fleet {
    pub guests: Vec<Guest>,
    pub seed: u64,
    tick: u64,
}

fn guest(name: &str, pid: u32, vcpus: u32, exits: &[Exit], time: [f64; 7]) -> Guest {
    Guest { name: name.to_owned(), vmm: "qemu", pid, vcpus, exits: exits.to_vec(), time, ended: false }
}

/// An emulated disk and a clock that exits.
pub const WEB: &[Exit] = &[
    ("io", "io", 0x7b, 1083.0, 61_200.0),
    ("npf", "ept", 0x400, 310.0, 58_100.0),
    ("msr", "msr", 0x7c, 187.0, 19_020.0),
    ("interrupt", "interrupt", 0x60, 171.0, 12_060.0),
    ("write_cr4", "cr", 0x14, 60.0, 4_100.0),
    ("cpuid", "cpuid", 0x72, 26.0, 1_310.0),
    ("vintr", "irq-window", 0x64, 9.0, 6_100.0),
    ("hypercall", "hypercall", 0x81, 0.7, 52_000.0),
    ("hlt", "hlt", 0x78, 11.0, 41_300_000.0),
];
/// Timers.
pub const DB: &[Exit] = &[
    ("msr", "msr", 0x7c, 4_099.0, 1_920.0),
    ("interrupt", "interrupt", 0x60, 420.0, 2_060.0),
    ("npf", "ept", 0x400, 64.0, 9_020.0),
    ("cpuid", "cpuid", 0x72, 2.0, 1_310.0),
    ("hlt", "hlt", 0x78, 95.0, 4_300_000.0),
];
/// Idle.
pub const IDLE: &[Exit] = &[("msr", "msr", 0x7c, 4.0, 2_920.0), ("hlt", "hlt", 0x78, 2.1, 390_000_000.0)];

impl Fleet {
    /// Three VMs.
    pub fn new(seed: u64) -> Self {
        let guests = vec![
            guest("web-1", 4711, 2, WEB, [0.52, 0.09, 0.08, 0.01, 0.12, 0.17, 0.01]),
            guest("db", 5222, 4, DB, [0.71, 0.04, 0.0, 0.03, 0.21, 0.01, 0.0]),
            guest("build-runner-7", 6001, 1, IDLE, [0.01, 0.002, 0.0, 0.0, 0.98, 0.0, 0.008]),
        ];
        Self { guests, seed, tick: 0 }
    }

    /// Many VMs.
    pub fn many(seed: u64, count: u32, vcpus: u32) -> Self {
        let of = |n: u32| {
            let (exits, time) = match n % 3 {
                0 => (WEB, [0.52, 0.09, 0.08, 0.01, 0.12, 0.17, 0.01]),
                1 => (DB, [0.71, 0.04, 0.0, 0.03, 0.21, 0.01, 0.0]),
                _ => (IDLE, [0.01, 0.002, 0.0, 0.0, 0.98, 0.0, 0.008]),
            };
            guest(&format!("vm-{n}"), 1000 + n * 50, vcpus, exits, time)
        };
        Self { guests: (0..count).map(of).collect(), seed, tick: 0 }
    }

    /// splitmix64.
    fn random(&mut self) -> f64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The reports of one interval, a second, of these drill-downs.
    pub fn reports(&mut self, nouns: &[&str]) -> Vec<Report> {
        self.tick += 1;
        let exits = self.exits();
        let reports = nouns.iter().map(|noun| match *noun {
            "exits" => exits.clone(),
            "time" => self.time(&exits),
            noun => self.rows(noun, &exits),
        });
        reports.collect()
    }

    fn exits(&mut self) -> Report {
        let noun = noun("exits");
        // A slow wave, and noise.
        let wave = 1.0 + 0.5 * (self.tick as f64 / 9.0).sin();
        let mut vms = Vec::new();
        for guest in self.guests.clone() {
            let mut vcpus = Vec::new();
            let mut sums: Vec<(Exit, Durations)> = Vec::new();
            for id in 0..guest.vcpus {
                let mut rows = Vec::new();
                let mut events = 0;
                for exit in &guest.exits {
                    let (_, class, _, rate, ns) = *exit;
                    let count = (rate * wave * (0.7 + 0.6 * self.random())).round() as u64;
                    if count == 0 || guest.ended {
                        continue;
                    }
                    let durations = self.durations(count, ns, class == "hlt");
                    events += count;
                    match sums.iter_mut().find(|(other, _)| other.0 == exit.0) {
                        Some((_, sum)) => sum.add(&durations),
                        None => sums.push((*exit, durations.clone())),
                    }
                    rows.push((*exit, durations));
                }
                let rows = exit_rows(noun.columns, &rows, 1);
                vcpus.push(Vcpu {
                    vcpu: Some(id),
                    tid: guest.pid + 4 + id,
                    others: false,
                    events,
                    running: (id == 0 && guest.exits.last().is_some_and(|exit| exit.1 == "hlt"))
                        .then(|| Running { reason: "hlt".to_owned(), for_ns: 81_300_000 }),
                    rows,
                });
            }
            let rows = exit_rows(noun.columns, &sums, guest.vcpus);
            let index = noun.columns.iter().position(|column| column.id == "time_share").unwrap();
            let share = |waiting| {
                let of = rows.iter().filter(|row| row.waiting == waiting);
                Some(of.filter_map(|row| row.cells[index].number()).sum())
            };
            vms.push(Vm {
                pid: guest.pid,
                name: guest.name.clone(),
                vmm: guest.vmm.to_owned(),
                uuid: Some(format!("7b10d7af-b932-4c66-b2c3-{:012}", guest.pid)),
                id: None,
                within: vec![Place { kind: "unit", name: format!("{}.service", guest.name) }],
                ended: guest.ended,
                events: vcpus.iter().map(|vcpu| vcpu.events).sum(),
                busy_share: share(false),
                waiting_share: share(true),
                rows,
                vcpus,
            });
        }
        vms.sort_by_key(|vm| (std::cmp::Reverse(vm.events), vm.pid));
        let mut report = self.report(noun, vms);
        report.proof.kvm_stat = KvmStat::Between { least: report.events, most: report.events };
        report.proof.in_progress = 2;
        report
    }

    /// Around `ns`, with a tail; not all exits by themselves, a few stand for them.
    fn durations(&mut self, count: u64, ns: f64, waiting: bool) -> Durations {
        let mut sum = Durations::default();
        let parts = count.min(12);
        for part in 0..parts {
            let events = count / parts + u64::from(part < count % parts);
            let tail = if part == 0 { 3.0 } else { 1.0 };
            let mut each = (ns * (0.6 + 0.8 * self.random()) * tail) as u64;
            if waiting {
                // A vCPU cannot wait for longer than there was time.
                each = each.min(900_000_000 / count.max(1));
            }
            sum.add(&Durations {
                timed: events,
                total_ns: each * events,
                buckets: vec![(hist::bucket(each) as u16, events)],
                unbinned: 0,
            });
        }
        sum
    }

    fn time(&mut self, exits: &Report) -> Report {
        let noun = noun("time");
        let mut vms = exits.vms.clone();
        for vm in &mut vms {
            let shares =
                self.guests.iter().find(|guest| guest.pid == vm.pid).map_or([0.0; 7], |guest| guest.time);
            let mut all = [0.0; 7];
            for vcpu in &mut vm.vcpus {
                let noisy = shares.map(|share| share * (0.7 + 0.6 * self.random()));
                let sum: f64 = noisy.iter().sum();
                let ns = noisy.map(|share| (share / sum * 1e9).round());
                all.iter_mut().zip(ns).for_each(|(all, ns)| *all += ns);
                let name = vcpu.vcpu.map_or_else(|| "?".to_owned(), |id| id.to_string());
                vcpu.running = None;
                vcpu.rows = vec![time_row(noun.columns, &name, ns, vcpu.events)];
            }
            vm.rows = vec![time_row(noun.columns, "all", all, vm.events)];
            (vm.busy_share, vm.waiting_share) = (None, None);
        }
        Report { one_row: true, ..self.report(noun, vms) }
    }

    /// Rows of a drill-down that counts events by what they are.
    fn rows(&mut self, name: &str, exits: &Report) -> Report {
        let noun = noun(name);
        let mut vms = exits.vms.clone();
        for vm in &mut vms {
            let mut counts = vec![0; kinds(name).len()];
            for vcpu in &mut vm.vcpus {
                let mut of_vcpu = Vec::new();
                for (kind, sum) in counts.iter_mut().enumerate() {
                    let part = vcpu.events as f64 * 0.3 / f64::from(1 << kind) * (0.7 + 0.6 * self.random());
                    let count = part as u64;
                    *sum += count;
                    of_vcpu.push(count);
                }
                vcpu.events = of_vcpu.iter().sum();
                vcpu.running = None;
                vcpu.rows = plain_rows(noun.columns, kinds(name), &of_vcpu);
            }
            vm.events = counts.iter().sum();
            vm.rows = plain_rows(noun.columns, kinds(name), &counts);
            (vm.busy_share, vm.waiting_share) = (None, None);
            if name == "irq" {
                let rows = plain_rows(noun.columns, &kinds(name)[..1], &[7]);
                vm.vcpus.push(Vcpu { vcpu: None, tid: vm.pid, others: true, events: 7, running: None, rows });
            }
        }
        vms.retain(|vm| vm.events > 0);
        self.report(noun, vms)
    }

    fn report(&self, noun: &'static Noun, vms: Vec<Vm>) -> Report {
        let events = vms.iter().map(|vm| vm.events).sum();
        Report {
            noun: noun.name,
            counting: noun.counting,
            columns: noun.columns,
            one_row: false,
            time: self.now(),
            interval: Duration::from_micros(1_000_021),
            summary: false,
            host: Host {
                kernel: "6.12.107".to_owned(),
                isa: "svm".to_owned(),
                cpus: 8,
                cpu: "AMD EPYC 7B13 64-Core Processor".to_owned(),
            },
            proof: Proof {
                source: "raw_tracepoint",
                counted: events,
                kvm_stat: KvmStat::NotKept,
                missed: Some(0),
                unpaired: 0,
                entries_without_exit: 0,
                in_progress: 0,
                vcpus_full: 0,
                histograms_full: 0,
                unreadable: 0,
                rows_full: 0,
                own_cost: Some(0.0031),
            },
            totals: Vec::new(),
            events,
            hints: Vec::new(),
            notes: Vec::new(),
            vms,
        }
    }

    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(1_795_170_896_789 + self.tick * 1000)
    }
}

/// A drill-down by its name.
pub fn noun(name: &str) -> &'static Noun {
    REGISTRY.iter().find(|noun| noun.name == name).unwrap()
}

/// A row from what each column has.
fn row(columns: &[Column], cell: impl Fn(&str) -> Cell) -> Row {
    Row { cells: columns.iter().map(|column| cell(column.id)).collect(), ..Row::default() }
}

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

fn exit_rows(columns: &[Column], exits: &[(Exit, Durations)], vcpus: u32) -> Vec<Row> {
    let all: u64 = exits.iter().map(|(_, durations)| durations.timed).sum();
    let rows = exits.iter().map(|((reason, class, code, ..), durations)| {
        let quantile = |q| durations.quantile_ns(q).map_or(Cell::Unknown, Cell::Number);
        let count = durations.timed;
        let mut row = row(columns, |id| match id {
            "reason" => text(reason),
            "code" => Cell::Number(*code),
            "flags" => Cell::List(Vec::new()),
            "isa" => text("svm"),
            "class" => text(class),
            "count" => Cell::Number(count),
            "rate" => Cell::Real(count as f64 / 1.000_021),
            "share" => Cell::Real(count as f64 / all as f64),
            "time_share" => Cell::Real(durations.total_ns as f64 / (f64::from(vcpus) * 1e9)),
            "total_ns" => Cell::Number(durations.total_ns),
            "min_ns" => quantile(0.0),
            "mean_ns" => Cell::Number(durations.total_ns / count.max(1)),
            "p50_ns" => quantile(0.5),
            "p90_ns" => quantile(0.9),
            "p99_ns" => quantile(0.99),
            "max_ns" => quantile(1.0),
            _ => Cell::Unknown,
        });
        row.waiting = *class == "hlt";
        row.durations = Some(durations.clone());
        row
    });
    rows.collect()
}

fn time_row(columns: &[Column], who: &str, ns: [f64; 7], exits: u64) -> Row {
    const BUCKETS: [&str; 7] = ["guest", "kvm", "vmm", "poll", "idle", "steal", "other"];
    let wall: f64 = ns.iter().sum();
    row(columns, |id| {
        let bucket = |suffix| BUCKETS.iter().position(|bucket| id.strip_suffix(suffix) == Some(bucket));
        match (id, bucket("_share"), bucket("_ns")) {
            ("vcpu", ..) => text(who),
            ("wall_ns", ..) => Cell::Number(wall as u64),
            ("exits", ..) => Cell::Number(exits),
            (_, Some(bucket), _) => Cell::Real(ns[bucket] / wall),
            (_, _, Some(bucket)) => Cell::Number(ns[bucket] as u64),
            _ => Cell::Unknown,
        }
    })
}

/// What the rows of a drill-down are of: values of its key columns.
fn kinds(noun: &str) -> &'static [&'static [(&'static str, &'static str)]] {
    match noun {
        "io" => &[
            &[("device", "ACPI PM timer"), ("address", "0x608"), ("dir", "in")],
            &[("device", "virtio-blk disk0"), ("address", "0xfe003000"), ("dir", "write")],
            &[("device", "IOAPIC select"), ("address", "0xfec00000"), ("dir", "write")],
            &[("device", "serial port COM1"), ("address", "0x3f8"), ("dir", "out")],
        ],
        "msr" | "wrmsr" => &[
            &[("msr", "IA32_TSC_DEADLINE"), ("index", "0x6e0"), ("access", "write")],
            &[("msr", "x2APIC ICR"), ("index", "0x830"), ("access", "write")],
        ],
        "irq" => &[
            &[("event", "injected"), ("vector", "0xec"), ("what", "local timer")],
            &[("event", "ended"), ("vector", "0xec")],
        ],
        _ => &[&[]],
    }
}

fn plain_rows(columns: &[Column], kinds: &[&[(&str, &str)]], counts: &[u64]) -> Vec<Row> {
    let all: u64 = counts.iter().sum();
    let rows = kinds.iter().zip(counts).filter(|(_, count)| **count > 0).map(|(kind, count)| {
        let mut row = row(columns, |id| match (id, kind.iter().find(|(of, _)| *of == id)) {
            (_, Some((_, value))) => text(value),
            ("count", _) => Cell::Number(*count),
            ("rate", _) => Cell::Real(*count as f64 / 1.000_021),
            ("share", _) => Cell::Real(*count as f64 / all as f64),
            ("mean_ns", _) => Cell::Number(31_000),
            _ => Cell::Unknown,
        });
        if kind.first().is_some_and(|(_, value)| value.contains("DEADLINE")) {
            row.detail = Some("armed 38us ahead (p50), 91 % re-armed before firing".to_owned());
        }
        row
    });
    rows.collect()
}
