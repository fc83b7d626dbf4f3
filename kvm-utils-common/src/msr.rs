//! Keys of the noun msr.

/// Kind: accesses. [`crate::rows::RowKey::a`] is the register's index, the detail is made of the `DETAIL_*` bits.
pub const KIND_ACCESS: u8 = 0;
/// Kind: commands written to the x2APIC's ICR. `a` is the command without [`ICR_BUSY`], the detail is the sender's vCPU id
/// plus 1, or 0 where that is not known.
pub const KIND_ICR: u8 = 1;
/// Kind: writes that reach the vendor's function (`vmx_set_msr`, `svm_set_msr`), by index and detail as accesses.
pub const KIND_VENDOR: u8 = 2;
/// Kind: writes that reach `kvm_set_msr_common`, by index and detail as accesses.
pub const KIND_COMMON: u8 = 3;

/// A write.
pub const DETAIL_WRITE: u64 = 1 << 0;
/// The guest got a general protection fault.
pub const DETAIL_FAULT: u64 = 1 << 1;
/// The VMM asked for it (`KVM_SET_MSRS`), not the guest.
pub const DETAIL_HOST: u64 = 1 << 2;

/// The deadline of the local APIC's timer, Intel SDM volume 4, table 2-2.
pub const IA32_TSC_DEADLINE: u64 = 0x6e0;
/// The interrupt command register in x2APIC mode, Intel SDM volume 3, table 12-6.
pub const X2APIC_ICR: u64 = 0x830;
/// The delivery status, bit 12 of the ICR, which x2APIC does not have (Intel SDM volume 3, 12.12.9).
pub const ICR_BUSY: u64 = 1 << 12;

/// Whether a TSC scaling ratio is 1: it has 32 bits after the point on AMD and 48 on Intel (`tsc_scaling_ratio_frac_bits`,
/// arch/x86/kvm/{svm/svm,vmx/vmx}.c), none where the processor cannot scale, and is 0 where KVM keeps none.
#[inline(always)]
#[must_use]
pub const fn is_unscaled(ratio: u64) -> bool {
    matches!(ratio, 0 | 1 | 0x1_0000_0000 | 0x1_0000_0000_0000)
}
