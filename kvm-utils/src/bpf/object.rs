//! The eBPF object, built by `cargo xtask ebpf` and committed, so that a plain stable toolchain suffices.

/// The bytes of the ELF object, aligned for the parser.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../kvm-utils-ebpf/prebuilt/kvm-utils.bpf.o");

/// Names of programs in the object, and what they attach to.
pub mod program {
    /// kvm_exit through the raw tracepoint.
    pub const KVM_EXIT_RAW: &str = "kvm_exit_raw";
    /// kvm_entry through the raw tracepoint.
    pub const KVM_ENTRY_RAW: &str = "kvm_entry_raw";
    /// kvm_exit through the classic tracepoint.
    pub const KVM_EXIT_TP: &str = "kvm_exit_tp";
    /// kvm_entry through the classic tracepoint.
    pub const KVM_ENTRY_TP: &str = "kvm_entry_tp";
    /// kprobe on [`super::VCPU_DESTROY_SYMBOL`].
    pub const VCPU_DESTROY: &str = "vcpu_destroy";
    /// kprobe on [`super::VCPU_RUN_SYMBOL`].
    pub const VCPU_RUN: &str = "vcpu_run";
}

/// The function that the kernel calls once for each vCPU before freeing it (arch/x86/kvm/x86.c).
pub const VCPU_DESTROY_SYMBOL: &str = "kvm_arch_vcpu_destroy";

/// The function in which the ioctl `KVM_RUN` is served (arch/x86/kvm/x86.c).
pub const VCPU_RUN_SYMBOL: &str = "kvm_arch_vcpu_ioctl_run";
