//! What switches the programs, and the counters in which they report trouble.

/// An offset or argument position that this kernel does not have, or that the chosen source does not need.
pub const NONE: u32 = u32::MAX;

/// Bits of the global `MODE`, which is read once per event and whose switches the verifier resolves.
pub mod mode {
    /// kvm_exit passes (exit_reason, vcpu, isa), not (vcpu, isa).
    pub const REASON_BY_VALUE: u32 = 1 << 0;
    /// The vCPU is the second argument of kvm_entry, not the first.
    pub const ENTRY_VCPU_SECOND: u32 = 1 << 1;
    /// Only the processes in `TGIDS` are counted.
    pub const FILTER_TGIDS: u32 = 1 << 3;
    /// Only the vCPU ids in `VCPU_IDS` are counted.
    pub const FILTER_VCPU_IDS: u32 = 1 << 4;
    /// vCPUs are known by thread and id (classic tracepoints), not by their address.
    pub const BY_THREAD: u32 = 1 << 5;
    /// Which vCPU a thread runs is kept in `THREADS`, at each entry.
    pub const LEARN_THREADS: u32 = 1 << 6;
    /// Nobody tells when a vCPU known by its address ends: its process is compared, too.
    pub const CHECK_TGID: u32 = 1 << 7;
    /// The noun msr leaves out reads.
    pub const WRITES_ONLY: u32 = 1 << 8;
    /// The noun msr counts only commands to the x2APIC's ICR, by what they say.
    pub const IPIS_ONLY: u32 = 1 << 10;
    /// The noun io times its events by the exits they belong to.
    pub const IO_TIMES: u32 = 1 << 9;
    /// The noun io counts memory-mapped I/O by page instead of by address.
    pub const IO_PAGES: u32 = 1 << 11;
    /// Each exit that is over goes to the ring buffer `EVENTS` as well.
    pub const EVENTS: u32 = 1 << 15;
    /// Returns to user space are counted by reason.
    pub const USER_EXITS: u32 = 1 << 14;
    /// Exits and entries are for the noun time, and counted by it only.
    pub const LEDGER: u32 = 1 << 12;
    /// The noun time knows threads by the address of their `task_struct`, not by their id.
    pub const TASKS_BY_ADDRESS: u32 = 1 << 13;
}

/// Index into the `TROUBLE` map: events that the programs could not account for as they should. Nothing is lost
/// silently: each is shown in the report's proof.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Look-ups of vCPUs that found no free record (raise `--max-vcpus`); their exits are counted in the overflow record.
    VcpusFull = 0,
    /// (vCPU, reason) pairs that found no free histogram; they have no percentiles.
    HistogramsFull = 1,
    /// Exits whose reason could not be read from the vCPU, counted under code `exits::CODE_UNREADABLE`.
    UnreadableReason = 2,
    /// vCPUs whose identity (struct kvm, vCPU id) could not be read.
    UnreadableIdentity = 3,
    /// Events of a drill-down that happened on no vCPU's thread and whose key found no place: counted here only.
    RowsFull = 4,
}

/// Number of [`Trouble`] counters.
pub const TROUBLES: u32 = 5;

/// Bytes of the classic kvm_exit record that the program reads; exit_reason, isa and vcpu_id must lie within.
pub const EXIT_RECORD_BYTES: usize = 64;
