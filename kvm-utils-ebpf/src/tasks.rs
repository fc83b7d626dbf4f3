//! Which vCPU a thread runs, asked at each change of thread on the whole host: threads that run none must be told so in
//! a few instructions.
//!
//! A thread is known by the address of its `task_struct`, which the scheduler's raw tracepoints pass, or by its id in the
//! initial pid namespace. A direct-mapped table of words says which record a thread may belong to: 0 = none. Behind it is
//! a hash map, asked when two threads share a line. The numbers of a record name its thread: whatever the table
//! and the map say is believed only if they agree.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_get_current_task},
    macros::map,
    maps::HashMap,
};
use kvm_utils_common::{config::mode::TASKS_BY_ADDRESS, ledger::Ledger, numbers::ledger::STATE_TASK};

use crate::{globals, mask::mask, numbers};

/// Words of the table; a power of two. It has to be much larger than there are vCPUs for other threads to find a zero.
const LINES: usize = 1 << LINE_BITS;
const LINE_BITS: u32 = 13;

static mut TABLE: [u32; LINES] = [0; LINES];
/// Thread to record.
#[map]
static TASKS: HashMap<u64, u32> = HashMap::with_max_entries(1, 0);

/// The current thread.
#[inline(always)]
pub fn current() -> u64 {
    if globals::MODE.load() & TASKS_BY_ADDRESS != 0 {
        // SAFETY: a helper without preconditions.
        unsafe { bpf_get_current_task() }
    } else {
        u64::from(bpf_get_current_pid_tgid() as u32)
    }
}

#[inline(always)]
fn line(task: u64) -> *mut u32 {
    // Fibonacci hashing (Knuth, TAOCP volume 3, 6.4).
    const PHI: u64 = 0x9e37_79b9_7f4a_7c15;
    let index = mask::<{ LINES as i32 - 1 }>(task.wrapping_mul(PHI) >> (64 - LINE_BITS)) as usize;
    // SAFETY: masked to the size of the table.
    unsafe { (&raw mut TABLE).cast::<u32>().add(index) }
}

/// Record of the vCPU that a thread runs; 0 = it runs none.
#[inline(always)]
pub fn slot_of(task: u64) -> u32 {
    // SAFETY: one aligned word.
    let slot = unsafe { line(task).read_volatile() };
    if slot == 0 { 0 } else { resolve(task, slot) }
}

/// The same, knowing what the table says.
#[inline(never)]
fn resolve(task: u64, slot: u32) -> u32 {
    // Nobody runs a vCPU on a CPU's idle thread, whose id is 0.
    if task == 0 {
        return 0;
    }
    if runs(slot, task) {
        return slot;
    }
    // SAFETY: copied at once.
    match unsafe { TASKS.get(task) }.copied() {
        Some(slot) if runs(slot, task) => slot,
        _ => 0,
    }
}

#[inline(always)]
fn runs(slot: u32, task: u64) -> bool {
    numbers::of(slot).is_some_and(|numbers| numbers.state[STATE_TASK] == task)
}

/// The current thread runs the vCPU of record `slot` since `now`; the numbers say that `known` does.
#[inline(always)]
pub fn keep(slot: u32, known: u64, now: u64) {
    let task = current();
    // The line is lost if another CPU cleared it for another thread at the moment at which it was taken.
    // SAFETY: one aligned word.
    if task != known || unsafe { line(task).read_volatile() } == 0 {
        learn(slot, task, now);
    }
}

#[inline(never)]
fn learn(slot: u32, task: u64, now: u64) -> u32 {
    // The vCPU that ran here before has to say so again when it comes back.
    // SAFETY: copied at once.
    if let Some(before) = unsafe { TASKS.get(task) }.copied()
        && before != slot
        && let Some(other) = numbers::of(before)
        && other.state[STATE_TASK] == task
    {
        other.state[STATE_TASK] = 0;
        if let Some(mut ledger) = Ledger::change(other) {
            // At the moment at which the other one's time begins to be this thread's: no time is both's.
            ledger.deserted(now);
            ledger.done();
        }
    }
    forget(slot);
    // If it fails, the table knows the thread unless another shares its line.
    let _ = TASKS.insert(task, slot, 0);
    if let Some(numbers) = numbers::of(slot) {
        numbers.state[STATE_TASK] = task;
    }
    // SAFETY: one aligned word.
    unsafe { line(task).write_volatile(slot) };
    0
}

/// No thread runs the vCPU of record `slot`.
#[inline(always)]
pub fn forget(slot: u32) {
    let Some(numbers) = numbers::of(slot) else { return };
    let task = numbers.state[STATE_TASK];
    if task == 0 {
        return;
    }
    numbers.state[STATE_TASK] = 0;
    // SAFETY: copied at once.
    if unsafe { TASKS.get(task) }.copied() == Some(slot) {
        // It can only be gone already, which is what is wanted.
        let _ = TASKS.remove(task);
    }
    let line = line(task);
    // SAFETY: one aligned word.
    unsafe {
        if line.read_volatile() == slot {
            line.write_volatile(0);
        }
    }
}
