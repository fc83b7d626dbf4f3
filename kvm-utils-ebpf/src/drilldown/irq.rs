//! irq: what interrupts go through, by vector, line or message.
//!
//! Most of these events happen on a vCPU's thread, on its behalf. Those that devices cause happen on whatever thread works for
//! the device, and some of them in interrupts: [`shared`].

use kvm_utils_common::{
    irq::{
        self, INJECT_AGAIN, INJECT_SOFT, IOAPIC_STATUS, KIND_ACCEPTED, KIND_ACK, KIND_EOI, KIND_EXCEPTION,
        KIND_GSI, KIND_INJECTED, KIND_IOAPIC, KIND_IOAPIC_AGAIN, KIND_IPI, KIND_MSI, KIND_PIC, KIND_POSTED,
        KIND_PV_EOI, KIND_ROUTE, KIND_SMM, LINE_COALESCED, LINE_MASKED, ROUTE_SET,
    },
    msr::ICR_BUSY,
    rows::{RowKey, RowNoun},
};

use crate::{hook::event::Fields, rows, vcpu};

/// An event that happens on threads only, mostly the vCPU's.
#[inline(always)]
fn own(kind: u8, detail: u64, a: u64) {
    let key = RowKey::new(RowNoun::Irq, kind, detail, a);
    count_own(key.a, key.b);
}

/// An event that may come in an interrupt.
#[inline(always)]
fn shared(kind: u8, detail: u64, a: u64) {
    let key = RowKey::new(RowNoun::Irq, kind, detail, a);
    count_shared(key.a, key.b);
}

// Functions of their own, as there are many programs.

#[inline(never)]
fn count_own(a: u64, b: u64) {
    let mut current = vcpu::current();
    let elsewhere = u64::from(current.record.is_none());
    rows::count(&mut current, RowKey { a, b }, elsewhere);
}

#[inline(never)]
fn count_shared(a: u64, b: u64) {
    let mut current = vcpu::current_or_interrupt();
    let elsewhere = u64::from(current.record.is_none());
    rows::count_shared(&mut current, RowKey { a, b }, elsewhere);
}

#[inline(always)]
fn flag(value: u64, bit: u64) -> u64 {
    if value != 0 { bit } else { 0 }
}

/// kvm_inj_virq: (vector, soft, reinjected).
#[inline(always)]
pub fn injected([vector, soft, again, _]: Fields) {
    own(KIND_INJECTED, flag(soft, INJECT_SOFT) | flag(again, INJECT_AGAIN), vector);
}

/// kvm_inj_exception: (exception, reinjected).
#[inline(always)]
pub fn exception([vector, again, _, _]: Fields) {
    own(KIND_EXCEPTION, flag(again, INJECT_AGAIN), vector);
}

/// kvm_eoi: (vector).
#[inline(always)]
pub fn eoi([vector, _, _, _]: Fields) {
    own(KIND_EOI, 0, vector);
}

/// kvm_pv_eoi: (vector).
#[inline(always)]
pub fn pv_eoi([vector, _, _, _]: Fields) {
    own(KIND_PV_EOI, 0, vector);
}

/// kvm_apic_ipi: (icr_low, dest_id).
#[inline(always)]
pub fn ipi([icr, destination, _, _]: Fields) {
    own(KIND_IPI, 0, (destination << 32) | (icr & !ICR_BUSY));
}

/// kvm_apic_accept_irq: (apicid, dm, tm, vec).
#[inline(always)]
pub fn accepted([receiver, mode, trigger, vector]: Fields) {
    shared(KIND_ACCEPTED, 0, irq::accepted(receiver, mode, trigger, vector));
}

/// kvm_apicv_accept_irq: (apicid, dm, tm, vec).
#[inline(always)]
pub fn posted([receiver, mode, trigger, vector]: Fields) {
    shared(KIND_POSTED, 0, irq::accepted(receiver, mode, trigger, vector));
}

/// kvm_msi_set_irq: (address, data).
#[inline(always)]
pub fn msi([address, data, _, _]: Fields) {
    shared(KIND_MSI, data & 0xffff_ffff, address);
}

/// kvm_ioapic_set_irq: (e, pin, coalesced).
#[inline(always)]
pub fn ioapic([entry, pin, coalesced, _]: Fields) {
    shared(KIND_IOAPIC, (pin & 0xff) | flag(coalesced, LINE_COALESCED), entry & !IOAPIC_STATUS);
}

/// kvm_ioapic_delayed_eoi_inj: (e).
#[inline(always)]
pub fn ioapic_again([entry, _, _, _]: Fields) {
    shared(KIND_IOAPIC_AGAIN, 0, entry & !IOAPIC_STATUS);
}

/// kvm_pic_set_irq: (chip, pin, imr, coalesced).
#[inline(always)]
pub fn pic([chip, pin, masks, coalesced]: Fields) {
    let masked = (masks >> (pin & 7)) & 1;
    shared(KIND_PIC, flag(masked, LINE_MASKED) | flag(coalesced, LINE_COALESCED), (chip << 3) | (pin & 7));
}

/// kvm_set_irq: (gsi, level, irq_source_id).
#[inline(always)]
pub fn gsi([gsi, level, source, _]: Fields) {
    shared(KIND_GSI, irq::gsi(level, source), gsi);
}

/// kvm_ack_irq: (irqchip, pin).
#[inline(always)]
pub fn ack([controller, pin, _, _]: Fields) {
    own(KIND_ACK, controller, pin);
}

/// kvm_smm_transition and kvm_enter_smm: (entering).
#[inline(always)]
pub fn smm([entering, _, _, _]: Fields) {
    own(KIND_SMM, 0, entering);
}

/// kvm_pi_irte_update: (host_irq, gsi, gvec, set).
#[inline(always)]
pub fn route([host, gsi, vector, set]: Fields) {
    own(KIND_ROUTE, (vector & 0xff) | flag(set, ROUTE_SET), (host << 32) | (gsi & 0xffff_ffff));
}
