//! What the VMM and the freestanding guest say to each other through shared memory.
//!
//! This file is compiled twice: into this crate and, with `#[path]`, into the guest. So it uses `core` only. Every
//! shared field is an atomic, because the VMM reads it while the guest writes it and the other way round.
//!
//! The guest runs a *batch*: it executes [`Control::steps`] `0..len` in order, then writes one byte to [`DONE_PORT`],
//! which takes the vCPU to user space. When the VMM enters the vCPU again it starts with step 0: the VMM may have
//! written the next batch in between. One batch therefore costs exactly one port write beyond its steps.

use core::sync::atomic::{AtomicU32, AtomicU64};

/// First word of an initialised [`Control`] page: "KVMU" and the version of this layout.
pub const MAGIC: u64 = 0x4b56_4d55_0000_0001;
/// Port whose write ends a batch. No device of KVM or of a PC answers there.
pub const DONE_PORT: u16 = 0x5d0;
/// Steps that fit into one batch.
pub const MAX_STEPS: usize = 48;

/// Bytes of private memory per vCPU: the [`Control`] page, the IDT page and the stack.
pub const AREA_SIZE: u64 = 0x4000;
/// Offset of the IDT in a vCPU's area, in bytes.
pub const AREA_IDT: u64 = 0x1000;
/// Offset of the top of the stack in a vCPU's area, in bytes.
pub const AREA_STACK_TOP: u64 = 0x4000;

/// Selector of the 64-bit code segment that the VMM's GDT provides.
pub const CODE_SELECTOR: u16 = 0x08;
/// Selector of the flat data segment that the VMM's GDT provides.
pub const DATA_SELECTOR: u16 = 0x10;
/// Selector of the 64-bit TSS that the VMM's GDT provides (VMX demands a busy one).
pub const TSS_SELECTOR: u16 = 0x18;

/// Interrupt vector of the guest's own LAPIC timer.
pub const TIMER_VECTOR: u8 = 0x40;
/// Interrupt vector for messages from the VMM and from other vCPUs.
pub const MESSAGE_VECTOR: u8 = 0x41;
/// Spurious interrupt vector programmed into the LAPIC.
pub const SPURIOUS_VECTOR: u8 = 0xff;

/// What a step executes: `count` times the instruction named, and nothing else that exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Op {
    /// `cpuid` of leaf `arg`, subleaf 0.
    Cpuid = 1,
    /// `in al, dx` from port `arg`.
    PortIn = 2,
    /// `out dx, al` of the byte `value` to port `arg`.
    PortOut = 3,
    /// 32-bit read of guest-physical address `arg`.
    MmioRead = 4,
    /// 32-bit write of `value` to guest-physical address `arg`.
    MmioWrite = 5,
    /// `rdmsr` of index `arg`.
    Rdmsr = 6,
    /// `wrmsr` of `value` to index `arg`.
    Wrmsr = 7,
    /// Intel's `vmcall` with number `arg` in rax.
    Vmcall = 8,
    /// AMD's `vmmcall` with number `arg` in rax.
    Vmmcall = 9,
    /// `wrmsr IA32_TSC_DEADLINE, now + arg` (TSC cycles), then `hlt` until that timer has interrupted; `count` times.
    /// [`Step::executed`] counts the halts.
    HltTimer = 10,
    /// `hlt` until `count` interrupts on [`MESSAGE_VECTOR`] have arrived; [`Control::waits`] counts up before each.
    /// [`Step::executed`] counts the halts.
    HltMessage = 11,
    /// Write to `count` pages `value` bytes apart, the first at guest-physical address `arg`.
    Touch = 12,
    /// `mov cr0, reg` with CR0.AM inverted each time.
    Cr0Write = 13,
    /// `mov cr4, reg` with CR4.MCE inverted each time.
    Cr4Write = 14,
    /// `mov reg, cr4`.
    Cr4Read = 15,
    /// `mov reg, dr7` followed by a `cpuid`: KVM stops intercepting debug registers until the next exit.
    Dr7Read = 16,
    /// `wbinvd`.
    Wbinvd = 17,
    /// `invd`. KVM intercepts it on both vendors and does nothing; on any other hypervisor it loses data.
    Invd = 18,
    /// `xsetbv` of XCR0 with the value it already has.
    Xsetbv = 19,
    /// `ud2`; the guest's own #UD handler steps over it.
    Ud2 = 20,
    /// `cpuid` of leaf `arg` for ever, until [`Control::stop`] is set. `count` is ignored.
    SpinCpuid = 21,
    /// A loop without any exit, interrupts enabled, until [`Control::stop`] is set. `count` is ignored.
    SpinQuiet = 22,
    /// `wrmsr` of `value` to the x2APIC interrupt command register, interrupts enabled; after each one waits, without
    /// an exit, until the counter at guest-physical address `arg` ([`Control::interrupts`] of the receiver) moves.
    SendIpi = 23,
    /// A loop without any exit, interrupts enabled, until `count` interrupts have arrived since the step began.
    AwaitInterrupts = 24,
    /// `rep insb` of `value` bytes, at most a page, from port `arg`.
    PortInString = 25,
    /// `rep outsb` of `value` bytes, at most a page, to port `arg`.
    PortOutString = 26,
}

impl Op {
    /// Every operation, in the order of the numbers.
    pub const ALL: [Self; 26] = [
        Self::Cpuid,
        Self::PortIn,
        Self::PortOut,
        Self::MmioRead,
        Self::MmioWrite,
        Self::Rdmsr,
        Self::Wrmsr,
        Self::Vmcall,
        Self::Vmmcall,
        Self::HltTimer,
        Self::HltMessage,
        Self::Touch,
        Self::Cr0Write,
        Self::Cr4Write,
        Self::Cr4Read,
        Self::Dr7Read,
        Self::Wbinvd,
        Self::Invd,
        Self::Xsetbv,
        Self::Ud2,
        Self::SpinCpuid,
        Self::SpinQuiet,
        Self::SendIpi,
        Self::AwaitInterrupts,
        Self::PortInString,
        Self::PortOutString,
    ];

    /// The operation with this number, as the guest finds it in [`Step::op`].
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        let index = (number as usize).checked_sub(1)?;
        Self::ALL.get(index).copied()
    }
}

/// How a step ended: [`Step::status`].
pub mod status {
    /// Not started yet.
    pub const PENDING: u32 = 0;
    /// The guest is in it.
    pub const RUNNING: u32 = 1;
    /// All executions were done.
    pub const DONE: u32 = 2;
    /// An exception that the step does not expect ended it: see [`Control::fault_vector`](super::Control).
    pub const FAULT: u32 = 3;
    /// The guest does not know the operation.
    pub const UNKNOWN: u32 = 4;
}

/// One entry of the batch.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Step {
    /// Number of an [`Op`].
    pub op: AtomicU32,
    /// One of [`status`]; written by the guest.
    pub status: AtomicU32,
    /// How often to execute it.
    pub count: AtomicU64,
    /// First operand, see [`Op`].
    pub arg: AtomicU64,
    /// Second operand, see [`Op`].
    pub value: AtomicU64,
    /// Executions so far, counted by the guest after each one.
    pub executed: AtomicU64,
    /// What the last execution returned (rax, the byte or word read, the MSR); 0 where it returns nothing.
    pub result: AtomicU64,
}

/// The page that the VMM and one vCPU share. GS base of the vCPU points to it.
#[repr(C)]
#[derive(Debug)]
pub struct Control {
    /// [`MAGIC`], written by the VMM before the first entry and checked by the guest.
    pub magic: AtomicU64,
    /// Steps in this batch; at most [`MAX_STEPS`].
    pub len: AtomicU32,
    /// Set by the VMM to end a spinning step.
    pub stop: AtomicU32,
    /// Batches completed since the vCPU started.
    pub batches: AtomicU64,
    /// Interrupts taken on [`TIMER_VECTOR`] and [`MESSAGE_VECTOR`].
    pub interrupts: AtomicU64,
    /// Of those, how many needed a write to the EOI register because KVM did not offer its paravirtual EOI.
    pub eoi_writes: AtomicU64,
    /// Counts up each time [`Op::HltMessage`] is about to halt.
    pub waits: AtomicU64,
    /// Word in which KVM sets bit 0 when an EOI may be left out (`MSR_KVM_PV_EOI_EN`).
    pub pv_eoi: AtomicU64,
    /// CR0 as the guest last wrote it, so that toggling a bit needs no read.
    pub cr0: AtomicU64,
    /// CR4 as the guest last wrote it.
    pub cr4: AtomicU64,
    /// 1 if the LAPIC is in x2APIC mode; written by the guest.
    pub x2apic: AtomicU32,
    /// Bytes that the #UD handler steps over; 0: #UD is a fault like any other.
    pub ud_skip: AtomicU32,
    /// Stack pointer to return to when an exception ends a step; 0 outside steps.
    pub resume_rsp: AtomicU64,
    /// Vector of the last unexpected exception plus 1; 0: none.
    pub fault_vector: AtomicU64,
    /// Its error code (0 where there is none).
    pub fault_error: AtomicU64,
    /// Its instruction pointer.
    pub fault_rip: AtomicU64,
    /// CR2 at that time: the address of a page fault.
    pub fault_address: AtomicU64,
    /// The batch.
    pub steps: [Step; MAX_STEPS],
}

const _: () = assert!(size_of::<Control>() <= AREA_IDT as usize);
