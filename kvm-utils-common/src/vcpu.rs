//! Who a vCPU is: the record that the programs keep for each, and how they find it.
//!
//! With raw tracepoints a vCPU is known by the address of its `struct kvm_vcpu`, which is exact: two VMs in one
//! process, one thread that runs many vCPUs and a vCPU that changes thread are all told apart. Classic tracepoints
//! show only the vCPU id, so there the key is the thread and that id.

use crate::{
    exits::{CELLS, ExitCell, HISTS},
    hist::Hist,
    rows::NOUNS,
};

/// `VcpuRecord::state`: free, or being filled.
pub const STATE_FREE: u32 = 0;
/// `VcpuRecord::state`: in use.
pub const STATE_LIVE: u32 = 1;
/// `VcpuRecord::state`: the kernel destroyed the vCPU; its numbers are final.
pub const STATE_DEAD: u32 = 2;

/// Record 0 is shared by all vCPUs that found no record of their own.
pub const OVERFLOW_SLOT: u32 = 0;
/// Value in the `SLOTS` map of a vCPU that the filters leave out.
pub const IGNORED_SLOT: u32 = u32::MAX;

/// Lines of the direct-mapped cache in front of the `SLOTS` hash map; a power of two.
///
/// A line is one word, so that CPUs that fight over it cannot tear it: either a record's index, which is believed only
/// if that record holds the key, or, for a vCPU that the filters leave out, the key itself (never as small as an
/// index: it is a kernel address, or has a thread id in its upper half).
pub const CACHE_ENTRIES: usize = 4096;
/// Highest vCPU id that `--vcpu` can name: KVM_MAX_VCPU_IDS (arch/x86/include/asm/kvm_host.h) is at most 4 x 4096.
pub const MAX_VCPU_IDS: u32 = 16384;

/// What the `SLOTS` map says of a vCPU.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Index into the `VCPUS` map, or [`IGNORED_SLOT`].
    pub index: u32,
    /// Process that ran the vCPU, in the initial pid namespace.
    pub tgid: u32,
}

/// Number of low bits of a `struct kvm_vcpu`'s address that say little: the structs are larger than a page.
pub const ADDRESS_SHIFT: u32 = 12;

/// Everything known of one vCPU. Written by the CPU that runs the vCPU, hence without atomic operations (the
/// overflow record excepted); read by user space through a shared mapping.
#[repr(C, align(64))]
pub struct VcpuRecord {
    /// When the vCPU now leaves the guest: `bpf_ktime_get_ns()` of the exit; 0 while it is in the guest.
    pub pending_since: u64,
    /// Cell of the pending exit.
    pub pending_cell: u32,
    /// [`STATE_FREE`], [`STATE_LIVE`] or [`STATE_DEAD`].
    pub state: u32,
    /// Exits that followed an exit without an entry between; they are counted but have no duration.
    pub unpaired_exits: u64,
    /// Entries that no exit preceded, after the first exit seen.
    pub unpaired_entries: u64,
    /// Bitmap of the cells in use.
    pub seen: [u64; CELLS / 64],
    /// Key in the `SLOTS` map.
    pub key: u64,
    /// Address of the `struct kvm`; 0 = unknown (classic tracepoints).
    pub kvm: u64,
    /// `bpf_ktime_get_ns()` when the record was taken.
    pub since: u64,
    /// `bpf_ktime_get_ns()` when the kernel destroyed the vCPU; 0 while it lives.
    pub until: u64,
    /// KVM's id of the vCPU; `u32::MAX` = could not be read.
    pub vcpu_id: u32,
    /// The event's isa: 1 VMX, 2 SVM (include/trace/events/kvm.h).
    pub isa: u32,
    /// Process and thread that ran the vCPU first, in the initial pid namespace.
    pub tgid: u32,
    /// See `tgid`.
    pub tid: u32,
    /// The same in the pid namespace of this tool; 0 = it is not visible there.
    pub ns_tgid: u32,
    /// See `ns_tgid`.
    pub ns_tid: u32,
    /// Name of the thread, NUL-padded.
    pub comm: [u8; 16],
    /// KVM's own statistic `kvm_vcpu.stat.exits` when the record was taken and when the vCPU was destroyed; `u64::MAX` =
    /// not known.
    pub kvm_exits_first: u64,
    /// See `kvm_exits_first`.
    pub kvm_exits_last: u64,
    /// 1 if the record was taken at an exit: KVM may or may not have counted that exit in `kvm_exits_first`.
    pub taken_at_exit: u32,
    /// 1 once the vCPU left the guest while traced.
    pub exited: u32,
    /// Histograms given to cells so far.
    pub hists_used: u32,
    /// Index of this record.
    pub slot: u32,
    /// Events of drill-downs whose keys found no place in the tables, by [`crate::rows::RowNoun`].
    pub other: [u64; NOUNS],
    /// Thread on which `THREADS` says this vCPU runs, in the initial pid namespace; 0 = none.
    pub thread: u32,
    /// Row of the last event that the pending exit turned out to be, plus 1; 0 = none.
    pub pending_row: u32,
    /// 1 if the pending exit went to user space, which was asked for I/O.
    pub pending_user: u32,
    /// Room up to the next word.
    pub reserved_word: u32,
    /// Exits that are over and counted, of which the ring buffer `EVENTS` had no room to say so.
    pub events_lost: u64,
    /// Room up to the next cache line.
    pub reserved: [u32; 6],
    /// Numbers per exit reason; see [`crate::exits::direct_cell`].
    pub cells: [ExitCell; CELLS],
    /// Durations, one for each reason that has occurred; number 0 takes those that found none and is never read.
    pub hists: [Hist; HISTS],
}
