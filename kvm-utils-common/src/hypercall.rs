//! Keys of the noun hypercall.

/// Kind: KVM's own (VMCALL or VMMCALL). [`crate::rows::RowKey::a`] is the number, from RAX; the row's second number is how
/// many vCPUs the calls of [`SEND_IPI`] named.
pub const KIND_KVM: u8 = 0;
/// Kind: Hyper-V's. `a` is the call code, the detail is made of the `DETAIL_*` bits; the second number is the sum of the rep
/// counts.
pub const KIND_HYPERV: u8 = 1;
/// Kind: Xen's. `a` is the number.
pub const KIND_XEN: u8 = 2;

/// Hyper-V's input came in registers, not in memory.
pub const DETAIL_FAST: u64 = 1 << 0;

/// KVM_HC_SEND_IPI, include/uapi/linux/kvm_para.h: its first two arguments are a bitmap of vCPUs.
pub const SEND_IPI: u64 = 10;
