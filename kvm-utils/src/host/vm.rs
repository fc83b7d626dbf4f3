//! A process that runs VMs.

use super::{
    fds::KvmFds,
    identity::Identity,
    process::{Process, Stat},
    root::{Peek, ProcRoot},
    vcpu_thread::{self, VcpuThread},
};

/// A process that holds VMs or vCPUs open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmProcess {
    /// Process id as this /proc shows it.
    pub pid: u32,
    /// Start, in clock ticks since boot; with `pid` it names the process for good.
    pub start_time: u64,
    /// Parent process.
    pub ppid: u32,
    /// Who its VM is.
    pub identity: Identity,
    /// Threads that are named like vCPUs'; a hint only, and often empty.
    pub vcpus: Vec<VcpuThread>,
    /// What it holds open.
    pub fds: KvmFds,
    /// Its pid from this /proc's namespace inwards.
    pub ns_pids: Vec<u32>,
}

impl VmProcess {
    /// Looks at process `pid`; `Seen(None)` is a process that runs no VM.
    #[must_use]
    pub fn read(proc: &ProcRoot, pid: u32) -> Peek<Option<Self>> {
        match Stat::read(proc, pid) {
            Peek::Seen(stat) => Self::complete(proc, &stat),
            Peek::Gone => Peek::Gone,
            Peek::Denied => Peek::Denied,
        }
    }

    /// Looks at a process whose stat file was read.
    #[must_use]
    pub fn complete(proc: &ProcRoot, stat: &Stat) -> Peek<Option<Self>> {
        if stat.is_kernel_thread() || stat.has_ended() {
            return Peek::Seen(None);
        }
        let fds = match KvmFds::read(proc, stat.pid) {
            Peek::Seen(fds) if fds.is_empty() => return Peek::Seen(None),
            Peek::Seen(fds) => fds,
            Peek::Gone => return Peek::Gone,
            Peek::Denied => return Peek::Denied,
        };
        match Process::complete(proc, stat) {
            Peek::Seen(process) => Peek::Seen(Some(Self {
                pid: process.pid,
                start_time: process.start_time,
                ppid: process.ppid,
                identity: Identity::of(proc, &process),
                vcpus: vcpu_thread::list(proc, process.pid),
                fds,
                ns_pids: process.ns_pids,
            })),
            Peek::Gone => Peek::Gone,
            Peek::Denied => Peek::Denied,
        }
    }

    /// Number of VMs it holds open.
    #[must_use]
    pub fn vm_count(&self) -> usize {
        self.fds.vms.len()
    }

    /// Number of vCPUs it holds open.
    #[must_use]
    pub fn vcpu_count(&self) -> usize {
        self.fds.vcpus.len()
    }

    /// The thread that probably runs vCPU `id`, going by names: only where each vCPU has one, in the same order.
    #[must_use]
    pub fn probable_thread(&self, id: u32) -> Option<&VcpuThread> {
        if self.vm_count() > 1 || self.vcpus.len() != self.vcpu_count() {
            return None;
        }
        let rank = self.fds.vcpus.iter().position(|(_, held)| *held == Some(id))?;
        self.vcpus.get(rank)
    }
}
