//! kvm_arch_vcpu_destroy(struct kvm_vcpu *): the vCPU's memory is about to be freed (arch/x86/kvm/x86.c).
//!
//! Without this hook a new VM whose vCPU lands on the same address would be taken for the old one.

use aya_ebpf::{macros::kprobe, programs::ProbeContext};

use crate::vcpu;

#[kprobe]
fn vcpu_destroy(ctx: ProbeContext) -> u32 {
    if let Some(vcpu) = ctx.arg::<u64>(0) {
        vcpu::forget(vcpu);
    }
    0
}
