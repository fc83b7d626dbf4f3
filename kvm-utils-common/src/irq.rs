//! Keys of the noun irq: what an interrupt goes through, one kind for each tracepoint of KVM that tells of it.
//!
//! [`crate::rows::RowKey::a`] and the detail are what each kind says. The second number of a row, `extra`, is how many of
//! the events were not on a vCPU's thread.

/// KVM puts an interrupt into the guest (kvm_inj_virq). `a`: vector; detail: [`INJECT_SOFT`], [`INJECT_AGAIN`].
pub const KIND_INJECTED: u8 = 0;
/// KVM puts an exception into the guest (kvm_inj_exception). `a`: vector; detail: [`INJECT_AGAIN`].
pub const KIND_EXCEPTION: u8 = 1;
/// The guest says that it has dealt with an interrupt (kvm_eoi). `a`: vector.
pub const KIND_EOI: u8 = 2;
/// The same, by a word in memory and without an exit (kvm_pv_eoi). `a`: vector.
pub const KIND_PV_EOI: u8 = 3;
/// A vCPU sends an interrupt to others (kvm_apic_ipi). `a`: destination in bits 63:32, low half of the ICR below, without
/// its delivery status.
pub const KIND_IPI: u8 = 4;
/// A local APIC takes an interrupt, whoever sent it (kvm_apic_accept_irq). `a`: see [`accepted`].
pub const KIND_ACCEPTED: u8 = 5;
/// Of those, one that is handed to the processor's virtual APIC (kvm_apicv_accept_irq). `a`: as [`KIND_ACCEPTED`].
pub const KIND_POSTED: u8 = 6;
/// A message-signalled interrupt (kvm_msi_set_irq). `a`: its address; detail: its data, 32 bits.
pub const KIND_MSI: u8 = 7;
/// The I/O APIC sends the interrupt of one of its pins (kvm_ioapic_set_irq). `a`: the pin's redirection entry without what
/// changes by itself; detail: pin, [`LINE_COALESCED`].
pub const KIND_IOAPIC: u8 = 8;
/// The same once more, as the line was still up at the end of an interrupt, after a pause (kvm_ioapic_delayed_eoi_inj).
/// `a`: as [`KIND_IOAPIC`].
pub const KIND_IOAPIC_AGAIN: u8 = 9;
/// A line of the 8259 pair (kvm_pic_set_irq). `a`: its number, 0 to 15; detail: [`LINE_MASKED`], [`LINE_COALESCED`].
pub const KIND_PIC: u8 = 10;
/// A device raises or lowers a line (kvm_set_irq). `a`: the GSI; detail: see [`gsi`].
pub const KIND_GSI: u8 = 11;
/// An interrupt controller learns that the interrupt of one of its pins is over (kvm_ack_irq). `a`: the pin; detail: the
/// controller, `KVM_IRQCHIP_*` of arch/x86/include/uapi/asm/kvm.h.
pub const KIND_ACK: u8 = 12;
/// A vCPU enters or leaves system management mode (kvm_smm_transition, kvm_enter_smm). `a`: 1 = enters.
pub const KIND_SMM: u8 = 13;
/// A device's interrupts are posted to a vCPU by the IOMMU from now on, or no more (kvm_pi_irte_update). `a`: the host's
/// interrupt in bits 63:32, the GSI below; detail: vector, [`ROUTE_SET`].
pub const KIND_ROUTE: u8 = 14;

/// By INT n, not by a device.
pub const INJECT_SOFT: u64 = 1 << 0;
/// The guest had left before it could take it.
pub const INJECT_AGAIN: u64 = 1 << 1;
/// It was still pending: the guest sees one interrupt, not two.
pub const LINE_COALESCED: u64 = 1 << 8;
/// The guest does not want it now.
pub const LINE_MASKED: u64 = 1 << 9;
/// The IOMMU posts.
pub const ROUTE_SET: u64 = 1 << 8;

/// What of a redirection entry changes by itself: delivery status (bit 12) and remote IRR (bit 14); 82093AA data sheet,
/// 3.2.4.
pub const IOAPIC_STATUS: u64 = 1 << 12 | 1 << 14;

/// `a` of [`KIND_ACCEPTED`]: receiver in bits 63:32, level trigger in bit 16, delivery mode in bits 10:8 (as in the ICR, Intel
/// SDM volume 3, 12.6.1), vector in bits 7:0.
#[inline(always)]
#[must_use]
pub const fn accepted(receiver: u64, mode: u64, trigger: u64, vector: u64) -> u64 {
    (receiver << 32) | (if trigger != 0 { ACCEPTED_LEVEL } else { 0 }) | (mode & 0x700) | (vector & 0xff)
}

/// Level-triggered, in what [`accepted`] makes.
pub const ACCEPTED_LEVEL: u64 = 1 << 16;

/// Detail of [`KIND_GSI`]: who drives the line (bits 39:8, `KVM_*_IRQ_SOURCE_ID` of include/linux/kvm_host.h) and whether
/// it is up (bit 0).
#[inline(always)]
#[must_use]
pub const fn gsi(level: u64, source: u64) -> u64 {
    (if level != 0 { 1 } else { 0 }) | ((source & 0xffff_ffff) << 8)
}

/// Bits of the kernel's preemption counter that say that an interrupt or its bottom half is being dealt with: hard
/// interrupts and NMIs (`HARDIRQ_MASK`, `NMI_MASK`) and the bottom half (`SOFTIRQ_OFFSET`), include/linux/preempt.h.
pub const PREEMPT_INTERRUPT: u32 = 0x00ff_0100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_overlap() {
        assert_eq!(accepted(3, 0x400, 1, 0xfd), 0x3_0001_04fd);
        assert_eq!(gsi(u64::from(u32::MAX), 2), 0x201);
        assert_eq!(gsi(0, 0), 0);
    }
}
