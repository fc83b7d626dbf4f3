//! What CPUID tells of the processor and of a hypervisor, and where threads may run.

use std::arch::x86_64::__cpuid;
use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Whose processor it is, which decides the hypercall instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// `GenuineIntel`
    Intel,
    /// `AuthenticAMD` and `HygonGenuine`
    Amd,
    /// Any other
    Other,
}

/// Twelve characters from three registers of CPUID.
fn signature(registers: [u32; 3]) -> String {
    let bytes: Vec<u8> = registers.iter().flat_map(|register| register.to_le_bytes()).collect();
    String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
}

/// From leaf 0.
pub fn vendor() -> Vendor {
    let leaf = __cpuid(0);
    match signature([leaf.ebx, leaf.edx, leaf.ecx]).as_str() {
        "GenuineIntel" | "CentaurHauls" | "  Shanghai  " => Vendor::Intel,
        "AuthenticAMD" | "HygonGenuine" => Vendor::Amd,
        _ => Vendor::Other,
    }
}

/// The hypervisor's signature, leaf 0x4000_0000, if leaf 1 says that there is one.
pub fn hypervisor() -> Option<String> {
    if __cpuid(1).ecx >> 31 == 0 {
        return None;
    }
    let leaf = __cpuid(0x4000_0000);
    Some(signature([leaf.ebx, leaf.ecx, leaf.edx]))
}

/// The CPUs on which this thread may run, ascending: online ones within its cpuset. They need not be contiguous.
///
/// # Errors
/// When the kernel does not tell.
pub fn allowed() -> io::Result<Vec<usize>> {
    Ok(listed(&sched_getaffinity(None)?))
}

/// The numbers of a set's CPUs, ascending.
pub fn listed(set: &CpuSet) -> Vec<usize> {
    (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect()
}

/// Makes this thread run on one CPU only.
///
/// # Errors
/// When the CPU is offline or outside of the cpuset.
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}
