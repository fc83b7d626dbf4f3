//! Counters at fixed places, and the nouns' memory, per vCPU.

use aya_ebpf::{bindings::BPF_F_MMAPABLE, macros::map, maps::Array};
use kvm_utils_common::numbers::{
    CYCLES_PER_NS_SHIFT, Clock, NS_PER_CYCLE_SHIFT, NUMBERS, VcpuNumbers, histogram,
};

use crate::{drilldown::exits::bucket, mask::mask};

/// One for each record, if a noun needs them; resized by user space.
#[map(name = "NUMBERS")]
static ALL: Array<VcpuNumbers> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// See [`Clock`].
#[map]
static CLOCK: Array<Clock> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Those of record `slot`.
#[inline(always)]
pub fn of(slot: u32) -> Option<&'static mut VcpuNumbers> {
    // SAFETY: written only by the CPU that runs the vCPU, as the record is.
    ALL.get_ptr_mut(slot).map(|numbers| unsafe { &mut *numbers })
}

/// Counts `value` in a histogram.
#[inline(always)]
pub fn bin(numbers: &mut VcpuNumbers, number: usize, value: u64) {
    // The mask is wider than a histogram is long; the check keeps what is beyond it away.
    let bucket = mask::<1023>(bucket(value)) as usize;
    let at = histogram(number) + bucket;
    if at < NUMBERS {
        numbers.counters[at] += 1;
    }
}

/// The host's TSC at `now`, as `bpf_ktime_get_ns()` tells it; `None` while user space has not related them.
#[inline(always)]
pub fn tsc(now: u64) -> Option<(u64, &'static Clock)> {
    let clock = CLOCK.get_ptr(0)?;
    // SAFETY: whole aligned words; the sequence tells whether they belong together.
    unsafe {
        let before = (&raw const (*clock).sequence).read_volatile();
        let (ns, tsc) = ((&raw const (*clock).ns).read_volatile(), (&raw const (*clock).tsc).read_volatile());
        let rate = (&raw const (*clock).cycles_per_ns).read_volatile();
        let after = (&raw const (*clock).sequence).read_volatile();
        if ns == 0 || before & 1 != 0 || before != after {
            return None;
        }
        // The moment is less than some seconds ago: no overflow.
        Some((tsc.wrapping_add((now.wrapping_sub(ns).wrapping_mul(rate)) >> CYCLES_PER_NS_SHIFT), &*clock))
    }
}

/// `cycles` of the TSC in ns; cycles of more than a few seconds lose their low bits.
#[inline(always)]
pub fn cycles_to_ns(clock: &Clock, cycles: u64) -> u64 {
    // A rate below 1 ns per cycle has 32 bits.
    let rate = clock.ns_per_cycle;
    if cycles >> 31 == 0 {
        (cycles * rate) >> NS_PER_CYCLE_SHIFT
    } else {
        ((cycles >> 20).wrapping_mul(rate)) >> (NS_PER_CYCLE_SHIFT - 20)
    }
}
