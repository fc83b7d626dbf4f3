//! kvm_exit: a vCPU left guest mode (include/trace/events in arch/x86/kvm/trace.h).
//!
//! Raw: `TP_PROTO(u32 exit_reason, struct kvm_vcpu *vcpu, u32 isa)`, or `TP_PROTO(struct kvm_vcpu *vcpu, u32 isa)`.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext as _,
    helpers::bpf_probe_read_kernel,
    macros::raw_tracepoint,
    programs::{RawTracePointContext, TracePointContext},
};
use kvm_utils_common::{
    config::{
        NONE, Trouble,
        mode::{LEDGER, REASON_BY_VALUE},
    },
    exits::CODE_UNREADABLE,
};

use crate::{
    drilldown::{exits, time},
    globals,
    hook::PASS_ON,
    trouble,
    vcpu::{self, Place, Who},
};

/// KVM_ISA_VMX and KVM_ISA_SVM, arch/x86/kvm/trace.h.
const ISA_VMX: u32 = 1;
const ISA_SVM: u32 = 2;

#[raw_tracepoint(tracepoint = "kvm_exit")]
fn kvm_exit_raw(ctx: RawTracePointContext) -> i32 {
    // Arguments that are not there may not be read, and the context only at constant offsets.
    let (first, second): (u64, u64) = (ctx.arg(0), ctx.arg(1));
    if globals::MODE.load() & REASON_BY_VALUE != 0 {
        let isa: u32 = ctx.arg(2);
        let who = Who::by_address(second, isa);
        on_exit(who, || first & 0xffff_ffff);
    } else {
        let who = Who::by_address(first, second as u32);
        on_exit(who, || reason(first, second as u32));
    }
    0
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint/kvm/kvm_exit")]
fn kvm_exit_tp(ctx: *mut c_void) -> u32 {
    let ctx = TracePointContext::new(ctx);
    // One probe read of the whole record is cheaper than one for each field.
    // SAFETY: probe reads check the address themselves; the record is padded to this size in perf's buffer.
    let Ok(record) = (unsafe { bpf_probe_read_kernel(ctx.as_ptr().cast::<[u32; RECORD_WORDS]>()) }) else {
        trouble::count(Trouble::UnreadableReason);
        return PASS_ON;
    };
    let isa = field(&record, globals::EXIT_ISA_AT.load());
    let who = Who::by_thread(field(&record, globals::EXIT_VCPU_ID_AT.load()), isa);
    on_exit(who, || u64::from(field(&record, globals::EXIT_REASON_AT.load())));
    PASS_ON
}

/// Hands an exit to the drill-downs. The reason is only read for vCPUs that are wanted.
#[inline(always)]
fn on_exit(who: Who, reason: impl Fn() -> u64) {
    let record = match vcpu::cached(who) {
        Some(record) => record,
        None => match vcpu::place(who) {
            Place::Own(record) => record,
            Place::Overflow(record) => return exits::count_overflow(record, reason()),
            Place::Ignored => return,
        },
    };
    if globals::MODE.load() & LEDGER != 0 {
        return time::exit(record, who.isa, reason);
    }
    exits::record_exit(record, who.isa, reason());
}

/// Words of the classic record that are read: up to vcpu_id in every layout known; user space checks.
const RECORD_WORDS: usize = kvm_utils_common::config::EXIT_RECORD_BYTES / 4;

/// The u32 at byte offset `at` of the record; 0 where the kernel has no such field.
#[inline(always)]
fn field(record: &[u32; RECORD_WORDS], at: u32) -> u32 {
    let index = (at / 4) as usize;
    if index < RECORD_WORDS { record[index] } else { 0 }
}

/// The exit reason, from where this kernel keeps it.
#[inline(always)]
fn reason(vcpu: u64, isa: u32) -> u64 {
    // SAFETY: probe reads check the address themselves.
    let code = unsafe {
        if isa == ISA_SVM {
            let (vmcb, exit_code) = (globals::SVM_VMCB.load(), globals::VMCB_EXIT_CODE.load());
            if vmcb == NONE {
                return unreadable();
            }
            // The event truncates the code to 32 bits too, also where the VMCB's is read as 64 (from 7.0).
            bpf_probe_read_kernel((vcpu + u64::from(vmcb)) as *const u64)
                .and_then(|vmcb| bpf_probe_read_kernel((vmcb + u64::from(exit_code)) as *const u32))
        } else {
            let offset = globals::VMX_EXIT_REASON.load();
            if isa != ISA_VMX || offset == NONE {
                return unreadable();
            }
            bpf_probe_read_kernel((vcpu + u64::from(offset)) as *const u32)
        }
    };
    code.map_or_else(|_| unreadable(), u64::from)
}

#[inline(never)]
fn unreadable() -> u64 {
    trouble::count(Trouble::UnreadableReason);
    CODE_UNREADABLE
}
