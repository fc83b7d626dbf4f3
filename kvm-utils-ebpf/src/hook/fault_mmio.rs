//! kvm_mmio, for the noun fault: which pages are a device's (include/trace/events/kvm.h).
//!
//! `TP_PROTO(int type, int len, u64 gpa, void *val)`.

use super::event::event;
use crate::drilldown::fault;

event!(fault_mmio_raw, fault_mmio_tp, "kvm_mmio", FAULT_MMIO_FIELDS, [0 as u32, 2 as u64] => fault::record_mmio);
