//! Finds the processes that run VMs, again and again, at little cost.
//!
//! A process becomes a VM long after it started: Firecracker and Cloud Hypervisor wait for a request, QEMU opens KVM
//! some milliseconds after its start. So "not a VM" holds only as long as the process does nothing: its descriptors
//! are looked through again when its address space, its number of threads or its page faults changed. A process that
//! makes a vCPU must map and touch the vCPU's kvm_run page (KVM_RUN, Documentation/virt/kvm/api.rst), which changes
//! them. An idle process costs one read per scan.

use std::{collections::HashMap, fs, io};

use super::{
    fds::same_file,
    process::Stat,
    root::{Peek, ProcRoot},
    vm::VmProcess,
    vmm::Vmm,
};

/// The processes of the host cannot be listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot list processes in {path}: {source}; mount it: mount -t proc proc /proc")]
pub struct ScanError {
    path: String,
    source: io::Error,
}

/// The VMs there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Processes that run VMs, by pid.
    pub vms: Vec<VmProcess>,
    /// Processes that hold the VM of another one open and run none themselves (device processes of crosvm): their
    /// pid and that of the VM's process.
    pub helpers: Vec<(u32, u32)>,
    /// Number of processes that this user may not look into.
    pub denied: usize,
    /// Those of them that are VMMs by their name: pid and name.
    pub denied_vmms: Vec<(u32, String)>,
}

impl Scan {
    /// Number of vCPUs on the host.
    #[must_use]
    pub fn vcpu_count(&self) -> usize {
        self.vms.iter().map(VmProcess::vcpu_count).sum()
    }

    /// Number of VMs on the host; a process may run several.
    #[must_use]
    pub fn vm_count(&self) -> usize {
        self.vms.iter().map(VmProcess::vm_count).sum()
    }

    /// The VM process `pid`.
    #[must_use]
    pub fn vm(&self, pid: u32) -> Option<&VmProcess> {
        self.vms.iter().find(|vm| vm.pid == pid)
    }
}

/// What a process looked like when its descriptors were looked through.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Look {
    start_time: u64,
    minor_faults: u64,
    virtual_size: u64,
    threads: u32,
}

impl From<&Stat> for Look {
    fn from(stat: &Stat) -> Self {
        Self {
            start_time: stat.start_time,
            minor_faults: stat.minor_faults,
            virtual_size: stat.virtual_size,
            threads: stat.threads,
        }
    }
}

enum Verdict {
    NoVm,
    Vm(Box<VmProcess>),
    Denied { vmm: Option<String> },
}

/// Scans a /proc and remembers what it saw.
pub struct Scanner {
    proc: ProcRoot,
    known: HashMap<u32, (Look, Verdict)>,
}

impl Scanner {
    /// A scanner of `proc` that has seen nothing yet.
    #[must_use]
    pub fn new(proc: ProcRoot) -> Self {
        Self { proc, known: HashMap::new() }
    }

    /// The /proc it scans.
    #[must_use]
    pub fn proc(&self) -> &ProcRoot {
        &self.proc
    }

    /// The VMs there are now.
    ///
    /// # Errors
    /// [`ScanError`] if /proc itself cannot be listed; never because a process vanishes.
    pub fn scan(&mut self) -> Result<Scan, ScanError> {
        let fail = |source| ScanError { path: self.proc.path().display().to_string(), source };
        let mut seen = HashMap::with_capacity(self.known.len());
        for entry in fs::read_dir(self.proc.path()).map_err(fail)? {
            // An entry that cannot be read is one that vanished.
            let Ok(entry) = entry else { continue };
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let before = self.known.remove(&pid);
            if let Some(now) = examine(&self.proc, pid, before) {
                seen.insert(pid, now);
            }
        }
        self.known = seen;
        Ok(self.result())
    }

    fn result(&self) -> Scan {
        let mut scan = Scan::default();
        for (pid, (_, verdict)) in &self.known {
            match verdict {
                Verdict::NoVm => {}
                Verdict::Vm(vm) => match self.owner(vm) {
                    Some(owner) => scan.helpers.push((*pid, owner)),
                    None => scan.vms.push((**vm).clone()),
                },
                Verdict::Denied { vmm } => {
                    scan.denied += 1;
                    scan.denied_vmms.extend(vmm.clone().map(|name| (*pid, name)));
                }
            }
        }
        scan.vms.sort_unstable_by_key(|vm| vm.pid);
        scan.helpers.sort_unstable();
        scan.denied_vmms.sort_unstable();
        scan
    }

    /// The nearest ancestor of `vm` that holds all of its VMs and vCPUs open as well.
    fn owner(&self, vm: &VmProcess) -> Option<u32> {
        let mut ppid = vm.ppid;
        while self.proc.is_live()
            && let Some((_, Verdict::Vm(parent))) = self.known.get(&ppid)
        {
            if holds_all_of(parent, vm) {
                return Some(parent.pid);
            }
            ppid = parent.ppid;
        }
        None
    }
}

fn examine(proc: &ProcRoot, pid: u32, before: Option<(Look, Verdict)>) -> Option<(Look, Verdict)> {
    let stat = Stat::read(proc, pid).seen()?;
    let look = Look::from(&stat);
    if let Some(before) = before
        && before.0 == look
        && !stat.has_ended()
    {
        return Some(before);
    }
    let verdict = match VmProcess::complete(proc, &stat) {
        Peek::Seen(Some(vm)) => Verdict::Vm(Box::new(vm)),
        Peek::Seen(None) => Verdict::NoVm,
        Peek::Gone => return None,
        Peek::Denied => {
            Verdict::Denied { vmm: (Vmm::of_program(&stat.comm) != Vmm::Unknown).then(|| stat.comm.clone()) }
        }
    };
    Some((look, verdict))
}

fn holds_all_of(owner: &VmProcess, helper: &VmProcess) -> bool {
    let same = |a: u32, b: u32| same_file(owner.pid, a, helper.pid, b) == Some(true);
    helper.fds.vms.iter().all(|fd| owner.fds.vms.iter().any(|held| same(*held, *fd)))
        && helper
            .fds
            .vcpus
            .iter()
            .all(|(fd, id)| owner.fds.vcpus.iter().any(|(held, held_id)| held_id == id && same(*held, *fd)))
}
