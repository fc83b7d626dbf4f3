//! kvm_msr: the guest reads or writes a model-specific register (arch/x86/kvm/trace.h).
//!
//! `TP_PROTO(unsigned write, u32 ecx, u64 data, bool exception)`. Fired by the exit handlers, the fast paths and (from
//! 6.1) the instruction emulator; accesses that are forwarded to the VMM are not traced by it.

use super::event::event;
use crate::drilldown::msr;

event!(kvm_msr_raw, kvm_msr_tp, "kvm_msr", MSR_FIELDS, [0 as u32, 1 as u32, 2 as u64, 3 as u8] => msr::record);
