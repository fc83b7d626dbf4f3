//! How fast the time-stamp counter runs, and who says so.

use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::perf_page;
use crate::cpu;
use crate::shared::bracket;

/// The counter's frequency.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tsc {
    /// Cycles per second.
    pub hz: u64,
    /// Who says so.
    pub source: &'static str,
    /// How far off it may be, parts per million.
    pub error_ppm: u64,
    /// CPUID 0x8000_0007 EDX bit 8: it runs at one speed in all states.
    pub invariant: bool,
    /// Why cycles are not to be taken for time; empty when nothing speaks against it.
    pub untrusted: Vec<String>,
}

/// How long the counter is compared with a clock when nobody tells its frequency.
const COMPARE: Duration = Duration::from_millis(250);

/// The same to see whether what is told can be true.
const CHECK: Duration = Duration::from_millis(50);

/// What is told is not believed if it is this far off, beyond its own error, parts per million.
const WRONG_PPM: u64 = 5_000;

/// Who tells the frequency, with the error to expect in parts per million: whoever sets the guest's counter; the crystal's tolerance;
/// the marketed base frequency, rounded to 1 MHz and often 0.2 % off (Intel SDM, CPUID 0x16: "informational"); the kernel's calibration.
type Source = (&'static str, u64, fn() -> Option<u64>);
const SOURCES: [Source; 4] = [
    ("CPUID 0x40000010", 1, from_hypervisor),
    ("CPUID 0x15", 100, from_processor),
    ("CPUID 0x16 (approximate)", 10_000, from_base_frequency),
    ("the kernel's perf page", 100, perf_page::frequency),
];

/// Finds it: from the hypervisor, from the processor, from the kernel, else by comparison with CLOCK_MONOTONIC_RAW, which takes 250 ms.
/// What is told is compared with that clock too, for 50 ms: a guest may have been moved to another machine.
pub fn find() -> Tsc {
    let invariant = __cpuid(0x8000_0000).eax >= 0x8000_0007 && __cpuid(0x8000_0007).edx & 1 << 8 != 0;
    let mut untrusted = Vec::new();
    if !invariant {
        untrusted
            .push("CPUID does not say that it runs at one speed in all states (invariant TSC)".to_owned());
    }
    let clocks = fs::read_to_string("/sys/devices/system/clocksource/clocksource0/available_clocksource");
    if clocks.is_ok_and(|clocks| !clocks.split_ascii_whitespace().any(|clock| clock == "tsc")) {
        untrusted.push(
            "the kernel does not offer it as a clock source: it found it unstable or was told so".into(),
        );
    }
    let mut told = SOURCES.iter().filter_map(|(source, ppm, ask)| Some((ask()?, *source, *ppm))).peekable();
    let check = told.peek().is_some().then(|| compare(CHECK));
    for (hz, source, error_ppm) in told {
        let Some((measured, uncertain)) = check else { break };
        if parts_per_million(hz, measured) <= WRONG_PPM + error_ppm + uncertain {
            return Tsc { hz, source, error_ppm, invariant, untrusted };
        }
        untrusted.push(format!(
            "{source} says {:.3} MHz, the clock says {:.3} MHz",
            hz as f64 / 1e6,
            measured as f64 / 1e6
        ));
    }
    let (hz, error_ppm) = compare(COMPARE);
    Tsc { hz, source: "CLOCK_MONOTONIC_RAW", error_ppm, invariant, untrusted }
}

fn parts_per_million(one: u64, other: u64) -> u64 {
    u64::try_from(u128::from(one.abs_diff(other)) * 1_000_000 / u128::from(other.max(1))).unwrap_or(u64::MAX)
}

/// VMware's leaf, which KVM's VMMs may give too: EAX in kHz (arch/x86/kernel/cpu/vmware.c).
fn from_hypervisor() -> Option<u64> {
    cpu::hypervisor()?;
    if __cpuid(0x4000_0000).eax < 0x4000_0010 {
        return None;
    }
    match __cpuid(0x4000_0010).eax {
        0 => None,
        khz => Some(u64::from(khz) * 1000),
    }
}

/// Intel SDM volume 2A, CPUID leaf 0x15: crystal frequency times ratio.
fn from_processor() -> Option<u64> {
    if __cpuid(0).eax < 0x15 {
        return None;
    }
    let leaf = __cpuid_count(0x15, 0);
    let (denominator, numerator, crystal) = (u64::from(leaf.eax), u64::from(leaf.ebx), u64::from(leaf.ecx));
    if denominator == 0 || numerator == 0 || crystal == 0 {
        return None;
    }
    Some(crystal * numerator / denominator)
}

/// Intel SDM volume 2A, CPUID leaf 0x16: EAX bits 15 to 0 in MHz.
fn from_base_frequency() -> Option<u64> {
    if __cpuid(0).eax < 0x16 {
        return None;
    }
    match __cpuid_count(0x16, 0).eax & 0xffff {
        0 => None,
        mhz => Some(u64::from(mhz) * 1_000_000),
    }
}

/// A moment on both clocks: cycles, ns, and how many cycles lie between the readings that enclose it.
fn moment() -> (u64, u64, u64) {
    // The tightest of some: an interrupt may come between.
    let all = (0..20).map(|_| {
        let before = bracket::start();
        let now = clock_gettime(ClockId::MonotonicRaw);
        let (after, _) = bracket::stop();
        let ns = u64::try_from(i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)).unwrap_or(0);
        let width = after.saturating_sub(before);
        (before + width / 2, ns, width)
    });
    all.min_by_key(|moment| moment.2).unwrap_or_default()
}

/// Frequency and the error that the readings allow, ppm.
fn compare(length: Duration) -> (u64, u64) {
    let start = moment();
    std::thread::sleep(length);
    let end = moment();
    let (cycles, ns) = (end.0.saturating_sub(start.0), end.1.saturating_sub(start.1).max(1));
    let hz = u128::from(cycles) * 1_000_000_000 / u128::from(ns);
    let error = u128::from(start.2 + end.2) * 1_000_000 / u128::from(cycles.max(1)) / 2;
    (u64::try_from(hz).unwrap_or(0), u64::try_from(error).unwrap_or(0).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_agree() {
        let (hz, _) = compare(COMPARE);
        assert!(hz > 100_000_000, "{hz}");
        let found = find();
        let ratio = found.hz as f64 / hz as f64;
        assert!((0.98..1.02).contains(&ratio), "{found:?} is not {hz}");
        for (source, _, ask) in SOURCES {
            let told = ask();
            assert!(
                told.is_none_or(|told| parts_per_million(told, hz) < 20_000),
                "{source} says {told:?}, not {hz}"
            );
        }
    }

    #[test]
    fn units_agree_with_an_independent_clock() {
        let hz = find().hz;
        let (start, clock) = (bracket::start(), std::time::Instant::now());
        std::thread::sleep(Duration::from_millis(20));
        let (cycles, ns) = (bracket::stop().0 - start, clock.elapsed().as_nanos() as f64);
        let ratio = cycles as f64 * 1e9 / hz as f64 / ns;
        assert!((0.98..1.02).contains(&ratio), "{cycles} cycles are not {ns} ns");
    }
}
