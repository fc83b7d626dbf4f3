//! The binary logarithm.

use core::arch::asm;

/// Floor of the binary logarithm of `value`, which is at least 1 and below 2^48.
///
/// The BPF instruction set has no count-leading-zeros. LLVM's expansion of it takes 40 instructions, and so does a
/// search in Rust, whose branches LLVM turns into selections, which BPF does not have either. This takes 9 to 17.
#[inline(always)]
pub fn log2(value: u64) -> u64 {
    let log: u64;
    // SAFETY: registers and jumps within this block only.
    unsafe {
        asm!(
            "{log} = 0",
            "if {v} < 0x10000 goto 2f",
            "{v} >>= 16",
            "{log} = 16",
            "if {v} < 0x10000 goto 2f",
            "{v} >>= 16",
            "{log} = 32",
            "2:",
            "if {v} < 0x100 goto 3f",
            "{v} >>= 8",
            "{log} += 8",
            "3:",
            "if {v} < 0x10 goto 4f",
            "{v} >>= 4",
            "{log} += 4",
            "4:",
            "if {v} < 4 goto 5f",
            "{v} >>= 2",
            "{log} += 2",
            "5:",
            "if {v} < 2 goto 6f",
            "{log} += 1",
            "6:",
            v = inout(reg) value => _,
            log = out(reg) log,
            options(pure, nomem, nostack),
        );
    }
    log
}
