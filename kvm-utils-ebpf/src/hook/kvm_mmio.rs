//! kvm_mmio: the guest accesses memory that is no memory (include/trace/events/kvm.h).
//!
//! `TP_PROTO(int type, int len, u64 gpa, void *val)`, earlier with `u64 val`. Fired once for each access that the kernel
//! answers and for each write; for a read that the VMM answers twice, before and after.

use super::event::event;
use crate::drilldown::io;

event!(kvm_mmio_raw, kvm_mmio_tp, "kvm_mmio", MMIO_FIELDS, [0 as u32, 1 as u32, 2 as u64] => io::memory);
