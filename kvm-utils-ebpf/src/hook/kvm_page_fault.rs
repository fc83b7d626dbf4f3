//! kvm_page_fault: a nested page fault or EPT violation, or with shadow paging the guest's own (arch/x86/kvm/trace.h).
//!
//! `TP_PROTO(struct kvm_vcpu *vcpu, u64 fault_address, u64 error_code)`; `(unsigned long fault_address, unsigned error_code)`
//! in older kernels, where the classic tracepoint is used.

use super::event::event;
use crate::drilldown::fault;

event!(kvm_page_fault_raw, kvm_page_fault_tp, "kvm_page_fault", PAGE_FAULT_FIELDS, [1 as u64, 2 as u64] => fault::record);
