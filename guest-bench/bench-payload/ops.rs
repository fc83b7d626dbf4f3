//! The operations of the payload: what each name stands for, and whether it can be measured on this machine.

use core::arch::asm;

use crate::apic::{self, Mode, Timer};
use crate::boot;
use crate::cpu::{self, Fault, Vendor};
use crate::machine::Machine;
use crate::port::{inb, inl, outb};
use crate::shared_ops::{OPS, Op};

/// Every measurement of a whole run: a name of the list of operations, and a leaf or an index where there is a choice. What
/// is destructive is among them, and is left out unless it is named.
pub const USUAL: &[(&str, u64)] = &[
    ("null", 0),
    ("cpuid", 0),
    ("hypercall", 0),
    ("pio:kernel-in", 0),
    ("pio:kernel-out", 0),
    ("pio:pic", 0),
    ("pio:pit", 0),
    ("pio:user-in", 0),
    ("pio:user-out", 0),
    ("pio:keyboard", 0),
    ("pio:pmtimer", 0),
    ("pio:notify", 0),
    ("mmio:ioapic", 0),
    ("mmio:lapic", 0),
    ("mmio:hpet", 0),
    ("mmio:pci-hole", 0),
    ("mmio:notify", 0),
    ("msr:read", msr::APIC_BASE),
    ("msr:read", msr::TSC_ADJUST),
    ("msr:read", msr::SPEC_CTRL),
    ("msr:read", msr::KERNEL_GS_BASE),
    ("msr:write", msr::APIC_BASE),
    ("msr:write", msr::TSC_ADJUST),
    ("msr:write", msr::SPEC_CTRL),
    ("msr:write", msr::KERNEL_GS_BASE),
    ("cr:cr0-wp", 0),
    ("cr:cr4-pge", 0),
    ("cr:cr8-read", 0),
    ("cr:cr8-write", 0),
    ("cr:dr7", 0),
    ("wbinvd", 0),
    ("invd", 0),
    ("pause", 0),
    ("timer:arm", 0),
    ("timer:fire", 0),
    ("ipi:self", 0),
    ("ipi:send", 0),
    ("ipi:single", 0),
    ("ipi:halted", 0),
    ("ipi:broadcast", 0),
    ("eoi", 0),
    ("hlt", 0),
    ("jitter", 0),
];

/// Intel SDM volume 4, table 2-2.
mod msr {
    pub const APIC_BASE: u64 = 0x1b;
    pub const TSC_ADJUST: u64 = 0x3b;
    pub const SPEC_CTRL: u64 = 0x48;
    pub const KERNEL_GS_BASE: u64 = 0xc000_0102;
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

/// The build fails when the list of operations and this one differ.
const _: () = {
    let mut at = 0;
    while at < OPS.len() {
        let mut known = false;
        let mut one = 0;
        while one < USUAL.len() {
            known |= same(OPS[at].name, USUAL[one].0);
            one += 1;
        }
        assert!(
            known == OPS[at].in_payload,
            "USUAL lacks an operation that is said to be in the payload, or has one more"
        );
        at += 1;
    }
};

/// Why an operation cannot be measured here.
#[derive(Clone, Copy)]
pub struct Refusal {
    pub reason: &'static str,
    pub hint: &'static str,
    /// The exception with which it ended.
    pub vector: Option<u64>,
}

const fn refuse<T>(reason: &'static str, hint: &'static str) -> Result<T, Refusal> {
    Err(Refusal { reason, hint, vector: None })
}

/// An operation that is ready.
#[derive(Clone, Copy)]
pub enum Action {
    Null,
    Cpuid { leaf: u32 },
    Vmcall,
    Vmmcall,
    In8 { port: u16 },
    In32 { port: u16 },
    Out8 { port: u16, value: u8 },
    Out32 { port: u16, value: u32 },
    Read { address: u64 },
    Write { address: u64 },
    Rdmsr { index: u32 },
    Wrmsr { index: u32, value: u64 },
    Cr0 { value: u64 },
    Cr4 { value: u64 },
    Cr8Read,
    Cr8Write,
    Dr7,
    Wbinvd,
    Invd,
    Pause,
    Arm,
    Fire { ahead: u64 },
    SelfInterrupt,
    Send { spinning: bool, answer: bool },
    Halted { pause: u64 },
    Broadcast,
    Eoi,
    Halt,
    Jitter { threshold: u64 },
}

/// What `interrupt.s` says of a call that hung.
const WATCHDOG: u64 = crate::idt::WATCHDOG as u64;
/// Not in include/uapi/linux/kvm_para.h.
const UNKNOWN_HYPERCALL: u64 = 0x4b56_4d55;
/// ELCR, 8259, 8254, 8042: Intel 82371AB data sheet, 3.2; and a port that nobody has.
const ELCR: u16 = 0x4d0;
const PIC: u16 = 0x21;
const PIT: u16 = 0x40;
const KEYBOARD: u16 = 0x64;
const NOBODY: u16 = 0x1234;
/// The IOAPIC and the HPET where every PC has them; the main counter of the latter, and the longest period it may have, fs.
const IOAPIC: u64 = 0xfec0_0000;
const HPET: u64 = 0xfed0_0000;
const HPET_COUNTER: u64 = 0xf0;
const HPET_MAX_PERIOD: u32 = 100_000_000;
/// Addresses in the PCI hole that may belong to nobody: all bits read as one.
const HOLE: [u64; 4] = [0xf7f0_0000, 0xfbf0_0000, 0xe7f0_0000, 0xd7f0_0000];
const NOTIFY: &str = "use `kvm-utils bench`, whose VMM has one";
const CR0_WP: u64 = 1 << 16;
const CR4_PGE: u64 = 1 << 7;

/// Prepares an operation.
pub fn open(machine: &Machine, op: &Op, argument: u64) -> Result<Action, Refusal> {
    let action = choose(machine, op, argument)?;
    probe(machine, action)?;
    Ok(action)
}

fn choose(machine: &Machine, op: &Op, argument: u64) -> Result<Action, Refusal> {
    let others = || match machine.cpus {
        1 => refuse("there is no second vCPU", "give the machine two vCPUs or more"),
        _ => Ok(()),
    };
    let apic = || match machine.apic.mode {
        Mode::None => refuse("there is no local APIC", "give the machine one"),
        _ => Ok(()),
    };
    Ok(match op.name {
        "null" => Action::Null,
        "cpuid" => Action::Cpuid { leaf: argument as u32 },
        "hypercall" => {
            if machine.features.hypervisor.is_none() {
                return refuse("no hypervisor shows itself in CPUID", "run this in a guest");
            }
            match machine.features.vendor {
                Vendor::Intel => Action::Vmcall,
                Vendor::Amd => Action::Vmmcall,
                Vendor::Other => {
                    return refuse("the processor is neither Intel's nor AMD's", "nothing helps");
                }
            }
        }
        "pio:kernel-in" => Action::In8 { port: ELCR },
        "pio:kernel-out" => Action::Out8 { port: ELCR, value: inb(ELCR) },
        "pio:pic" => Action::In8 { port: PIC },
        "pio:pit" => {
            // A counter is never all ones for long.
            if (0..64).all(|_| inb(PIT) == 0xff) {
                return refuse("no 8254 answers", "use a VMM with a PIT");
            }
            Action::In8 { port: PIT }
        }
        "pio:user-in" => Action::In32 { port: NOBODY },
        "pio:user-out" => Action::Out32 { port: NOBODY, value: 0 },
        "pio:keyboard" => Action::In8 { port: KEYBOARD },
        "pio:pmtimer" => match machine.pm_timer {
            Some(port) => Action::In32 { port },
            None => return refuse("ACPI names no PM timer", "use a VMM with ACPI and its PM timer"),
        },
        "pio:notify" => match machine.notify.port {
            Some(port) => Action::Out32 { port, value: 0 },
            None => return refuse("no port is an eventfd (notify_port=)", NOTIFY),
        },
        "mmio:notify" => match machine.notify.address {
            Some(address) => Action::Write { address },
            None => return refuse("no address is an eventfd (notify_address=)", NOTIFY),
        },
        "mmio:ioapic" => {
            // Its version register is behind an index, which nobody may move; the index reads as what was written last.
            let index = boot::read::<u32>(IOAPIC);
            if index > 0xff {
                return refuse("no IOAPIC answers at 0xfec00000", "use a VMM with one");
            }
            Action::Read { address: IOAPIC }
        }
        "mmio:lapic" => match machine.apic.mode {
            Mode::X => Action::Read { address: apic::XAPIC + u64::from(apic::VERSION) },
            Mode::X2 => return refuse("the local APIC is in x2APIC mode", "give apic=xapic"),
            Mode::None => return refuse("there is no local APIC", "give the machine one"),
        },
        "mmio:hpet" => {
            let period = boot::read::<u32>(HPET + 4);
            if period == 0 || period > HPET_MAX_PERIOD {
                return refuse("no HPET answers at 0xfed00000", "use a VMM with one");
            }
            Action::Read { address: HPET + HPET_COUNTER }
        }
        "mmio:pci-hole" => {
            let empty = |&address: &u64| boot::read::<u32>(address) == u32::MAX;
            let address = HOLE.into_iter().find(empty).or_else(|| {
                // Some VMMs read zeros where nobody answers; so does memory that nobody has written.
                HOLE.into_iter().find(|&address| boot::read::<u32>(address) == 0)
            });
            match address {
                Some(address) => Action::Read { address },
                None => return refuse("every address tried belongs to something", "report this"),
            }
        }
        "msr:read" => Action::Rdmsr { index: argument as u32 },
        "msr:write" => {
            let index = argument as u32;
            let mut value = 0;
            guarded(|| value = cpu::rdmsr(index))?;
            Action::Wrmsr { index, value }
        }
        "cr:cr0-wp" => Action::Cr0 { value: read_cr0() },
        "cr:cr4-pge" => Action::Cr4 { value: read_cr4() },
        "cr:cr8-read" => Action::Cr8Read,
        "cr:cr8-write" => Action::Cr8Write,
        "cr:dr7" => Action::Dr7,
        "wbinvd" => Action::Wbinvd,
        "invd" => Action::Invd,
        "pause" => Action::Pause,
        "timer:arm" | "timer:fire" | "hlt" => {
            if machine.apic.timer == Timer::None {
                return refuse("there is no local APIC", "give the machine one");
            }
            if !machine.timer_fires {
                return refuse(
                    "the local APIC's timer did not fire when tried",
                    "use a VMM whose APIC timer works",
                );
            }
            match op.name {
                "timer:arm" => Action::Arm,
                "hlt" => Action::Halt,
                _ if machine.apic.timer != Timer::Deadline => {
                    return refuse(
                        "the local APIC's timer has no TSC-deadline mode here",
                        "use a CPU model with tsc-deadline",
                    );
                }
                _ => Action::Fire { ahead: machine.clock.us(50) },
            }
        }
        "ipi:self" => apic().map(|()| Action::SelfInterrupt)?,
        "eoi" => apic().map(|()| Action::Eoi)?,
        "ipi:send" => others().map(|()| Action::Send { spinning: true, answer: false })?,
        "ipi:single" => others().map(|()| Action::Send { spinning: true, answer: true })?,
        "ipi:halted" => others().map(|()| Action::Halted { pause: machine.clock.us(50) })?,
        "ipi:broadcast" => others().map(|()| Action::Broadcast)?,
        "jitter" => Action::Jitter { threshold: 0 },
        _ => return refuse("the payload has no code for it", "report this"),
    })
}

fn guarded(function: impl FnMut()) -> Result<(), Refusal> {
    cpu::guarded(function).map_err(refusal)
}

fn refusal(fault: Fault) -> Refusal {
    Refusal {
        reason: match fault.vector {
            6 => "the instruction is not there (#UD)",
            13 => "the processor or the hypervisor refused it (#GP)",
            14 => "the address is not mapped (#PF)",
            WATCHDOG => "it hung: it did not end within half a second",
            _ => "it ended in an exception",
        },
        hint: "nothing helps on this machine; other CPU models or hypervisors may have it",
        vector: Some(fault.vector),
    }
}

/// Does it once, to see whether it ends in an exception or not at all. What waits for interrupts is not tried.
fn probe(machine: &Machine, action: Action) -> Result<(), Refusal> {
    let mut action = action;
    if action.is_event() {
        return Ok(());
    }
    // The watchdog is the timer, which cannot be what is tried.
    let watch = machine.timer_fires && !matches!(action, Action::Arm);
    let result = machine.apic.watched(watch, &machine.clock, || {
        let _ = action.plain(machine, 1);
    });
    action.end(machine);
    result.map_err(refusal)
}

fn read_cr0() -> u64 {
    let value: u64;
    // SAFETY: reading it has no side effects.
    unsafe { asm!("mov {}, cr0", out(reg) value, options(nostack, preserves_flags)) };
    value
}

fn read_cr4() -> u64 {
    let value: u64;
    // SAFETY: as above.
    unsafe { asm!("mov {}, cr4", out(reg) value, options(nostack, preserves_flags)) };
    value
}

impl Action {
    /// One sample of an operation that is an instruction or two; None for the others.
    #[inline(always)]
    pub fn plain(&mut self, machine: &Machine, repeat: u32) -> Option<u64> {
        use cpu::time_repeated as time;
        Some(match *self {
            Self::Null => time(repeat, || ()),
            Self::Cpuid { leaf } => time(repeat, || cpu::cpuid(leaf, 0)),
            // SAFETY: a hypercall with a number that the hypervisor does not know returns an error in rax.
            Self::Vmcall => time(repeat, || unsafe {
                asm!("vmcall", inout("rax") UNKNOWN_HYPERCALL => _, options(nostack));
            }),
            // SAFETY: as above.
            Self::Vmmcall => time(repeat, || unsafe {
                asm!("vmmcall", inout("rax") UNKNOWN_HYPERCALL => _, options(nostack));
            }),
            Self::In8 { port } => time(repeat, || {
                inb(port);
            }),
            Self::In32 { port } => time(repeat, || {
                inl(port);
            }),
            Self::Out8 { port, value } => time(repeat, || outb(port, value)),
            Self::Out32 { port, value } => time(repeat, || crate::port::outl(port, value)),
            Self::Read { address } => {
                let register = core::ptr::with_exposed_provenance::<u32>(address as usize);
                // SAFETY: mapped, uncached, and a register whose reading changes nothing.
                time(repeat, || unsafe {
                    register.read_volatile();
                })
            }
            Self::Write { address } => {
                let register = core::ptr::with_exposed_provenance_mut::<u32>(address as usize);
                // SAFETY: mapped, uncached, and no memory: who starts us says so.
                time(repeat, || unsafe { register.write_volatile(0) })
            }
            Self::Rdmsr { index } => time(repeat, || {
                cpu::rdmsr(index);
            }),
            Self::Wrmsr { index, value } => time(repeat, || cpu::wrmsr(index, value)),
            Self::Cr0 { ref mut value } => {
                let mut now = *value;
                let cycles = time(repeat, || {
                    now ^= CR0_WP;
                    // SAFETY: nothing here relies on write protection.
                    unsafe { asm!("mov cr0, {}", in(reg) now, options(nostack, preserves_flags)) };
                });
                *value = now;
                cycles
            }
            Self::Cr4 { ref mut value } => {
                let mut now = *value;
                let cycles = time(repeat, || {
                    now ^= CR4_PGE;
                    // SAFETY: no page is global.
                    unsafe { asm!("mov cr4, {}", in(reg) now, options(nostack, preserves_flags)) };
                });
                *value = now;
                cycles
            }
            // SAFETY: reading it has no side effects.
            Self::Cr8Read => time(repeat, || unsafe {
                asm!("mov {}, cr8", out(reg) _, options(nostack, preserves_flags));
            }),
            // SAFETY: it is 0 already.
            Self::Cr8Write => time(repeat, || unsafe {
                asm!("mov cr8, {}", in(reg) 0_u64, options(nostack, preserves_flags));
            }),
            // SAFETY: reading it has no side effects.
            Self::Dr7 => time(repeat, || unsafe {
                asm!("mov {}, dr7", out(reg) _, options(nostack, preserves_flags));
            }),
            // SAFETY: caches are written back.
            Self::Wbinvd => time(repeat, || unsafe { asm!("wbinvd", options(nostack, preserves_flags)) }),
            // SAFETY: asked for by name: what caches hold and memory does not may be lost.
            Self::Invd => time(repeat, || unsafe { asm!("invd", options(nostack, preserves_flags)) }),
            Self::Pause => time(repeat, core::hint::spin_loop),
            Self::Arm => {
                let when = machine.apic.far();
                time(repeat, || machine.apic.arm(when))
            }
            _ => return None,
        })
    }

    /// Puts back what it changed.
    pub fn end(&mut self, machine: &Machine) {
        match *self {
            Self::Cr0 { ref mut value } if *value & CR0_WP == 0 => {
                let _ = Self::Cr0 { value: *value }.plain(machine, 1);
                *value |= CR0_WP;
            }
            Self::Cr4 { ref mut value } if *value & CR4_PGE != 0 => {
                let _ = Self::Cr4 { value: *value }.plain(machine, 1);
                *value &= !CR4_PGE;
            }
            Self::Arm => machine.apic.disarm(),
            _ => {}
        }
    }
}
