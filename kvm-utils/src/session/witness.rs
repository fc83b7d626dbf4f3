//! KVM's own `exits` statistic, read such that it can be held against our counts.
//!
//! For VMs that live it comes from debugfs, per process; for vCPUs that the kernel destroyed while we watched, from the
//! record that the programs filled at their first and last moment. Both are exact except that a vCPU in motion may be
//! counted by one side and not yet by the other, which widens the bounds by one per such vCPU.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    bpf::snapshot::Head,
    drilldown::{
        exits::{
            collect::{Collection, is_overflow},
            group::{Groups, VmGroup},
        },
        sample::Bounds,
    },
    host::{
        self,
        kvm_stat::{ProcessExits, VmExits},
    },
};

/// A vCPU that left the guest no longer ago than this may still be on its way to KVM's own counter, ns.
const IN_MOTION_NS: u64 = 1_000_000;

impl Bounds {
    fn plus(self, other: Self) -> Self {
        Self { least: self.least + other.least, most: self.most + other.most }
    }
}

/// KVM's counts per process, or why there are none.
pub type Reading = Result<BTreeMap<u32, ProcessExits>, String>;

/// Keeps what KVM said when the run began.
pub struct Witness {
    stat: host::KvmStat,
    /// Read right after the programs were attached.
    baseline: Reading,
    /// Exits of all VMs between a reading right before that and the baseline, of which we counted some, and one for each
    /// vCPU that may then have been in motion.
    attaching: u64,
    /// What the statistic cannot be compared with, and why.
    incomparable: Option<String>,
    /// Exits of VMs that ended and are not listed any more.
    forgotten: Result<Bounds, String>,
}

/// Which VMs to add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vms {
    /// All of the run.
    All,
    /// Those that had not ended when the interval began.
    Unsettled,
}

impl Witness {
    /// Reads the statistic for the first time. `incomparable` says why the counts of this run are of other exits than
    /// KVM's.
    #[must_use]
    pub fn new(root: &host::SysRoot, initial_pidns: bool, incomparable: Option<String>) -> Self {
        let mut stat = host::KvmStat::new(root, initial_pidns);
        let baseline = stat.all().map_err(|e| e.to_string());
        Self { stat, baseline, attaching: 0, incomparable, forgotten: Ok(Bounds { least: 0, most: 0 }) }
    }

    /// Reads the statistic anew where counting begins: right before the programs are attached and right after. Gives the
    /// bounds at which the run begins, on a host of so many CPUs.
    pub fn begin(&mut self, cpus: u32) -> Bounds {
        let now = self.read();
        let mut moving = 0;
        if let (Ok(before), Ok(after)) = (&self.baseline, &now) {
            let exits: u64 = after.iter().map(|(tgid, now)| since(before.get(tgid), Some(now))).sum();
            // A CPU runs one vCPU at a time.
            moving = if exits > 0 { u64::from(cpus) } else { 0 };
            self.attaching = exits + moving;
        }
        self.baseline = now;
        Bounds { least: 0, most: self.attaching + moving }
    }

    /// Reads the statistic now.
    pub fn read(&mut self) -> Reading {
        if self.incomparable.is_some() {
            return Ok(BTreeMap::new());
        }
        self.stat.all().map_err(|e| e.to_string())
    }

    /// Keeps the count of a VM that is about to be taken out of the list.
    pub fn forget(&mut self, vm: &VmGroup, collection: &Collection) {
        let sum = self.forgotten.clone().and_then(|sum| Ok(sum.plus(ended_vm(vm, collection)?)));
        self.forgotten = sum;
    }

    /// Exits of the VMs in `groups` since the beginning, from what [`Witness::begin`] gave on. `before` and `after` were read right before and right after
    /// the copy that `collection` holds.
    ///
    /// # Errors
    ///
    /// Why it cannot be known.
    pub fn bounds(
        &self,
        collection: &Collection,
        groups: &Groups,
        which: Vms,
        before: &Reading,
        after: &Reading,
    ) -> Result<Bounds, String> {
        if let Some(why) = &self.incomparable {
            return Err(why.clone());
        }
        if collection.vcpus.values().any(|vcpu| is_overflow(&vcpu.head)) {
            return Err("some vCPUs found no record, so it is not known whose exits to compare".to_owned());
        }
        let baseline = self.baseline.as_ref().map_err(Clone::clone)?;
        let (before, after) = (before.as_ref().map_err(Clone::clone)?, after.as_ref().map_err(Clone::clone)?);
        let mut bounds = match which {
            Vms::All => self.forgotten.clone()?,
            Vms::Unsettled => Bounds { least: 0, most: 0 },
        };
        // What an interval's beginning and end have in common; it counts where a run begins.
        bounds = bounds.plus(Bounds { least: self.attaching, most: self.attaching });
        let vms = || groups.vms.iter().filter(|vm| which == Vms::All || !vm.settled);
        let processes: BTreeSet<u32> = vms().map(|vm| vm.tgid).collect();
        for tgid in processes {
            let low = since(baseline.get(&tgid), before.get(&tgid));
            let high = since(baseline.get(&tgid), after.get(&tgid));
            let listed =
                |reading: &BTreeMap<u32, ProcessExits>| reading.get(&tgid).map_or(0, |p| p.vms.len());
            let of_process = vms().filter(|vm| vm.tgid == tgid);
            let (mut alive, mut moving, mut ended) = (0, 0, Bounds { least: 0, most: 0 });
            for vm in of_process {
                let vcpus: Vec<_> =
                    vm.vcpus.iter().filter_map(|(key, _)| collection.vcpus.get(key)).collect();
                if vcpus.iter().all(|vcpu| !vcpu.ended) {
                    alive += 1;
                    moving +=
                        vcpus.iter().filter(|vcpu| in_motion(&vcpu.head, collection.now_ns)).count() as u64;
                    continue;
                }
                ended = ended.plus(ended_vm(vm, collection)?);
            }
            // A VM that has not run yet is listed by KVM and not known to us; one that is about to end the other way
            // round. Only the second spoils the sum.
            if listed(before).min(listed(after)) < alive {
                return Err(format!("a VM of process {tgid} is ending"));
            }
            bounds.least += (low + ended.least).saturating_sub(moving);
            bounds.most += high + ended.most + moving;
        }
        Ok(bounds)
    }
}

/// What KVM counted for a VM whose vCPUs the kernel destroyed.
fn ended_vm(vm: &VmGroup, collection: &Collection) -> Result<Bounds, String> {
    let vcpus = vm.vcpus.iter().filter_map(|(key, _)| collection.vcpus.get(key));
    vcpus.map(|vcpu| at_end(&vcpu.head)).try_fold(Bounds { least: 0, most: 0 }, |sum, of_vcpu| {
        Ok(sum.plus(
            of_vcpu.ok_or_else(|| format!("{} ended before its count could be read", vm.identity.name))?,
        ))
    })
}

/// Exits of a process's living VMs between two readings. A VM that the first does not list came later.
fn since(began: Option<&ProcessExits>, now: Option<&ProcessExits>) -> u64 {
    let vms = |process: Option<&ProcessExits>| process.map(|p| p.vms.clone()).unwrap_or_default();
    let began = vms(began);
    let of =
        |vm: &VmExits| began.iter().find(|b| (b.creator, b.fd) == (vm.creator, vm.fd)).map_or(0, |b| b.exits);
    vms(now).iter().map(|vm| vm.exits.saturating_sub(of(vm))).sum()
}

fn in_motion(head: &Head, now_ns: u64) -> bool {
    head.pending_since == 0 || now_ns.saturating_sub(head.pending_since) < IN_MOTION_NS
}

/// What KVM counted for a vCPU that the kernel destroyed, while it had a record.
fn at_end(head: &Head) -> Option<Bounds> {
    if head.kvm_exits_first == u64::MAX || head.kvm_exits_last == u64::MAX {
        return None;
    }
    let exits = head.kvm_exits_last.checked_sub(head.kvm_exits_first)?;
    Some(Bounds { least: exits, most: exits + u64::from(head.taken_at_exit) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(vms: &[(u32, u32, u64)]) -> ProcessExits {
        ProcessExits {
            total: vms.iter().map(|vm| vm.2).sum(),
            vms: vms.iter().map(|&(creator, fd, exits)| VmExits { creator, fd, exits }).collect(),
        }
    }

    #[test]
    fn exits_since_a_reading_leave_out_what_came_before_and_vms_that_are_gone() {
        let began = process(&[(10, 5, 100), (11, 6, 1000)]);
        let now = process(&[(10, 5, 130), (12, 7, 9)]);
        assert_eq!(since(Some(&began), Some(&now)), 39);
        assert_eq!(since(None, Some(&now)), 139);
        assert_eq!(since(Some(&began), None), 0);
    }
}
