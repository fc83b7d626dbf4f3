//! Intel VMX: basic exit reasons and the flag bits above them.
//!
//! Names: the kernel's arch/x86/include/uapi/asm/vmx.h, `VMX_EXIT_REASONS`. Numbers: Intel SDM vol. 3, appendix C
//! "VMX Basic Exit Reasons".

use std::borrow::Cow;

use super::Class::{
    Apic, BusLock, Cpuid, Cr, Debug, Descriptor, Dr, EntryFailed, Ept, Exception, Hlt, Hypercall, Init,
    Instruction, Interrupt, Invlpg, Io, IrqWindow, Mmio, MsrRead, MsrWrite, Mwait, Nested, Notify, PageLog,
    Pause, Rdpmc, Rdtsc, Shutdown, TaskSwitch, Timer, Wbinvd, Xsetbv,
};
use super::{Class, Reason, row};

/// Bits 15:0 hold the basic reason (SDM vol. 3, "Format of Exit Reason").
pub(super) const BASIC: u32 = 0xffff;
/// Bit 31, `VMX_EXIT_REASONS_FAILED_VMENTRY`.
pub(super) const FAILED_VMENTRY: u32 = 1 << 31;

/// Sorted by code.
pub(super) const REASONS: &[Reason] = &[
    row(0, "EXCEPTION_NMI", Exception),
    row(1, "EXTERNAL_INTERRUPT", Interrupt),
    row(2, "TRIPLE_FAULT", Shutdown),
    row(3, "INIT_SIGNAL", Init),
    row(4, "SIPI_SIGNAL", Init),
    row(7, "INTERRUPT_WINDOW", IrqWindow),
    row(8, "NMI_WINDOW", IrqWindow),
    row(9, "TASK_SWITCH", TaskSwitch),
    row(10, "CPUID", Cpuid),
    row(12, "HLT", Hlt),
    row(13, "INVD", Wbinvd),
    row(14, "INVLPG", Invlpg),
    row(15, "RDPMC", Rdpmc),
    row(16, "RDTSC", Rdtsc),
    row(18, "VMCALL", Hypercall),
    row(19, "VMCLEAR", Nested),
    row(20, "VMLAUNCH", Nested),
    row(21, "VMPTRLD", Nested),
    row(22, "VMPTRST", Nested),
    row(23, "VMREAD", Nested),
    row(24, "VMRESUME", Nested),
    row(25, "VMWRITE", Nested),
    row(26, "VMOFF", Nested),
    row(27, "VMON", Nested),
    row(28, "CR_ACCESS", Cr),
    row(29, "DR_ACCESS", Dr),
    row(30, "IO_INSTRUCTION", Io),
    row(31, "MSR_READ", MsrRead),
    row(32, "MSR_WRITE", MsrWrite),
    row(33, "INVALID_STATE", EntryFailed),
    row(34, "MSR_LOAD_FAIL", EntryFailed),
    row(36, "MWAIT_INSTRUCTION", Mwait),
    row(37, "MONITOR_TRAP_FLAG", Debug),
    row(39, "MONITOR_INSTRUCTION", Mwait),
    row(40, "PAUSE_INSTRUCTION", Pause),
    row(41, "MCE_DURING_VMENTRY", EntryFailed),
    row(43, "TPR_BELOW_THRESHOLD", Apic),
    row(44, "APIC_ACCESS", Apic),
    row(45, "EOI_INDUCED", Apic),
    row(46, "GDTR_IDTR", Descriptor),
    row(47, "LDTR_TR", Descriptor),
    row(48, "EPT_VIOLATION", Ept),
    row(49, "EPT_MISCONFIG", Mmio),
    row(50, "INVEPT", Nested),
    row(51, "RDTSCP", Rdtsc),
    row(52, "PREEMPTION_TIMER", Timer),
    row(53, "INVVPID", Nested),
    row(54, "WBINVD", Wbinvd),
    row(55, "XSETBV", Xsetbv),
    row(56, "APIC_WRITE", Apic),
    row(57, "RDRAND", Instruction),
    row(58, "INVPCID", Invlpg),
    row(59, "VMFUNC", Nested),
    row(60, "ENCLS", Instruction),
    row(61, "RDSEED", Instruction),
    row(62, "PML_FULL", PageLog),
    row(63, "XSAVES", Instruction),
    row(64, "XRSTORS", Instruction),
    row(67, "UMWAIT", Mwait),
    row(68, "TPAUSE", Mwait),
    row(74, "BUS_LOCK", BusLock),
    row(75, "NOTIFY", Notify),
    row(77, "TDCALL", Hypercall),
    row(84, "MSR_READ_IMM", MsrRead),
    row(85, "MSR_WRITE_IMM", MsrWrite),
];

/// Basic reasons of the SDM that the kernel has no name for.
pub(super) fn unnamed_class(basic: u32) -> Class {
    match basic {
        5 | 6 | 17 => Class::Smm, // I/O SMI, other SMI, RSM
        78 => MsrRead,            // RDMSRLIST
        79 => MsrWrite,           // WRMSRLIST
        _ => Class::Other,
    }
}

/// Names of the flag bits set in a whole exit reason (SDM vol. 3, "Format of Exit Reason"; the kernel's
/// `union vmx_exit_reason` in arch/x86/kvm/vmx/).
pub(super) fn flags(code: u32) -> Vec<Cow<'static, str>> {
    let set = code & !BASIC;
    (16..u32::BITS)
        .filter(|bit| set & (1 << bit) != 0)
        .map(|bit| match bit {
            26 => Cow::Borrowed("BUS_LOCK_DETECTED"),
            27 => Cow::Borrowed("ENCLAVE_MODE"),
            28 => Cow::Borrowed("SMI_PENDING_MTF"),
            29 => Cow::Borrowed("SMI_FROM_VMX_ROOT"),
            31 => Cow::Borrowed("FAILED_VMENTRY"),
            other => Cow::Owned(format!("bit {other}")),
        })
        .collect()
}
