//! Where the programs attach. One file of kvm-utils-ebpf/src/hook for each.

use super::{
    event::{self, Event, irq},
    object::program,
};

/// A function of KVM, known by its address of the vCPU: only with raw tracepoints' identity.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Function {
    /// Its kprobe.
    pub programs: [&'static str; 1],
    /// What it is called, in one vendor's module or the other's; the first that the kernel has is taken.
    pub symbols: &'static [&'static str],
}

/// Where writes to registers go that no fast path takes, and those of the VMM.
pub static SET_MSR_VENDOR: Function =
    Function { programs: ["set_msr_vendor"], symbols: &["vmx_set_msr", "svm_set_msr"] };
/// Where those go that are the same for both vendors.
pub static SET_MSR_COMMON: Function =
    Function { programs: ["set_msr_common"], symbols: &["kvm_set_msr_common"] };

/// A place in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// The tracepoint kvm:kvm_exit.
    KvmExit,
    /// The tracepoint kvm:kvm_entry.
    KvmEntry,
    /// The function kvm_arch_vcpu_destroy.
    VcpuDestroy,
    /// The function kvm_arch_vcpu_ioctl_run. A kernel where it cannot be attached tells less.
    VcpuRun,
    /// A tracepoint that says nothing of the vCPU.
    Event(&'static Event),
    /// A function of KVM.
    Function(&'static Function),
}

impl Hook {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::KvmExit,
        Self::KvmEntry,
        Self::VcpuDestroy,
        Self::VcpuRun,
        Self::Event(&event::MSR),
        Self::Event(&event::PIO),
        Self::Event(&event::MMIO),
        Self::Event(&event::FAST_MMIO),
        Self::Event(&event::USERSPACE_EXIT),
        Self::Event(&event::CPUID),
        Self::Event(&event::HYPERCALL),
        Self::Event(&event::HV_HYPERCALL),
        Self::Event(&event::XEN_HYPERCALL),
        Self::Event(&event::PAGE_FAULT),
        Self::Event(&event::EXIT_RIP),
        Self::Event(&event::FAULT_MMIO),
        Self::Event(&event::VCPU_WAKEUP),
        Self::Event(&event::HALT_POLL),
        Self::Event(&event::SCHED_SWITCH),
        Self::Event(&event::SCHED_WAKEUP),
        Self::Event(&irq::INJECTED),
        Self::Event(&irq::EXCEPTION),
        Self::Event(&irq::EOI),
        Self::Event(&irq::PV_EOI),
        Self::Event(&irq::IPI),
        Self::Event(&irq::ACCEPTED),
        Self::Event(&irq::POSTED),
        Self::Event(&irq::MSI),
        Self::Event(&irq::IOAPIC),
        Self::Event(&irq::IOAPIC_AGAIN),
        Self::Event(&irq::PIC),
        Self::Event(&irq::GSI),
        Self::Event(&irq::ACK),
        Self::Event(&irq::SMM),
        Self::Event(&irq::ENTER_SMM),
        Self::Event(&irq::ROUTE),
        Self::Function(&SET_MSR_VENDOR),
        Self::Function(&SET_MSR_COMMON),
    ];

    /// The programs that can be attached there; which of them depends on the source.
    #[must_use]
    pub const fn programs(self) -> &'static [&'static str] {
        match self {
            Self::KvmExit => &[program::KVM_EXIT_RAW, program::KVM_EXIT_TP],
            Self::KvmEntry => &[program::KVM_ENTRY_RAW, program::KVM_ENTRY_TP],
            Self::VcpuDestroy => &[program::VCPU_DESTROY],
            Self::VcpuRun => &[program::VCPU_RUN],
            Self::Event(event) => event.programs(),
            Self::Function(function) => &function.programs,
        }
    }
}
