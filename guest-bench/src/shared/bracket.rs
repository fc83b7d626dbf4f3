//! The bracket around an operation that is timed: fenced reads of the time-stamp counter.
//!
//! `lfence; rdtsc; lfence` in front, `rdtscp; lfence` behind (Intel SDM volume 2B, RDTSC and RDTSCP; AMD APM volume 3).
//! CPUID, which is often used as a fence, would be a VM exit of its own. On AMD `lfence` waits for what comes before it
//! only if CPUID 0x8000_0021 EAX bit 2 or DE_CFG bit 1 says so; Linux sets the latter where it can.

use core::arch::asm;

/// One timed operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// TSC cycles from the first read to the second, the bracket's own included. Wrapped if the counter went back.
    pub cycles: u64,
    /// TSC_AUX at the end: with Linux the CPU in the low 12 bits and the NUMA node above them.
    pub aux: u32,
}

/// Reads the counter when everything before has been done and nothing after has begun.
#[inline(always)]
pub fn start() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: every x86-64 processor has these; memory is not declared untouched, so the compiler moves no access across.
    unsafe {
        asm!("lfence", "rdtsc", "lfence", out("eax") low, out("edx") high, options(nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Reads the counter when everything before has been done, and which CPU this is.
#[inline(always)]
pub fn stop() -> (u64, u32) {
    let (low, high, aux): (u32, u32, u32);
    // SAFETY: every processor with hardware virtualization has RDTSCP; memory as in `start`.
    unsafe {
        asm!("rdtscp", "lfence", out("eax") low, out("edx") high, out("ecx") aux, options(nostack, preserves_flags));
    }
    (u64::from(high) << 32 | u64::from(low), aux)
}

/// Times one call.
#[inline(always)]
pub fn time(operation: impl FnOnce()) -> Sample {
    let start = start();
    operation();
    let (stop, aux) = stop();
    Sample { cycles: stop.wrapping_sub(start), aux }
}
