//! Exits one by one, as they were told over a stretch of time, for those who asked for them. What was not told for want of
//! room is counted, so that nobody takes a gap for a guest that ran.

use std::time::SystemTime;

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

    /// Nothing happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.vcpus.is_empty()
    }
}
