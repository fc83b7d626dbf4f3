//! kvm_exit, for the noun rip: where the guest was (arch/x86/kvm/trace.h).
//!
//! Only the classic record has that on every processor: on Intel's KVM reads it by a VMREAD, which a program cannot do.

use core::ffi::c_void;

use super::{PASS_ON, event::classic};
use crate::{drilldown::rip, globals};

#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint/kvm/kvm_exit")]
fn kvm_exit_rip_tp(ctx: *mut c_void) -> u32 {
    if let Some(fields) = classic(ctx, globals::EXIT_RIP_FIELDS.load()) {
        rip::record(fields);
    }
    PASS_ON
}
