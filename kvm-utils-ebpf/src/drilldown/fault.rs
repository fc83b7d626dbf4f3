//! fault: nested page faults, by guest-physical page and by what was done.

use kvm_utils_common::{
    fault::{KIND_FAULT, KIND_MMIO, MMIO_WRITE, PAGE_SHIFT, detail},
    rows::{RowKey, RowNoun},
};

use crate::{hook::event::Fields, rows, vcpu};

/// The tracepoint kvm_page_fault: (fault_address, error_code).
#[inline(always)]
pub fn record([address, code, ..]: Fields) {
    count(KIND_FAULT, detail(code), address);
}

/// The tracepoint kvm_mmio: (type, gpa). It follows the fault of the same access, if there was one.
#[inline(always)]
pub fn record_mmio([kind, address, ..]: Fields) {
    count(KIND_MMIO, u64::from(kind == MMIO_WRITE), address);
}

#[inline(always)]
fn count(kind: u8, detail: u64, address: u64) {
    let key = RowKey::new(RowNoun::Fault, kind, detail, address >> PAGE_SHIFT);
    rows::count(&mut vcpu::current(), key, 0);
}
