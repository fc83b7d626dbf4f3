//! Where the programs attach. One file of kvm-utils-ebpf/src/hook for each.

use super::{
    event::{self, Event},
    object::program,
};

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
}

impl Hook {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::KvmExit,
        Self::KvmEntry,
        Self::VcpuDestroy,
        Self::VcpuRun,
        Self::Event(&event::MSR),
        Self::Event(&event::USERSPACE_EXIT),
        Self::Event(&event::VCPU_WAKEUP),
        Self::Event(&event::SCHED_SWITCH),
        Self::Event(&event::SCHED_WAKEUP),
    ];

    /// The programs that can be attached there; which of them depends on the source.
    #[must_use]
    pub const fn programs(self) -> &'static [&'static str] {
        match self {
            Self::KvmExit => &[program::KVM_EXIT_RAW, program::KVM_EXIT_TP],
            Self::KvmEntry => &[program::KVM_ENTRY_RAW, program::KVM_ENTRY_TP],
            Self::VcpuDestroy => &[program::VCPU_DESTROY],
            Self::VcpuRun => &[program::VCPU_RUN],
            Self::Event(event) => &event.programs,
        }
    }
}
