//! What this host's KVM intercepts: vendor, nested paging, interrupt virtualization.

use std::fs;
use std::path::Path;

use crate::decode::Isa;

/// The facts about the host on which the expected exits depend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Whose exit reasons `kvm_exit` reports. [`Isa::Other`] where the vendor module is neither kvm_intel nor kvm_amd,
    /// e.g. the out-of-tree PVM: then nothing is known about exits, and there may be no `kvm_exit` events at all.
    pub isa: Isa,
    /// Nested paging: EPT or NPT. Without it memory accesses exit as page faults, in numbers that depend on KVM.
    pub nested_paging: bool,
    /// APICv or AVIC: many LAPIC accesses, EOIs and IPIs do not exit.
    pub virtual_apic: bool,
    /// Guests get XSAVE, so that XSETBV does not fault. Taken from the processor.
    pub xsave: bool,
    /// The processor is QEMU's software emulation, whose SVM does not intercept all that a real one does.
    pub tcg: bool,
}

impl Host {
    /// Looks at the loaded modules. Never fails: what is not there is absent.
    #[must_use]
    pub fn detect() -> Self {
        let modules = Self::from_modules(Path::new("/sys/module"));
        Self { xsave: std::arch::is_x86_feature_detected!("xsave"), tcg: is_tcg(), ..modules }
    }

    /// What the parameters of the modules in this directory tell; nothing of the processor.
    #[must_use]
    pub fn from_modules(modules: &Path) -> Self {
        // A parameter that is missing, unreadable or off counts as off.
        let on = |parameter: &str| {
            let value = fs::read_to_string(modules.join(parameter)).unwrap_or_default();
            matches!(value.trim(), "Y" | "1")
        };
        let (isa, nested_paging, virtual_apic) = if modules.join("kvm_intel/parameters/ept").exists() {
            (Isa::Vmx, on("kvm_intel/parameters/ept"), on("kvm_intel/parameters/enable_apicv"))
        } else if modules.join("kvm_amd/parameters/npt").exists() {
            (Isa::Svm, on("kvm_amd/parameters/npt"), on("kvm_amd/parameters/avic"))
        } else {
            (Isa::Other(0), false, false)
        };
        Self { isa, nested_paging, virtual_apic, xsave: false, tcg: false }
    }
}

/// From the hypervisor's signature, CPUID leaf 0x40000000: QEMU's target/i386/cpu.c.
fn is_tcg() -> bool {
    const HYPERVISOR: u32 = 0x4000_0000;
    let leaf = std::arch::x86_64::__cpuid(HYPERVISOR);
    let mut signature = Vec::new();
    for register in [leaf.ebx, leaf.ecx, leaf.edx] {
        signature.extend(register.to_le_bytes());
    }
    signature == b"TCGTCGTCGTCG"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        directory
    }

    #[test]
    fn vendors_are_told_by_their_parameters() {
        let intel =
            modules(&[("kvm_intel/parameters/ept", "Y\n"), ("kvm_intel/parameters/enable_apicv", "N\n")]);
        let host = Host::from_modules(intel.path());
        let facts =
            Host { isa: Isa::Vmx, nested_paging: true, virtual_apic: false, xsave: false, tcg: false };
        assert_eq!(host, facts);

        // integers before they became booleans, as in 5.10
        let amd = modules(&[("kvm_amd/parameters/npt", "1\n"), ("kvm_amd/parameters/avic", "0\n")]);
        let host = Host::from_modules(amd.path());
        let facts =
            Host { isa: Isa::Svm, nested_paging: true, virtual_apic: false, xsave: false, tcg: false };
        assert_eq!(host, facts);

        let pvm = modules(&[("kvm_pvm/parameters/force", "N\n")]);
        assert_eq!(Host::from_modules(pvm.path()).isa, Isa::Other(0));
    }
}
