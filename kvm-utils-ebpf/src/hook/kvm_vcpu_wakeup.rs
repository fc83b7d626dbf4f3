//! kvm_vcpu_wakeup: a halt is over, on the vCPU's thread (include/trace/events/kvm.h).
//!
//! `TP_PROTO(__u64 ns, bool waited, bool valid)`: its length with polling, whether the thread was blocked, and whether there
//! was something for the guest to do.

use kvm_utils_common::config::mode::LEDGER;

use super::event::{Fields, event};
use crate::{
    drilldown::{halt, time},
    globals,
};

event!(kvm_vcpu_wakeup_raw, kvm_vcpu_wakeup_tp, "kvm_vcpu_wakeup", VCPU_WAKEUP_FIELDS,
    [0 as u64, 1 as u8, 2 as u8] => on_wakeup);

#[inline(always)]
fn on_wakeup(fields: Fields) {
    if globals::MODE.load() & LEDGER != 0 {
        time::wakeup(fields);
    } else {
        halt::ended(fields);
    }
}
