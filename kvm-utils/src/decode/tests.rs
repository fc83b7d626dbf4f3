use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const fn vmx(code: u32) -> ExitReason {
    ExitReason::new(Isa::Vmx, code)
}

const fn svm(code: u32) -> ExitReason {
    ExitReason::new(Isa::Svm, code)
}

#[test]
fn tables_are_sorted_and_their_names_distinct() {
    for isa in [Isa::Vmx, Isa::Svm] {
        let all: Vec<_> = ExitReason::all(isa).collect();
        assert!(all.is_sorted_by(|a, b| a.code < b.code), "{isa}");
        let names: HashSet<_> = all.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), all.len(), "{isa}");
    }
    assert_eq!(ExitReason::all(Isa::Other(3)).count(), 0);
}

#[test]
fn every_named_reason_has_a_class() {
    for isa in [Isa::Vmx, Isa::Svm] {
        for reason in ExitReason::all(isa) {
            assert_ne!(reason.class(), Class::Other, "{reason}");
        }
    }
    assert_eq!(vmx(0xfff).class(), Class::Other);
    assert_eq!(svm(0xf000_0000).class(), Class::Other);
}

#[test]
fn a_failed_entry_is_told_apart_from_its_reason() {
    let reason = vmx(0x8000_0021);
    assert_eq!(reason.basic(), 33);
    assert_eq!(reason.name(), "INVALID_STATE");
    assert_eq!(reason.flags(), ["FAILED_VMENTRY"]);
    assert_eq!(reason.to_string(), "INVALID_STATE FAILED_VMENTRY");
    assert_eq!(reason.class(), Class::EntryFailed);
    assert_eq!(reason.without_flags(), vmx(33));
    // A machine check during entry has a reason of its own, and still failed.
    assert_eq!(vmx(0x8000_0029).class(), Class::EntryFailed);
}

#[test]
fn a_bus_lock_flag_does_not_change_the_reason() {
    let reason = vmx(1 << 26 | 30);
    assert_eq!((reason.name(), reason.class()), ("IO_INSTRUCTION".into(), Class::Io));
    assert_eq!(reason.flags(), ["BUS_LOCK_DETECTED"]);
}

#[test]
fn every_flag_bit_is_shown() {
    assert_eq!(
        vmx(0xffff_000a).flags().join("|"),
        "bit 16|bit 17|bit 18|bit 19|bit 20|bit 21|bit 22|bit 23|bit 24|bit 25|BUS_LOCK_DETECTED|ENCLAVE_MODE|\
         SMI_PENDING_MTF|SMI_FROM_VMX_ROOT|bit 30|FAILED_VMENTRY"
    );
    assert_eq!(vmx(0xffff_000a).name(), "CPUID");
    assert!(vmx(10).flags().is_empty());
}

#[test]
fn svm_codes_have_no_flags() {
    let invalid = svm(0xffff_ffff);
    assert_eq!((invalid.name(), invalid.class()), ("invalid_guest_state".into(), Class::EntryFailed));
    assert!(invalid.flags().is_empty());
    let request = svm(0x8000_0012);
    assert_eq!((request.name(), request.class()), ("vmgexit_ext_guest_request".into(), Class::Vmgexit));
    assert_eq!(request.to_string(), "vmgexit_ext_guest_request");
    assert_eq!(request.basic(), 0x8000_0012);
}

#[test]
fn unknown_reasons_are_numbers_as_the_kernel_prints_them() {
    assert_eq!(vmx(0xabc).name(), "0xabc");
    assert_eq!(vmx(0x8400_0abc).to_string(), "0xabc BUS_LOCK_DETECTED FAILED_VMENTRY");
    assert_eq!(svm(0xf000_0000).name(), "0xf000_0000".replace('_', ""));
    assert_eq!(svm(0x0fe).to_string(), "0xfe");
    assert_eq!(vmx(5).name(), "0x5", "in the manual, but not in the kernel's table");
    assert_eq!(vmx(5).class(), Class::Smm);
}

#[test]
fn an_unknown_isa_borrows_no_names() {
    let reason = ExitReason::new(Isa::from_raw(3), 0x78);
    assert_eq!(reason.isa, Isa::Other(3));
    assert_eq!(reason.name(), "0x78", "not svm's hlt");
    assert_eq!((reason.class(), reason.is_waiting()), (Class::Other, false));
    assert_eq!(reason.isa.to_string(), "isa3");
    assert!(ExitReason::new(Isa::from_raw(0), 0x8000_0001).flags().is_empty());
}

#[test]
fn only_halting_is_waiting() {
    let waiting: Vec<_> = [Isa::Vmx, Isa::Svm]
        .into_iter()
        .flat_map(ExitReason::all)
        .filter(|reason| reason.is_waiting())
        .map(|reason| reason.to_string())
        .collect();
    assert_eq!(waiting, ["HLT", "hlt", "idle-halt", "vmgexit_ap_hlt_loop"]);
}

/// The same happening has the same class on both vendors.
#[test]
fn vendors_compare() {
    for (intel, amd, class) in [
        (30, 0x7b, "io"),
        (10, 0x72, "cpuid"),
        (12, 0x78, "hlt"),
        (1, 0x60, "interrupt"),
        (7, 0x64, "irq-window"),
        (48, 0x400, "ept"),
        (18, 0x81, "hypercall"),
        (40, 0x77, "pause"),
        (28, 0x14, "cr"),
        (29, 0x37, "dr"),
        (0, 0x4e, "exception"),
        (54, 0x89, "wbinvd"),
        (55, 0x8d, "xsetbv"),
        (44, 0x402, "apic"),
        (2, 0x7f, "shutdown"),
        (16, 0x6e, "rdtsc"),
        (58, 0xa2, "invlpg"),
        (20, 0x80, "nested"),
        (74, 0xa5, "bus-lock"),
        (36, 0x8b, "mwait"),
    ] {
        assert_eq!(vmx(intel).class().id(), class);
        assert_eq!(svm(amd).class().id(), class);
    }
    assert_eq!(vmx(31).class().id(), "msr-read");
    assert_eq!(vmx(32).class().id(), "msr-write");
    assert_eq!(svm(0x7c).class().id(), "msr", "the code alone does not tell");
    assert_eq!(vmx(49).class().id(), "mmio");
    assert_eq!(vmx(78).class().id(), "msr-read");
}

#[test]
fn classes_have_distinct_plain_identifiers_and_one_line_of_help() {
    let ids: HashSet<_> = Class::ALL.iter().map(|class| class.id()).collect();
    assert_eq!(ids.len(), Class::ALL.len());
    for class in Class::ALL {
        assert!(class.id().chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{class}");
        assert!(!class.help().contains('\n') && class.help().len() <= 130, "{class}: {}", class.help().len());
    }
}

#[test]
fn names_can_be_padded() {
    assert_eq!(format!("{:<6}|{:>6}|{:>5}", svm(0x7b), Class::Io, Isa::Vmx), "io    |    io|  vmx");
}

proptest! {
    #[test]
    fn isa_round_trips(raw: u32) {
        prop_assert_eq!(Isa::from_raw(raw).raw(), raw);
    }

    /// Flags and the basic reason together hold every bit of a VMX reason.
    #[test]
    fn nothing_of_a_code_is_lost(isa: u32, code: u32) {
        let reason = ExitReason::new(Isa::from_raw(isa), code);
        prop_assert!(!reason.name().is_empty());
        match reason.isa {
            Isa::Vmx => {
                prop_assert!(reason.basic() <= 0xffff);
                prop_assert_eq!(reason.flags().len(), (code >> 16).count_ones() as usize);
            }
            Isa::Svm | Isa::Other(_) => prop_assert_eq!(reason.basic(), code),
        }
        if !reason.is_named() {
            prop_assert_eq!(u32::from_str_radix(&reason.name()[2..], 16).ok(), Some(reason.basic()));
        }
    }
}
