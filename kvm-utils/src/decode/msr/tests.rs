use std::collections::HashMap;

use super::*;

const SETS: [(&str, &Set); 5] = [
    ("synthetic", &synthetic::SET),
    ("x2apic", &x2apic::SET),
    ("common", &common::SET),
    ("intel", &intel::SET),
    ("amd", &amd::SET),
];

/// Every index of a set with its name, singles and runs.
fn members(set: &Set) -> Vec<(u32, String)> {
    let singles = set.registers.iter().map(|msr| (msr.index, msr.name.to_owned()));
    let runs = set.runs.iter().flat_map(|run| {
        (0..run.count).map(|n| (run.first + n * run.step, format!("{}{n}{}", run.before, run.after)))
    });
    singles.chain(runs).collect()
}

fn vmx(index: u32) -> String {
    name(index, Some(Isa::Vmx)).unwrap_or_default().into_owned()
}

fn svm(index: u32) -> String {
    name(index, Some(Isa::Svm)).unwrap_or_default().into_owned()
}

#[test]
fn tables_are_sorted() {
    for (which, set) in SETS {
        assert!(set.registers.is_sorted_by(|a, b| a.index < b.index), "registers of {which}");
        assert!(set.runs.is_sorted_by_key(|run| run.first), "runs of {which}");
    }
}

#[test]
fn no_index_and_no_name_is_there_twice_for_one_vendor() {
    for vendor in ["intel", "amd"] {
        let mut indices = HashMap::new();
        let mut names = HashMap::new();
        for (which, set) in
            SETS.into_iter().filter(|(which, _)| [vendor, "synthetic", "x2apic"].contains(which))
        {
            for (index, name) in members(set) {
                assert_eq!(indices.insert(index, name.clone()), None, "{index:#x} {name} ({which})");
                // Last branches of Core 2 and of its successors lie elsewhere, under the same names.
                if !name.starts_with("MSR_LASTBRANCH_") {
                    assert_eq!(names.insert(name.clone(), index), None, "{index:#x} {name} ({which})");
                }
            }
        }
    }
    let mut common = HashMap::new();
    for (_, set) in &SETS[..3] {
        for (index, name) in members(set) {
            assert_eq!(common.insert(index, name.clone()), None, "{index:#x} {name}");
        }
    }
}

/// What [`name`] rests on when it does not know the vendor.
#[test]
fn the_vendors_sets_have_no_index_in_common() {
    let amd: HashMap<_, _> = members(&amd::SET).into_iter().collect();
    for (index, name) in members(&intel::SET) {
        assert_eq!(amd.get(&index), None, "{index:#x} {name}");
    }
}

/// A name that a vendor gives to a shared index differs from the shared one: else the row is needless.
#[test]
fn vendors_repeat_nothing_of_the_common_set() {
    let shared: HashMap<_, _> = SETS[..3].iter().flat_map(|(_, set)| members(set)).collect();
    let mut differ: Vec<u32> = Vec::new();
    for (index, name) in SETS[3..].iter().flat_map(|(_, set)| members(set)) {
        if let Some(common) = shared.get(&index) {
            assert_ne!(common, &name);
            differ.push(index);
        }
    }
    differ.sort_unstable();
    assert_eq!(differ, [0x8b, 0x1dd, 0x1de]);
}

#[test]
fn every_member_of_every_set_is_found_by_its_index() {
    for (which, set) in SETS {
        for (index, expected) in members(set) {
            assert_eq!(set.name(index).as_deref(), Some(&*expected), "{index:#x} ({which})");
            for isa in [None, Some(Isa::Vmx), Some(Isa::Svm), Some(Isa::Other(3))] {
                assert!(name(index, isa).is_some(), "{index:#x} {isa:?}");
            }
        }
    }
}

#[test]
fn names_are_plain_words() {
    for (index, name) in SETS.iter().flat_map(|(_, set)| members(set)) {
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{index:#x} {name}");
        assert!(!name.starts_with("MSR_IA32_"), "{index:#x} {name}: IA32_ is enough");
        assert!(name.len() <= 40, "{index:#x} {name}");
    }
}

/// The registers behind most MSR exits, under the names that one searches for.
#[test]
fn the_frequent_ones_are_known_on_both_vendors() {
    for (index, expected) in [
        (0x6e0, "IA32_TSC_DEADLINE"),
        (0x830, "x2APIC_ICR"),
        (0x80b, "x2APIC_EOI"),
        (0x838, "x2APIC_INIT_COUNT"),
        (0x83f, "x2APIC_SELF_IPI"),
        (0x821, "x2APIC_IRR1"),
        (0x48, "IA32_SPEC_CTRL"),
        (0x49, "IA32_PRED_CMD"),
        (0x3b, "IA32_TSC_ADJUST"),
        (0x10, "IA32_TIME_STAMP_COUNTER"),
        (0x1b, "IA32_APIC_BASE"),
        (0x277, "IA32_PAT"),
        (0x20b, "IA32_MTRR_PHYSMASK5"),
        (0x2ff, "IA32_MTRR_DEF_TYPE"),
        (0x40d, "IA32_MC3_STATUS"),
        (0x47f, "IA32_MC31_MISC"),
        (0x284, "IA32_MC4_CTL2"),
        (0xda0, "IA32_XSS"),
        (0xc000_0080, "IA32_EFER"),
        (0xc000_0102, "IA32_KERNEL_GS_BASE"),
        (0xc000_0103, "IA32_TSC_AUX"),
        (0x11, "MSR_KVM_WALL_CLOCK"),
        (0x12, "MSR_KVM_SYSTEM_TIME"),
        (0x4b56_4d00, "MSR_KVM_WALL_CLOCK_NEW"),
        (0x4b56_4d03, "MSR_KVM_STEAL_TIME"),
        (0x4b56_4d07, "MSR_KVM_ASYNC_PF_ACK"),
        (0x4000_0070, "HV_X64_MSR_EOI"),
        (0x4000_0092, "HV_X64_MSR_SINT2"),
        (0x4000_00b0, "HV_X64_MSR_STIMER0_CONFIG"),
        (0x4000_00b7, "HV_X64_MSR_STIMER3_COUNT"),
        (0x4000_0104, "HV_X64_MSR_CRASH_P4"),
        // Only one vendor has them.
        (0x38f, "IA32_PERF_GLOBAL_CTRL"),
        (0xc1, "IA32_PMC0"),
        (0x189, "IA32_PERFEVTSEL3"),
        (0x611, "MSR_PKG_ENERGY_STATUS"),
        (0x480, "IA32_VMX_BASIC"),
        (0x1904, "IA32_PMC_GP1_CTR"),
        (0xc001_0015, "MSR_K7_HWCR"),
        (0xc001_0010, "MSR_AMD64_SYSCFG"),
        (0xc001_011f, "MSR_AMD64_VIRT_SPEC_CTRL"),
        (0xc001_0204, "MSR_F15H_PERF_CTL2"),
        (0xc001_0205, "MSR_F15H_PERF_CTR2"),
        (0xc001_0117, "MSR_VM_HSAVE_PA"),
        (0xc000_2011, "MSR_AMD64_SMCA_MC1_STATUS"),
        (0xc001_029b, "MSR_AMD_PKG_ENERGY_STATUS"),
    ] {
        assert_eq!((vmx(index).as_str(), svm(index).as_str()), (expected, expected), "{index:#x}");
        assert_eq!(name(index, None).as_deref(), Some(expected), "{index:#x}");
    }
}

#[test]
fn the_vendor_decides_where_they_differ() {
    assert_eq!((vmx(0x8b), svm(0x8b)), ("IA32_BIOS_SIGN_ID".into(), "MSR_AMD64_PATCH_LEVEL".into()));
    assert_eq!((vmx(0x1dd), svm(0x1dd)), ("MSR_LER_FROM_LIP".into(), "IA32_LASTINTFROMIP".into()));
    assert_eq!(name(0x8b, None).as_deref(), Some("IA32_BIOS_SIGN_ID"));
    assert_eq!(name(0x8b, Some(Isa::Other(3))).as_deref(), Some("IA32_BIOS_SIGN_ID"));
}

#[test]
fn what_nobody_defined_has_no_name() {
    for index in [
        2,           // between the first Pentium's
        0x831,       // the upper half of the ICR, which x2APIC does not have
        0x809,       // a hole among x2APIC's
        0x214,       // after the last variable MTRR
        0xc000_2007, // a hole in a scalable machine-check bank
        0xc000_2400, // after the last of them
        0x4b56_4d09,
        0x4000_0109,
        0xffff_ffff,
    ] {
        assert_eq!((vmx(index), svm(index)), (String::new(), String::new()), "{index:#x}");
    }
}

/// The numbers of the `x86` crate that its neighbours in the tables do not vouch for.
#[test]
fn runs_end_where_the_next_register_begins() {
    assert_eq!(vmx(0xc8), "IA32_PMC7");
    assert_eq!(vmx(0xcd), "MSR_FSB_FREQ");
    assert_eq!(vmx(0x18d), "IA32_PERFEVTSEL7");
    assert_eq!(vmx(0x30f), "IA32_FIXED_CTR6");
    assert_eq!(vmx(0x4c1), "IA32_A_PMC0");
    assert_eq!(vmx(0x583), "IA32_RTIT_ADDR1_B");
    assert_eq!(vmx(0x6cf), "MSR_LASTBRANCH_15_TO_IP");
    assert_eq!(svm(0xc001_0019), "IORR_MASK1");
    assert_eq!(svm(0xc001_006b), "MSR_AMD_PSTATE_DEF7");
}
