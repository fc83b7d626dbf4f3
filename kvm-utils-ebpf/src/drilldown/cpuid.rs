//! cpuid: what guests ask of the processor, by leaf and subleaf.

use kvm_utils_common::cpuid;

use crate::{hook::event::Fields, rows, vcpu};

/// The tracepoint kvm_cpuid: (function, index, found, used_max_basic).
#[inline(always)]
pub fn record([leaf, subleaf, found, max_basic]: Fields) {
    let key = cpuid::key(leaf as u32, subleaf as u32, found != 0, max_basic != 0);
    rows::count(&mut vcpu::current(), key, 0);
}
