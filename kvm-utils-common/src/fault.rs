//! Keys of the noun fault.

/// Kind: faults. [`crate::rows::RowKey::a`] is the number of the guest-physical page (the address shifted by
/// [`PAGE_SHIFT`]), the detail what [`detail`] makes of the code.
pub const KIND_FAULT: u8 = 0;
/// Kind: accesses that KVM took for a device's. `a` as above, the detail is 1 for writes.
pub const KIND_MMIO: u8 = 1;

/// Pages of 4 KiB.
pub const PAGE_SHIFT: u32 = 12;

/// `type` of the tracepoint kvm_mmio for a write (`KVM_TRACE_MMIO_WRITE`, include/trace/events/kvm.h).
pub const MMIO_WRITE: u64 = 2;

/// The bits of a fault's code that say what was done, and why it failed, so that a page has a few rows at most.
///
/// SVM's error code (AMD APM volume 2, 15.25.6, `PFERR_*` in arch/x86/include/asm/kvm_host.h) has those of a page fault in
/// bits 0 to 4, and in bits 32 and 33 whether the guest's final address or its page tables were being looked up. VMX's exit
/// qualification (Intel SDM volume 3, table 28-7) has all it says in bits 0 to 8. Both fit: bits 32 and 33 go to 16 and 17.
#[inline(always)]
#[must_use]
pub const fn detail(code: u64) -> u64 {
    (code & 0x1ff) | (code >> 32 & 3) << 16
}

/// The code again, from what [`detail`] made of it.
#[must_use]
pub const fn code(detail: u64) -> u64 {
    (detail & 0x1ff) | (detail >> 16 & 3) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_that_matter_are_kept() {
        for kept in [0x1_0000_0007, 0x2_0000_0004, 0x1_0000_000d, 0x182, 0x181, 0x184] {
            assert_eq!(code(detail(kept)), kept, "{kept:#x}");
        }
        // Encryption, SVM's size mismatch and what is yet to come make no more rows.
        assert_eq!(detail(0x1_0000_0006 | 1 << 34 | 1 << 40), detail(0x1_0000_0006));
    }
}
