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

    /// `kvm_vcpu.arch.mp_state`.
    VCPU_MP_STATE: u32 = NONE;
    /// `kvm_vcpu.stat.generic.halt_poll_success_ns`.
    VCPU_POLL_SUCCESS: u32 = NONE;
    /// `kvm_vcpu.stat.generic.halt_poll_fail_ns`.
    VCPU_POLL_FAIL: u32 = NONE;
    /// `kvm_vcpu.stat.generic.halt_attempted_poll`.
    VCPU_POLL_ATTEMPTED: u32 = NONE;
    /// `kvm_vcpu.stat.generic.halt_successful_poll`.
    VCPU_POLL_SUCCESSFUL: u32 = NONE;
    /// `kvm_vcpu.halt_poll_ns`: how long KVM polls for this vCPU before it blocks it.
    VCPU_POLL_WINDOW: u32 = NONE;
    /// `task_struct.state`; `NONE` where sched_switch passes the state.
    TASK_STATE: u32 = NONE;
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
    /// Classic kvm_exit, for the noun rip: descriptors of exit_reason, guest_rip, isa, vcpu_id.
    EXIT_RIP_FIELDS: u64 = 0;
    /// Classic kvm_page_fault: descriptors of fault_address, error_code.
    PAGE_FAULT_FIELDS: u64 = 0;
    /// Classic kvm_mmio, for the noun fault: descriptors of type, gpa.
    FAULT_MMIO_FIELDS: u64 = 0;
    /// Classic kvm_vcpu_wakeup: descriptors of ns, waited, valid.
    VCPU_WAKEUP_FIELDS: u64 = 0;
    /// Classic kvm_halt_poll_ns: descriptors of grow, new, old.
    HALT_POLL_FIELDS: u64 = 0;
    /// Classic sched_switch: descriptors of prev_pid, prev_state, next_pid.
    SCHED_SWITCH_FIELDS: u64 = 0;
    /// Classic sched_wakeup: descriptor of pid.
    SCHED_WAKEUP_FIELDS: u64 = 0;

    /// Classic kvm_inj_virq: vector, soft, reinjected.
    INJ_VIRQ_FIELDS: u64 = 0;
    /// Classic kvm_inj_exception: exception, reinjected.
    INJ_EXCEPTION_FIELDS: u64 = 0;
    /// Classic kvm_eoi: vector.
    EOI_FIELDS: u64 = 0;
    /// Classic kvm_pv_eoi: vector.
    PV_EOI_FIELDS: u64 = 0;
    /// Classic kvm_apic_ipi: icr_low, dest_id.
    APIC_IPI_FIELDS: u64 = 0;
    /// Classic kvm_apic_accept_irq: apicid, dm, tm, vec.
    ACCEPT_IRQ_FIELDS: u64 = 0;
    /// Classic kvm_apicv_accept_irq: apicid, dm, tm, vec.
    APICV_ACCEPT_IRQ_FIELDS: u64 = 0;
    /// Classic kvm_msi_set_irq: address, data.
    MSI_FIELDS: u64 = 0;
    /// Classic kvm_ioapic_set_irq: e, pin, coalesced.
    IOAPIC_FIELDS: u64 = 0;
    /// Classic kvm_ioapic_delayed_eoi_inj: e.
    IOAPIC_AGAIN_FIELDS: u64 = 0;
    /// Classic kvm_pic_set_irq: chip, pin, imr, coalesced.
    PIC_FIELDS: u64 = 0;
    /// Classic kvm_set_irq: gsi, level, irq_source_id.
    SET_IRQ_FIELDS: u64 = 0;
    /// Classic kvm_ack_irq: irqchip, pin.
    ACK_IRQ_FIELDS: u64 = 0;
    /// Classic kvm_smm_transition: entering.
    SMM_FIELDS: u64 = 0;
    /// Classic kvm_enter_smm: entering.
    ENTER_SMM_FIELDS: u64 = 0;
    /// Classic kvm_pi_irte_update: host_irq, gsi, gvec, set.
    ROUTE_FIELDS: u64 = 0;

    /// `__per_cpu_offset[]`: address of the array that says where each CPU's variables lie; 0 = not known.
    PER_CPU_OFFSETS: u64 = 0;
    /// The preemption counter, counted from there.
    PREEMPT_COUNT: u64 = 0;

    /// Device of this tool's pid namespace; used with the next.
    PIDNS_DEV: u64 = 0;
    /// Inode of this tool's pid namespace; 0: it is the initial one and needs no translation.
    PIDNS_INO: u64 = 0;
}
