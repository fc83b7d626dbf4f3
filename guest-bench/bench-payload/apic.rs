//! The local APIC, in xAPIC or x2APIC mode: interrupts to oneself and to others, and its timer.

use core::ptr;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

use crate::clock::Clock;
use crate::cpu::{self, CPUS, Fault, Features};
use crate::idt;

/// Physical address of the registers in xAPIC mode; Intel SDM volume 3, chapter 12.
pub const XAPIC: u64 = 0xfee0_0000;
/// Register offsets; in x2APIC mode the MSR is 0x800 plus the offset divided by 16.
pub const VERSION: u32 = 0x30;
const TPR: u32 = 0x80;
const SVR: u32 = 0xf0;
const ICR: u32 = 0x300;
const ICR_HIGH: u32 = 0x310;
const LVT_TIMER: u32 = 0x320;
const LVT_LINT: [u32; 2] = [0x350, 0x360];
const INITIAL_COUNT: u32 = 0x380;
const DIVIDE: u32 = 0x3e0;
/// Only in x2APIC mode.
const SELF_IPI: u32 = 0x3f0;
const ID: u32 = 0x20;

const SVR_ENABLE: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;
const ONE_SHOT: u32 = 0;
const DEADLINE: u32 = 2 << 17;
const DIVIDE_BY_1: u32 = 0b1011;
const BASE_ENABLE: u64 = 1 << 11;
const BASE_X2APIC: u64 = 1 << 10;
const PENDING: u32 = 1 << 12;
const ASSERT: u32 = 1 << 14;
const TO_SELF: u32 = 1 << 18;
const TO_OTHERS: u32 = 3 << 18;
pub const INIT: u32 = 5 << 8;
pub const STARTUP: u32 = 6 << 8;

/// The data ports of the two 8259s, and what masks all their inputs.
const PIC_DATA: [u16; 2] = [0x21, 0xa1];
const PIC_MASK_ALL: u8 = 0xff;

unsafe extern "C" {
    /// For the handlers, in `interrupt.s`.
    static in_x2apic_mode: AtomicU32;
}

/// How the timer is told when to fire.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    None,
    /// IA32_TSC_DEADLINE.
    Deadline,
    /// The initial count.
    OneShot,
}

impl Timer {
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Deadline => "deadline",
            Self::OneShot => "oneshot",
        }
    }
}

/// Which mode to use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    None,
    X,
    X2,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::X => "xapic",
            Self::X2 => "x2apic",
        }
    }
}

/// Of the vCPU that uses it.
#[derive(Clone, Copy)]
pub struct Apic {
    pub mode: Mode,
    pub timer: Timer,
}

impl Apic {
    /// Enables it on the first vCPU. Without x2APIC, or when the loader has switched it on and something else is wanted, the mode is what is there.
    pub fn open(features: &Features, wanted: Option<Mode>) -> Self {
        for port in PIC_DATA {
            crate::port::outb(port, PIC_MASK_ALL);
        }
        let mut apic = Self { mode: Mode::None, timer: Timer::None };
        if !features.apic {
            return apic;
        }
        let mut base = 0;
        if cpu::guarded(|| base = cpu::rdmsr(cpu::APIC_BASE)).is_err() {
            return apic;
        }
        let is_x2apic = base & BASE_X2APIC != 0;
        apic.mode = if is_x2apic || features.x2apic && wanted != Some(Mode::X) { Mode::X2 } else { Mode::X };
        let x2apic = u32::from(apic.mode == Mode::X2);
        // SAFETY: defined in interrupt.s.
        unsafe { (*(&raw const in_x2apic_mode)).store(x2apic, Relaxed) };
        apic.timer = if features.tsc_deadline { Timer::Deadline } else { Timer::OneShot };
        if cpu::guarded(|| apic.enable(0)).is_err() {
            return Self { mode: Mode::None, timer: Timer::None };
        }
        apic
    }

    /// Enables it on this vCPU.
    pub fn enable(self, index: usize) {
        let base = cpu::rdmsr(cpu::APIC_BASE);
        let bits = BASE_ENABLE | if self.mode == Mode::X2 { BASE_X2APIC } else { 0 };
        if base & bits != bits {
            // From disabled to x2APIC there is no direct way: Intel SDM volume 3, 12.12.5.
            cpu::wrmsr(cpu::APIC_BASE, base | BASE_ENABLE);
            cpu::wrmsr(cpu::APIC_BASE, base | bits);
        }
        self.write(TPR, 0);
        self.write(SVR, SVR_ENABLE | u32::from(idt::SPURIOUS));
        for entry in LVT_LINT {
            self.write(entry, MASKED);
        }
        let id = self.read(ID);
        CPUS[index].apic_id.store(if self.mode == Mode::X2 { id } else { id >> 24 }, Relaxed);
        if self.timer != Timer::Deadline {
            self.write(DIVIDE, DIVIDE_BY_1);
        }
        self.set_timer(idt::TIMER);
    }

    /// Which interrupt the timer makes.
    fn set_timer(self, vector: u8) {
        let mode = if self.timer == Timer::Deadline { DEADLINE } else { ONE_SHOT };
        self.write(LVT_TIMER, mode | u32::from(vector));
    }

    /// Calls with interrupts on; an exception ends the call, and so does the timer, when there is one, after half a second or so.
    pub fn watched(self, fires: bool, clock: &Clock, function: impl FnMut()) -> Result<(), Fault> {
        if !fires {
            return cpu::guarded(function);
        }
        self.set_timer(idt::WATCHDOG);
        self.arm(match self.timer {
            Timer::Deadline => cpu::rdtsc() + clock.ms(500),
            // In ticks of a clock that is not known: 1 GHz with KVM and QEMU.
            _ => 500_000_000,
        });
        cpu::interrupts(true);
        let result = cpu::guarded(function);
        cpu::interrupts(false);
        self.disarm();
        self.set_timer(idt::TIMER);
        result
    }

    #[inline(always)]
    pub fn read(self, register: u32) -> u32 {
        if self.mode == Mode::X2 {
            return cpu::rdmsr(0x800 + (register >> 4)) as u32;
        }
        // SAFETY: the registers are mapped, uncached, and reading these changes nothing.
        unsafe { ptr::with_exposed_provenance::<u32>(XAPIC as usize + register as usize).read_volatile() }
    }

    #[inline(always)]
    fn write(self, register: u32, value: u32) {
        if self.mode == Mode::X2 {
            cpu::wrmsr(0x800 + (register >> 4), value.into());
        } else {
            // SAFETY: as above; the callers write valid values.
            unsafe {
                ptr::with_exposed_provenance_mut::<u32>(XAPIC as usize + register as usize)
                    .write_volatile(value);
            }
        }
    }

    /// Sends a fixed interrupt to one vCPU.
    #[inline(always)]
    pub fn send(self, apic_id: u32, vector: u8) {
        self.command(apic_id, ASSERT | u32::from(vector));
    }

    /// To all but this one.
    #[inline(always)]
    pub fn send_others(self, vector: u8) {
        self.command(0, TO_OTHERS | ASSERT | u32::from(vector));
    }

    /// To this one: by the register for it where there is one.
    #[inline(always)]
    pub fn send_self(self, vector: u8) {
        if self.mode == Mode::X2 {
            self.write(SELF_IPI, vector.into());
        } else {
            self.command(0, TO_SELF | ASSERT | u32::from(vector));
        }
    }

    /// INIT, or a start-up message with its page, to all but this one.
    pub fn start_others(self, message: u32) {
        self.command(0, TO_OTHERS | ASSERT | message);
        if self.mode == Mode::X {
            cpu::wait(1_000_000, || self.read(ICR) & PENDING == 0);
        }
    }

    #[inline(always)]
    fn command(self, apic_id: u32, low: u32) {
        if self.mode == Mode::X2 {
            cpu::wrmsr(0x800 + (ICR >> 4), u64::from(apic_id) << 32 | u64::from(low));
        } else {
            self.write(ICR_HIGH, apic_id << 24);
            self.write(ICR, low);
        }
    }

    /// Lets the timer fire at once.
    #[inline(always)]
    pub fn fire_now(self) {
        match self.timer {
            Timer::Deadline => cpu::wrmsr(cpu::TSC_DEADLINE, cpu::rdtsc()),
            Timer::OneShot => self.write(INITIAL_COUNT, 1),
            Timer::None => {}
        }
    }

    /// Arms the timer with what `far` gave.
    #[inline(always)]
    pub fn arm(self, when: u64) {
        match self.timer {
            Timer::Deadline => cpu::wrmsr(cpu::TSC_DEADLINE, when),
            Timer::OneShot => self.write(INITIAL_COUNT, when as u32),
            Timer::None => {}
        }
    }

    /// A time that will not come during a round: seconds ahead.
    #[inline(always)]
    pub fn far(self) -> u64 {
        match self.timer {
            Timer::Deadline => cpu::rdtsc() + 10_000_000_000,
            _ => u32::MAX.into(),
        }
    }

    /// Nothing more comes.
    pub fn disarm(self) {
        self.arm(0);
    }
}
