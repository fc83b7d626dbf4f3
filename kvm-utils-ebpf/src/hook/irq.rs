//! The events of an interrupt's life (arch/x86/kvm/trace.h, include/trace/events/kvm.h), one tracepoint after the other; the
//! lists are the arguments of each that are looked at.

use super::event::event;
use crate::drilldown::irq;

// TP_PROTO(unsigned int vector, bool soft, bool reinjected); before 6.0 only the vector, as `irq`.
event!(kvm_inj_virq_raw, kvm_inj_virq_tp, "kvm_inj_virq", INJ_VIRQ_FIELDS, [0 as u32, 1 as u8, 2 as u8] => irq::injected);
// TP_PROTO(unsigned exception, bool has_error, unsigned error_code, bool reinjected)
event!(kvm_inj_exception_raw, kvm_inj_exception_tp, "kvm_inj_exception", INJ_EXCEPTION_FIELDS, [0 as u32, 3 as u8] => irq::exception);
// TP_PROTO(struct kvm_lapic *apic, int vector)
event!(kvm_eoi_raw, kvm_eoi_tp, "kvm_eoi", EOI_FIELDS, [1 as u32] => irq::eoi);
// TP_PROTO(struct kvm_lapic *apic, int vector)
event!(kvm_pv_eoi_raw, kvm_pv_eoi_tp, "kvm_pv_eoi", PV_EOI_FIELDS, [1 as u32] => irq::pv_eoi);
// TP_PROTO(__u32 icr_low, __u32 dest_id)
event!(kvm_apic_ipi_raw, kvm_apic_ipi_tp, "kvm_apic_ipi", APIC_IPI_FIELDS, [0 as u32, 1 as u32] => irq::ipi);
// TP_PROTO(__u32 apicid, __u16 dm, __u16 tm, __u8 vec)
event!(kvm_apic_accept_irq_raw, kvm_apic_accept_irq_tp, "kvm_apic_accept_irq", ACCEPT_IRQ_FIELDS, [0 as u32, 1 as u16, 2 as u16, 3 as u8] => irq::accepted);
// TP_PROTO(__u32 apicid, __u16 dm, __u16 tm, __u8 vec)
event!(kvm_apicv_accept_irq_raw, kvm_apicv_accept_irq_tp, "kvm_apicv_accept_irq", APICV_ACCEPT_IRQ_FIELDS, [0 as u32, 1 as u16, 2 as u16, 3 as u8] => irq::posted);
// TP_PROTO(__u64 address, __u64 data)
event!(kvm_msi_set_irq_raw, kvm_msi_set_irq_tp, "kvm_msi_set_irq", MSI_FIELDS, [0 as u64, 1 as u64] => irq::msi);
// TP_PROTO(__u64 e, int pin, bool coalesced)
event!(kvm_ioapic_set_irq_raw, kvm_ioapic_set_irq_tp, "kvm_ioapic_set_irq", IOAPIC_FIELDS, [0 as u64, 1 as u32, 2 as u8] => irq::ioapic);
// TP_PROTO(__u64 e)
event!(kvm_ioapic_delayed_eoi_inj_raw, kvm_ioapic_delayed_eoi_inj_tp, "kvm_ioapic_delayed_eoi_inj", IOAPIC_AGAIN_FIELDS, [0 as u64] => irq::ioapic_again);
// TP_PROTO(__u8 chip, __u8 pin, __u8 elcr, __u8 imr, bool coalesced)
event!(kvm_pic_set_irq_raw, kvm_pic_set_irq_tp, "kvm_pic_set_irq", PIC_FIELDS, [0 as u8, 1 as u8, 3 as u8, 4 as u8] => irq::pic);
// TP_PROTO(unsigned int gsi, int level, int irq_source_id)
event!(kvm_set_irq_raw, kvm_set_irq_tp, "kvm_set_irq", SET_IRQ_FIELDS, [0 as u32, 1 as u32, 2 as u32] => irq::gsi);
// TP_PROTO(unsigned int irqchip, unsigned int pin)
event!(kvm_ack_irq_raw, kvm_ack_irq_tp, "kvm_ack_irq", ACK_IRQ_FIELDS, [0 as u32, 1 as u32] => irq::ack);
// TP_PROTO(unsigned int vcpu_id, u64 smbase, bool entering)
event!(kvm_smm_transition_raw, kvm_smm_transition_tp, "kvm_smm_transition", SMM_FIELDS, [2 as u8] => irq::smm);
// The same before 6.1.
event!(kvm_enter_smm_raw, kvm_enter_smm_tp, "kvm_enter_smm", ENTER_SMM_FIELDS, [2 as u8] => irq::smm);
// TP_PROTO(unsigned int host_irq, unsigned int vcpu_id, unsigned int gsi, unsigned int gvec, u64 pi_desc_addr, bool set); newer
// ones have other arguments, and are attached as classic tracepoints.
event!(kvm_pi_irte_update_raw, kvm_pi_irte_update_tp, "kvm_pi_irte_update", ROUTE_FIELDS, [0 as u32, 2 as u32, 3 as u32, 5 as u8] => irq::route);
