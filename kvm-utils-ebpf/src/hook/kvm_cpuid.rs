//! kvm_cpuid: KVM answers a CPUID (arch/x86/kvm/trace.h).
//!
//! `TP_PROTO(unsigned function, unsigned index, unsigned long rax, unsigned long rbx, unsigned long rcx, unsigned long rdx,
//! bool found, bool used_max_basic)`. Fired for the guest's instruction, and when KVM's instruction emulator asks on the
//! guest's behalf (for its vendor, at a SYSCALL).

use super::event::event;
use crate::drilldown::cpuid;

event!(kvm_cpuid_raw, kvm_cpuid_tp, "kvm_cpuid", CPUID_FIELDS, [0 as u32, 1 as u32, 6 as u8, 7 as u8] => cpuid::record);
