//! The interrupt descriptor table, one per vCPU, in the page after its control page.

use core::arch::asm;

use crate::protocol::{self, Control};

/// Bytes between two exception stubs in `entry.s`.
const STUB_SIZE: u64 = 16;
const EXCEPTIONS: usize = 32;
/// Present, DPL 0, 64-bit interrupt gate (interrupts are off in the handler); Intel SDM volume 3, 7.14.1.
const INTERRUPT_GATE: u64 = 0x8e;

unsafe extern "C" {
    static exception_stubs: u8;
    static interrupt_stub: u8;
    static spurious_stub: u8;
}

#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

/// Fills this vCPU's table and makes the processor use it.
pub fn load(control: &Control) {
    let table = (core::ptr::from_ref(control).cast::<u8>() as u64 + protocol::AREA_IDT) as *mut [u64; 2];
    let stubs = &raw const exception_stubs as u64;
    for vector in 0..EXCEPTIONS {
        set(table, vector, stubs + vector as u64 * STUB_SIZE);
    }
    let interrupt = &raw const interrupt_stub as u64;
    set(table, protocol::TIMER_VECTOR.into(), interrupt);
    set(table, protocol::MESSAGE_VECTOR.into(), interrupt);
    set(table, protocol::SPURIOUS_VECTOR.into(), &raw const spurious_stub as u64);

    let pointer = Pointer { limit: 256 * 16 - 1, base: table as u64 };
    // SAFETY: the table is filled, stays where it is, and lies in a page that nothing else uses.
    unsafe { asm!("lidt [{}]", in(reg) &raw const pointer, options(readonly, nostack, preserves_flags)) };
}

fn set(table: *mut [u64; 2], vector: usize, handler: u64) {
    let low = (handler & 0xffff)
        | u64::from(protocol::CODE_SELECTOR) << 16
        | INTERRUPT_GATE << 40
        | (handler >> 16 & 0xffff) << 48;
    // SAFETY: the VMM gives each vCPU a page for 256 entries of 16 bytes at this place, and vector is below 256.
    unsafe { table.add(vector).write_volatile([low, handler >> 32]) };
}
