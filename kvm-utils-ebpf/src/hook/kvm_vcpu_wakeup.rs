//! kvm_vcpu_wakeup: a halt is over, on the vCPU's thread (include/trace/events/kvm.h).
//!
//! `TP_PROTO(__u64 ns, bool waited, bool valid)`: its length with polling, whether the thread was blocked, and whether there
//! was something for the guest to do.

use super::event::event;
use crate::drilldown::time;

event!(kvm_vcpu_wakeup_raw, kvm_vcpu_wakeup_tp, "kvm_vcpu_wakeup", VCPU_WAKEUP_FIELDS,
    [0 as u64, 1 as u8, 2 as u8] => time::wakeup);
