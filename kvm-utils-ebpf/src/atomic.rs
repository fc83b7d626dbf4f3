//! Atomic addition to a map's value.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

/// Adds one to `*counter`.
///
/// # Safety
///
/// `counter` points to an aligned u64 within a map's value.
#[inline(always)]
pub unsafe fn increment(counter: *mut u64) {
    // SAFETY: as the caller promises. The result is not used, so that LLVM emits the plain form, which needs no 5.12.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, 1) };
}
