//! exits: count and duration of every exit per vCPU and reason.

use aya_ebpf::{bindings::BPF_F_MMAPABLE, helpers::bpf_ktime_get_ns, macros::map, maps::Array};
use kvm_utils_common::{
    config::Trouble,
    exits::{CELLS, CODE_OTHER, EXTRA_CELLS, ExitCell, OTHER_CELL, direct_cell},
    hist::{BUCKETS, Hist, bucket},
    vcpu::VcpuRecord,
};

use crate::{atomic, globals, trouble, vcpu::Found};

/// Histograms, given to a (vCPU, reason) when it first occurs. Number 0 takes what has none and is never read.
#[map]
static HISTS: Array<Hist> = Array::with_max_entries(64, BPF_F_MMAPABLE);

/// A vCPU left the guest because of `code`.
#[inline(always)]
pub fn record_exit(found: Found, isa: u32, code: u64) {
    let record = match found {
        Found::Own(record) => record,
        Found::Overflow(record) => return count_overflow(record, code),
        Found::Ignored => return,
    };
    let index = match direct_cell(code as u32) {
        Some(cell) if code <= u64::from(u32::MAX) => cell,
        _ => extra_cell(record, code),
    };
    let cell = &mut record.cells[index as usize & (CELLS - 1)];
    let count = cell.count;
    if count == 0 {
        record.isa = isa;
        first_exit(record, index, code);
    }
    // SAFETY: a helper without preconditions. Read late, so that the time it takes to get here is not the exit's.
    let now = unsafe { bpf_ktime_get_ns() };
    let cell = &mut record.cells[index as usize & (CELLS - 1)];
    cell.count = count + 1;
    if record.pending_since != 0 {
        record.unpaired_exits += 1;
    }
    record.pending_cell = index;
    record.pending_since = now;
}

/// A vCPU enters the guest: its pending exit is over.
#[inline(always)]
pub fn record_entry(found: Found) {
    let Found::Own(record) = found else { return };
    let since = record.pending_since;
    if since == 0 {
        if record.entered == 0 {
            record.entered = 1;
        } else {
            record.unpaired_entries += 1;
        }
        return;
    }
    // SAFETY: a helper without preconditions.
    let took = unsafe { bpf_ktime_get_ns() }.wrapping_sub(since);
    let cell = &mut record.cells[record.pending_cell as usize & (CELLS - 1)];
    record.pending_since = 0;
    if took > cell.max_ns {
        cell.max_ns = took;
    }
    if took < cell.min_ns {
        cell.min_ns = took;
    }
    cell.timed += 1;
    cell.total_ns += took;
    if let Some(hist) = HISTS.get_ptr_mut(cell.hist) {
        let bucket = bucket(took);
        if bucket < BUCKETS {
            // SAFETY: this histogram belongs to this vCPU's cell alone, or is number 0, whose content does not count.
            unsafe { (*hist).buckets[bucket] += 1 };
        }
    }
}

/// Prepares a cell that is used for the first time.
#[inline(always)]
fn first_exit(record: &mut VcpuRecord, index: u32, code: u64) {
    let index = index as usize & (CELLS - 1);
    let cell = &mut record.cells[index];
    cell.code = if index as u32 == OTHER_CELL { CODE_OTHER } else { code };
    cell.min_ns = u64::MAX;
    if record.hists_used < globals::HISTS_PER_VCPU.load() {
        cell.hist = record.hist_base + record.hists_used;
        record.hists_used += 1;
    } else {
        trouble::count(Trouble::HistogramsFull);
    }
    record.entered = 1;
    record.seen[(index >> 6) & 3] |= 1 << (index & 63);
}

/// The cell of a code that has no fixed one: the first extra cell that is free or already has it.
#[inline(never)]
fn extra_cell(record: &mut VcpuRecord, code: u64) -> u32 {
    for index in EXTRA_CELLS..OTHER_CELL {
        let cell = &record.cells[index as usize & (CELLS - 1)];
        if cell.count == 0 || cell.code == code {
            return index;
        }
    }
    OTHER_CELL
}

/// Counts an exit of a vCPU that has no record of its own. Many CPUs write here.
#[inline(always)]
fn count_overflow(record: *mut VcpuRecord, code: u64) {
    let (index, code) = match direct_cell(code as u32) {
        Some(cell) if code <= u64::from(u32::MAX) => (cell, code),
        _ => (OTHER_CELL, CODE_OTHER),
    };
    // SAFETY: the index is within the cells; every writer stores the same code, and the count is atomic.
    unsafe {
        let cell: *mut ExitCell =
            (&raw mut (*record).cells).cast::<ExitCell>().add(index as usize & (CELLS - 1));
        (&raw mut (*cell).code).write_volatile(code);
        atomic::increment(&raw mut (*cell).count);
    }
}
