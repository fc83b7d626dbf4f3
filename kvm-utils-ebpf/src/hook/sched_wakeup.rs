//! sched_wakeup: a thread that was blocked may run again (include/trace/events/sched.h). Host-wide, on any CPU.
//!
//! `TP_PROTO(struct task_struct *p)`. Not sched_waking: that may come before the sched_switch of the thread that blocks,
//! while this comes when the thread is in a run queue, from where the kernel's own statistic of waiting counts.

use core::ffi::c_void;

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::{
    drilldown::time,
    globals,
    hook::{PASS_ON, event},
};

#[raw_tracepoint(tracepoint = "sched_wakeup")]
fn sched_wakeup_raw(ctx: RawTracePointContext) -> i32 {
    time::woken(ctx.arg(0));
    0
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint/sched/sched_wakeup")]
fn sched_wakeup_tp(ctx: *mut c_void) -> u32 {
    if let Some([task, ..]) = event::classic(ctx, globals::SCHED_WAKEUP_FIELDS.load()) {
        time::woken(task);
    }
    PASS_ON
}
