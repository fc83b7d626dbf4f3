//! kvm_userspace_exit: the ioctl KVM_RUN returns to the VMM (include/trace/events/kvm.h).
//!
//! `TP_PROTO(__u32 reason, int errno)`. `errno` is what the ioctl returns: not 0 if a signal ended it. Fired after
//! `vcpu_put`: the vCPU is known by its thread only.

use kvm_utils_common::config::mode::{LEDGER, USER_EXITS};

use super::event::{Fields, event};
use crate::{
    drilldown::{derived, io, time},
    globals,
};

event!(kvm_userspace_exit_raw, kvm_userspace_exit_tp, "kvm_userspace_exit", USERSPACE_EXIT_FIELDS,
       [0 as u32, 1 as u32] => on_return);

#[inline(always)]
fn on_return(fields: Fields) {
    let mode = globals::MODE.load();
    if mode & LEDGER != 0 {
        time::leave(fields);
    } else if mode & USER_EXITS != 0 {
        derived::returned(fields);
    } else {
        io::to_user(fields);
    }
}
