//! kvm_hv_hypercall: a guest uses Hyper-V's interface (arch/x86/kvm/trace.h).
//!
//! `TP_PROTO(u16 code, bool fast, u16 var_cnt, u16 rep_cnt, u16 rep_idx, u64 ingpa, u64 outgpa)`; without var_cnt in older
//! kernels, where the classic tracepoint is used.

use super::event::event;
use crate::drilldown::hypercall;

event!(kvm_hv_hypercall_raw, kvm_hv_hypercall_tp, "kvm_hv_hypercall", HV_HYPERCALL_FIELDS, [0 as u16, 1 as u8, 3 as u16] => hypercall::record_hyperv);
