//! Why `KVM_RUN` returned to the VMM: `struct kvm_run.exit_reason`, as in the event `kvm_userspace_exit`.

use std::borrow::Cow;

/// One reason.
struct Reason {
    number: u32,
    constant: &'static str,
    name: &'static str,
}

/// The number from `kvm-bindings`, the constant's spelling and the name that is shown.
macro_rules! row {
    ($constant:ident, $name:literal) => {
        Reason { number: kvm_bindings::$constant, constant: stringify!($constant), name: $name }
    };
}

/// The kernel's include/uapi/linux/kvm.h, without what only other architectures have. Sorted by number (a test says so).
const REASONS: &[Reason] = &[
    row!(KVM_EXIT_UNKNOWN, "unknown"),
    row!(KVM_EXIT_EXCEPTION, "exception"),
    row!(KVM_EXIT_IO, "io"),
    row!(KVM_EXIT_HYPERCALL, "hypercall"),
    row!(KVM_EXIT_DEBUG, "debug"),
    row!(KVM_EXIT_HLT, "hlt"),
    row!(KVM_EXIT_MMIO, "mmio"),
    row!(KVM_EXIT_IRQ_WINDOW_OPEN, "irq window open"),
    row!(KVM_EXIT_SHUTDOWN, "shutdown"),
    row!(KVM_EXIT_FAIL_ENTRY, "fail entry"),
    row!(KVM_EXIT_INTR, "intr"),
    row!(KVM_EXIT_SET_TPR, "set tpr"),
    row!(KVM_EXIT_TPR_ACCESS, "tpr access"),
    row!(KVM_EXIT_NMI, "nmi"),
    row!(KVM_EXIT_INTERNAL_ERROR, "internal error"),
    row!(KVM_EXIT_WATCHDOG, "watchdog"),
    row!(KVM_EXIT_SYSTEM_EVENT, "system event"),
    row!(KVM_EXIT_IOAPIC_EOI, "ioapic eoi"),
    row!(KVM_EXIT_HYPERV, "hyperv"),
    row!(KVM_EXIT_X86_RDMSR, "x86 rdmsr"),
    row!(KVM_EXIT_X86_WRMSR, "x86 wrmsr"),
    row!(KVM_EXIT_DIRTY_RING_FULL, "dirty ring full"),
    row!(KVM_EXIT_AP_RESET_HOLD, "ap reset hold"),
    row!(KVM_EXIT_X86_BUS_LOCK, "x86 bus lock"),
    row!(KVM_EXIT_XEN, "xen"),
    row!(KVM_EXIT_NOTIFY, "notify"),
    row!(KVM_EXIT_MEMORY_FAULT, "memory fault"),
    // Newer than kvm-bindings.
    Reason { number: 40, constant: "KVM_EXIT_TDX", name: "tdx" },
    Reason { number: 43, constant: "KVM_EXIT_SNP_REQ_CERTS", name: "snp req certs" },
];

fn find(reason: u32) -> Option<&'static Reason> {
    let at = REASONS.binary_search_by_key(&reason, |row| row.number).ok()?;
    REASONS.get(at)
}

/// The reason in short: the constant without `KVM_EXIT_`, in small letters.
#[must_use]
pub fn name(reason: u32) -> Option<&'static str> {
    find(reason).map(|row| row.name)
}

/// The reason's constant, `KVM_EXIT_IO` for instance. This is what the kernel's event prints (`ERSN` in
/// include/trace/events/kvm.h), but for reasons from 31 on, which it prints as numbers.
#[must_use]
pub fn constant(reason: u32) -> Option<&'static str> {
    find(reason).map(|row| row.constant)
}

/// What the event `kvm_userspace_exit` says in all. `errno` is `KVM_RUN`'s result: if negative, the call failed and the
/// reason is without meaning; the kernel calls that `restart` for EINTR (a signal, which is how VMMs get a vCPU out) and
/// `error` for others. A reason without name is a number, as the kernel prints it.
#[must_use]
pub fn outcome(reason: u32, errno: i32) -> Cow<'static, str> {
    if errno == -libc::EINTR {
        Cow::Borrowed("restart")
    } else if errno < 0 {
        Cow::Owned(format!("error {}", errno.unsigned_abs()))
    } else {
        name(reason).map_or_else(|| Cow::Owned(format!("{reason:#x}")), Cow::Borrowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(REASONS.is_sorted_by(|a, b| a.number < b.number));
    }

    #[test]
    fn a_name_is_its_constant_in_short() {
        for row in REASONS {
            let long = format!("KVM_EXIT_{}", row.name.to_uppercase().replace(' ', "_"));
            assert_eq!(long, row.constant);
            assert_eq!((name(row.number), constant(row.number)), (Some(row.name), Some(row.constant)));
        }
    }

    #[test]
    fn reasons_are_the_kernels_numbers() {
        for (number, expected) in [
            (2, "io"),
            (5, "hlt"),
            (6, "mmio"),
            (7, "irq window open"),
            (8, "shutdown"),
            (10, "intr"),
            (17, "internal error"),
            (24, "system event"),
            (27, "hyperv"),
            (30, "x86 wrmsr"),
            (39, "memory fault"),
        ] {
            assert_eq!(name(number), Some(expected));
        }
    }

    #[test]
    fn other_architectures_and_the_future_are_numbers() {
        for number in [13, 35, 1000] {
            assert_eq!((name(number), constant(number)), (None, None));
        }
        assert_eq!(outcome(13, 0), "0xd");
        assert_eq!(outcome(1000, 0), "0x3e8");
    }

    #[test]
    fn a_failed_call_has_no_reason() {
        assert_eq!(outcome(10, -4), "restart");
        assert_eq!(outcome(2, -14), "error 14");
        assert_eq!(outcome(2, i32::MIN), "error 2147483648");
        assert_eq!(outcome(2, 0), "io");
        assert_eq!(outcome(2, 1), "io", "the kernel treats what is not negative as success");
    }
}
