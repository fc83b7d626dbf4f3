//! The end: every way of turning a virtual machine off that needs no interpreter of ACPI, one after the other.

use core::arch::asm;

use crate::port::{outb, outw};

/// QEMU's `isa-debug-exit` where kvm-unit-tests put it; QEMU ends with status `value << 1 | 1`.
const DEBUG_EXIT: u16 = 0xf4;
/// PM1a control of QEMU's machines with their firmware (ICH9 and PIIX4 with SeaBIOS), and of older ones.
const PM1_CONTROL: [u16; 2] = [0x604, 0xb004];
/// SLP_EN with SLP_TYP 0, which these machines take for S5.
const SLEEP_ENABLE: u16 = 1 << 13;
/// Cloud Hypervisor's sleep control register (vmm/src/device_manager.rs, `AcpiShutdownDevice`): S5 is type 5.
const CLOUD_HYPERVISOR: (u16, u8) = (0x600, 5 << 2 | 1 << 5);
/// The command port of the 8042 and its command "pulse the reset line", at which Firecracker ends.
const KEYBOARD_RESET: (u16, u8) = (0x64, 0xfe);

/// Turns the machine off. First what ends it without a restart.
pub fn off() -> ! {
    outb(DEBUG_EXIT, 0);
    for port in PM1_CONTROL {
        outw(port, SLEEP_ENABLE);
    }
    outb(CLOUD_HYPERVISOR.0, CLOUD_HYPERVISOR.1);
    // Some of these are carried out by another thread of the VMM.
    for _ in 0..100_000 {
        core::hint::spin_loop();
    }
    outb(KEYBOARD_RESET.0, KEYBOARD_RESET.1);
    for _ in 0..100_000 {
        core::hint::spin_loop();
    }
    triple_fault()
}

/// An exception that cannot be delivered resets the processor, for which a VMM ends or starts anew.
fn triple_fault() -> ! {
    let nothing = [0_u16; 5];
    // SAFETY: nothing runs after this.
    unsafe {
        asm!("cli", "lidt [{}]", "ud2", "2: hlt", "jmp 2b", in(reg) &raw const nothing, options(noreturn))
    }
}
