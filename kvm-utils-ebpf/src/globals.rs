//! Globals that user space sets before loading and freezes: where things lie in this kernel, and what is wanted.
//!
//! Offsets are bytes; [`NONE`] means that this kernel or the chosen source has no such thing. The verifier knows their
//! values and removes what they switch off, but each load of one stays: two instructions.

use aya_ebpf::Global;
use kvm_utils_common::config::NONE;

macro_rules! globals {
    ($($(#[$doc:meta])* $name:ident: $ty:ty = $value:expr;)*) => {
        $(
            $(#[$doc])*
            #[unsafe(no_mangle)]
            pub static $name: Global<$ty> = Global::new($value);
        )*
    };
}

globals! {
    /// Switches: `kvm_utils_common::config::mode`.
    MODE: u32 = 0;

    /// `kvm_vcpu.kvm`.
    VCPU_KVM: u32 = NONE;
    /// `kvm_vcpu.vcpu_id`.
    VCPU_ID: u32 = NONE;
    /// `kvm_vcpu.stat.exits`.
    VCPU_STAT_EXITS: u32 = NONE;
    /// VMX's full exit reason, from the `struct kvm_vcpu`.
    VMX_EXIT_REASON: u32 = NONE;
    /// `vcpu_svm.vmcb`, from the `struct kvm_vcpu`.
    SVM_VMCB: u32 = NONE;
    /// `vmcb.control.exit_code`.
    VMCB_EXIT_CODE: u32 = NONE;

    /// Classic kvm_exit: offset of exit_reason in the record.
    EXIT_REASON_AT: u32 = NONE;
    /// Classic kvm_exit: offset of isa.
    EXIT_ISA_AT: u32 = NONE;
    /// Classic kvm_exit: offset of vcpu_id.
    EXIT_VCPU_ID_AT: u32 = NONE;
    /// Classic kvm_entry: offset of vcpu_id.
    ENTRY_VCPU_ID_AT: u32 = NONE;

    /// `task_struct.preempt_notifiers.first`.
    TASK_NOTIFIERS: u32 = NONE;
    /// `kvm_vcpu.preempt_notifier.link`.
    VCPU_NOTIFIER: u32 = NONE;
    /// `kvm_vcpu.arch.l1_tsc_offset`.
    VCPU_TSC_OFFSET: u32 = NONE;
    /// `kvm_vcpu.arch.l1_tsc_scaling_ratio`.
    VCPU_TSC_RATIO: u32 = NONE;

    /// `msr_data.index`.
    MSR_DATA_INDEX: u32 = NONE;
    /// `msr_data.host_initiated`.
    MSR_DATA_HOST: u32 = NONE;

    /// A vCPU's table has `1 << ROW_BITS` rows.
    ROW_BITS: u32 = 0;
    /// Classic kvm_msr: descriptors of write, ecx, data, exception (`kvm_utils_common::event`).
    MSR_FIELDS: u64 = 0;
    /// Classic kvm_pio: of rw, port, size, count.
    PIO_FIELDS: u64 = 0;
    /// Classic kvm_mmio: of type, len, gpa.
    MMIO_FIELDS: u64 = 0;
    /// Classic kvm_fast_mmio: of gpa.
    FAST_MMIO_FIELDS: u64 = 0;
    /// Classic kvm_userspace_exit: of reason, errno.
    USERSPACE_EXIT_FIELDS: u64 = 0;
    /// Classic kvm_cpuid: descriptors of function, index, found, used_max_basic.
    CPUID_FIELDS: u64 = 0;
    /// Classic kvm_hypercall: descriptors of nr, a0, a1.
    HYPERCALL_FIELDS: u64 = 0;
    /// Classic kvm_hv_hypercall: descriptors of code, fast, rep_cnt.
    HV_HYPERCALL_FIELDS: u64 = 0;
    /// Classic kvm_xen_hypercall: descriptor of nr.
    XEN_HYPERCALL_FIELDS: u64 = 0;

    /// Device of this tool's pid namespace; used with the next.
    PIDNS_DEV: u64 = 0;
    /// Inode of this tool's pid namespace; 0: it is the initial one and needs no translation.
    PIDNS_INO: u64 = 0;
}
