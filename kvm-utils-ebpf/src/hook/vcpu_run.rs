//! kvm_arch_vcpu_ioctl_run(struct kvm_vcpu *): `KVM_RUN` begins (arch/x86/kvm/x86.c).

use aya_ebpf::{macros::kprobe, programs::ProbeContext};
use kvm_utils_common::config::mode::BY_THREAD;

use crate::{
    drilldown::time,
    globals, tasks,
    vcpu::{self, Place, Who},
};

#[kprobe]
fn vcpu_run(ctx: ProbeContext) -> u32 {
    if globals::MODE.load() & BY_THREAD != 0 {
        // Known only once it has entered its guest.
        time::run_on(tasks::current());
        return 0;
    }
    let Some(vcpu) = ctx.arg::<u64>(0) else { return 0 };
    let who = Who::by_address(vcpu, 0);
    match vcpu::cached(who) {
        Some(record) => time::run(record),
        None => {
            if let Place::Own(record) = vcpu::place(who) {
                time::run(record);
            }
        }
    }
    0
}
