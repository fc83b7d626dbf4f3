//! Names of model-specific registers, for the command line and reports. Numbers are from the kernel's
//! arch/x86/include/asm/msr-index.h, where they have these names in capitals.

/// Name and number.
const NAMES: &[(&str, u32)] = &[
    ("tsc", 0x10),
    ("apicbase", 0x1b),
    ("tsc_adjust", 0x3b),
    ("spec_ctrl", 0x48),
    ("pred_cmd", 0x49),
    ("bios_sign_id", 0x8b),
    ("platform_info", 0xce),
    ("mtrrcap", 0xfe),
    ("arch_capabilities", 0x10a),
    ("tsx_ctrl", 0x122),
    ("sysenter_cs", 0x174),
    ("misc_enable", 0x1a0),
    ("power_ctl", 0x1fc),
    ("cr_pat", 0x277),
    ("tsc_deadline", 0x6e0),
    ("x2apic_id", 0x802),
    ("x2apic_version", 0x803),
    ("x2apic_tmr_cur", 0x839),
    ("kvm_wall_clock", 0x4b56_4d00),
    ("kvm_system_time", 0x4b56_4d01),
    ("kvm_steal_time", 0x4b56_4d03),
    ("efer", 0xc000_0080),
    ("star", 0xc000_0081),
    ("lstar", 0xc000_0082),
    ("fs_base", 0xc000_0100),
    ("gs_base", 0xc000_0101),
    ("kernel_gs_base", 0xc000_0102),
    ("tsc_aux", 0xc000_0103),
    ("hwcr", 0xc001_0015),
];

/// `TSC_DEADLINE`, which is written with care.
pub(super) const TSC_DEADLINE: u32 = 0x6e0;

/// A register's number, from its name, or from a number in decimal or after 0x.
pub(crate) fn number(text: &str) -> Option<u32> {
    let name = text.to_ascii_lowercase();
    let name = name.strip_prefix("msr_").or(name.strip_prefix("ia32_")).unwrap_or(&name);
    if let Some((_, number)) = NAMES.iter().find(|(one, _)| *one == name) {
        return Some(*number);
    }
    match name.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => name.parse().ok(),
    }
}

/// Its name, else its number.
pub(crate) fn name(number: u32) -> String {
    NAMES
        .iter()
        .find(|(_, one)| *one == number)
        .map_or_else(|| format!("{number:#x}"), |(name, _)| (*name).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_the_same() {
        for (text, wanted) in NAMES {
            assert_eq!((number(text), name(*wanted).as_str()), (Some(*wanted), *text));
        }
        assert_eq!(
            [number("0x1fc"), number("POWER_CTL"), number("IA32_POWER_CTL"), number("508")],
            [Some(0x1fc); 4]
        );
        assert_eq!([number("power"), number("0x1_0000_0000"), number("0x100000000"), number("")], [None; 4]);
        assert_eq!(name(0x1234), "0x1234");
        let mut numbers: Vec<_> = NAMES.iter().map(|(_, number)| number).collect();
        numbers.dedup();
        assert!(numbers.is_sorted() && numbers.len() == NAMES.len());
    }

    /// Where the x86 crate has the register too, it says the same.
    #[test]
    fn numbers_are_those_of_others() {
        use x86::msr;
        for (name, wanted) in [
            ("tsc_adjust", 0x3b),
            ("apicbase", msr::IA32_APIC_BASE),
            ("platform_info", msr::MSR_PLATFORM_INFO),
            ("misc_enable", msr::IA32_MISC_ENABLE),
            ("power_ctl", msr::MSR_POWER_CTL),
            ("cr_pat", msr::IA32_PAT),
            ("tsc_deadline", msr::IA32_TSC_DEADLINE),
            ("efer", msr::IA32_EFER),
            ("fs_base", msr::IA32_FS_BASE),
            ("kernel_gs_base", msr::IA32_KERNEL_GSBASE),
            ("tsc_aux", msr::IA32_TSC_AUX),
        ] {
            assert_eq!(number(name), Some(wanted), "{name}");
        }
    }
}
