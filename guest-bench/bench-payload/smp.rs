//! The other vCPUs: started by INIT and two start-up messages to all but oneself, as firmware does; those that come are counted.
//! Between rounds they halt.

use core::arch::global_asm;
use core::ptr;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU32, AtomicU64};

use crate::apic::{Apic, INIT, Mode, STARTUP, Timer};
use crate::clock::Clock;
use crate::cpu::{self, CPUS, MAX_CPUS};
use crate::idt;

/// Where the other vCPUs begin, in real mode: a page below 1 MiB that neither the BIOS's nor ACPI's data are in.
const TRAMPOLINE: u32 = 0x8000;
/// Stack of each, bytes.
const STACK: usize = 8192;

global_asm!(
    include_str!("trampoline.s"),
    TRAMPOLINE = const TRAMPOLINE,
    STACKS = const STACK * MAX_CPUS,
    STACK = const STACK,
    MAX_CPUS = const MAX_CPUS,
);

unsafe extern "C" {
    static trampoline: u8;
    static trampoline_end: u8;
    /// How many of the others have come.
    static arrived: AtomicU32;
}

/// What a waiting vCPU does: [`HALT`] with interrupts on, or [`SPIN`], looking whether to stop.
pub const HALT: u32 = 1;
pub const SPIN: u32 = 2;

/// What the others need to know of the APIC: mode and timer.
static APIC: AtomicU64 = AtomicU64::new(0);

/// Starts the others; the number of vCPUs with this one.
pub fn start(apic: Apic, clock: &Clock, expected: Option<usize>) -> usize {
    if apic.mode == Mode::None || expected == Some(1) {
        return 1;
    }
    APIC.store(u64::from(apic.mode == Mode::X2) | u64::from(apic.timer == Timer::Deadline) << 1, Relaxed);
    // SAFETY: the page is memory that nothing needs any more, and the code is position-independent within it.
    unsafe {
        let (from, end) = (&raw const trampoline, &raw const trampoline_end);
        let len = end.addr() - from.addr();
        ptr::copy_nonoverlapping(from, ptr::with_exposed_provenance_mut(TRAMPOLINE as usize), len);
    }
    // SAFETY: defined in trampoline.s.
    let count = || unsafe { (*(&raw const arrived)).load(Acquire) };
    apic.start_others(INIT);
    cpu::wait(clock.ms(10), || false);
    for _ in 0..2 {
        apic.start_others(STARTUP | TRAMPOLINE >> 12);
        cpu::wait(clock.ms(1), || false);
    }
    // Until all that are expected have come, or none has for a while.
    let mut seen = count();
    let enough = expected.map_or(u32::MAX, |cpus| cpus as u32 - 1);
    while seen < enough
        && cpu::wait(clock.ms(if expected.is_some() { 2000 } else { 200 }), || count() != seen)
    {
        seen = count();
    }
    let cpus = (1 + count() as usize).min(MAX_CPUS);
    // Each has counted itself before it was ready.
    let ready = |index: usize| CPUS[index].doing.load(Acquire) == HALT;
    let mut usable = 1;
    while usable < cpus && cpu::wait(clock.ms(2000), || ready(usable)) {
        usable += 1;
    }
    usable
}

/// What a vCPU that was started does for ever.
#[unsafe(no_mangle)]
extern "C" fn other_main(index: u32) -> ! {
    let index = index as usize;
    idt::load();
    cpu::set_own(index);
    let bits = APIC.load(Relaxed);
    let apic = Apic {
        mode: if bits & 1 != 0 { Mode::X2 } else { Mode::X },
        timer: if bits & 2 != 0 { Timer::Deadline } else { Timer::OneShot },
    };
    apic.enable(index);
    let this = &CPUS[index];
    this.wanted.store(HALT, Relaxed);
    loop {
        let wanted = this.wanted.load(Acquire);
        this.doing.store(wanted, Release);
        if wanted == SPIN {
            cpu::interrupts(true);
            while this.wanted.load(Acquire) == SPIN {
                core::hint::spin_loop();
            }
            cpu::interrupts(false);
        } else {
            cpu::halt();
        }
    }
}

/// Makes a vCPU do something else, and waits until it does. False when it does not.
pub fn set(apic: Apic, clock: &Clock, index: usize, wanted: u32) -> bool {
    let other = &CPUS[index];
    if other.wanted.load(Relaxed) == wanted {
        return true;
    }
    let before = other.handled.load(Acquire);
    other.wanted.store(wanted, Release);
    apic.send(other.apic_id.load(Relaxed), idt::MESSAGE);
    cpu::wait(clock.ms(2000), || other.handled.load(Acquire) != before && other.doing.load(Acquire) == wanted)
        && settle(clock, index)
}

/// Waits until every interrupt that a vCPU has begun to handle has been ended.
pub fn settle(clock: &Clock, index: usize) -> bool {
    let other = &CPUS[index];
    cpu::wait(clock.ms(2000), || other.ended.load(Acquire) == other.handled.load(Acquire))
}
