//! The processor: registers, features, and calls that may end in an exception.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU32, AtomicU64};

use crate::bracket;

/// `IA32_TSC_DEADLINE`, `IA32_APIC_BASE`, `IA32_GS_BASE`: Intel SDM volume 4, tables 2-2.
pub const TSC_DEADLINE: u32 = 0x6e0;
pub const APIC_BASE: u32 = 0x1b;
const GS_BASE: u32 = 0xc000_0101;

/// vCPUs that take part; more are left alone.
pub const MAX_CPUS: usize = 64;

/// What belongs to one vCPU. GS points to it.
#[repr(C, align(128))]
pub struct Cpu {
    /// Where an exception continues, 0 when none is expected.
    pub resume_rsp: AtomicU64,
    /// The last exception: its vector plus one, its error code, where it was.
    pub fault: AtomicU64,
    pub fault_error: AtomicU64,
    pub fault_rip: AtomicU64,
    pub fault_address: AtomicU64,
    /// Handlers begun, of interrupts that the payload sent itself.
    pub handled: AtomicU64,
    /// The same, when the interrupt has been ended too.
    pub ended: AtomicU64,
    /// Of them, those that came while the vCPU was in HLT.
    pub halted: AtomicU64,
    /// Interrupts that nobody here sent.
    pub strange: AtomicU64,
    /// TSC when the last timer's handler began.
    pub stamp: AtomicU64,
    /// What the last timed end of an interrupt took, TSC cycles.
    pub eoi_cycles: AtomicU64,
    /// What it shall do while it waits, and what it does: see `smp`.
    pub wanted: AtomicU32,
    pub doing: AtomicU32,
    /// Its local APIC's number.
    pub apic_id: AtomicU32,
}

impl Cpu {
    const NEW: Self = Self {
        resume_rsp: AtomicU64::new(0),
        fault: AtomicU64::new(0),
        fault_error: AtomicU64::new(0),
        fault_rip: AtomicU64::new(0),
        fault_address: AtomicU64::new(0),
        handled: AtomicU64::new(0),
        ended: AtomicU64::new(0),
        halted: AtomicU64::new(0),
        strange: AtomicU64::new(0),
        stamp: AtomicU64::new(0),
        eoi_cycles: AtomicU64::new(0),
        wanted: AtomicU32::new(0),
        doing: AtomicU32::new(0),
        apic_id: AtomicU32::new(0),
    };
}

/// All vCPUs, the first being the one that measures.
pub static CPUS: [Cpu; MAX_CPUS] = [const { Cpu::NEW }; MAX_CPUS];

core::arch::global_asm!(
    include_str!("interrupt.s"),
    EOI_CYCLES = const offset_of!(Cpu, eoi_cycles),
    ENDED = const offset_of!(Cpu, ended),
    FAULT = const offset_of!(Cpu, fault),
    FAULT_ADDRESS = const offset_of!(Cpu, fault_address),
    FAULT_ERROR = const offset_of!(Cpu, fault_error),
    FAULT_RIP = const offset_of!(Cpu, fault_rip),
    HALTED = const offset_of!(Cpu, halted),
    HANDLED = const offset_of!(Cpu, handled),
    RESUME_RSP = const offset_of!(Cpu, resume_rsp),
    STAMP = const offset_of!(Cpu, stamp),
    STRANGE = const offset_of!(Cpu, strange),
    WATCHDOG = const crate::idt::WATCHDOG,
    X2APIC_EOI = const 0x80b,
    XAPIC_EOI = const 0xfee0_00b0_u32,
);

unsafe extern "C" {
    /// Calls; an exception ends it. 1 after an exception, else 0.
    fn guarded_call(function: unsafe extern "C" fn(*mut ()), argument: *mut ()) -> u32;
    /// STI and HLT; returns with interrupts off.
    fn halt_once();
}

/// An exception in a guarded call.
#[derive(Clone, Copy)]
pub struct Fault {
    pub vector: u64,
}

/// Calls; an exception ends the call, whatever it had begun.
pub fn guarded<F: FnMut()>(mut function: F) -> Result<(), Fault> {
    unsafe extern "C" fn call<F: FnMut()>(function: *mut ()) {
        // SAFETY: `guarded` passes a pointer to an F that lives until the call ends.
        unsafe { (*function.cast::<F>())() }
    }
    // SAFETY: as above. What the function had begun is never looked at again by it; its captures are plain data.
    if unsafe { guarded_call(call::<F>, ptr::from_mut(&mut function).cast()) } == 0 {
        return Ok(());
    }
    Err(Fault { vector: CPUS[0].fault.load(Relaxed).wrapping_sub(1) })
}

/// Sleeps until an interrupt has been handled.
#[inline(always)]
pub fn halt() {
    // SAFETY: interrupts are off, and every vector has a handler.
    unsafe { halt_once() };
}

/// Lets interrupts in, or not.
#[inline(always)]
pub fn interrupts(on: bool) {
    // SAFETY: every vector has a handler. Memory is not declared untouched: handlers write it.
    unsafe {
        if on {
            asm!("sti", options(nostack));
        } else {
            asm!("cli", options(nostack));
        }
    }
}

/// Makes GS point to this vCPU's own.
pub fn set_own(index: usize) {
    wrmsr(GS_BASE, ptr::from_ref(&CPUS[index]).addr() as u64);
}

/// Reads an MSR.
#[inline(always)]
pub fn rdmsr(index: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: one that does not exist is an exception, which the caller guards.
    unsafe {
        asm!("rdmsr", in("ecx") index, out("eax") low, out("edx") high, options(nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Writes an MSR.
#[inline(always)]
pub fn wrmsr(index: u32, value: u64) {
    // SAFETY: the callers write values that keep this program running, or guard the call.
    unsafe {
        asm!("wrmsr", in("ecx") index, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack, preserves_flags));
    }
}

/// The time-stamp counter, ordered with nothing.
#[inline(always)]
pub fn rdtsc() -> u64 {
    // SAFETY: CR4.TSD is clear.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Times one call. RDTSCP, which tells the CPU's number, is not needed where nothing migrates, and not everywhere there.
#[inline(always)]
pub fn time(operation: impl FnOnce()) -> u64 {
    let start = bracket::start();
    operation();
    bracket::start().wrapping_sub(start)
}

/// The same so many times in one bracket.
#[inline(always)]
pub fn time_repeated(repeat: u32, mut operation: impl FnMut()) -> u64 {
    if repeat == 1 {
        return time(operation);
    }
    time(|| {
        for _ in 0..repeat {
            operation();
        }
    })
}

/// Waits, at most so many cycles. Whether it came true.
#[inline(always)]
pub fn wait(cycles: u64, mut done: impl FnMut() -> bool) -> bool {
    let start = rdtsc();
    while !done() {
        if rdtsc().wrapping_sub(start) > cycles {
            return done();
        }
        core::hint::spin_loop();
    }
    true
}

/// Whose processor it is, which decides the hypercall instruction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    Intel,
    Amd,
    Other,
}

/// What CPUID tells.
#[derive(Clone, Copy)]
pub struct Features {
    pub vendor: Vendor,
    /// EBX, EDX, ECX of leaf 0 and EBX, ECX, EDX of leaf 0x4000_0000, in the order of their characters.
    pub vendor_name: [u32; 3],
    pub hypervisor: Option<[u32; 3]>,
    /// The greatest leaf of the hypervisor, 0 without one.
    pub hypervisor_leaves: u32,
    /// KVM's features and hints, leaf 0x4000_0001 EAX and EDX.
    pub kvm: u32,
    pub kvm_hints: u32,
    pub apic: bool,
    pub x2apic: bool,
    pub tsc_deadline: bool,
    pub invariant_tsc: bool,
    /// Family, model and stepping: EAX of leaf 1.
    pub signature: u32,
}

const KVM: [u32; 3] =
    [u32::from_le_bytes(*b"KVMK"), u32::from_le_bytes(*b"VMKV"), u32::from_le_bytes(*b"M\0\0\0")];
const INTEL: u32 = u32::from_le_bytes(*b"Genu");
const AMD: [u32; 2] = [u32::from_le_bytes(*b"Auth"), u32::from_le_bytes(*b"Hygo")];

/// Asks it.
pub fn features() -> Features {
    let (zero, one) = (__cpuid(0), __cpuid(1));
    let vendor = match zero.ebx {
        INTEL => Vendor::Intel,
        ebx if AMD.contains(&ebx) => Vendor::Amd,
        _ => Vendor::Other,
    };
    let mut hypervisor = None;
    let (mut leaves, mut kvm, mut kvm_hints) = (0, 0, 0);
    if one.ecx >> 31 != 0 {
        let leaf = __cpuid(0x4000_0000);
        let name = [leaf.ebx, leaf.ecx, leaf.edx];
        // An old KVM says 0 and means 0x4000_0001.
        leaves = leaf.eax.max(0x4000_0001);
        if name == KVM {
            let leaf = __cpuid(0x4000_0001);
            (kvm, kvm_hints) = (leaf.eax, leaf.edx);
        }
        hypervisor = Some(name);
    }
    let invariant = __cpuid(0x8000_0000).eax >= 0x8000_0007 && __cpuid(0x8000_0007).edx & 1 << 8 != 0;
    Features {
        vendor,
        vendor_name: [zero.ebx, zero.edx, zero.ecx],
        hypervisor,
        hypervisor_leaves: leaves,
        kvm,
        kvm_hints,
        apic: one.edx & 1 << 9 != 0,
        x2apic: one.ecx & 1 << 21 != 0,
        tsc_deadline: one.ecx & 1 << 24 != 0,
        invariant_tsc: invariant,
        signature: one.eax,
    }
}

/// The processor's name, without the spaces around it: CPUID 0x8000_0002 to 0x8000_0004.
pub fn with_brand(mut tell: impl FnMut(&[u8])) {
    let mut text = [b' '; 48];
    if __cpuid(0x8000_0000).eax >= 0x8000_0004 {
        let mut at = 0;
        for index in 2..=4 {
            let leaf = __cpuid(0x8000_0000 + index);
            for register in [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx] {
                for byte in register.to_le_bytes() {
                    text[at] = if byte == 0 { b' ' } else { byte };
                    at += 1;
                }
            }
        }
    }
    tell(text.trim_ascii());
}

/// `IA32_BIOS_SIGN_ID`, the microcode's revision: in the upper half with Intel, in the lower with AMD (Intel SDM volume 4, table 2-2;
/// arch/x86/kernel/cpu/microcode/amd.c). None where there is no such register.
pub fn microcode() -> Option<u64> {
    const REVISION: u32 = 0x8b;
    let mut value = 0;
    guarded(|| value = rdmsr(REVISION)).ok()?;
    Some(if value >> 32 != 0 { value >> 32 } else { value })
}

/// Zero, of which the compiler does not know: it would make several at once with XORPS, which not every hypervisor's instruction
/// emulator has.
#[inline(always)]
pub fn zero() -> u64 {
    core::hint::black_box(0)
}

/// One leaf; its EBX belongs to the compiler, which this minds.
#[inline(always)]
pub fn cpuid(leaf: u32, subleaf: u32) {
    core::hint::black_box(__cpuid_count(leaf, subleaf));
}
