//! A copy of the counters, taken while the kernel goes on counting.

use kvm_utils_common::{
    exits::{CELLS, ExitCell, HISTS},
    hist::{BUCKETS, Hist},
    vcpu::{OVERFLOW_SLOT, STATE_FREE, VcpuRecord},
};

use super::mapped::Mapped;

/// What the record of one vCPU says apart from its cells.
#[derive(Clone, Copy, Debug, Default)]
pub struct Head {
    /// Index of the record.
    pub slot: u32,
    /// `STATE_LIVE` or `STATE_DEAD`.
    pub state: u32,
    /// Key in the `SLOTS` map; 0 once the kernel destroyed the vCPU.
    pub key: u64,
    /// The `struct kvm`'s address; 0 = unknown.
    pub kvm: u64,
    /// Monotonic time at which the record was taken, ns. With the slot it names one vCPU for ever.
    pub since: u64,
    /// Monotonic time at which the kernel destroyed the vCPU, ns; 0 while it lives or where that is not told.
    pub until: u64,
    /// KVM's own count of the vCPU's exits when the record was taken; `u64::MAX` = not known.
    pub kvm_exits_first: u64,
    /// The same when the vCPU was destroyed.
    pub kvm_exits_last: u64,
    /// Whether `kvm_exits_first` was read at an exit, which it may or may not include.
    pub taken_at_exit: bool,
    /// KVM's id; `u32::MAX` = unknown.
    pub vcpu_id: u32,
    /// isa of the last new exit reason; 0 = no exit yet.
    pub isa: u32,
    /// Process and thread in the initial pid namespace.
    pub tgid: u32,
    /// See `tgid`.
    pub tid: u32,
    /// Process and thread as seen from here; 0 = not visible.
    pub ns_tgid: u32,
    /// See `ns_tgid`.
    pub ns_tid: u32,
    /// Thread name, NUL-padded.
    pub comm: [u8; 16],
    /// Monotonic time of the exit now going on, ns; 0 = the vCPU is in the guest.
    pub pending_since: u64,
    /// Its cell.
    pub pending_cell: u32,
    /// Exits followed by an exit.
    pub unpaired_exits: u64,
    /// Entries preceded by no exit.
    pub unpaired_entries: u64,
    /// The vCPU's cells: this range of [`Snapshot::cells`].
    pub cells: (u32, u32),
}

impl Head {
    /// Process as a person here would name it: as seen from here, else in the initial pid namespace.
    #[must_use]
    pub fn shown_pid(&self) -> u32 {
        if self.ns_tgid == 0 { self.tgid } else { self.ns_tgid }
    }

    /// Thread, likewise.
    #[must_use]
    pub fn shown_tid(&self) -> u32 {
        if self.ns_tid == 0 { self.tid } else { self.ns_tid }
    }
}

/// Counters of one (vCPU, reason).
#[derive(Clone, Copy, Debug)]
pub struct CellCopy {
    /// Index of the cell within the record.
    pub index: u32,
    /// Index of the histogram within the record; 0 = none.
    pub hist: u32,
    /// The event's exit_reason or a pseudo code.
    pub code: u64,
    /// Exits.
    pub count: u64,
    /// Exits with a known duration.
    pub timed: u64,
    /// Sum of durations, ns.
    pub total_ns: u64,
    /// Shortest, ns; valid if `timed` > 0.
    pub min_ns: u64,
    /// Longest, ns.
    pub max_ns: u64,
}

/// All counters at one time. Reused between reads, so that reading allocates nothing in the long run.
#[derive(Default, Debug)]
pub struct Snapshot {
    /// Monotonic time of the read, ns.
    pub time_ns: u64,
    /// One for each record in use; the overflow record, if used, is slot 0.
    pub vcpus: Vec<Head>,
    /// Cells of all vCPUs.
    pub cells: Vec<CellCopy>,
}

impl Snapshot {
    /// Copies the counters of all records in use. Makes no system call.
    pub fn read(&mut self, records: &Mapped<VcpuRecord>) {
        self.vcpus.clear();
        self.cells.clear();
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        self.time_ns = time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs();
        for slot in 0..records.len() {
            if let Some(record) = records.get(slot) {
                self.read_record(slot, record);
            }
        }
    }

    /// Cells of one vCPU.
    #[must_use]
    pub fn cells_of(&self, head: &Head) -> &[CellCopy] {
        self.cells.get(head.cells.0 as usize..head.cells.1 as usize).unwrap_or_default()
    }

    fn read_record(&mut self, slot: u32, record: *mut VcpuRecord) {
        macro_rules! get {
            ($($field:tt)+) => {
                // SAFETY: `record` is valid while the map is; the kernel writes whole aligned words.
                unsafe { (&raw const (*record).$($field)+).read_volatile() }
            };
        }
        let state = get!(state);
        if state == STATE_FREE && slot != OVERFLOW_SLOT {
            return;
        }
        let first = self.cells.len() as u32;
        // CPUs that share the overflow record do not keep its bitmap, they could lose each other's bits.
        let seen = if slot == OVERFLOW_SLOT { [u64::MAX; CELLS / 64] } else { get!(seen) };
        for (word, bits) in seen.into_iter().enumerate() {
            let mut bits = bits;
            while bits != 0 {
                let index = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                // SAFETY: `index` is below CELLS.
                let cell: *const ExitCell =
                    unsafe { (&raw const (*record).cells).cast::<ExitCell>().add(index) };
                macro_rules! of_cell {
                    ($field:ident) => {
                        // SAFETY: as above.
                        unsafe { (&raw const (*cell).$field).read_volatile() }
                    };
                }
                let count = of_cell!(count);
                if count != 0 {
                    self.cells.push(CellCopy {
                        index: index as u32,
                        hist: of_cell!(hist),
                        code: of_cell!(code),
                        count,
                        timed: of_cell!(timed),
                        total_ns: of_cell!(total_ns),
                        min_ns: of_cell!(min_ns),
                        max_ns: of_cell!(max_ns),
                    });
                }
            }
        }
        let last = self.cells.len() as u32;
        if slot == OVERFLOW_SLOT && first == last {
            return;
        }
        self.vcpus.push(Head {
            slot,
            state,
            key: get!(key),
            kvm: get!(kvm),
            since: get!(since),
            until: get!(until),
            kvm_exits_first: get!(kvm_exits_first),
            kvm_exits_last: get!(kvm_exits_last),
            taken_at_exit: get!(taken_at_exit) != 0,
            vcpu_id: get!(vcpu_id),
            isa: get!(isa),
            tgid: get!(tgid),
            tid: get!(tid),
            ns_tgid: get!(ns_tgid),
            ns_tid: get!(ns_tid),
            comm: get!(comm),
            pending_since: get!(pending_since),
            pending_cell: get!(pending_cell),
            unpaired_exits: get!(unpaired_exits),
            unpaired_entries: get!(unpaired_entries),
            cells: (first, last),
        });
    }
}

/// Copies histogram `index` of record `slot`; `None` for 0 (no histogram) and past the end.
#[must_use]
pub fn read_hist(records: &Mapped<VcpuRecord>, slot: u32, index: u32) -> Option<Box<[u32; BUCKETS]>> {
    if index == 0 || index as usize >= HISTS {
        return None;
    }
    let record = records.get(slot)?;
    // SAFETY: `record` is valid while the map is, and `index` is within its histograms.
    let hist = unsafe { (&raw const (*record).hists).cast::<Hist>().add(index as usize) };
    let mut copy = Box::new([0; BUCKETS]);
    for (bucket, value) in copy.iter_mut().enumerate() {
        // SAFETY: `bucket` is within the histogram, and the kernel writes whole words.
        *value = unsafe { (&raw const (*hist).buckets).cast::<u32>().add(bucket).read_volatile() };
    }
    Some(copy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_utils_common::vcpu::STATE_LIVE;

    #[test]
    fn reads_used_records_and_their_used_cells_only() {
        let records = Mapped::<VcpuRecord>::anonymous(4).unwrap();
        let record = records.get(2).unwrap();
        // SAFETY: nobody else knows this memory.
        unsafe {
            (*record).state = STATE_LIVE;
            (*record).vcpu_id = 7;
            (*record).seen[1] = 1 << 50;
            (*record).cells[114].code = 114;
            (*record).cells[114].count = 1009;
            (*record).cells[3].count = 5; // not marked as seen
        }
        let mut snapshot = Snapshot::default();
        snapshot.read(&records);
        snapshot.read(&records);
        assert_eq!(snapshot.vcpus.len(), 1);
        assert_eq!((snapshot.vcpus[0].slot, snapshot.vcpus[0].vcpu_id), (2, 7));
        let cells = snapshot.cells_of(&snapshot.vcpus[0]);
        assert_eq!(cells.len(), 1);
        assert_eq!((cells[0].index, cells[0].code, cells[0].count), (114, 114, 1009));
    }

    #[test]
    fn the_overflow_record_is_read_without_its_bitmap() {
        let records = Mapped::<VcpuRecord>::anonymous(2).unwrap();
        let mut snapshot = Snapshot::default();
        snapshot.read(&records);
        assert!(snapshot.vcpus.is_empty());
        // SAFETY: nobody else knows this memory.
        unsafe { (*records.get(0).unwrap()).cells[200].count = 3 };
        snapshot.read(&records);
        assert_eq!(snapshot.cells_of(&snapshot.vcpus[0])[0].count, 3);
    }
}
