//! kvm_halt_poll_ns: KVM chooses to poll longer or shorter before it blocks a vCPU that halts, on the vCPU's thread
//! (include/trace/events/kvm.h).
//!
//! `TP_PROTO(bool grow, unsigned int vcpu_id, unsigned int new, unsigned int old)`. Comes before the kvm_vcpu_wakeup of the
//! halt that made it choose so.

use super::event::event;
use crate::drilldown::halt;

event!(kvm_halt_poll_raw, kvm_halt_poll_tp, "kvm_halt_poll_ns", HALT_POLL_FIELDS,
    [0 as u8, 2 as u32, 3 as u32] => halt::resized);
