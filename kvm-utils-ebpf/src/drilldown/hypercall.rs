//! hypercall: what guests call, by interface and number.

use kvm_utils_common::{
    hypercall::{DETAIL_FAST, KIND_HYPERV, KIND_KVM, KIND_XEN, SEND_IPI},
    rows::{RowKey, RowNoun},
};

use crate::{hook::event::Fields, rows, vcpu};

/// The tracepoint kvm_hypercall: (nr, a0, a1).
#[inline(always)]
pub fn record([number, low, high, _]: Fields) {
    let targets = if number == SEND_IPI { u64::from(low.count_ones() + high.count_ones()) } else { 0 };
    count(KIND_KVM, 0, number, targets);
}

/// The tracepoint kvm_hv_hypercall: (code, fast, rep_cnt).
#[inline(always)]
pub fn record_hyperv([code, fast, reps, _]: Fields) {
    count(KIND_HYPERV, if fast != 0 { DETAIL_FAST } else { 0 }, code, reps);
}

/// The tracepoint kvm_xen_hypercall: (nr).
#[inline(always)]
pub fn record_xen([number, ..]: Fields) {
    count(KIND_XEN, 0, number, 0);
}

#[inline(always)]
fn count(kind: u8, detail: u64, number: u64, extra: u64) {
    rows::count(&mut vcpu::current(), RowKey::new(RowNoun::Hypercall, kind, detail, number), extra);
}
