//! The freestanding payload of `kvm-bench`: boots without an operating system, measures, says what it measured on COM1 as JSON lines,
//! and turns the machine off.
//!
//! No instruction here may be one that a hypervisor which runs ring 0 in its instruction emulator does not know: no SSE
//! arithmetic, for one. A test disassembles it.

#![no_std]
#![no_main]
#![deny(warnings)]
#![allow(dead_code)]

mod port;
mod power;
mod runtime;
mod serial;

use core::arch::global_asm;

use serial::Serial;

/// What `entry.s` says of how the payload was entered.
const PROTOCOL_PVH: u32 = 1;
const PROTOCOL_MULTIBOOT: u32 = 2;

global_asm!(
    include_str!("entry.s"),
    PROTOCOL_MULTIBOOT = const PROTOCOL_MULTIBOOT,
    PROTOCOL_PVH = const PROTOCOL_PVH,
);

#[unsafe(no_mangle)]
extern "C" fn payload_main(protocol: u32, _info: u32) -> ! {
    let mut serial = Serial::open();
    serial.raw("{\"kvm_bench\":\"payload/v1\",\"environment\":{\"boot\":");
    serial.string(if protocol == PROTOCOL_PVH { b"pvh" } else { b"multiboot" });
    serial.raw("}}\n{\"done\":true}\n");
    power::off()
}
