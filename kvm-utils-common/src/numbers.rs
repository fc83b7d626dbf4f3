//! Numbers that a vCPU has beside its rows: counters at fixed places, and what a noun remembers between events.

use crate::hist::BUCKETS;

/// State: a value of the noun's as of now, plus 1; 0 = it is not known. User space copies it.
pub const STATE_GAUGE: usize = 15;
/// Words that nouns remember between two events of a vCPU; no counters.
pub const STATES: usize = 16;
/// Counters at fixed places, before the histograms.
pub const COUNTERS: usize = 48;
/// Histograms behind them, [`crate::hist`].
pub const HISTOGRAMS: usize = 3;
/// All counters: the fixed ones and the histograms' buckets.
pub const NUMBERS: usize = COUNTERS + HISTOGRAMS * BUCKETS;

/// One vCPU's. Written only by the CPU that runs the vCPU (or switches its thread), as the record is.
#[repr(C)]
pub struct VcpuNumbers {
    /// Memory of the nouns.
    pub state: [u64; STATES],
    /// Counters since the record was taken; they only grow, so that differences and sums are meaningful for each.
    pub counters: [u64; NUMBERS],
}

/// Places in [`VcpuNumbers::state`] and [`VcpuNumbers::counters`] of the noun msr: how the guest arms its timer through
/// IA32_TSC_DEADLINE (Intel SDM volume 3, 12.5.4.1).
pub mod deadline {
    /// State: the deadline now armed, in the guest's TSC; 0 = none.
    pub const STATE_ARMED: usize = 0;
    /// State: what to add to the host's TSC for the guest's, told by user space where the programs cannot read it.
    pub const STATE_OFFSET: usize = 1;
    /// State: 1 if [`STATE_OFFSET`] is known.
    pub const STATE_OFFSET_KNOWN: usize = 2;
    /// Writes of a deadline.
    pub const ARMED: usize = 0;
    /// Of those, how many lay in the past already.
    pub const PAST: usize = 1;
    /// Of those, how many replaced a deadline that had not come yet.
    pub const REARMED: usize = 2;
    /// Writes of 0 while a deadline had not come yet.
    pub const CANCELLED: usize = 3;
    /// Writes of which it is not known how far ahead they were.
    pub const UNKNOWN: usize = 4;
    /// Number of the histogram of how far ahead deadlines were armed, ns.
    pub const AHEAD: usize = 0;
}

/// Places of the noun time: where a vCPU's time goes; see [`crate::ledger`].
pub mod ledger {
    /// State: odd while the others are being changed.
    pub const STATE_SEQUENCE: usize = 3;
    /// State: the bucket to which time goes now, [`crate::ledger::Bucket`].
    pub const STATE_BUCKET: usize = 4;
    /// State: `bpf_ktime_get_ns()` up to which all time is in a bucket; 0 = the vCPU was not seen yet.
    pub const STATE_SINCE: usize = 5;
    /// State: the bucket to which its thread returns when it gets a CPU.
    pub const STATE_BASE: usize = 6;
    /// State: whether the vCPU halts, [`crate::ledger::HALT_KERNEL`] and [`crate::ledger::HALT_USER`].
    pub const STATE_HALT: usize = 7;
    /// State: the counter of KVM's time when KVM last took over: what came since may turn out to be polling.
    pub const STATE_KVM_BEFORE: usize = 8;
    /// State: when the thread first lost its CPU since KVM last took over; 0 = it did not.
    pub const STATE_OFF: usize = 9;
    /// State: KVM's own sum of the time it polled, ns, when last read.
    pub const STATE_POLLED: usize = 10;
    /// State: the thread that runs the vCPU (`task_struct` or id in the initial pid namespace); 0 = none is known.
    pub const STATE_TASK: usize = 11;
    /// Counters: ns in each bucket, in the order of [`crate::ledger::Bucket`].
    pub const BUCKETS: usize = 8;
    /// Exits from the guest.
    pub const EXITS: usize = 15;
}

/// Places of the noun halt: what KVM does while a vCPU halts.
pub mod halt {
    /// State: 1 if the sums below are those of an earlier halt.
    pub const STATE_KNOWN: usize = 3;
    /// State: KVM's count of halts in which it polled, at the last one.
    pub const STATE_ATTEMPTED: usize = 4;
    /// State: of those, how many ended while it polled.
    pub const STATE_SUCCESSFUL: usize = 5;
    /// State: KVM's sum of the time it polled in them, ns.
    pub const STATE_SUCCESS_NS: usize = 6;
    /// State: and in the others.
    pub const STATE_FAIL_NS: usize = 7;
    /// State: how long KVM was to poll before the halt that is ending changed that, ns, plus 1; 0 = it did not change.
    pub const STATE_BEFORE: usize = 8;
    /// Halts in which KVM polled.
    pub const POLLS: usize = 16;
    /// Of those, how many ended while it polled.
    pub const POLLS_SUCCESSFUL: usize = 17;
    /// Time polled in these, ns.
    pub const SUCCESS_NS: usize = 18;
    /// Time polled in the others, ns.
    pub const FAIL_NS: usize = 19;
    /// Halts of which it is not known whether KVM polled.
    pub const UNKNOWN: usize = 20;
    /// Time blocked, ns.
    pub const BLOCKED_NS: usize = 21;
    /// Number of the histogram of how long the thread was blocked, ns.
    pub const BLOCKED: usize = 0;
}

/// The first counter of histogram `number`.
#[must_use]
pub const fn histogram(number: usize) -> usize {
    COUNTERS + number * BUCKETS
}

/// Relates the host's TSC to `bpf_ktime_get_ns()`; written by user space, the one element of the map `CLOCK`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// Odd while being written.
    pub sequence: u64,
    /// `bpf_ktime_get_ns()` at one moment; 0 = not known yet.
    pub ns: u64,
    /// The TSC at that moment.
    pub tsc: u64,
    /// TSC cycles per ns, times 2^24.
    pub cycles_per_ns: u64,
    /// ns per TSC cycle, times 2^32.
    pub ns_per_cycle: u64,
}

/// Bits after the binary point of [`Clock::cycles_per_ns`].
pub const CYCLES_PER_NS_SHIFT: u32 = 24;
/// Bits after the binary point of [`Clock::ns_per_cycle`].
pub const NS_PER_CYCLE_SHIFT: u32 = 32;
