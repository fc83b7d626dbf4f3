//! Port I/O.

use core::arch::asm;

/// Reads a byte.
#[inline(always)]
pub fn inb(port: u16) -> u8 {
    let value: u8;
    // SAFETY: the callers read registers without side effects on memory.
    unsafe { asm!("in al, dx", out("al") value, in("dx") port, options(nostack, preserves_flags)) };
    value
}

/// Writes a byte.
#[inline(always)]
pub fn outb(port: u16, value: u8) {
    // SAFETY: no device that the callers write to touches memory.
    unsafe { asm!("out dx, al", in("al") value, in("dx") port, options(nostack, preserves_flags)) };
}

/// Reads four bytes.
#[inline(always)]
pub fn inl(port: u16) -> u32 {
    let value: u32;
    // SAFETY: as for inb.
    unsafe { asm!("in eax, dx", out("eax") value, in("dx") port, options(nostack, preserves_flags)) };
    value
}

/// Writes two bytes.
pub fn outw(port: u16, value: u16) {
    // SAFETY: as for outb.
    unsafe { asm!("out dx, ax", in("ax") value, in("dx") port, options(nostack, preserves_flags)) };
}

/// Writes four bytes.
pub fn outl(port: u16, value: u32) {
    // SAFETY: as for outb.
    unsafe { asm!("out dx, eax", in("eax") value, in("dx") port, options(nostack, preserves_flags)) };
}
