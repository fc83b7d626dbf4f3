//! Runs the steps of a batch.

use core::ptr::from_ref;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::protocol::{Control, MAX_STEPS, Op, Step, status};

/// One loop of `loops.s`. Not called from Rust: `call_op` passes it registers of its own choice.
type Loop = unsafe extern "C" fn();

macro_rules! loops {
    ($($op:ident => $name:ident,)*) => {
        unsafe extern "C" {
            $(fn $name();)*
        }

        fn loop_of(op: Op) -> Loop {
            match op {
                $(Op::$op => $name,)*
            }
        }
    };
}

loops! {
    Cpuid => op_cpuid,
    PortIn => op_port_in,
    PortOut => op_port_out,
    MmioRead => op_mmio_read,
    MmioWrite => op_mmio_write,
    Rdmsr => op_rdmsr,
    Wrmsr => op_wrmsr,
    Vmcall => op_vmcall,
    Vmmcall => op_vmmcall,
    HltTimer => op_hlt_timer,
    HltMessage => op_hlt_message,
    Touch => op_touch,
    Cr0Write => op_cr0_write,
    Cr4Write => op_cr4_write,
    Cr4Read => op_cr4_read,
    Dr7Read => op_dr7_read,
    Wbinvd => op_wbinvd,
    Invd => op_invd,
    Xsetbv => op_xsetbv,
    Ud2 => op_ud2,
    SpinCpuid => op_spin_cpuid,
    SpinQuiet => op_spin_quiet,
    SendIpi => op_send_ipi,
    AwaitInterrupts => op_await_interrupts,
    PortInString => op_port_in_string,
    PortOutString => op_port_out_string,
}

unsafe extern "C" {
    /// Runs a loop with the operands of `step`; an exception in it ends it. Returns the step's new status.
    fn call_op(op: Loop, step: *const Step) -> u32;
}

/// Runs the batch in the control page and counts it.
pub fn run(control: &Control) {
    let len = (control.len.load(Acquire) as usize).min(MAX_STEPS);
    for step in control.steps.iter().take(len) {
        step.status.store(status::RUNNING, Release);
        let end = match Op::from_number(step.op.load(Relaxed)) {
            Some(_) if step.count.load(Relaxed) == 0 => status::DONE,
            // SAFETY: the loop comes from the table above, and a step outlives the call.
            Some(op) => unsafe { call_op(loop_of(op), step) },
            None => status::UNKNOWN,
        };
        step.status.store(end, Release);
    }
    control.batches.fetch_add(1, Release);
}

/// Runs `op` once before the first batch; an exception in it is ignored. The last slot of the batch serves as its step: a
/// step on the stack would be zeroed with SSE, which some hypervisors cannot emulate at this privilege level.
pub fn try_once(control: &Control, op: Op, arg: u64, value: u64) {
    let Some(step) = control.steps.last() else { return };
    step.count.store(1, Relaxed);
    step.arg.store(arg, Relaxed);
    step.value.store(value, Relaxed);
    // SAFETY: as above.
    let end = unsafe { call_op(loop_of(op), from_ref(step)) };
    if end == status::FAULT {
        control.fault_vector.store(0, Relaxed);
    }
}
