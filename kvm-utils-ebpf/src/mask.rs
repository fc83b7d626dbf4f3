//! Bounds that the verifier can see.

use core::arch::asm;

/// `value & MASK`, by an instruction that the compiler cannot drop. It would, where the bound follows from how the value
/// was made, which the verifier cannot retrace.
#[inline(always)]
pub fn mask<const MASK: i32>(mut value: u64) -> u64 {
    // SAFETY: one instruction on one register.
    unsafe { asm!("{0} &= {1}", inout(reg) value, const MASK, options(pure, nomem, nostack)) };
    value
}
