//! Which program runs a VM.

use std::{fmt, path::Path};

use super::process::Process;

/// The virtual machine monitor: the program that runs a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Vmm {
    /// QEMU, also under libvirt.
    Qemu,
    /// Firecracker.
    Firecracker,
    /// Cloud Hypervisor.
    CloudHypervisor,
    /// crosvm.
    Crosvm,
    /// kvmtool, whose program is called lkvm.
    Kvmtool,
    /// Dragonball, which Kata Containers runs within its shim.
    Dragonball,
    /// This tool's own `selftest`.
    Selftest,
    /// Any other.
    Unknown,
}

impl Vmm {
    /// The name in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Firecracker => "firecracker",
            Self::CloudHypervisor => "cloud-hypervisor",
            Self::Crosvm => "crosvm",
            Self::Kvmtool => "kvmtool",
            Self::Dragonball => "dragonball",
            Self::Selftest => "selftest",
            Self::Unknown => "unknown",
        }
    }

    /// The monitor that a program of this file name is.
    #[must_use]
    pub fn of_program(name: &str) -> Self {
        // Wrapper scripts of some distributions rename `x` to `.x-wrapped`; release files carry a version after the
        // name. The main thread's name ends after 15 bytes.
        let name = name.trim_start_matches('.');
        if name.contains("qemu") || name == "kvm" {
            Self::Qemu
        } else if name.starts_with("firecracker") {
            Self::Firecracker
        } else if name.starts_with("cloud-hyperviso") {
            Self::CloudHypervisor
        } else if name.starts_with("crosvm") {
            Self::Crosvm
        } else if name.starts_with("lkvm") || name.starts_with("kvmtool") {
            Self::Kvmtool
        } else if name.starts_with("containerd-shim-kata") {
            Self::Dragonball
        } else if name == "kvm-utils" {
            Self::Selftest
        } else {
            Self::Unknown
        }
    }

    /// The monitor that `process` is.
    #[must_use]
    pub fn of(process: &Process) -> Self {
        let argv0 = process.cmdline.first().and_then(|program| Path::new(program).file_name()?.to_str());
        // The file is the surest sign; names can be changed by the process.
        [process.exe.as_deref(), argv0, Some(process.comm.as_str())]
            .into_iter()
            .flatten()
            .map(Self::of_program)
            .find(|vmm| *vmm != Self::Unknown)
            .unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for Vmm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(comm: &str, exe: Option<&str>, argv0: &str) -> Vmm {
        Vmm::of(&Process {
            comm: comm.to_owned(),
            exe: exe.map(str::to_owned),
            cmdline: vec![argv0.to_owned()],
            ..Process::default()
        })
    }

    #[test]
    fn the_file_tells_whatever_the_process_calls_itself() {
        assert_eq!(of("renamed", Some("qemu-kvm"), "x"), Vmm::Qemu);
        assert_eq!(of("x", Some(".qemu-system-x86_64-wrapped"), "x"), Vmm::Qemu);
        assert_eq!(of("fc", Some("firecracker-v1.13.1-x86_64"), "fc"), Vmm::Firecracker);
        // crosvm gives its main thread the VM's name.
        assert_eq!(of("arc", None, "/usr/bin/crosvm"), Vmm::Crosvm);
        assert_eq!(of("kvm", None, "kvm"), Vmm::Qemu);
        assert_eq!(of("cloud-hyperviso", None, ""), Vmm::CloudHypervisor);
        assert_eq!(of("containerd-shim-", Some("containerd-shim-kata-v2"), "x"), Vmm::Dragonball);
        assert_eq!(of("containerd-shim-", Some("containerd-shim-runc-v2"), "x"), Vmm::Unknown);
        assert_eq!(of("", None, ""), Vmm::Unknown);
    }
}
