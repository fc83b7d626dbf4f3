//! One report: everything a view shows of one interval, or of the whole run.

use std::time::{Duration, SystemTime};

use super::{Column, Proof, Row};
use crate::host::Identity;

/// The machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// Release as uname says.
    pub kernel: String,
    /// Vendor interface from the events' isa: `vmx`, `svm`, a number, or `unknown` before the first event.
    pub isa: String,
    /// CPUs online.
    pub cpus: u32,
    /// Model name of the CPU.
    pub cpu: String,
}

/// One interval, or the whole run.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The drill-down's noun: `exits`; names the schema and the key of the rows.
    pub noun: &'static str,
    /// What it counts: one, and many.
    pub counting: (&'static str, &'static str),
    /// The drill-down's columns; every row has a cell for each.
    pub columns: &'static [Column],
    /// A vCPU has one row: a VM's table has a line for each, and one for their sum.
    pub one_row: bool,
    /// When the interval ended.
    pub time: SystemTime,
    /// Measured length of the interval.
    pub interval: Duration,
    /// Whole run instead of one interval.
    pub summary: bool,
    /// The machine.
    pub host: Host,
    /// Whether to believe it.
    pub proof: Proof,
    /// VMs, the one with most exits first.
    pub vms: Vec<Vm>,
    /// The same rows over all VMs.
    pub totals: Vec<Row>,
    /// Sum of the first count column over all rows of `totals`, before `--top`.
    pub events: u64,
    /// What to look at next, a command and why; may be empty.
    pub hints: Vec<String>,
    /// Sentences the reader must know to read the numbers rightly.
    pub notes: Vec<String>,
}

/// In place of a VM's monitor: a process or the host itself, where events happened that belong to no VM.
pub const NO_VM: &str = "no VM";

/// One VM.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vm {
    /// Process id as this tool sees it; of the initial pid namespace where it is not visible from here.
    pub pid: u32,
    /// Name given to the VM, else the process's.
    pub name: String,
    /// `qemu`, `firecracker`, ..., `unknown`, or [`NO_VM`].
    pub vmm: String,
    /// UUID that the guest sees as its system's, in lower case.
    pub uuid: Option<String>,
    /// What its manager calls it, which may be the name; `None` where it has no more than the name.
    pub id: Option<String>,
    /// What its process runs in, the outermost first.
    pub within: Vec<Place>,
    /// The VM ended.
    pub ended: bool,
    /// Events in the interval.
    pub events: u64,
    /// Share of the vCPUs' wall time outside the guest for work (without waiting), 0 to 1; `None` where not known.
    pub busy_share: Option<f64>,
    /// The same for waiting (HLT).
    pub waiting_share: Option<f64>,
    /// Summed over its vCPUs.
    pub rows: Vec<Row>,
    /// Its vCPUs by id.
    pub vcpus: Vec<Vcpu>,
}

impl Vm {
    /// Whether it answers to `wanted`: its name, UUID or id, or what it runs in, or a pattern (`*`, `?`) of one of them.
    #[must_use]
    pub fn answers(&self, wanted: &str) -> bool {
        let identity = Identity::shown(self);
        identity.answer(wanted).is_some() || identity.fits(wanted)
    }
}

/// Something that a VM's process runs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `pod`, `container`, `machine`, `unit` or `cgroup`.
    pub kind: &'static str,
    /// What its manager calls it: a pod's uid, a container's id, a unit with its suffix.
    pub name: String,
}

/// One vCPU.
#[derive(Clone, Debug, PartialEq)]
pub struct Vcpu {
    /// KVM's id; `None` = could not be read.
    pub vcpu: Option<u32>,
    /// Thread that ran it when it was first seen.
    pub tid: u32,
    /// It stands for the other threads of the VM's process, `tid` being the process: events happened there.
    pub others: bool,
    /// Events in the interval.
    pub events: u64,
    /// The exit going on at the end of the interval.
    pub running: Option<Running>,
    /// Rows per reason.
    pub rows: Vec<Row>,
}

/// An exit that has not ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    /// Name of its reason.
    pub reason: String,
    /// For how long.
    pub for_ns: u64,
}
