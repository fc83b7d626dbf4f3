//! Registers that no processor has: hypervisors define them for their guests, below 0x40000000 and above 0x4b564d00.
//!
//! KVM's: arch/x86/include/uapi/asm/kvm_para.h. Hyper-V's, which KVM offers to Windows: include/hyperv/hvgdk_mini.h
//! and, for the debugger's, arch/x86/kvm/hyperv.h.

use super::{Run, Set, row, run};

pub(super) const SET: Set = Set {
    registers: &[
        // The old pair takes numbers that were the first Pentium's performance counters.
        row(0x11, "MSR_KVM_WALL_CLOCK"),
        row(0x12, "MSR_KVM_SYSTEM_TIME"),
        // Xen's hypercall page has this index too, in guests without Hyper-V's interface (QEMU,
        // target/i386/kvm/xen-emu.h); no event tells which one is meant.
        row(0x4000_0000, "HV_X64_MSR_GUEST_OS_ID"),
        row(0x4000_0001, "HV_X64_MSR_HYPERCALL"),
        row(0x4000_0002, "HV_X64_MSR_VP_INDEX"),
        row(0x4000_0003, "HV_X64_MSR_RESET"),
        row(0x4000_0010, "HV_X64_MSR_VP_RUNTIME"),
        row(0x4000_0020, "HV_X64_MSR_TIME_REF_COUNT"),
        row(0x4000_0021, "HV_X64_MSR_REFERENCE_TSC"),
        row(0x4000_0022, "HV_X64_MSR_TSC_FREQUENCY"),
        row(0x4000_0023, "HV_X64_MSR_APIC_FREQUENCY"),
        row(0x4000_0070, "HV_X64_MSR_EOI"),
        row(0x4000_0071, "HV_X64_MSR_ICR"),
        row(0x4000_0072, "HV_X64_MSR_TPR"),
        row(0x4000_0073, "HV_X64_MSR_VP_ASSIST_PAGE"),
        row(0x4000_0080, "HV_X64_MSR_SCONTROL"),
        row(0x4000_0081, "HV_X64_MSR_SVERSION"),
        row(0x4000_0082, "HV_X64_MSR_SIEFP"),
        row(0x4000_0083, "HV_X64_MSR_SIMP"),
        row(0x4000_0084, "HV_X64_MSR_EOM"),
        row(0x4000_0085, "HV_X64_MSR_SIRBP"),
        row(0x4000_00f0, "HV_X64_MSR_GUEST_IDLE"),
        row(0x4000_00f1, "HV_X64_MSR_SYNDBG_CONTROL"),
        row(0x4000_00f2, "HV_X64_MSR_SYNDBG_STATUS"),
        row(0x4000_00f3, "HV_X64_MSR_SYNDBG_SEND_BUFFER"),
        row(0x4000_00f4, "HV_X64_MSR_SYNDBG_RECV_BUFFER"),
        row(0x4000_00f5, "HV_X64_MSR_SYNDBG_PENDING_BUFFER"),
        row(0x4000_00ff, "HV_X64_MSR_SYNDBG_OPTIONS"),
        row(0x4000_0105, "HV_X64_MSR_CRASH_CTL"),
        row(0x4000_0106, "HV_X64_MSR_REENLIGHTENMENT_CONTROL"),
        row(0x4000_0107, "HV_X64_MSR_TSC_EMULATION_CONTROL"),
        row(0x4000_0108, "HV_X64_MSR_TSC_EMULATION_STATUS"),
        row(0x4000_0118, "HV_X64_MSR_TSC_INVARIANT_CONTROL"),
        // Where QEMU puts Xen's hypercall page in a guest that has Hyper-V's interface as well.
        row(0x4000_0200, "XEN_HYPERCALL_MSR_HYPERV"),
        row(0x4000_1080, "HV_X64_MSR_NESTED_SCONTROL"),
        row(0x4000_1081, "HV_X64_MSR_NESTED_SVERSION"),
        row(0x4000_1082, "HV_X64_MSR_NESTED_SIEFP"),
        row(0x4000_1083, "HV_X64_MSR_NESTED_SIMP"),
        row(0x4000_1084, "HV_X64_MSR_NESTED_EOM"),
        row(0x4b56_4d00, "MSR_KVM_WALL_CLOCK_NEW"),
        row(0x4b56_4d01, "MSR_KVM_SYSTEM_TIME_NEW"),
        row(0x4b56_4d02, "MSR_KVM_ASYNC_PF_EN"),
        row(0x4b56_4d03, "MSR_KVM_STEAL_TIME"),
        row(0x4b56_4d04, "MSR_KVM_PV_EOI_EN"),
        row(0x4b56_4d05, "MSR_KVM_POLL_CONTROL"),
        row(0x4b56_4d06, "MSR_KVM_ASYNC_PF_INT"),
        row(0x4b56_4d07, "MSR_KVM_ASYNC_PF_ACK"),
        row(0x4b56_4d08, "MSR_KVM_MIGRATION_CONTROL"),
        // Of the out-of-tree PVM, those that its versions agree on (arch/x86/include/uapi/asm/pvm_para.h there).
        row(0x4b56_4df0, "MSR_PVM_LINEAR_ADDRESS_RANGE"),
        row(0x4b56_4df1, "MSR_PVM_VCPU_STRUCT"),
        row(0x4b56_4df4, "MSR_PVM_EVENT_ENTRY"),
        row(0x4b56_4df5, "MSR_PVM_RETU_RIP"),
    ],
    runs: RUNS,
};

const RUNS: &[Run] = &[
    run(0x4000_0090, 1, 16, "HV_X64_MSR_SINT", ""),
    run(0x4000_00b0, 2, 4, "HV_X64_MSR_STIMER", "_CONFIG"),
    run(0x4000_00b1, 2, 4, "HV_X64_MSR_STIMER", "_COUNT"),
    run(0x4000_0100, 1, 5, "HV_X64_MSR_CRASH_P", ""),
    run(0x4000_1090, 1, 16, "HV_X64_MSR_NESTED_SINT", ""),
];
