//! What is in the frames: JSON with short keys, apart from the types that the rest of the program works with, so that these
//! may change and files stay readable. A key that is left out has its default; a key that is not known is passed over.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kvm_utils_common::rows::RowKey;
use serde::{Deserialize, Serialize};

use crate::{
    bpf::{
        rows::{RowStats, Slice},
        tracer::Source,
    },
    decode::Isa,
    drilldown::{
        exits::{
            rows::{ByCode, Code},
            stats::ExitStats,
        },
        noun::Noun,
        sample::{
            Bounds, CostSample, Crowd, Machine, Notes, Owner, Sample, Scope, Troubles, Unlisted, VcpuSample,
            VmSample,
        },
    },
    host::{Posted, cgroup::PlaceKind, qmp::DeviceMap},
    model::{KvmStat, Place, Vm},
};

/// The frame at the beginning.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Header {
    /// [`super::VERSION`].
    pub version: u32,
    /// Of the program that wrote it.
    pub tool: String,
    /// When it began, ns since 1970.
    pub began: u64,
    /// Time between snapshots that was asked for, ns.
    pub interval: u64,
    /// Names of the drill-downs; samples refer to them by position.
    pub nouns: Vec<String>,
    /// What was run, if it was to record a command.
    pub command: Vec<String>,
    /// Facts about the machine: see [`crate::model::Fingerprint`].
    pub facts: BTreeMap<String, String>,
}

/// The frame at the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct End {
    /// When it ended, ns since 1970.
    pub time: u64,
    /// Exit status of the command, if there was one and it exited.
    pub status: Option<i32>,
}

/// A frame for each interval.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interval {
    /// A sample of each drill-down.
    #[serde(rename = "s")]
    pub samples: Vec<SampleWire>,
    /// VMs that are new, or of whom something else is known now: drill-down, serial, who.
    #[serde(rename = "w", skip_serializing_if = "Vec::is_empty")]
    pub who: Vec<(usize, u64, WhoWire)>,
    /// The same of what devices are called: process and map.
    #[serde(rename = "d", skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<(u32, DeviceMap)>,
}

/// See [`Sample`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SampleWire {
    /// Position in [`Header::nouns`].
    #[serde(rename = "n")]
    noun: usize,
    /// Its end, ns since 1970.
    #[serde(rename = "t")]
    time: u64,
    /// Its length, ns.
    #[serde(rename = "i")]
    interval: u64,
    /// CPUs online, isa of the host's KVM.
    #[serde(rename = "m")]
    machine: (u32, Option<u32>),
    /// Whether by raw tracepoints.
    #[serde(rename = "r")]
    raw: bool,
    /// None if KVM keeps none.
    #[serde(rename = "k", skip_serializing_if = "Option::is_none")]
    kvm_stat: Option<BoundsWire>,
    #[serde(rename = "b", skip_serializing_if = "Option::is_none")]
    bounds: Option<[BoundsWire; 2]>,
    #[serde(rename = "l", skip_serializing_if = "Option::is_none")]
    missed: Option<u64>,
    /// Histograms full, unreadable, rows full.
    #[serde(rename = "x", skip_serializing_if = "is_default")]
    trouble: [u64; 3],
    /// Mean run time, share.
    #[serde(rename = "c", skip_serializing_if = "is_default")]
    cost: (Option<f64>, Option<f64>),
    #[serde(rename = "v", skip_serializing_if = "Vec::is_empty")]
    vms: Vec<VmWire>,
    #[serde(rename = "o", skip_serializing_if = "Vec::is_empty")]
    crowds: Vec<(u32, OwnerWire, SliceWire)>,
    #[serde(rename = "f", skip_serializing_if = "Vec::is_empty")]
    overflow: Vec<ExitWire>,
    #[serde(rename = "p", skip_serializing_if = "Option::is_none")]
    posted: Option<[u64; 3]>,
    /// Blind to interrupts, ambiguous.
    #[serde(rename = "a", skip_serializing_if = "is_default")]
    flags: (bool, bool),
    #[serde(rename = "nd", skip_serializing_if = "Vec::is_empty")]
    device_notes: Vec<String>,
    #[serde(rename = "nl", skip_serializing_if = "Vec::is_empty")]
    lacks: Vec<String>,
}

/// At least and at most, or why they are not known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum BoundsWire {
    Known(u64, u64),
    Unknown(String),
}

/// Who a VM is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WhoWire {
    pid: u32,
    name: String,
    vmm: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    uuid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    within: Vec<(String, String)>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct VmWire {
    #[serde(rename = "s")]
    serial: u64,
    #[serde(rename = "p")]
    tgid: u32,
    #[serde(rename = "c")]
    vcpus: Vec<VcpuWire>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct VcpuWire {
    #[serde(rename = "k")]
    key: (u32, u64),
    #[serde(rename = "i")]
    id: Option<u32>,
    #[serde(rename = "t")]
    tid: u32,
    #[serde(rename = "z", skip_serializing_if = "is_default")]
    ended: bool,
    #[serde(rename = "a", skip_serializing_if = "is_default")]
    isa: u32,
    #[serde(rename = "w")]
    wall_ns: u64,
    #[serde(rename = "e", skip_serializing_if = "Vec::is_empty")]
    exits: Vec<ExitWire>,
    #[serde(rename = "r", skip_serializing_if = "is_default")]
    slice: SliceWire,
    #[serde(rename = "u", skip_serializing_if = "is_default")]
    unpaired: (u64, u64),
    /// isa, code, for how long.
    #[serde(rename = "g", skip_serializing_if = "Option::is_none")]
    running: Option<(u32, u64, u64)>,
}

/// isa, code; count, timed, total, within, unbinned; extremes; histogram: each bucket less the one before, and its count.
type ExitWire = ((u32, u64), (u64, u64, u64, u64, u64), (Option<u64>, Option<u64>), Vec<u64>);

/// The key's `b` and `a`; count, extra; timed, total, longest, by user space: only if timed.
type RowWire = ((u64, u64), (u64, u64), Option<(u64, u64, Option<u64>, u64)>);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct SliceWire {
    #[serde(rename = "r", skip_serializing_if = "Vec::is_empty")]
    rows: Vec<RowWire>,
    /// How many there are, and those that are not 0: each index less the one before, and its value.
    #[serde(rename = "c", skip_serializing_if = "is_default")]
    counters: (usize, Vec<u64>),
    #[serde(rename = "o", skip_serializing_if = "is_default")]
    other: u64,
    #[serde(rename = "g", skip_serializing_if = "Option::is_none")]
    gauge: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum OwnerWire {
    #[serde(rename = "v")]
    Vm(u32),
    #[serde(rename = "n")]
    Nobody(String),
    #[serde(rename = "x")]
    Unwanted,
    #[serde(rename = "u")]
    Unknown,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// ns since 1970; 0 before.
#[must_use]
pub fn nanoseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// The moment so many ns after 1970 began.
#[must_use]
pub fn time(ns: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(ns)
}

impl SampleWire {
    /// To be written, for the drill-down at this position.
    #[must_use]
    pub fn new(noun: usize, sample: &Sample) -> Self {
        let Sample { trouble, cost, .. } = sample;
        let exits_are_kept = sample.noun.build.is_none();
        Self {
            noun,
            time: nanoseconds(sample.time),
            interval: u64::try_from(sample.interval.as_nanos()).unwrap_or(u64::MAX),
            machine: (sample.host.cpus, sample.host.isa.map(Isa::raw)),
            raw: sample.source == Source::Raw,
            kvm_stat: match &sample.kvm_stat {
                KvmStat::Between { least, most } => Some(BoundsWire::Known(*least, *most)),
                KvmStat::Unknown(why) => Some(BoundsWire::Unknown(why.clone())),
                KvmStat::NotKept => None,
            },
            bounds: exits_are_kept.then(|| [0, 1].map(|end| bounds_to_wire(&sample.bounds[end]))),
            missed: sample.missed,
            trouble: [trouble.histograms_full, trouble.unreadable, trouble.rows_full],
            cost: (cost.mean_ns, cost.share),
            vms: sample.vms.iter().map(VmWire::new).collect(),
            crowds: sample
                .crowds
                .iter()
                .map(|(tgid, crowd)| (*tgid, owner_to_wire(&crowd.owner), SliceWire::new(&crowd.slice)))
                .collect(),
            overflow: exits_to_wire(&sample.overflow),
            posted: sample.posted.map(|posted| [posted.notifications, posted.nested, posted.wakeups]),
            flags: (sample.blind_to_interrupts, sample.ambiguous),
            device_notes: sample.notes.devices.clone(),
            lacks: sample.notes.lacks.clone(),
        }
    }

    /// Which drill-down it is of.
    #[must_use]
    pub fn noun(&self) -> usize {
        self.noun
    }

    /// The sample as it was. `who` says who the VM with a serial is.
    #[must_use]
    pub fn sample(self, noun: &'static Noun, kernel: &str, cpu: &str, who: &dyn Fn(u64) -> Vm) -> Sample {
        let [histograms_full, unreadable, rows_full] = self.trouble;
        let unknown = || Err("it is not recorded".to_owned());
        Sample {
            noun,
            scope: Scope::Interval,
            time: time(self.time),
            interval: Duration::from_nanos(self.interval),
            host: Machine {
                kernel: kernel.to_owned(),
                cpus: self.machine.0,
                cpu: cpu.to_owned(),
                isa: self.machine.1.map(Isa::from_raw),
            },
            source: if self.raw { Source::Raw } else { Source::Tracepoint },
            kvm_stat: match self.kvm_stat {
                Some(BoundsWire::Known(least, most)) => KvmStat::Between { least, most },
                Some(BoundsWire::Unknown(why)) => KvmStat::Unknown(why),
                None => KvmStat::NotKept,
            },
            bounds: self.bounds.map_or_else(|| [unknown(), unknown()], |ends| ends.map(bounds_of_wire)),
            missed: self.missed,
            trouble: Troubles { histograms_full, unreadable, rows_full },
            cost: CostSample { mean_ns: self.cost.0, share: self.cost.1 },
            vms: self.vms.into_iter().map(|vm| vm.sample(who)).collect(),
            crowds: self
                .crowds
                .into_iter()
                .map(|(tgid, owner, slice)| (tgid, Crowd { owner: owner.owner(), slice: slice.slice() }))
                .collect(),
            overflow: exits_of_wire(self.overflow),
            unlisted: Unlisted::default(),
            posted: self.posted.map(|[notifications, nested, wakeups]| Posted {
                notifications,
                nested,
                wakeups,
            }),
            blind_to_interrupts: self.flags.0,
            ambiguous: self.flags.1,
            notes: Notes { devices: self.device_notes, lacks: self.lacks },
        }
    }
}

impl WhoWire {
    /// To be written.
    #[must_use]
    pub fn new(vm: &Vm) -> Self {
        let within = vm.within.iter().map(|place| (place.kind.to_owned(), place.name.clone()));
        Self {
            pid: vm.pid,
            name: vm.name.clone(),
            vmm: vm.vmm.clone(),
            uuid: vm.uuid.clone(),
            id: vm.id.clone(),
            within: within.collect(),
        }
    }

    /// The VM, without numbers.
    #[must_use]
    pub fn vm(&self) -> Vm {
        let place = |(kind, name): &(String, String)| Place {
            kind: PlaceKind::named(kind).unwrap_or(PlaceKind::Cgroup).as_str(),
            name: name.clone(),
        };
        Vm {
            pid: self.pid,
            name: self.name.clone(),
            vmm: self.vmm.clone(),
            uuid: self.uuid.clone(),
            id: self.id.clone(),
            within: self.within.iter().map(place).collect(),
            ..Vm::default()
        }
    }
}

impl VmWire {
    fn new(vm: &VmSample) -> Self {
        Self { serial: vm.serial, tgid: vm.tgid, vcpus: vm.vcpus.iter().map(VcpuWire::new).collect() }
    }

    fn sample(self, who: &dyn Fn(u64) -> Vm) -> VmSample {
        VmSample {
            serial: self.serial,
            tgid: self.tgid,
            who: who(self.serial),
            settled: false,
            vcpus: self.vcpus.into_iter().map(VcpuWire::sample).collect(),
        }
    }
}

impl VcpuWire {
    fn new(vcpu: &VcpuSample) -> Self {
        Self {
            key: vcpu.key,
            id: vcpu.id,
            tid: vcpu.tid,
            ended: vcpu.ended,
            isa: vcpu.isa,
            wall_ns: vcpu.wall_ns,
            exits: exits_to_wire(&vcpu.exits),
            slice: SliceWire::new(&vcpu.slice),
            unpaired: vcpu.unpaired,
            running: vcpu.running.map(|(code, ns)| (code.isa, code.code, ns)),
        }
    }

    fn sample(self) -> VcpuSample {
        VcpuSample {
            key: self.key,
            id: self.id,
            tid: self.tid,
            ended: self.ended,
            isa: self.isa,
            wall_ns: self.wall_ns,
            exits: exits_of_wire(self.exits),
            slice: self.slice.slice(),
            unpaired: self.unpaired,
            running: self.running.map(|(isa, code, ns)| (Code { isa, code }, ns)),
        }
    }
}

impl SliceWire {
    fn new(slice: &Slice) -> Self {
        let row = |(key, stats): (&RowKey, &RowStats)| {
            let RowStats { count, extra, timed, total_ns, max_ns, user } = *stats;
            let times = (timed, total_ns, max_ns, user);
            ((key.b, key.a), (count, extra), (times != (0, 0, None, 0)).then_some(times))
        };
        let counters = slice.counters.iter().enumerate().filter(|(_, value)| **value > 0);
        Self {
            rows: slice.rows.iter().map(row).collect(),
            counters: (slice.counters.len(), deltas(counters.map(|(index, value)| (index as u64, *value)))),
            other: slice.other,
            gauge: slice.gauge,
        }
    }

    fn slice(self) -> Slice {
        let row = |((b, a), (count, extra), times): RowWire| {
            let (timed, total_ns, max_ns, user) = times.unwrap_or_default();
            (RowKey { a, b }, RowStats { count, extra, timed, total_ns, max_ns, user })
        };
        // No noun has more of them than there is room for.
        let mut counters = vec![0; self.counters.0.min(kvm_utils_common::numbers::NUMBERS)];
        for (index, value) in undo_deltas(&self.counters.1) {
            if let Some(counter) = usize::try_from(index).ok().and_then(|index| counters.get_mut(index)) {
                *counter = value;
            }
        }
        Slice {
            rows: self.rows.into_iter().map(row).collect(),
            counters,
            other: self.other,
            gauge: self.gauge,
        }
    }
}

/// Pairs of a growing number and a value, the number less the one before.
fn deltas(pairs: impl Iterator<Item = (u64, u64)>) -> Vec<u64> {
    let mut before = 0;
    let mut out = Vec::new();
    for (number, value) in pairs {
        out.extend([number - before, value]);
        before = number;
    }
    out
}

fn undo_deltas(words: &[u64]) -> Vec<(u64, u64)> {
    let mut number: u64 = 0;
    let pair = |pair: &[u64]| {
        number = number.saturating_add(pair[0]);
        (number, pair[1])
    };
    words.chunks_exact(2).map(pair).collect()
}

fn exits_to_wire(exits: &ByCode) -> Vec<ExitWire> {
    let one = |(code, stats): (&Code, &ExitStats)| {
        let hist = deltas(stats.hist.iter().map(|(bucket, count)| (u64::from(*bucket), *count)));
        (
            (code.isa, code.code),
            (stats.count, stats.timed, stats.total_ns, stats.within_ns, stats.unbinned),
            (stats.min_ns, stats.max_ns),
            hist,
        )
    };
    exits.iter().map(one).collect()
}

fn exits_of_wire(exits: Vec<ExitWire>) -> ByCode {
    let one =
        |((isa, code), (count, timed, total_ns, within_ns, unbinned), (min_ns, max_ns), hist): ExitWire| {
            let last = kvm_utils_common::hist::BUCKETS as u64 - 1;
            let hist = undo_deltas(&hist).into_iter().map(|(bucket, count)| (bucket.min(last) as u16, count));
            let stats = ExitStats {
                count,
                timed,
                total_ns,
                within_ns,
                min_ns,
                max_ns,
                hist: hist.collect(),
                unbinned,
            };
            (Code { isa, code }, stats)
        };
    exits.into_iter().map(one).collect()
}

fn bounds_to_wire(bounds: &Result<Bounds, String>) -> BoundsWire {
    match bounds {
        Ok(Bounds { least, most }) => BoundsWire::Known(*least, *most),
        Err(why) => BoundsWire::Unknown(why.clone()),
    }
}

fn bounds_of_wire(wire: BoundsWire) -> Result<Bounds, String> {
    match wire {
        BoundsWire::Known(least, most) => Ok(Bounds { least, most }),
        BoundsWire::Unknown(why) => Err(why),
    }
}

fn owner_to_wire(owner: &Owner) -> OwnerWire {
    match owner {
        Owner::Vm(tgid) => OwnerWire::Vm(*tgid),
        Owner::Nobody(name) => OwnerWire::Nobody(name.clone()),
        Owner::Unwanted => OwnerWire::Unwanted,
        Owner::Unknown => OwnerWire::Unknown,
    }
}

impl OwnerWire {
    fn owner(self) -> Owner {
        match self {
            Self::Vm(tgid) => Owner::Vm(tgid),
            Self::Nobody(name) => Owner::Nobody(name),
            Self::Unwanted => Owner::Unwanted,
            Self::Unknown => Owner::Unknown,
        }
    }
}
