//! kvm_userspace_exit: `KVM_RUN` returns to the VMM (include/trace/events/kvm.h).
//!
//! `TP_PROTO(__u32 reason, int errno)`. Fired after `vcpu_put`: the vCPU is known by its thread only.

use super::event::event;
use crate::drilldown::time;

event!(kvm_userspace_exit_raw, kvm_userspace_exit_tp, "kvm_userspace_exit", USERSPACE_EXIT_FIELDS,
    [0 as u32, 1 as u32] => time::leave);
