//! Names of the frozen globals that switch the programs, and of the counters they report trouble in.

/// An offset or argument position that this kernel does not have, or that the chosen source does not need.
pub const NONE: u32 = u32::MAX;

/// Index into the `TROUBLE` map: events that the programs could not account for as they should. Nothing is lost
/// silently: each is shown in the report's proof.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// vCPUs that found no free record (raise `--max-vcpus`); their exits are counted in the overflow record.
    VcpusFull = 0,
    /// (vCPU, reason) pairs that found no free histogram (raise `--max-histograms`); they have no percentiles.
    HistogramsFull = 1,
    /// Exits whose reason could not be read from the vCPU, counted under code `exits::CODE_UNREADABLE`.
    UnreadableReason = 2,
    /// vCPUs whose identity (struct kvm, vCPU id) could not be read.
    UnreadableIdentity = 3,
}

/// Number of [`Trouble`] counters.
pub const TROUBLES: u32 = 4;

/// The values that user space changes while the programs run, in the only element of the `CONTROL` map.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct Control {
    /// Raised whenever a vCPU record changes owner, so that cached look-ups are made anew.
    pub epoch: u64,
}
