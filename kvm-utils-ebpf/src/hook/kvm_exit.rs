//! kvm_exit: a vCPU left guest mode (include/trace/events in arch/x86/kvm/trace.h).
//!
//! Raw: `TP_PROTO(u32 exit_reason, struct kvm_vcpu *vcpu, u32 isa)`, or `TP_PROTO(struct kvm_vcpu *vcpu, u32 isa)`.

use aya_ebpf::{
    EbpfContext as _,
    helpers::bpf_probe_read_kernel,
    macros::{raw_tracepoint, tracepoint},
    programs::{RawTracePointContext, TracePointContext},
};
use kvm_utils_common::{
    config::{NONE, Trouble},
    exits::CODE_UNREADABLE,
};

use crate::{
    drilldown::exits,
    globals, trouble,
    vcpu::{self, Who},
};

/// KVM_ISA_VMX and KVM_ISA_SVM, arch/x86/kvm/trace.h.
const ISA_VMX: u32 = 1;
const ISA_SVM: u32 = 2;

#[raw_tracepoint(tracepoint = "kvm_exit")]
fn kvm_exit_raw(ctx: RawTracePointContext) -> i32 {
    let arguments = Arguments::of(&ctx);
    let vcpu = arguments.at(globals::EXIT_ARG_VCPU.load());
    let isa = arguments.at(globals::EXIT_ARG_ISA.load()) as u32;
    let found = vcpu::find(Who::by_address(vcpu, isa));
    if matches!(found, vcpu::Found::Ignored) {
        return 0;
    }
    exits::record_exit(found, isa, reason(&arguments, vcpu, isa));
    0
}

#[tracepoint(category = "kvm", name = "kvm_exit")]
fn kvm_exit_tp(ctx: TracePointContext) -> u32 {
    // One probe read of the whole record is cheaper than one for each field.
    // SAFETY: probe reads check the address themselves; the record is padded to this size in perf's buffer.
    let Ok(record) = (unsafe { bpf_probe_read_kernel(ctx.as_ptr().cast::<[u32; RECORD_WORDS]>()) }) else {
        trouble::count(Trouble::UnreadableReason);
        return 0;
    };
    let isa = field(&record, globals::EXIT_ISA_AT.load());
    let found = vcpu::find(Who::by_thread(field(&record, globals::EXIT_VCPU_ID_AT.load()), isa));
    exits::record_exit(found, isa, u64::from(field(&record, globals::EXIT_REASON_AT.load())));
    0
}

/// Words of the classic record that are read: up to vcpu_id in every layout known; user space checks.
const RECORD_WORDS: usize = kvm_utils_common::config::EXIT_RECORD_BYTES / 4;

/// The u32 at byte offset `at` of the record; 0 where the kernel has no such field.
#[inline(always)]
fn field(record: &[u32; RECORD_WORDS], at: u32) -> u32 {
    let index = (at / 4) as usize;
    if index < RECORD_WORDS { record[index] } else { 0 }
}

/// The arguments of the raw tracepoint, the vCPU's, the isa's and the reason's among them.
struct Arguments([u64; 3]);

impl Arguments {
    /// The context can only be read at constant offsets, and reading more arguments than there are is refused when the
    /// program is attached. So each is read in one place, the third only if it is there.
    #[inline(always)]
    fn of(ctx: &RawTracePointContext) -> Self {
        let third = if globals::EXIT_ARG_REASON.load() != NONE { ctx.arg(2) } else { 0 };
        Self([ctx.arg(0), ctx.arg(1), third])
    }

    #[inline(always)]
    fn at(&self, position: u32) -> u64 {
        match position {
            0 => self.0[0],
            1 => self.0[1],
            _ => self.0[2],
        }
    }
}

/// The exit reason, from where this kernel keeps it.
#[inline(always)]
fn reason(arguments: &Arguments, vcpu: u64, isa: u32) -> u64 {
    if globals::EXIT_ARG_REASON.load() != NONE {
        return u64::from(arguments.at(globals::EXIT_ARG_REASON.load()) as u32);
    }
    // SAFETY: probe reads check the address themselves.
    let code = unsafe {
        if isa == ISA_SVM && globals::SVM_VMCB.load() != NONE {
            match bpf_probe_read_kernel((vcpu + u64::from(globals::SVM_VMCB.load())) as *const u64) {
                // The event truncates the code to 32 bits too, also where the VMCB's is read as 64 (from 7.0).
                Ok(vmcb) => {
                    bpf_probe_read_kernel((vmcb + u64::from(globals::VMCB_EXIT_CODE.load())) as *const u32)
                }
                Err(error) => Err(error),
            }
        } else if isa == ISA_VMX && globals::VMX_EXIT_REASON.load() != NONE {
            bpf_probe_read_kernel((vcpu + u64::from(globals::VMX_EXIT_REASON.load())) as *const u32)
        } else {
            Err(-1)
        }
    };
    match code {
        Ok(code) => u64::from(code),
        Err(_) => {
            trouble::count(Trouble::UnreadableReason);
            CODE_UNREADABLE
        }
    }
}
