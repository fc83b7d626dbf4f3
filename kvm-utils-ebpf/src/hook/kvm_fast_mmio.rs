//! kvm_fast_mmio: the guest writes where an ioeventfd takes writes of any size and value, and KVM does no more than ring it
//! (arch/x86/kvm/trace.h).
//!
//! `TP_PROTO(u64 gpa)`. Fired instead of kvm_mmio (`handle_ept_misconfig`, arch/x86/kvm/vmx/vmx.c; newer kernels do it with
//! SVM and TDX as well): the kicks of most virtio devices.

use super::event::event;
use crate::drilldown::io;

event!(kvm_fast_mmio_raw, kvm_fast_mmio_tp, "kvm_fast_mmio", FAST_MMIO_FIELDS, [0 as u64] => io::doorbell);
