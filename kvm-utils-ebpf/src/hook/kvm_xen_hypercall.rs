//! kvm_xen_hypercall: a guest uses Xen's interface (arch/x86/kvm/trace.h).
//!
//! `TP_PROTO(u8 cpl, unsigned long nr, unsigned long a0, ..., unsigned long a5)`; without cpl in older kernels, where the
//! classic tracepoint is used.

use super::event::event;
use crate::drilldown::hypercall;

event!(kvm_xen_hypercall_raw, kvm_xen_hypercall_tp, "kvm_xen_hypercall", XEN_HYPERCALL_FIELDS, [1 as u64] => hypercall::record_xen);
