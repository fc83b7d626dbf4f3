//! Counters of what could not be accounted for as it should.

use aya_ebpf::{bindings::BPF_F_MMAPABLE, macros::map, maps::Array};
use kvm_utils_common::config::{TROUBLES, Trouble};

use crate::atomic;

#[map]
static TROUBLE: Array<u64> = Array::with_max_entries(TROUBLES, BPF_F_MMAPABLE);

/// Adds one to a trouble counter.
#[inline(always)]
pub fn count(trouble: Trouble) {
    if let Some(counter) = TROUBLE.get_ptr_mut(trouble as u32) {
        // SAFETY: the map's value is an aligned u64 that is only ever changed atomically.
        unsafe { atomic::increment(counter) };
    }
}
