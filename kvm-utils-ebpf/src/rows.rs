//! Counting by key: the vCPU's own table first, then the shared hash map, then a counter of what found no place.
//!
//! A vCPU's table is written only by the CPU that runs the vCPU, so plain additions suffice there.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_NOEXIST},
    helpers::bpf_get_current_comm,
    macros::map,
    maps::{Array, HashMap},
};
use kvm_utils_common::{
    config::Trouble,
    rows::{INTERRUPTS, MoreKey, MoreRow, NOUNS, PROBES, RowCell, RowKey, home},
    vcpu::VcpuRecord,
};

use crate::{
    atomic, globals, trouble,
    vcpu::{Current, FILTERED},
};

/// Tables of all vCPUs, `1 << ROW_BITS` rows each, in the order of the records; resized by user space.
#[map]
static ROWS: Array<RowCell> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Rows that found no place in their vCPU's table, and those of events on no vCPU's thread.
#[map]
static MORE_ROWS: HashMap<MoreKey, MoreRow> = HashMap::with_max_entries(1, 0);

/// Processes in `MORE_ROWS`, in the initial pid namespace, and the name of the thread that was seen first.
#[map]
static CROWDS: HashMap<u32, [u8; 16]> = HashMap::with_max_entries(1, 0);

/// What [`find`] says of a key that has no place.
const NOWHERE: u32 = u32::MAX;

/// Counts an event. Gives the row in the vCPU's own table plus 1, or 0 if it was counted elsewhere.
#[inline(always)]
pub fn count(current: &mut Current, key: RowKey, extra: u64) -> u32 {
    let Some(record) = &mut current.record else {
        count_crowd(current.crowd, key, extra);
        return 0;
    };
    let index = find(record.slot, key.a, key.b);
    if index != NOWHERE
        && let Some(row) = ROWS.get_ptr_mut(index)
    {
        // SAFETY: a row of this vCPU's table, which is written by this CPU only.
        unsafe {
            (*row).count += 1;
            (*row).extra += extra;
        }
        return index + 1;
    }
    if !count_more(record.slot, 0, key.a, key.b, extra) {
        count_other(record, key);
    }
    0
}

/// Counts an event of a kind that may come in an interrupt, thus also while [`count`] is at work on this CPU and in this
/// vCPU's table: always in the hash map, where additions are atomic.
#[inline(always)]
pub fn count_shared(current: &mut Current, key: RowKey, extra: u64) {
    let Some(record) = &mut current.record else {
        count_crowd(current.crowd, key, extra);
        return;
    };
    if !count_more(record.slot, 0, key.a, key.b, extra) {
        count_other(record, key);
    }
}

/// Counts an event on no vCPU's thread.
#[inline(always)]
fn count_crowd(crowd: u32, key: RowKey, extra: u64) {
    if crowd != FILTERED && !count_more(0, crowd, key.a, key.b, extra) {
        trouble::count(Trouble::RowsFull);
    }
}

/// The exit that row `index - 1` counted took `took` ns, and went to user space (1) or not (0).
#[inline(always)]
pub fn time(index: u32, took: u64, user: u32) {
    if let Some(row) = ROWS.get_ptr_mut(index - 1) {
        // SAFETY: as in `count`.
        unsafe {
            (*row).timed += 1;
            (*row).total_ns += took;
            (*row).user += u64::from(user);
            if took > (*row).max_ns {
                (*row).max_ns = took;
            }
        }
    }
}

/// The row of a key in the table of record `slot`, taken if it is new; [`NOWHERE`] if there is no room.
#[inline(never)]
fn find(slot: u32, a: u64, b: u64) -> u32 {
    let key = RowKey { a, b };
    let bits = globals::ROW_BITS.load();
    let mask = (1_u64 << bits) - 1;
    let base = u64::from(slot) << bits;
    let home = home(key);
    for i in 0..PROBES {
        let index = (base + ((home + i) & mask)) as u32;
        let Some(row) = ROWS.get_ptr_mut(index) else { return NOWHERE };
        // SAFETY: as in `count`.
        unsafe {
            let taken = (*row).key.b;
            if taken == b && (*row).key.a == a {
                return index;
            }
            if taken == 0 {
                // User space takes a row with a noun for complete.
                (&raw mut (*row).key.a).write_volatile(a);
                (&raw mut (*row).key.b).write_volatile(b);
                return index;
            }
        }
    }
    NOWHERE
}

/// Counts in the hash map, where CPUs meet. False if there is no room.
#[inline(never)]
fn count_more(slot: u32, tgid: u32, a: u64, b: u64, extra: u64) -> bool {
    let key = MoreKey { slot, tgid, key: RowKey { a, b } };
    if let Some(row) = MORE_ROWS.get_ptr_mut(key) {
        add(row, extra);
        return true;
    }
    if slot == 0 && tgid != INTERRUPTS {
        // Who it is can be asked only as long as it lives. Where there is no room its number has to do.
        let name = bpf_get_current_comm().unwrap_or_default();
        let _ = CROWDS.insert(tgid, name, u64::from(BPF_NOEXIST));
    }
    if MORE_ROWS.insert(key, MoreRow { count: 1, extra }, u64::from(BPF_NOEXIST)).is_ok() {
        return true;
    }
    // Another CPU may have been faster.
    match MORE_ROWS.get_ptr_mut(key) {
        Some(row) => {
            add(row, extra);
            true
        }
        None => false,
    }
}

#[inline(always)]
fn add(row: *mut MoreRow, extra: u64) {
    // SAFETY: a value of the map, only ever changed atomically once it is there.
    unsafe {
        atomic::add(&raw mut (*row).count, 1);
        atomic::add(&raw mut (*row).extra, extra);
    }
}

#[inline(always)]
fn count_other(record: &mut VcpuRecord, key: RowKey) {
    let noun = usize::from(key.noun());
    if noun < NOUNS {
        // SAFETY: a counter in a record of the map. Atomic, as it may be counted in an interrupt.
        unsafe { atomic::increment(&raw mut record.other[noun]) };
    }
}
