//! How fast the time-stamp counter runs, and who says so.

use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

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
    /// CPUID 0x8000_0007 EDX bit 8: it runs at one speed in all states. If not, times are not to be trusted.
    pub invariant: bool,
}

/// How long the counter is compared with a clock.
const COMPARE: Duration = Duration::from_millis(250);

/// Finds it: from the hypervisor, from the processor, else by comparison with CLOCK_MONOTONIC_RAW, which takes 250 ms.
pub fn find() -> Tsc {
    let invariant = __cpuid(0x8000_0000).eax >= 0x8000_0007 && __cpuid(0x8000_0007).edx & 1 << 8 != 0;
    let (hz, source, error_ppm) = from_hypervisor()
        .map(|hz| (hz, "CPUID 0x40000010", 1))
        .or_else(|| from_processor().map(|hz| (hz, "CPUID 0x15", 100)))
        .unwrap_or_else(|| {
            let (hz, error_ppm) = compare();
            (hz, "CLOCK_MONOTONIC_RAW", error_ppm)
        });
    Tsc { hz, source, error_ppm, invariant }
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
fn compare() -> (u64, u64) {
    let start = moment();
    std::thread::sleep(COMPARE);
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
        let (hz, _) = compare();
        assert!(hz > 100_000_000, "{hz}");
        let found = find();
        let ratio = found.hz as f64 / hz as f64;
        assert!((0.98..1.02).contains(&ratio), "{found:?} is not {hz}");
    }
}
