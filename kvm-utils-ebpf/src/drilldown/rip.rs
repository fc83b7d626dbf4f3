//! rip: where in the guest exits happen, by reason and instruction pointer.

use kvm_utils_common::{config::mode::BY_THREAD, rip};

use crate::{
    globals,
    hook::event::Fields,
    rows,
    vcpu::{self, Who},
};

/// The classic record of kvm_exit: (exit_reason, guest_rip, isa, vcpu_id).
#[inline(always)]
pub fn record([reason, address, isa, vcpu_id]: Fields) {
    let isa = isa as u32;
    let mut current = if globals::MODE.load() & BY_THREAD != 0 {
        // This event says which vCPU it is: nothing is to be learned from an entry first.
        vcpu::known(Who::by_thread(vcpu_id as u32, isa))
    } else {
        vcpu::current()
    };
    rows::count(&mut current, rip::key(isa, reason as u32, address), 0);
}
