//! Relates the host's TSC to the monotonic clock, for programs, which can read only the latter.

use std::arch::x86_64::_rdtsc;

use kvm_utils_common::numbers::{CYCLES_PER_NS_SHIFT, Clock, NS_PER_CYCLE_SHIFT};

use rustix::time::ClockId;

use super::mapped::Mapped;

/// Nanoseconds over which the rate is measured at least: the pairs below are good to some tens of them.
const LEAST_BASE_NS: u64 = 20_000_000;
/// Reads of a pair; the one that took least is the best.
const TRIES: usize = 8;

/// One moment on both clocks.
#[derive(Clone, Copy, Debug)]
struct Moment {
    ns: u64,
    tsc: u64,
}

/// Keeps the map `CLOCK` right.
pub struct TscClock {
    first: Moment,
}

impl TscClock {
    /// Remembers this moment; the rate is known after a while.
    #[must_use]
    pub fn new() -> Self {
        Self { first: now() }
    }

    /// Waits until the rate can be known.
    pub fn settle(&self) {
        let known = LEAST_BASE_NS.saturating_sub(monotonic_ns().saturating_sub(self.first.ns));
        std::thread::sleep(std::time::Duration::from_nanos(known));
    }

    /// Tells the programs, once the rate is known. To be called at least every few seconds.
    pub fn tell(&self, clock: &Mapped<Clock>) {
        let now = now();
        let (ns, cycles) = (now.ns - self.first.ns, now.tsc.wrapping_sub(self.first.tsc));
        let Some(target) = clock.get(0).filter(|_| ns >= LEAST_BASE_NS && cycles > 0) else { return };
        let scale = |a: u64, shift: u32, b: u64| (u128::from(a) << shift) / u128::from(b);
        let rates = (scale(cycles, CYCLES_PER_NS_SHIFT, ns), scale(ns, NS_PER_CYCLE_SHIFT, cycles));
        let (Ok(cycles_per_ns), Ok(ns_per_cycle)) = (u64::try_from(rates.0), u64::try_from(rates.1)) else {
            return;
        };
        // SAFETY: whole aligned words of a live mapping that nobody else writes. The kernel takes the values for one
        // only if the sequence is even and the same before and after.
        unsafe {
            let sequence = (&raw const (*target).sequence).read_volatile();
            (&raw mut (*target).sequence).write_volatile(sequence.wrapping_add(1));
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
            (&raw mut (*target).ns).write_volatile(now.ns);
            (&raw mut (*target).tsc).write_volatile(now.tsc);
            (&raw mut (*target).cycles_per_ns).write_volatile(cycles_per_ns);
            (&raw mut (*target).ns_per_cycle).write_volatile(ns_per_cycle);
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
            (&raw mut (*target).sequence).write_volatile(sequence.wrapping_add(2));
        }
    }
}

impl Default for TscClock {
    fn default() -> Self {
        Self::new()
    }
}

fn now() -> Moment {
    let mut best: Option<(u64, Moment)> = None;
    for _ in 0..TRIES {
        // SAFETY: every x86-64 processor has a TSC, and Linux lets user space read it unless told otherwise by prctl.
        let before = unsafe { _rdtsc() };
        let ns = monotonic_ns();
        // SAFETY: as above.
        let after = unsafe { _rdtsc() };
        let took = after.wrapping_sub(before);
        if best.is_none_or(|(least, _)| took < least) {
            best = Some((took, Moment { ns, tsc: before.wrapping_add(took / 2) }));
        }
    }
    best.map_or(Moment { ns: 0, tsc: 0 }, |(_, moment)| moment)
}

/// `CLOCK_MONOTONIC`, which `bpf_ktime_get_ns()` reads as well.
#[must_use]
pub fn monotonic_ns() -> u64 {
    read(ClockId::Monotonic)
}

/// `CLOCK_BOOTTIME`: the same, but it goes on while the machine sleeps.
#[must_use]
pub fn boot_ns() -> u64 {
    read(ClockId::Boottime)
}

fn read(clock: ClockId) -> u64 {
    let time = rustix::time::clock_gettime(clock);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_predicts_the_tsc() {
        let map = Mapped::<Clock>::anonymous(1).unwrap();
        let clock = TscClock::new();
        clock.tell(&map);
        // SAFETY: nobody else knows this memory.
        let told = || unsafe { *map.get(0).unwrap() };
        assert_eq!(told().ns, 0, "too early to know the rate");
        while monotonic_ns() - clock.first.ns < 2 * LEAST_BASE_NS {
            std::thread::yield_now();
        }
        clock.tell(&map);
        let told = told();
        assert_eq!(told.sequence % 2, 0);
        let later = now();
        let ns = later.ns - told.ns;
        let predicted = told.tsc + ((ns * told.cycles_per_ns) >> CYCLES_PER_NS_SHIFT);
        let error = predicted.abs_diff(later.tsc);
        let back = ((later.tsc - told.tsc) * told.ns_per_cycle) >> NS_PER_CYCLE_SHIFT;
        // No timing is asserted but that of the clocks against each other, generously.
        assert!((error * told.ns_per_cycle) >> NS_PER_CYCLE_SHIFT < 1_000_000, "{error} cycles");
        assert!(back.abs_diff(ns) < 1_000_000, "{back} ns, not {ns}");
    }
}
