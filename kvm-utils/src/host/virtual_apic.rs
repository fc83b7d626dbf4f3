//! What this host's KVM leaves to the processor when it delivers interrupts.

use super::root::SysRoot;

/// A parameter of KVM's vendor module that is on, and what is not seen because of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// What the feature is called.
    pub feature: &'static str,
    /// The parameter that turns it on.
    pub parameter: &'static str,
    /// What the processor does without an exit, hence without an event.
    pub what: &'static str,
}

/// Parameters of arch/x86/kvm/{vmx/vmx,svm/svm,svm/avic}.c, the virtual APICs first.
const FEATURES: [Hidden; 3] = [
    Hidden {
        feature: "APICv",
        parameter: "kvm_intel.enable_apicv",
        what: "interrupts that the processor itself puts into guests, and most ends of interrupts",
    },
    Hidden {
        feature: "AVIC",
        parameter: "kvm_amd.avic",
        what: "interrupts that the processor itself puts into guests, most ends of interrupts, and most interrupts that \
               vCPUs send each other",
    },
    Hidden {
        feature: "IPI virtualization",
        parameter: "kvm_intel.enable_ipiv",
        what: "interrupts that vCPUs send each other",
    },
];

/// Interrupts that the IOMMU posts to a virtual APIC. Kernels without the parameter do it wherever the IOMMU can.
const DEVICES: [Hidden; 2] = [
    Hidden {
        feature: "posted interrupts of devices",
        parameter: "kvm_intel.enable_device_posted_irqs",
        what: "interrupts of passed-through devices, where the IOMMU can post them",
    },
    Hidden {
        feature: "posted interrupts of devices",
        parameter: "kvm_amd.enable_device_posted_irqs",
        what: "interrupts of passed-through devices, where the IOMMU can post them",
    },
];

/// What is turned on here. Whether a VM makes use of it is the VM's matter: KVM turns it off for some.
#[must_use]
pub fn hidden(root: &SysRoot) -> Vec<Hidden> {
    let value = |hidden: &Hidden| {
        let (module, parameter) = hidden.parameter.split_once('.')?;
        let value = root.text(format!("/sys/module/{module}/parameters/{parameter}")).ok()?;
        // Numbers before they became Y and N.
        Some(matches!(value.as_str(), "Y" | "1"))
    };
    let virtual_apic = |hidden: &Hidden| value(hidden) == Some(true);
    let vendor = |hidden: &Hidden| hidden.parameter.split('.').next();
    let mut all: Vec<Hidden> = FEATURES.iter().copied().filter(virtual_apic).collect();
    let posts = |device: &&Hidden| {
        all.iter().any(|hidden| vendor(hidden) == vendor(device)) && value(device) != Some(false)
    };
    let devices: Vec<Hidden> = DEVICES.iter().filter(posts).copied().collect();
    all.extend(devices);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> (tempfile::TempDir, SysRoot) {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join("sys/module").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let root = SysRoot::at(directory.path());
        (directory, root)
    }

    fn parameters(files: &[(&str, &str)]) -> Vec<&'static str> {
        hidden(&root(files).1).iter().map(|hidden| hidden.parameter).collect()
    }

    #[test]
    fn what_is_on_is_named() {
        let intel =
            [("kvm_intel/parameters/enable_apicv", "Y\n"), ("kvm_intel/parameters/enable_ipiv", "N\n")];
        assert_eq!(parameters(&intel), ["kvm_intel.enable_apicv", "kvm_intel.enable_device_posted_irqs"]);
        let amd =
            [("kvm_amd/parameters/avic", "1\n"), ("kvm_amd/parameters/enable_device_posted_irqs", "N\n")];
        assert_eq!(parameters(&amd), ["kvm_amd.avic"]);
    }

    #[test]
    fn without_a_virtual_apic_nothing_is_hidden() {
        let amd =
            [("kvm_amd/parameters/avic", "N\n"), ("kvm_amd/parameters/enable_device_posted_irqs", "Y\n")];
        assert!(parameters(&amd).is_empty());
        assert!(parameters(&[]).is_empty());
    }
}
