//! The local APIC: enabled, its timer in TSC-deadline mode, with KVM's paravirtual end of interrupt where there is one.

use core::arch::asm;
use core::ptr::from_ref;
use core::sync::atomic::Ordering::Relaxed;

use crate::batch;
use crate::protocol::{self, Control, Op};

/// Physical address of the registers in xAPIC mode; Intel SDM volume 3, chapter 12.
const XAPIC_BASE: u64 = 0xfee0_0000;
/// Register offset of the spurious-interrupt vector register.
const SVR: u64 = 0xf0;
/// Register offset of the timer's local vector table entry.
const LVT_TIMER: u64 = 0x320;
/// Address of the end-of-interrupt register in xAPIC mode.
pub const XAPIC_EOI: u64 = XAPIC_BASE + 0xb0;
/// MSR of a register in x2APIC mode: this plus its xAPIC offset divided by 16.
const X2APIC_BASE: u32 = 0x800;
/// MSR of the end-of-interrupt register in x2APIC mode.
pub const X2APIC_EOI: u32 = X2APIC_BASE + 0xb;
/// MSR of the interrupt command register in x2APIC mode.
pub const X2APIC_ICR: u32 = X2APIC_BASE + 0x30;

const SVR_ENABLE: u32 = 1 << 8;
const LVT_TSC_DEADLINE: u32 = 2 << 17;
const IA32_APIC_BASE: u32 = 0x1b;
const APIC_BASE_X2APIC: u32 = 1 << 10;
/// `MSR_KVM_PV_EOI_EN`, arch/x86/include/uapi/asm/kvm_para.h.
const MSR_KVM_PV_EOI_EN: u64 = 0x4b56_4d04;
const PV_EOI_ENABLED: u64 = 1;

/// Prepares the LAPIC of this vCPU.
pub fn init(control: &Control) {
    let x2apic = apic_base() & APIC_BASE_X2APIC != 0;
    control.x2apic.store(x2apic.into(), Relaxed);
    write(x2apic, SVR, SVR_ENABLE | u32::from(protocol::SPURIOUS_VECTOR));
    write(x2apic, LVT_TIMER, LVT_TSC_DEADLINE | u32::from(protocol::TIMER_VECTOR));
    // A KVM without it refuses with #GP; then every interrupt is ended by a write, which is counted.
    let word = from_ref(&control.pv_eoi) as u64;
    batch::try_once(control, Op::Wrmsr, MSR_KVM_PV_EOI_EN, word | PV_EOI_ENABLED);
}

fn apic_base() -> u32 {
    let low: u32;
    // SAFETY: every x86-64 processor has this MSR, and reading it has no side effects.
    unsafe {
        asm!("rdmsr", in("ecx") IA32_APIC_BASE, out("eax") low, out("edx") _,
            options(nomem, nostack, preserves_flags));
    }
    low
}

fn write(x2apic: bool, register: u64, value: u32) {
    if x2apic {
        let index = X2APIC_BASE + (register >> 4) as u32;
        // SAFETY: the LAPIC is in x2APIC mode, so the register exists; the callers write valid values.
        unsafe {
            asm!("wrmsr", in("ecx") index, in("eax") value, in("edx") 0, options(nostack, preserves_flags));
        }
    } else {
        // SAFETY: the VMM maps the first 4 GiB, and the LAPIC is in xAPIC mode at its reset address.
        unsafe { ((XAPIC_BASE + register) as *mut u32).write_volatile(value) };
    }
}
