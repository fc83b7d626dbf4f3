//! kvm_userspace_exit: the ioctl KVM_RUN returns (include/trace/events/kvm.h).
//!
//! `TP_PROTO(__u32 reason, int errno)`. `errno` is what the ioctl returns: not 0 if a signal ended it.

use super::event::event;
use crate::drilldown::io;

event!(kvm_userspace_exit_raw, kvm_userspace_exit_tp, "kvm_userspace_exit", USERSPACE_EXIT_FIELDS,
       [0 as u32, 1 as u32] => io::to_user);
