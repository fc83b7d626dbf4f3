//! derived: what a KVM that fires no kvm_exit shows all the same. Its other events are those of other nouns; only returns to
//! user space are counted here.

use kvm_utils_common::{
    derived::{DETAIL_ERROR, KIND_RETURN},
    rows::{RowKey, RowNoun},
};

use crate::{
    hook::event::Fields,
    rows,
    vcpu::{self, Current},
};

/// The tracepoint kvm_userspace_exit: (reason, errno). It fires after the vCPU was taken off its thread.
#[inline(always)]
pub fn returned([reason, errno, ..]: Fields) {
    let (detail, a) = if errno == 0 { (0, reason) } else { (DETAIL_ERROR, errno) };
    let mut current = match vcpu::by_thread() {
        Some(record) => Current::of(record),
        None => vcpu::current(),
    };
    rows::count(&mut current, RowKey::new(RowNoun::User, KIND_RETURN, detail, a), 0);
}
