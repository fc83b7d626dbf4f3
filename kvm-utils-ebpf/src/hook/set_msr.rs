//! `int vmx_set_msr(struct kvm_vcpu *vcpu, struct msr_data *msr)`, `svm_set_msr` alike (arch/x86/kvm/{vmx/vmx,svm/svm}.c), and
//! `int kvm_set_msr_common(struct kvm_vcpu *vcpu, struct msr_data *msr)` (arch/x86/kvm/x86.c), which they call for what is
//! not the vendor's: where writes go that no fast path takes, and those of the VMM.

use aya_ebpf::{helpers::bpf_probe_read_kernel, macros::kprobe, programs::ProbeContext};
use kvm_utils_common::msr::{KIND_COMMON, KIND_VENDOR};

use crate::{drilldown::msr, globals};

#[kprobe]
fn set_msr_vendor(ctx: ProbeContext) -> u32 {
    on_set(&ctx, KIND_VENDOR);
    0
}

#[kprobe]
fn set_msr_common(ctx: ProbeContext) -> u32 {
    on_set(&ctx, KIND_COMMON);
    0
}

#[inline(always)]
fn on_set(ctx: &ProbeContext, kind: u8) {
    let (Some(vcpu), Some(data)) = (ctx.arg::<u64>(0), ctx.arg::<u64>(1)) else { return };
    // SAFETY: probe reads check the address themselves.
    let (index, host) = unsafe {
        (
            bpf_probe_read_kernel((data + u64::from(globals::MSR_DATA_INDEX.load())) as *const u32),
            bpf_probe_read_kernel((data + u64::from(globals::MSR_DATA_HOST.load())) as *const u8),
        )
    };
    if let (Ok(index), Ok(host)) = (index, host) {
        msr::record_set(vcpu, kind, u64::from(index), host != 0);
    }
}
