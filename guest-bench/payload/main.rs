//! The freestanding guest: runs the batches that the VMM writes into the control page.
//!
//! It starts in 64-bit mode with paging, segments and a stack set up by the VMM, and knows nothing of the machine but
//! its own control page. The loops whose exits are counted are in `loops.s`.

#![no_std]
#![no_main]
#![deny(warnings)]

mod apic;
mod batch;
mod idt;
#[path = "../src/protocol.rs"]
#[allow(dead_code)]
mod protocol;

use core::arch::{asm, global_asm};
use core::mem::offset_of;
use core::sync::atomic::Ordering::Relaxed;

use protocol::{Control, MAGIC, Step};

global_asm!(
    include_str!("entry.s"),
    ARG = const offset_of!(Step, arg),
    COUNT = const offset_of!(Step, count),
    VALUE = const offset_of!(Step, value),
    DONE = const protocol::status::DONE,
    DONE_PORT = const protocol::DONE_PORT,
    EOI_WRITES = const offset_of!(Control, eoi_writes),
    FAULT = const protocol::status::FAULT,
    FAULT_ADDRESS = const offset_of!(Control, fault_address),
    FAULT_ERROR = const offset_of!(Control, fault_error),
    FAULT_RIP = const offset_of!(Control, fault_rip),
    FAULT_VECTOR = const offset_of!(Control, fault_vector),
    INTERRUPTS = const offset_of!(Control, interrupts),
    PV_EOI = const offset_of!(Control, pv_eoi),
    RESUME_RSP = const offset_of!(Control, resume_rsp),
    UD_SKIP = const offset_of!(Control, ud_skip),
    X2APIC = const offset_of!(Control, x2apic),
    X2APIC_EOI = const apic::X2APIC_EOI,
    XAPIC_EOI = const apic::XAPIC_EOI,
);

global_asm!(
    include_str!("loops.s"),
    CR0 = const offset_of!(Control, cr0),
    CR0_AM = const 1 << 18,
    CR4 = const offset_of!(Control, cr4),
    CR4_MCE = const 1 << 6,
    EXECUTED = const offset_of!(Step, executed),
    IA32_TSC_DEADLINE = const 0x6e0,
    INTERRUPTS = const offset_of!(Control, interrupts),
    RESULT = const offset_of!(Step, result),
    STOP = const offset_of!(Control, stop),
    UD_SKIP = const offset_of!(Control, ud_skip),
    WAITS = const offset_of!(Control, waits),
    X2APIC_ICR = const apic::X2APIC_ICR,
);

#[unsafe(no_mangle)]
extern "C" fn guest_main(control: &'static Control) -> ! {
    if control.magic.load(Relaxed) == MAGIC {
        idt::load(control);
        apic::init(control);
        note_control_registers(control);
        read_gdt();
        loop {
            batch::run(control);
            done();
        }
    }
    // A VMM of another version: say so by ending a batch without having counted one.
    loop {
        done();
    }
}

/// Ends the batch: the port write exits to the VMM.
fn done() {
    // SAFETY: no device answers at this port; the VMM takes the exit. Memory is not declared untouched, so the
    // compiler finishes its writes before and reads the next batch afterwards.
    unsafe {
        asm!("out dx, al", in("dx") protocol::DONE_PORT, in("al") 0_u8, options(nostack, preserves_flags))
    };
}

/// Makes the processor read the GDT, which it otherwise does first when it delivers an interrupt: a nested page fault in
/// the middle of what is counted.
fn read_gdt() {
    // SAFETY: the VMM loaded this selector before; in 64-bit mode DS has no effect.
    unsafe {
        asm!("mov ds, {:e}", in(reg) u32::from(protocol::DATA_SELECTOR), options(nostack, preserves_flags))
    };
}

fn note_control_registers(control: &Control) {
    let (cr0, cr4): (u64, u64);
    // SAFETY: reading control registers at CPL 0 has no side effects.
    unsafe {
        asm!("mov {}, cr0", "mov {}, cr4", out(reg) cr0, out(reg) cr4, options(nomem, nostack, preserves_flags));
    }
    control.cr0.store(cr0, Relaxed);
    control.cr4.store(cr4, Relaxed);
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {
        done();
    }
}
