//! How fast the time-stamp counter runs, as far as it can be found out without an operating system.

use core::arch::x86_64::{__cpuid, __cpuid_count};

use crate::bracket;
use crate::cpu::{Features, rdtsc};
use crate::port::{inb, inl, outb};

/// The 8254's and the ACPI PM timer's clocks, Hz (ACPI specification 6.5, 4.8.3.3: 3.579545 MHz; a third of it).
const PIT_HZ: u64 = 1_193_182;
const PM_TIMER_HZ: u64 = 3_579_545;
/// The most that counter 2 counts down from: 55 ms.
const PIT_COUNT: u64 = 0xffff;
const PIT_COMMAND: u16 = 0x43;
const PIT_COUNTER_2: u16 = 0x42;
/// Counter 2, low byte and then high byte, mode 0: its output rises at the end.
const PIT_MODE_0: u8 = 0xb0;
/// Port B: bit 0 lets counter 2 count, bit 1 is the speaker, bit 5 the counter's output.
const PORT_B: u16 = 0x61;
const GATE: u8 = 1;
const SPEAKER: u8 = 2;
const OUTPUT: u8 = 0x20;
/// PM timer ticks to wait for: 50 ms.
const PM_TICKS: u32 = 178_977;
/// How often a timer is looked at before it is taken for none.
const LOOKS: u32 = 2_000_000;
/// How often to compare until the error is small, parts per million.
const COMPARISONS: u32 = 5;
const GOOD_PPM: u64 = 200;
/// When nobody tells: limits are kept, times are not told.
const GUESS_KHZ: u64 = 2_500_000;

/// The counter.
#[derive(Clone, Copy)]
pub struct Clock {
    khz: u64,
    /// Who says so; None when it is a guess.
    pub source: Option<&'static str>,
    /// How far off it may be, parts per million.
    pub error_ppm: u64,
}

impl Clock {
    /// Finds its frequency.
    pub fn find(features: &Features, told_khz: Option<u64>, pm_timer: Option<u16>) -> Self {
        if let Some(khz) = told_khz {
            return Self { khz, source: Some("command line"), error_ppm: 1 };
        }
        if features.hypervisor_leaves >= 0x4000_0010 {
            let khz = u64::from(__cpuid(0x4000_0010).eax);
            if khz != 0 {
                return Self { khz, source: Some("CPUID 0x40000010"), error_ppm: 1 };
            }
        }
        if __cpuid(0).eax >= 0x15 {
            let leaf = __cpuid_count(0x15, 0);
            let khz = u64::from(leaf.ecx) * u64::from(leaf.ebx) / u64::from(leaf.eax.max(1)) / 1000;
            if leaf.eax != 0 && khz != 0 {
                return Self { khz, source: Some("CPUID 0x15"), error_ppm: 100 };
            }
        }
        compare(by_pit, "8254")
            .or_else(|| compare(|| by_pm_timer(pm_timer?), "ACPI PM timer"))
            .unwrap_or(Self { khz: GUESS_KHZ, source: None, error_ppm: 0 })
    }

    /// Cycles in so many milliseconds.
    pub fn ms(&self, ms: u64) -> u64 {
        self.khz.saturating_mul(ms)
    }

    /// Cycles in so many microseconds.
    pub fn us(&self, us: u64) -> u64 {
        self.khz * us / 1000
    }

    /// Nanoseconds in so many cycles.
    pub fn ns(&self, cycles: u64) -> u64 {
        let (ms, rest) = (cycles / self.khz, cycles % self.khz);
        ms * 1_000_000 + rest * 1_000_000 / self.khz
    }

    /// Its frequency, if anybody told it.
    pub fn hz(&self) -> Option<u64> {
        self.source.map(|_| self.khz * 1000)
    }
}

/// What the frequency lies between, kHz.
#[derive(Clone, Copy)]
struct Bounds {
    least: u64,
    most: u64,
}

impl Bounds {
    /// From ticks of another clock, during which at least and at most so many cycles went by.
    fn of(ticks: u64, hz: u64, cycles: (u64, u64)) -> Self {
        let khz = |cycles: u64| cycles.saturating_mul(hz) / (ticks.max(1) * 1000);
        Self { least: khz(cycles.0), most: khz(cycles.1) + 1 }
    }

    fn error_ppm(self) -> u64 {
        (self.most - self.least) * 500_000 / self.least.max(1)
    }
}

/// What two or more comparisons have in common: what the host does in between makes each less sure, but not wrong. If they have
/// nothing in common the counter does not run evenly (KVM stops a guest's while it does not run, if the host's is unstable),
/// and all that was seen is possible.
fn compare(once: impl Fn() -> Option<Bounds>, source: &'static str) -> Option<Clock> {
    let first = once()?;
    let (mut common, mut seen) = (first, first);
    for number in 2..=COMPARISONS {
        if number > 2 && common.error_ppm() <= GOOD_PPM {
            break;
        }
        let Some(again) = once() else { continue };
        seen = Bounds { least: seen.least.min(again.least), most: seen.most.max(again.most) };
        let (least, most) = (common.least.max(again.least), common.most.min(again.most));
        if least > most {
            common = seen;
            break;
        }
        common = Bounds { least, most };
    }
    let khz = (common.least / 2 + common.most / 2).max(1);
    Some(Clock { khz, source: Some(source), error_ppm: common.error_ppm().max(1) })
}

fn by_pit() -> Option<Bounds> {
    let before = inb(PORT_B);
    // Emulated counters go on without their gate in this mode: it is open before the count is there, which starts it.
    outb(PORT_B, before & !SPEAKER | GATE);
    outb(PIT_COMMAND, PIT_MODE_0);
    outb(PIT_COUNTER_2, PIT_COUNT as u8);
    let first = bracket::start();
    outb(PIT_COUNTER_2, (PIT_COUNT >> 8) as u8);
    let start = bracket::start();
    // It rises somewhere between the last look that found it down and the end of the one that finds it up.
    let mut looked = start;
    let mut looks = 0;
    let clock = loop {
        let now = rdtsc();
        let is_up = inb(PORT_B) & OUTPUT != 0;
        let after = rdtsc();
        if is_up {
            // One that is up at once was never down: nobody answers there.
            let cycles = (looked - start, after - first);
            break (looks > 3).then(|| Bounds::of(PIT_COUNT, PIT_HZ, cycles));
        }
        looked = now;
        looks += 1;
        if looks == LOOKS {
            break None;
        }
    };
    outb(PORT_B, before & (SPEAKER | GATE));
    clock
}

fn by_pm_timer(port: u16) -> Option<Bounds> {
    let moment = || {
        let before = bracket::start();
        let ticks = inl(port) & 0xff_ffff;
        (ticks, before, bracket::start())
    };
    let start = moment();
    for _ in 0..LOOKS {
        let now = moment();
        let ticks = now.0.wrapping_sub(start.0) & 0xff_ffff;
        if ticks >= PM_TICKS {
            let cycles = (now.1 - start.2, now.2 - start.1);
            return Some(Bounds::of(ticks.into(), PM_TIMER_HZ, cycles));
        }
    }
    None
}
