//! kvm_hypercall: a guest calls KVM (arch/x86/kvm/trace.h).
//!
//! `TP_PROTO(unsigned long nr, unsigned long a0, unsigned long a1, unsigned long a2, unsigned long a3)`. Not fired for the
//! calls of guests that use Hyper-V's or Xen's interface, which have tracepoints of their own.

use super::event::event;
use crate::drilldown::hypercall;

event!(kvm_hypercall_raw, kvm_hypercall_tp, "kvm_hypercall", HYPERCALL_FIELDS, [0 as u64, 1 as u64, 2 as u64] => hypercall::record);
