//! The interrupt descriptor table, the same for all vCPUs.

use core::arch::asm;
use core::cell::UnsafeCell;

/// Vectors: the timer, messages, messages whose end is timed, the timer as a watchdog, spurious interrupts.
pub const TIMER: u8 = 0x40;
pub const MESSAGE: u8 = 0x41;
pub const TIMED: u8 = 0x42;
pub const WATCHDOG: u8 = 0x43;
pub const SPURIOUS: u8 = 0xff;

/// Bytes between two exception stubs in `interrupt.s`.
const STUB_SIZE: u64 = 16;
const EXCEPTIONS: usize = 32;
/// Present, DPL 0, 64-bit interrupt gate (interrupts are off in the handler); Intel SDM volume 3, 7.14.1.
const INTERRUPT_GATE: u64 = 0x8e;
/// The 64-bit code segment of `entry.s`.
const CODE: u64 = 0x08;

#[repr(C, align(16))]
struct Table(UnsafeCell<[[u64; 2]; 256]>);

// SAFETY: written before other vCPUs run, read by the processor.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new([[0; 2]; 256]));

unsafe extern "C" {
    static exception_stubs: u8;
    static message_stub: u8;
    static timer_stub: u8;
    static timed_stub: u8;
    static watchdog_stub: u8;
    static strange_stub: u8;
    static spurious_stub: u8;
}

#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

/// Fills the table; once.
pub fn fill() {
    for vector in 0..256 {
        let handler = if vector < EXCEPTIONS {
            &raw const exception_stubs as u64 + vector as u64 * STUB_SIZE
        } else {
            match vector as u8 {
                TIMER => &raw const timer_stub as u64,
                MESSAGE => &raw const message_stub as u64,
                TIMED => &raw const timed_stub as u64,
                WATCHDOG => &raw const watchdog_stub as u64,
                SPURIOUS => &raw const spurious_stub as u64,
                _ => &raw const strange_stub as u64,
            }
        };
        let low = (handler & 0xffff) | CODE << 16 | INTERRUPT_GATE << 40 | (handler >> 16 & 0xffff) << 48;
        // SAFETY: nobody else writes, and the index is below 256.
        unsafe {
            let entry = TABLE.0.get().cast::<[u64; 2]>().add(vector).cast::<u64>();
            entry.write_volatile(low);
            entry.add(1).write_volatile(handler >> 32);
        }
    }
}

/// Makes this vCPU use it.
pub fn load() {
    let pointer = Pointer { limit: 256 * 16 - 1, base: TABLE.0.get().addr() as u64 };
    // SAFETY: the table is filled and stays.
    unsafe { asm!("lidt [{}]", in(reg) &raw const pointer, options(readonly, nostack, preserves_flags)) };
}
