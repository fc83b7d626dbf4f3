//! sched_switch: a CPU goes from one thread to another (include/trace/events/sched.h). Host-wide.
//!
//! Raw: `TP_PROTO(bool preempt, struct task_struct *prev, struct task_struct *next)`, later with `unsigned int prev_state`.
//! A thread that is preempted could go on, whatever its state.

use core::ffi::c_void;

use aya_ebpf::{helpers::bpf_probe_read_kernel, macros::raw_tracepoint, programs::RawTracePointContext};
use kvm_utils_common::config::NONE;

use crate::{
    drilldown::time::{self, Loss},
    globals,
    hook::{PASS_ON, event},
};

/// `TASK_DEAD`, include/linux/sched.h.
const TASK_DEAD: u32 = 0x80;

#[raw_tracepoint(tracepoint = "sched_switch")]
fn sched_switch_raw(ctx: RawTracePointContext) -> i32 {
    let (preempt, from, to): (u64, u64, u64) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    let at = globals::TASK_STATE.load();
    // An argument that is not there may not be read.
    let passed: u64 = if at == NONE { ctx.arg(3) } else { 0 };
    time::switch(from, to, || {
        let state = if at == NONE {
            passed as u32
        } else {
            // SAFETY: probe reads check the address themselves.
            unsafe { bpf_probe_read_kernel((from + u64::from(at)) as *const u32) }.unwrap_or(0)
        };
        if preempt as u8 != 0 || state == 0 {
            Loss::Preempted
        } else if state & TASK_DEAD != 0 {
            Loss::Dead
        } else {
            Loss::Blocked
        }
    });
    0
}

/// States as the record has them: bits of `TASK_REPORT`, above them the mark of a thread that was preempted.
const STATES: u64 = 0xff;
/// `EXIT_DEAD` and `EXIT_ZOMBIE`.
const EXITED: u64 = 0x30;

#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint/sched/sched_switch")]
fn sched_switch_tp(ctx: *mut c_void) -> u32 {
    if let Some([from, state, to, _]) = event::classic(ctx, globals::SCHED_SWITCH_FIELDS.load()) {
        time::switch(from, to, || {
            if state & STATES == 0 {
                Loss::Preempted
            } else if state & EXITED != 0 {
                Loss::Dead
            } else {
                Loss::Blocked
            }
        });
    }
    PASS_ON
}
