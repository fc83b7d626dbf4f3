//! The freestanding payload of `kvm-bench`: boots without an operating system, measures, says what it measured on COM1 as
//! JSON lines, and turns the machine off.
//!
//! Some hypervisors run ring 0 in an instruction emulator that knows no SSE but moves; a test disassembles this program.

#![no_std]
#![no_main]
#![deny(warnings)]

mod acpi;
mod apic;
mod boot;
#[path = "../src/shared/bracket.rs"]
#[allow(dead_code, reason = "RDTSCP tells of CPUs, between which nothing moves here")]
mod bracket;
#[path = "../src/shared/buckets.rs"]
mod buckets;
mod clock;
mod cpu;
mod events;
mod histogram;
mod idt;
mod machine;
mod measure;
mod ops;
mod options;
mod port;
mod power;
mod runtime;
mod serial;
#[path = "../src/shared/ops.rs"]
#[allow(dead_code, reason = "reports use the rest")]
mod shared_ops;
mod smp;
mod steal;

use core::arch::global_asm;
use core::sync::atomic::Ordering::Relaxed;

use apic::Apic;
use clock::Clock;
use machine::Machine;
use measure::Bench;
use serial::Serial;
use steal::Steal;

/// What `entry.s` says of how the payload was entered.
const PROTOCOL_PVH: u32 = 1;
const PROTOCOL_MULTIBOOT: u32 = 2;

global_asm!(
    include_str!("entry.s"),
    PROTOCOL_MULTIBOOT = const PROTOCOL_MULTIBOOT,
    PROTOCOL_PVH = const PROTOCOL_PVH,
);

#[unsafe(no_mangle)]
extern "C" fn payload_main(protocol: u32, info: u32) -> ! {
    idt::fill();
    idt::load();
    cpu::set_own(0);
    let boot = boot::read_info(protocol == PROTOCOL_PVH, info.into());
    let options = options::parse(boot.command_line);
    let serial = Serial::open();
    let features = cpu::features();
    let pm_timer = acpi::pm_timer(&boot);
    let clock = Clock::find(&features, options.tsc_khz, pm_timer);
    let apic = Apic::open(&features, options.apic);
    let timer_fires = machine::timer_fires(apic, &clock);
    let cpus = smp::start(apic, &clock, options.cpus);
    let steal = Steal::open(&features);
    let notify = options.notify;
    let machine = Machine { boot, features, clock, apic, timer_fires, cpus, pm_timer, steal, notify };
    let mut serial = serial;
    machine.write(&mut serial);
    let mut serial = Bench::new(&machine, &options, serial).run();
    serial.raw("{\"done\":true}\n");
    power::off()
}

/// An exception that nobody expected.
#[unsafe(no_mangle)]
extern "C" fn fatal_exception() -> ! {
    let mut serial = Serial::open();
    // Only the first vCPU's is known to be there.
    let this = &cpu::CPUS[0];
    serial.raw("\n{\"fatal\":{\"reason\":\"exception\",\"vector\":");
    serial.number(this.fault.load(Relaxed).wrapping_sub(1));
    serial.raw(",\"error\":");
    serial.hex(this.fault_error.load(Relaxed));
    serial.raw(",\"rip\":");
    serial.hex(this.fault_rip.load(Relaxed));
    serial.raw(",\"address\":");
    serial.hex(this.fault_address.load(Relaxed));
    serial.raw("}}\n");
    power::off()
}
