//! What one drill-down counted in an interval, or over a run, as plain data: all that a report is made of. A live run
//! takes samples from the kernel's counters, a recording keeps those of its intervals.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, SystemTime},
};

use super::{
    exits::{
        collect::VcpuKey,
        rows::{ByCode, Code},
    },
    noun::Noun,
};
use crate::{
    bpf::{rows::Slice, tracer::Source},
    decode::Isa,
    host::Posted,
    model::{KvmStat, Vm},
};

/// Which numbers a sample has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Of the interval.
    Interval,
    /// Of the whole run.
    Run,
}

/// An interval, or a run, of one drill-down.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The drill-down.
    pub noun: &'static Noun,
    /// Which numbers these are.
    pub scope: Scope,
    /// When it ended.
    pub time: SystemTime,
    /// Its measured length.
    pub interval: Duration,
    /// The machine.
    pub host: Machine,
    /// How its events were learned of.
    pub source: Source,
    /// KVM's own statistic over the same time.
    pub kvm_stat: KvmStat,
    /// KVM's statistic since the run began, at the beginning and at the end; why there is none where it cannot be had.
    pub bounds: [Result<Bounds, String>; 2],
    /// Program runs that the kernel skipped; `None` where it does not tell.
    pub missed: Option<u64>,
    /// What could not be accounted for.
    pub trouble: Troubles,
    /// What the programs cost.
    pub cost: CostSample,
    /// The VMs, in the order of their appearance.
    pub vms: Vec<VmSample>,
    /// Events on threads that had no vCPU loaded, by process in the initial pid namespace.
    pub crowds: BTreeMap<u32, Crowd>,
    /// Exits of vCPUs that found no record.
    pub overflow: ByCode,
    /// What vCPUs counted that are not listed any more.
    pub unlisted: Unlisted,
    /// Posted interrupts of the host in this time, where they are of interest.
    pub posted: Option<Posted>,
    /// Some events may have come in interrupts, and the programs could not tell.
    pub blind_to_interrupts: bool,
    /// Two VMs of one process could not be told apart.
    pub ambiguous: bool,
    /// Sentences the reader must know: where devices' names come from, what this kernel lacks.
    pub notes: Notes,
}

/// The machine that was traced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Release as uname says.
    pub kernel: String,
    /// CPUs online.
    pub cpus: u32,
    /// Model name of the CPU.
    pub cpu: String,
    /// Whose interface KVM uses here, by its vendor module; `None` where there is none.
    pub isa: Option<Isa>,
}

/// Exits according to KVM: at least and at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// At least.
    pub least: u64,
    /// At most.
    pub most: u64,
}

/// What could not be accounted for; see `kvm_utils_common::config::Trouble`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Troubles {
    /// (vCPU, reason) pairs that no histogram was left for.
    pub histograms_full: u64,
    /// Exits whose reason could not be read.
    pub unreadable: u64,
    /// Events on no vCPU's thread that found no room.
    pub rows_full: u64,
}

/// What the programs cost, from the last time that was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CostSample {
    /// Mean time of one run of a program, ns.
    pub mean_ns: Option<f64>,
    /// Share of one CPU.
    pub share: Option<f64>,
}

impl CostSample {
    /// Share of one CPU that `exits`, each with its entry, cost in `interval`; `None` while not known.
    #[must_use]
    pub fn of_exits(&self, exits: u64, interval: Duration) -> Option<f64> {
        Some(self.mean_ns? * 2.0 * exits as f64 / interval.as_nanos().max(1) as f64)
    }
}

/// What is to be told beside the numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Where names of devices come from.
    pub devices: Vec<String>,
    /// What this kernel cannot tell.
    pub lacks: Vec<String>,
}

/// Numbers of vCPUs that are not listed any more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unlisted {
    /// Their VMs.
    pub vms: u64,
    /// Their exits.
    pub exits: ByCode,
    /// What else was counted for them.
    pub slice: Slice,
}

/// One VM.
#[derive(Clone, Debug, PartialEq)]
pub struct VmSample {
    /// Number that no other VM of the run has.
    pub serial: u64,
    /// Process in the initial pid namespace.
    pub tgid: u32,
    /// Who it is, without numbers.
    pub who: Vm,
    /// It ended before the interval began.
    pub settled: bool,
    /// Its vCPUs, in the order of their appearance.
    pub vcpus: Vec<VcpuSample>,
}

/// One vCPU.
#[derive(Clone, Debug, PartialEq)]
pub struct VcpuSample {
    /// What tells it from all other vCPUs of the run.
    pub key: VcpuKey,
    /// KVM's id; `None` = could not be read.
    pub id: Option<u32>,
    /// Thread that ran it when it was first seen.
    pub tid: u32,
    /// It will never run again.
    pub ended: bool,
    /// The events' isa; 0 before the first.
    pub isa: u32,
    /// Wall time of it in this time, ns.
    pub wall_ns: u64,
    /// Its exits, where they are counted.
    pub exits: ByCode,
    /// What else was counted.
    pub slice: Slice,
    /// Exits without duration, and entries without exit.
    pub unpaired: (u64, u64),
    /// The exit going on at the end, and for how long, ns.
    pub running: Option<(Code, u64)>,
}

/// Events on threads of one process that had no vCPU loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct Crowd {
    /// For whom it works.
    pub owner: Owner,
    /// The events.
    pub slice: Slice,
}

/// For whom a process works on whose threads there were events while they had no vCPU loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// For the VM of this process, in the initial pid namespace: its own, or one that the kernel works in for it.
    Vm(u32),
    /// For nobody that is known; its own name.
    Nobody(String),
    /// It is not wanted.
    Unwanted,
    /// The same, but it may have worked for a VM that is.
    Unknown,
}

/// The statistic between two moments, from the bounds at each.
#[must_use]
pub fn between(began: &Result<Bounds, String>, ended: &Result<Bounds, String>) -> KvmStat {
    match (began, ended) {
        (Ok(began), Ok(ended)) => KvmStat::Between {
            least: ended.least.saturating_sub(began.most),
            most: ended.most.saturating_sub(began.least),
        },
        (Err(why), _) | (_, Err(why)) => KvmStat::Unknown(why.clone()),
    }
}

impl Sample {
    /// The sum of successive intervals, as a report of a whole run has it; `None` of none.
    #[must_use]
    pub fn over(intervals: &[Self]) -> Option<Self> {
        let (first, rest) = intervals.split_first()?;
        let mut sum = Self { scope: Scope::Run, ..first.clone() };
        for sample in rest {
            sum.follow(sample);
        }
        Some(sum)
    }

    /// When it began; when it ended, if that is before any time that can be written.
    #[must_use]
    pub fn began(&self) -> SystemTime {
        self.time.checked_sub(self.interval).unwrap_or(self.time)
    }

    /// Adds the interval that came right after. What is of a moment, such as an exit that goes on, is the later one's.
    pub fn follow(&mut self, later: &Self) {
        self.scope = Scope::Run;
        self.time = later.time;
        self.interval += later.interval;
        self.host.clone_from(&later.host);
        let [_, ended] = &later.bounds;
        self.kvm_stat = match later.kvm_stat {
            KvmStat::NotKept => KvmStat::NotKept,
            _ => between(&self.bounds[0], ended),
        };
        self.bounds[1].clone_from(ended);
        self.missed = self.missed.zip(later.missed).map(|(one, more)| one + more);
        self.trouble.histograms_full += later.trouble.histograms_full;
        self.trouble.unreadable += later.trouble.unreadable;
        self.trouble.rows_full += later.trouble.rows_full;
        self.cost = later.cost;
        let mut new: HashMap<_, _> = later.vms.iter().map(|vm| (vm.serial, vm)).collect();
        for vm in &mut self.vms {
            let goes_on = new.remove(&vm.serial);
            vm.settled = goes_on.is_none();
            vm.who.ended |= vm.settled;
            for vcpu in &mut vm.vcpus {
                vcpu.running = None;
                vcpu.ended |= vm.settled;
            }
            if let Some(later) = goes_on {
                vm.follow(later);
            }
        }
        self.vms.extend(later.vms.iter().filter(|vm| new.contains_key(&vm.serial)).cloned());
        for (tgid, crowd) in &later.crowds {
            match self.crowds.get_mut(tgid) {
                Some(of) => {
                    of.owner.clone_from(&crowd.owner);
                    of.slice.follow(&crowd.slice);
                }
                None => {
                    self.crowds.insert(*tgid, crowd.clone());
                }
            }
        }
        add(&mut self.overflow, &later.overflow);
        add(&mut self.unlisted.exits, &later.unlisted.exits);
        self.unlisted.vms += later.unlisted.vms;
        self.unlisted.slice.follow(&later.unlisted.slice);
        self.posted = match (self.posted, later.posted) {
            (Some(one), Some(more)) => Some(one.plus(&more)),
            _ => None,
        };
        self.blind_to_interrupts |= later.blind_to_interrupts;
        self.ambiguous |= later.ambiguous;
        self.notes.clone_from(&later.notes);
    }

    /// Leaves out all but some VMs and, of these, some vCPUs. Whether anything is left.
    pub fn keep_only(&mut self, vm: &dyn Fn(&Vm) -> bool, vcpu: &dyn Fn(Option<u32>) -> bool) -> bool {
        let all = self.vms.iter().map(|vm| vm.vcpus.len()).sum::<usize>();
        self.vms.retain(|of| vm(&of.who));
        for vm in &mut self.vms {
            vm.vcpus.retain(|of| vcpu(of.id));
        }
        self.vms.retain(|vm| !vm.vcpus.is_empty());
        let left = self.vms.iter().map(|vm| vm.vcpus.len()).sum::<usize>();
        if left < all {
            let why = "it is of all VMs that were recorded, and only some are shown";
            if self.kvm_stat != KvmStat::NotKept {
                self.kvm_stat = KvmStat::Unknown(why.to_owned());
            }
            self.bounds = [Err(why.to_owned()), Err(why.to_owned())];
            self.overflow.clear();
            self.unlisted = Unlisted::default();
        }
        let vms = &self.vms;
        for crowd in self.crowds.values_mut() {
            crowd.owner = match &crowd.owner {
                Owner::Vm(tgid) if vms.iter().any(|vm| vm.tgid == *tgid) => continue,
                Owner::Vm(_) | Owner::Unwanted => Owner::Unwanted,
                Owner::Nobody(_) | Owner::Unknown => Owner::Unknown,
            };
        }
        left > 0
    }

    /// isa of the events, else of the host's KVM.
    #[must_use]
    pub fn isa(&self) -> Option<Isa> {
        let vcpus = self.vms.iter().flat_map(|vm| &vm.vcpus);
        let of_events = vcpus.rev().find(|vcpu| vcpu.isa != 0);
        of_events.map(|vcpu| Isa::from_raw(vcpu.isa)).or(self.host.isa)
    }
}

impl VmSample {
    fn follow(&mut self, later: &Self) {
        self.who.clone_from(&later.who);
        self.settled = later.settled;
        for vcpu in &later.vcpus {
            match self.vcpus.iter_mut().find(|of| of.key == vcpu.key) {
                Some(of) => of.follow(vcpu),
                None => self.vcpus.push(vcpu.clone()),
            }
        }
    }

    /// Whether all of its vCPUs have ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.vcpus.iter().all(|vcpu| vcpu.ended)
    }
}

impl VcpuSample {
    fn follow(&mut self, later: &Self) {
        self.ended = later.ended;
        self.isa = later.isa;
        self.wall_ns += later.wall_ns;
        add(&mut self.exits, &later.exits);
        self.slice.follow(&later.slice);
        self.unpaired.0 += later.unpaired.0;
        self.unpaired.1 += later.unpaired.1;
        self.running = later.running;
    }
}

/// Adds exits to exits.
pub fn add(sum: &mut ByCode, more: &ByCode) {
    for (code, stats) in more {
        sum.entry(*code).or_default().add(stats);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_lies_between_the_widest_readings() {
        let began = Ok(Bounds { least: 10, most: 12 });
        let ended = Ok(Bounds { least: 30, most: 31 });
        assert_eq!(between(&began, &ended), KvmStat::Between { least: 18, most: 21 });
        assert!(matches!(between(&began, &Err("gone".to_owned())), KvmStat::Unknown(_)));
    }
}
