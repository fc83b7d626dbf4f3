//! Which threads run vCPUs, by the names that VMMs give them.
//!
//! A hint only: the kernel's events say which thread ran which vCPU. The number in a name is the VMM's own index of
//! the vCPU, which on x86 need not be KVM's id (QEMU uses the APIC id there).

use std::fs;

use super::{process::printable, root::ProcRoot};

/// A thread that is named like a vCPU's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VcpuThread {
    /// Thread id as this /proc shows it.
    pub tid: u32,
    /// The VMM's index of the vCPU.
    pub index: u32,
    /// The thread's name.
    pub comm: String,
}

/// The vCPU index in a thread's name.
#[must_use]
pub fn index_in(comm: &str) -> Option<u32> {
    // QEMU (accel/kvm, with debug-threads=on): "CPU %d/KVM".
    let qemu = comm.strip_prefix("CPU ").and_then(|rest| rest.strip_suffix("/KVM"));
    let index = qemu
        // Firecracker: "fc_vcpu {}".
        .or_else(|| comm.strip_prefix("fc_vcpu "))
        // crosvm: "crosvm_vcpu{}".
        .or_else(|| comm.strip_prefix("crosvm_vcpu"))
        // Dragonball: "db_vcpu{}".
        .or_else(|| comm.strip_prefix("db_vcpu"))
        // kvmtool: "kvm-vcpu-%lu".
        .or_else(|| comm.strip_prefix("kvm-vcpu-"))
        // Cloud Hypervisor: "vcpu{}".
        .or_else(|| comm.strip_prefix("vcpu"))?;
    // `parse` alone would take "+1".
    if index.bytes().all(|b| b.is_ascii_digit()) { index.parse().ok() } else { None }
}

/// The threads of `pid` that are named like vCPUs', by index; empty if it is gone.
#[must_use]
pub fn list(proc: &ProcRoot, pid: u32) -> Vec<VcpuThread> {
    let Ok(tasks) = fs::read_dir(proc.of(pid, "task")) else { return Vec::new() };
    let mut threads: Vec<VcpuThread> = tasks
        .filter_map(|task| {
            let task = task.ok()?;
            let tid = task.file_name().to_str()?.parse().ok()?;
            let comm = fs::read(task.path().join("comm")).ok()?;
            let comm = printable(comm.strip_suffix(b"\n").unwrap_or(&comm));
            Some(VcpuThread { tid, index: index_in(&comm)?, comm })
        })
        .collect();
    threads.sort_unstable_by_key(|thread| (thread.index, thread.tid));
    threads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_vmm() {
        for (comm, index) in [
            ("CPU 0/KVM", 0),
            ("CPU 1/KVM", 1),
            ("CPU 10/KVM", 10),
            ("CPU 1023/KVM", 1023),
            ("fc_vcpu 0", 0),
            ("fc_vcpu 31", 31),
            ("vcpu0", 0),
            ("vcpu12", 12),
            ("crosvm_vcpu3", 3),
            ("db_vcpu1", 1),
            ("kvm-vcpu-0", 0),
        ] {
            assert_eq!(index_in(comm), Some(index), "{comm}");
        }
    }

    #[test]
    fn other_names_are_not_taken_for_them() {
        for comm in [
            "CPU 1",
            "CPU 1/TCG",
            "CPU /KVM",
            "CPU 1/KVM2",
            "CPU x/KVM",
            "CPU +1/KVM",
            "CPU 1 /KVM",
            "fc_vcpu",
            "fc_vcpu ",
            "fc_api",
            "vcpu",
            "vcpu-0",
            "vcpu_manager",
            "kvm-vcpu-",
            "kvm",
            "qemu-system-x86",
            "CPU 99999999999/KVM",
            "",
        ] {
            assert_eq!(index_in(comm), None, "{comm:?}");
        }
    }
}
