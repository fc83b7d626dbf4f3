//! Names of CPUID leaves.
//!
//! Processor's: Intel SDM vol. 2A, "CPUID"; AMD APM vol. 3, appendix E; the kernel's tools/arch/x86/kcpuid/cpuid.csv.
//! Hypervisors': KVM's arch/x86/include/uapi/asm/kvm_para.h; Hyper-V's TLFS, "Feature and Interface Discovery"; Xen's
//! arch/x86/include/asm/xen/cpuid.h. Which hypervisor's interface a guest is given decides what 0x40000001 and the leaves
//! after it mean; if there are two, Hyper-V's is the first and the other begins at 0x40000100.

/// One leaf.
struct Leaf {
    number: u32,
    name: &'static str,
}

/// Keeps the table one line per leaf.
const fn row(number: u32, name: &'static str) -> Leaf {
    Leaf { number, name }
}

/// Sorted by number (a test says so).
const LEAVES: &[Leaf] = &[
    row(0x0000_0000, "vendor, highest leaf"),
    row(0x0000_0001, "family, model, features"),
    row(0x0000_0002, "cache and TLB descriptors"),
    row(0x0000_0003, "serial number"),
    row(0x0000_0004, "cache parameters"),
    row(0x0000_0005, "MONITOR/MWAIT"),
    row(0x0000_0006, "thermal and power"),
    row(0x0000_0007, "structured features"),
    row(0x0000_0009, "direct cache access"),
    row(0x0000_000a, "performance monitoring"),
    row(0x0000_000b, "topology"),
    row(0x0000_000d, "XSAVE state"),
    row(0x0000_000f, "RDT monitoring"),
    row(0x0000_0010, "RDT allocation"),
    row(0x0000_0012, "SGX"),
    row(0x0000_0014, "Processor Trace"),
    row(0x0000_0015, "TSC and crystal clock"),
    row(0x0000_0016, "processor frequency"),
    row(0x0000_0017, "SoC vendor"),
    row(0x0000_0018, "TLB parameters"),
    row(0x0000_0019, "Key Locker"),
    row(0x0000_001a, "hybrid core type"),
    row(0x0000_001b, "PCONFIG"),
    row(0x0000_001c, "last branch records"),
    row(0x0000_001d, "AMX tiles"),
    row(0x0000_001e, "AMX TMUL"),
    row(0x0000_001f, "topology v2"),
    row(0x0000_0020, "HRESET"),
    row(0x0000_0021, "TDX"),
    row(0x0000_0023, "performance monitoring v2"),
    row(0x0000_0024, "AVX10"),
    row(0x4000_0000, "hypervisor signature"),
    row(0x4000_0001, "KVM features / Hyper-V interface"),
    row(0x4000_0002, "Hyper-V version / Xen hypercalls"),
    row(0x4000_0003, "Hyper-V features / Xen time"),
    row(0x4000_0004, "Hyper-V recommendations / Xen HVM"),
    row(0x4000_0005, "Hyper-V limits"),
    row(0x4000_0006, "Hyper-V hardware features"),
    row(0x4000_0007, "Hyper-V CPU management"),
    row(0x4000_0008, "Hyper-V shared virtual memory"),
    row(0x4000_0009, "Hyper-V nested hypervisor"),
    row(0x4000_000a, "Hyper-V nested virtualization"),
    row(0x4000_000c, "Hyper-V isolation"),
    // VMware's (kernel: arch/x86/kernel/cpu/vmware.c); QEMU fills it in for KVM guests (vmware-cpuid-freq).
    row(0x4000_0010, "TSC and APIC frequency"),
    row(0x4000_0080, "Hyper-V debugger signature"),
    row(0x4000_0081, "Hyper-V debugger interface"),
    row(0x4000_0082, "Hyper-V debugger capabilities"),
    row(0x4000_0101, "KVM features / Xen version"),
    row(0x4000_0102, "Xen hypercalls"),
    row(0x4000_0103, "Xen time"),
    row(0x4000_0104, "Xen HVM"),
    row(0x4000_0105, "Xen PV"),
    row(0x8000_0000, "highest extended leaf"),
    row(0x8000_0001, "extended features"),
    row(0x8000_0002, "brand string 1"),
    row(0x8000_0003, "brand string 2"),
    row(0x8000_0004, "brand string 3"),
    row(0x8000_0005, "L1 cache and TLB"),
    row(0x8000_0006, "L2 and L3 cache"),
    row(0x8000_0007, "power management, RAS"),
    row(0x8000_0008, "address sizes, features"),
    row(0x8000_000a, "SVM"),
    row(0x8000_0019, "1 GiB page TLB"),
    row(0x8000_001a, "instruction optimizations"),
    row(0x8000_001b, "instruction-based sampling"),
    row(0x8000_001c, "lightweight profiling"),
    row(0x8000_001d, "cache parameters (AMD)"),
    row(0x8000_001e, "topology (AMD)"),
    row(0x8000_001f, "encrypted memory (SME/SEV)"),
    row(0x8000_0020, "platform QoS (AMD)"),
    row(0x8000_0021, "extended features 2"),
    row(0x8000_0022, "performance monitoring (AMD)"),
    row(0x8000_0023, "multi-key encrypted memory"),
    row(0x8000_0026, "extended topology (AMD)"),
    row(0x8086_0000, "highest Transmeta leaf"),
    row(0xc000_0000, "highest Centaur leaf"),
    row(0xc000_0001, "Centaur features"),
];

/// What the guest asks with this leaf (EAX at CPUID).
#[must_use]
pub fn leaf(leaf: u32) -> Option<&'static str> {
    if let Ok(at) = LEAVES.binary_search_by_key(&leaf, |row| row.number) {
        return LEAVES.get(at).map(|row| row.name);
    }
    is_signature(leaf).then_some("hypervisor signature")
}

/// Guests look for hypervisors at each multiple of 0x100 from 0x40000000 to below 0x40010000 (the kernel's
/// arch/x86/include/asm/cpuid/api.h, `cpuid_base_hypervisor`).
const fn is_signature(leaf: u32) -> bool {
    leaf & 0xffff_00ff == 0x4000_0000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(LEAVES.is_sorted_by(|a, b| a.number < b.number));
    }

    #[test]
    fn names_are_distinct_and_fit_a_column() {
        let names: std::collections::HashSet<_> = LEAVES.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), LEAVES.len());
        assert!(names.iter().all(|name| !name.is_empty() && name.len() <= 33));
    }

    #[test]
    fn every_leaf_of_the_table_is_found() {
        assert!(LEAVES.iter().all(|row| leaf(row.number) == Some(row.name)));
    }

    #[test]
    fn leaves_that_guests_ask_often_have_names() {
        for (number, name) in [
            (0, "vendor, highest leaf"),
            (1, "family, model, features"),
            (7, "structured features"),
            (0xb, "topology"),
            (0xd, "XSAVE state"),
            (0x4000_0001, "KVM features / Hyper-V interface"),
            (0x8000_0008, "address sizes, features"),
            (0x8000_000a, "SVM"),
            (0xc000_0000, "highest Centaur leaf"),
        ] {
            assert_eq!(leaf(number), Some(name), "{number:#x}");
        }
    }

    #[test]
    fn a_search_for_hypervisors_is_recognized() {
        for number in [0x4000_0000, 0x4000_0100, 0x4000_0200, 0x4000_ff00] {
            assert_eq!(leaf(number), Some("hypervisor signature"), "{number:#x}");
        }
        assert_eq!(leaf(0x4001_0000), None);
        assert_eq!(leaf(0x4000_0201), None);
    }

    #[test]
    fn leaves_without_meaning_have_no_name() {
        for number in [8, 0xc, 0xe, 0x11, 0x13, 0x22, 0x1000, 0x8000_0009, 0x8000_0018, 0x9000_0000, u32::MAX]
        {
            assert_eq!(leaf(number), None, "{number:#x}");
        }
    }
}
