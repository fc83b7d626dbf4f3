//! time: where a vCPU's time goes. The transitions are `kvm_utils_common::ledger`'s; here is who and when.

use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_probe_read_kernel};
use kvm_utils_common::{
    config::{
        NONE,
        mode::{BY_THREAD, CHECK_TGID},
    },
    ledger::{Halts, KVM_EXIT_HLT, Ledger, POLLED_UNKNOWN, is_halt},
    numbers::ledger::STATE_TASK,
    vcpu::VcpuRecord,
};

use crate::{globals, hook::event::Fields, numbers, tasks, vcpu};

/// A vCPU left the guest. The reason is only read where nothing else tells whether the vCPU halts.
#[inline(always)]
pub fn exit(record: &mut VcpuRecord, isa: u32, reason: impl Fn() -> u64) {
    let halt = globals::VCPU_MP_STATE.load() == NONE && is_halt(isa, reason());
    change::<false>(record, |ledger, now| ledger.exit(now, halt));
}

/// A vCPU enters the guest.
#[inline(always)]
pub fn entry(record: &mut VcpuRecord) {
    change::<true>(record, |ledger, now| ledger.entry(now));
}

/// The current thread begins `KVM_RUN` for a vCPU.
#[inline(always)]
pub fn run(record: &mut VcpuRecord) {
    change::<true>(record, |ledger, now| ledger.run(now));
}

/// The same, for the vCPU that this thread ran last.
#[inline(always)]
pub fn run_on(task: u64) {
    of_task(task, |ledger, now| ledger.run(now));
}

/// Makes a transition of the vCPU that a thread runs, if it runs one.
#[inline(always)]
fn of_task(task: u64, transition: impl Fn(&mut Ledger<'_>, u64)) {
    let slot = tasks::slot_of(task);
    if slot == 0 {
        return;
    }
    let Some(numbers) = numbers::of(slot) else { return };
    // SAFETY: a helper without preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    if let Some(mut ledger) = Ledger::change(numbers) {
        transition(&mut ledger, now);
        ledger.done();
    }
}

/// Makes a transition of the vCPU that the current thread runs, and sees whether it is known to be that thread.
#[inline(always)]
fn change<const CHECK: bool>(record: &mut VcpuRecord, transition: impl Fn(&mut Ledger<'_>, u64)) {
    let Some(numbers) = numbers::of(record.slot) else { return };
    let known = numbers.state[STATE_TASK];
    // SAFETY: a helper without preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    if let Some(mut ledger) = Ledger::change(numbers) {
        if ledger.is_new() {
            ledger.begin(record.since, polled(record.key));
        }
        transition(&mut ledger, now);
        ledger.done();
    }
    if known == 0 || CHECK {
        tasks::keep(record.slot, known, now);
    }
}

/// The tracepoint kvm_userspace_exit: (reason, errno). The reason is the VMM's to read only if there was no error.
#[inline(always)]
pub fn leave([reason, errno, ..]: Fields) {
    let halt = errno == 0 && reason == KVM_EXIT_HLT;
    of_task(tasks::current(), |ledger, now| ledger.leave(now, halt));
}

/// The tracepoint kvm_vcpu_wakeup: (ns, waited, valid).
#[inline(always)]
pub fn wakeup([ns, ..]: Fields) {
    let slot = tasks::slot_of(tasks::current());
    if slot == 0 {
        return;
    }
    let Some(numbers) = numbers::of(slot) else { return };
    let polled = polled(vcpu::key(slot));
    // SAFETY: a helper without preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    if let Some(mut ledger) = Ledger::change(numbers) {
        ledger.halted(now, ns, polled);
        ledger.done();
    }
}

/// How a thread lost its CPU.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It could go on.
    Preempted,
    /// It waits for something.
    Blocked,
    /// It has ended.
    Dead,
}

/// Thread `from` loses its CPU to thread `to`.
#[inline(always)]
pub fn switch(from: u64, to: u64, loss: impl Fn() -> Loss) {
    let (from, to) = (tasks::slot_of(from), tasks::slot_of(to));
    if from == 0 && to == 0 {
        return;
    }
    // SAFETY: a helper without preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    if from != 0
        && let Some(numbers) = numbers::of(from)
    {
        lose(numbers, from, now, loss());
    }
    if to != 0
        && let Some(numbers) = numbers::of(to)
        && let Some(mut ledger) = Ledger::change(numbers)
    {
        ledger.scheduled(now);
        ledger.done();
    }
}

#[inline(always)]
fn lose(numbers: &'static mut kvm_utils_common::numbers::VcpuNumbers, slot: u32, now: u64, loss: Loss) {
    let Some(mut ledger) = Ledger::change(numbers) else { return };
    match loss {
        Loss::Preempted => ledger.preempted(now),
        Loss::Blocked => {
            let halts = match ledger.halts() {
                Halts::Yes => true,
                Halts::No => false,
                Halts::AskKvm => waits(vcpu::key(slot)),
            };
            ledger.blocked(now, halts);
        }
        // Another may take the vCPU over, if KVM tells of its end.
        Loss::Dead if globals::MODE.load() & (BY_THREAD | CHECK_TGID) == 0 => ledger.deserted(now),
        Loss::Dead => ledger.end(now),
    }
    ledger.done();
    if loss == Loss::Dead {
        tasks::forget(slot);
    }
}

/// A blocked thread may run again.
#[inline(always)]
pub fn woken(task: u64) {
    of_task(task, |ledger, now| ledger.woken(now));
}

/// Whether KVM takes a vCPU known by its address for one that is not to run: it halts, or waits to be started
/// (`KVM_MP_STATE_RUNNABLE` is 0, include/uapi/linux/kvm.h).
#[inline(always)]
fn waits(vcpu: u64) -> bool {
    let at = globals::VCPU_MP_STATE.load();
    if at == NONE || vcpu == 0 {
        return false;
    }
    // SAFETY: probe reads check the address themselves.
    unsafe { bpf_probe_read_kernel((vcpu + u64::from(at)) as *const u32) }.is_ok_and(|state| state != 0)
}

/// How long KVM has polled for a vCPU known by its address, ns, successful or not.
#[inline(always)]
fn polled(vcpu: u64) -> u64 {
    let (success, fail) = (globals::VCPU_POLL_SUCCESS.load(), globals::VCPU_POLL_FAIL.load());
    if success == NONE || fail == NONE || vcpu == 0 {
        return POLLED_UNKNOWN;
    }
    // SAFETY: probe reads check the address themselves.
    unsafe {
        let success = bpf_probe_read_kernel((vcpu + u64::from(success)) as *const u64);
        let fail = bpf_probe_read_kernel((vcpu + u64::from(fail)) as *const u64);
        match (success, fail) {
            (Ok(success), Ok(fail)) => success.wrapping_add(fail),
            _ => POLLED_UNKNOWN,
        }
    }
}
