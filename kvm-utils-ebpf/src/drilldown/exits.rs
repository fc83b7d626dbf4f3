//! exits: count and duration of every exit per vCPU and reason.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use kvm_utils_common::{
    config::{
        Trouble,
        mode::{EVENTS, IO_TIMES},
    },
    exits::{CELLS, CODE_OTHER, EXTRA_CELLS, ExitCell, HISTS, OTHER_CELL, direct_cell},
    hist::{BUCKETS, Hist, MAX_BITS, SUB_BITS, SUB_BUCKETS},
    vcpu::VcpuRecord,
};

use super::stream;
use crate::{atomic, log2::log2, mask::mask, rows, trouble};

/// A vCPU left the guest because of `code`.
#[inline(always)]
pub fn record_exit(record: &mut VcpuRecord, isa: u32, code: u64) {
    let index = match direct_cell(code) {
        Some(cell) => cell,
        None => extra_cell(record, code),
    };
    let cell = cell(record, index);
    let count = cell.count;
    if count == 0 {
        first_exit(record, isa, index, code);
    }
    cell.count = count + 1;
    if record.pending_since != 0 {
        record.unpaired_exits += 1;
        // What the earlier exit turned out to be has no duration.
        (record.pending_row, record.pending_user) = (0, 0);
    }
    record.pending_cell = index as u32;
    // SAFETY: a helper without preconditions. Read last, so that the time it takes to get here is not the exit's.
    record.pending_since = unsafe { bpf_ktime_get_ns() };
}

/// A vCPU enters the guest: its pending exit is over. `mode` are the switches.
#[inline(always)]
pub fn record_entry(record: &mut VcpuRecord, mode: u32) {
    let since = record.pending_since;
    if since == 0 {
        // Before the first exit seen it is the vCPU's first entry, or ends an exit from before we were attached.
        if record.exited != 0 {
            record.unpaired_entries += 1;
        }
        return;
    }
    // SAFETY: a helper without preconditions.
    let took = unsafe { bpf_ktime_get_ns() }.wrapping_sub(since);
    let index = u64::from(record.pending_cell);
    // One test for both, by an instruction that the compiler leaves as it is: so what is off costs nothing more.
    let besides = mask::<{ (IO_TIMES | EVENTS) as i32 }>(u64::from(mode));
    if besides != 0 {
        // Not that it is seldom: it shall bear what it costs by itself.
        core::hint::cold_path();
        if besides & u64::from(IO_TIMES) != 0 {
            if record.pending_row != 0 {
                rows::time(record.pending_row, took, record.pending_user);
            }
            (record.pending_row, record.pending_user) = (0, 0);
        }
        if besides & u64::from(EVENTS) != 0 {
            let code = cell(record, index).code;
            stream::tell(record, code, took);
        }
    }
    record.pending_since = 0;
    let cell = cell(record, index);
    if took > cell.max_ns {
        cell.max_ns = took;
    }
    if took < cell.min_ns {
        cell.min_ns = took;
    }
    cell.timed += 1;
    cell.total_ns += took;
    let hist = mask::<{ HISTS as i32 - 1 }>(u64::from(cell.hist)) as usize;
    let bucket = mask::<{ BUCKETS.next_power_of_two() as i32 - 1 }>(bucket(took)) as usize;
    if bucket < BUCKETS {
        // SAFETY: both indices are within bounds. The histogram is this cell's alone, or number 0, which is never read.
        unsafe {
            let hist = (&raw mut record.hists).cast::<Hist>().add(hist);
            *(&raw mut (*hist).buckets).cast::<u32>().add(bucket) += 1;
        }
    }
}

/// `kvm_utils_common::hist::bucket`, in fewer instructions.
#[inline(always)]
pub fn bucket(took: u64) -> u64 {
    if took >> MAX_BITS != 0 {
        return BUCKETS as u64 - 1;
    }
    if took < SUB_BUCKETS {
        return took;
    }
    let shift = log2(took) - u64::from(SUB_BITS);
    (shift << SUB_BITS) + (took >> shift)
}

/// Cell `index` of a record, where the verifier can see that it lies within. The record may be used beside it.
#[inline(always)]
fn cell(record: *mut VcpuRecord, index: u64) -> &'static mut ExitCell {
    // SAFETY: the index is masked to the number of cells, and the record belongs to the caller.
    unsafe {
        let index = mask::<{ CELLS as i32 - 1 }>(index) as usize;
        &mut *(&raw mut (*record).cells).cast::<ExitCell>().add(index)
    }
}

/// Prepares a cell that is used for the first time.
#[inline(always)]
fn first_exit(record: &mut VcpuRecord, isa: u32, index: u64, code: u64) {
    let cell = cell(record, index);
    cell.code = if index == OTHER_CELL { CODE_OTHER } else { code };
    cell.min_ns = u64::MAX;
    if (record.hists_used as usize) < HISTS - 1 {
        record.hists_used += 1;
        cell.hist = record.hists_used;
    } else {
        trouble::count(Trouble::HistogramsFull);
    }
    record.isa = isa;
    record.exited = 1;
    let word = mask::<{ CELLS as i32 / 64 - 1 }>(index >> 6) as usize;
    // SAFETY: the index is masked to the number of words.
    unsafe { *(&raw mut record.seen).cast::<u64>().add(word) |= 1 << (index & 63) };
}

/// The cell of a code that has no fixed one: the first extra cell that is free or already has it.
#[inline(never)]
fn extra_cell(record: &mut VcpuRecord, code: u64) -> u64 {
    for index in EXTRA_CELLS..OTHER_CELL {
        let cell = cell(record, index);
        if cell.count == 0 || cell.code == code {
            return index;
        }
    }
    OTHER_CELL
}

/// Counts an exit of a vCPU that has no record of its own. Many CPUs write here.
#[inline(never)]
pub fn count_overflow(record: *mut VcpuRecord, code: u64) {
    let (index, code) = match direct_cell(code) {
        Some(cell) => (cell, code),
        None => (OTHER_CELL, CODE_OTHER),
    };
    let cell: *mut ExitCell = cell(record, index);
    // SAFETY: a cell of the map; every writer stores the same code, and the count is atomic.
    unsafe {
        (&raw mut (*cell).code).write_volatile(code);
        atomic::increment(&raw mut (*cell).count);
    }
}
