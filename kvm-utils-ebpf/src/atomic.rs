//! Atomic addition to a map's value.

use core::arch::asm;

/// Adds one to `*counter`.
///
/// # Safety
///
/// `counter` points to an aligned u64 within a map's value.
#[inline(always)]
pub unsafe fn increment(counter: *mut u64) {
    // SAFETY: as the caller promises.
    unsafe { add(counter, 1) };
}

/// Adds `more` to `*counter`.
///
/// # Safety
///
/// As [`increment`].
#[inline(always)]
pub unsafe fn add(counter: *mut u64, more: u64) {
    // SAFETY: as the caller promises. Written as assembly: LLVM at times picks the form that returns the old value, which
    // kernels before 5.12 do not know.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) more, options(nostack)) };
}
