//! kvm_entry: a vCPU is about to enter guest mode (arch/x86/kvm/trace.h).
//!
//! Raw: `TP_PROTO(struct kvm_vcpu *vcpu)`, later with `bool force_immediate_exit`.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext as _,
    helpers::bpf_probe_read_kernel,
    macros::raw_tracepoint,
    programs::{RawTracePointContext, TracePointContext},
};
use kvm_utils_common::config::{
    NONE,
    mode::{ENTRY_VCPU_SECOND, LEARN_THREADS, LEDGER},
};

use crate::{
    drilldown::{exits, time},
    globals,
    hook::PASS_ON,
    vcpu::{self, Place, Who},
};

#[raw_tracepoint(tracepoint = "kvm_entry")]
fn kvm_entry_raw(ctx: RawTracePointContext) -> i32 {
    // The context can only be read at constant offsets, and only where there is an argument.
    if globals::MODE.load() & ENTRY_VCPU_SECOND != 0 {
        on_entry(Who::by_address(ctx.arg(1), 0));
    } else {
        on_entry(Who::by_address(ctx.arg(0), 0));
    }
    0
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint/kvm/kvm_entry")]
fn kvm_entry_tp(ctx: *mut c_void) -> u32 {
    let ctx = TracePointContext::new(ctx);
    let at = globals::ENTRY_VCPU_ID_AT.load();
    let id = if at == NONE {
        0
    } else {
        // SAFETY: probe reads check the address themselves.
        match unsafe { bpf_probe_read_kernel(ctx.as_ptr().cast::<u8>().add(at as usize).cast::<u32>()) } {
            Ok(id) => id,
            Err(_) => return PASS_ON,
        }
    };
    on_entry(Who::by_thread(id, 0));
    PASS_ON
}

#[inline(always)]
fn on_entry(who: Who) {
    let record = match vcpu::cached(who) {
        Some(record) => record,
        None => match vcpu::place(who) {
            Place::Own(record) => record,
            Place::Overflow(_) | Place::Ignored => return,
        },
    };
    let mode = globals::MODE.load();
    if mode & LEARN_THREADS != 0 {
        vcpu::learn_thread(record);
    }
    if mode & LEDGER != 0 {
        return time::entry(record);
    }
    exits::record_entry(record, mode);
}
