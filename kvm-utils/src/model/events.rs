//! Exits one by one, as they were told over a stretch of time, for those who asked for them. What was not told for want of
//! room is counted, so that nobody takes a gap for a guest that ran.

use std::time::{Duration, SystemTime};

/// Names a vCPU for ever within a run: the index of its record, and when it was taken, monotonic ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VcpuId {
    /// Index of the record, which is given to other vCPUs when this one has ended.
    pub slot: u32,
    /// When the vCPU was first seen, monotonic ns.
    pub since_ns: u64,
}

/// An exit that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitEvent {
    /// When the vCPU left the guest, monotonic ns.
    pub began_ns: u64,
    /// Time until it entered the guest again, ns.
    pub took_ns: u64,
    /// Index into [`EventBatch::reasons`].
    pub reason: u32,
}

/// Why vCPUs left the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventReason {
    /// The event's isa.
    pub isa: u32,
    /// The event's exit_reason, whole, or a pseudo code above `u32::MAX`.
    pub code: u64,
    /// The kernel's own name, with flags; see [`crate::decode::ExitReason`].
    pub name: String,
    /// The vendor-neutral class, [`crate::decode::Class::id`].
    pub class: &'static str,
    /// Time in it is waiting, not work.
    pub waiting: bool,
}

/// A VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventVm {
    /// Number that no other VM of the run has.
    pub serial: u64,
    /// Process id as this tool sees it; of the initial pid namespace where it is not visible from here.
    pub pid: u32,
    /// Name given to the VM, else the process's.
    pub name: String,
}

/// What one vCPU did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventVcpu {
    /// Which it is.
    pub id: VcpuId,
    /// Index of its VM in [`EventBatch::vms`].
    pub vm: usize,
    /// KVM's id; `None` = could not be read.
    pub vcpu: Option<u32>,
    /// Thread that ran it when it was first seen.
    pub tid: u32,
    /// Exits that were counted and are not among the events.
    pub lost: u64,
    /// Exits that are over, in the order in which they happened; none overlaps another.
    pub events: Vec<ExitEvent>,
}

/// The exits that ended in a stretch of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBatch {
    /// Monotonic time at which it begins and ends, ns.
    pub began_ns: u64,
    /// See `began_ns`. An event read last may have ended a little later.
    pub ended_ns: u64,
    /// The end on the wall clock.
    pub ended: SystemTime,
    /// Reasons of the events.
    pub reasons: Vec<EventReason>,
    /// VMs of the vCPUs.
    pub vms: Vec<EventVm>,
    /// vCPUs that had events, or lost some.
    pub vcpus: Vec<EventVcpu>,
}

impl EventBatch {
    /// An empty batch.
    #[must_use]
    pub fn new(began_ns: u64, ended_ns: u64, ended: SystemTime) -> Self {
        Self { began_ns, ended_ns, ended, reasons: Vec::new(), vms: Vec::new(), vcpus: Vec::new() }
    }

    /// Events in it.
    #[must_use]
    pub fn told(&self) -> u64 {
        self.vcpus.iter().map(|vcpu| vcpu.events.len() as u64).sum()
    }

    /// Exits that were counted and are not in it.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.vcpus.iter().map(|vcpu| vcpu.lost).sum()
    }

    /// A moment on the wall clock, as a monotonic time, ns.
    #[must_use]
    pub fn monotonic(&self, time: SystemTime) -> u64 {
        let ns = |distance: Duration| u64::try_from(distance.as_nanos()).unwrap_or(u64::MAX);
        match time.duration_since(self.ended) {
            Ok(later) => self.ended_ns.saturating_add(ns(later)),
            Err(earlier) => self.ended_ns.saturating_sub(ns(earlier.duration())),
        }
    }

    /// Leaves out vCPUs that are not wanted, and exits that were not going on between two monotonic times. Losses are not known
    /// to the nanosecond: those of a batch stay unless all of it lies outside.
    pub fn keep_only(&mut self, wanted: &dyn Fn(&EventVm, &EventVcpu) -> bool, from_ns: u64, to_ns: u64) {
        let outside = self.ended_ns < from_ns || self.began_ns > to_ns;
        let vms = &self.vms;
        self.vcpus.retain(|vcpu| vms.get(vcpu.vm).is_some_and(|vm| wanted(vm, vcpu)));
        for vcpu in &mut self.vcpus {
            let going_on = |exit: &ExitEvent| {
                exit.began_ns <= to_ns && exit.began_ns.saturating_add(exit.took_ns) >= from_ns
            };
            vcpu.events.retain(going_on);
            if outside {
                vcpu.lost = 0;
            }
        }
        self.vcpus.retain(|vcpu| vcpu.lost > 0 || !vcpu.events.is_empty());
    }

    /// Nothing happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.vcpus.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> EventBatch {
        let vcpu = |slot, vm, lost, events: &[(u64, u64)]| EventVcpu {
            id: VcpuId { slot, since_ns: 1 },
            vm,
            vcpu: Some(slot),
            tid: slot,
            lost,
            events: events
                .iter()
                .map(|&(began_ns, took_ns)| ExitEvent { began_ns, took_ns, reason: 0 })
                .collect(),
        };
        let vm = |serial| EventVm { serial, pid: 1, name: String::new() };
        EventBatch {
            vms: vec![vm(0), vm(1)],
            vcpus: vec![vcpu(1, 0, 3, &[(100, 10), (120, 10), (140, 10)]), vcpu(2, 1, 0, &[(100, 5)])],
            ..EventBatch::new(90, 200, SystemTime::UNIX_EPOCH + Duration::from_secs(50))
        }
    }

    fn began(batch: &EventBatch) -> Vec<u64> {
        batch.vcpus.iter().flat_map(|vcpu| &vcpu.events).map(|event| event.began_ns).collect()
    }

    #[test]
    fn what_went_on_in_a_time_is_kept() {
        let mut some = batch();
        some.keep_only(&|_, _| true, 110, 130);
        assert_eq!((began(&some), some.lost()), (vec![100, 120], 3));
        let mut none = batch();
        none.keep_only(&|_, _| true, 201, 300);
        assert!(none.is_empty() && none.lost() == 0);
        let mut one = batch();
        one.keep_only(&|vm, vcpu| vm.serial == 1 && vcpu.vcpu == Some(2), 0, u64::MAX);
        assert_eq!((began(&one), one.lost(), one.told()), (vec![100], 0, 1));
    }

    #[test]
    fn the_wall_clock_is_counted_from_the_end() {
        let at = |ns: i64| batch().ended.checked_add(Duration::from_nanos(ns.unsigned_abs())).unwrap();
        assert_eq!(batch().monotonic(at(7)), 207);
        assert_eq!(batch().monotonic(batch().ended - Duration::from_nanos(150)), 50);
        assert_eq!(batch().monotonic(SystemTime::UNIX_EPOCH), 0);
    }
}
