//! A run as a series of reports: what a recording holds, and what compares and pictures look at.

use std::collections::BTreeMap;

use super::Report;

/// What one drill-down reported over a run.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// On what it ran.
    pub fingerprint: Fingerprint,
    /// The intervals, one after the other; none is a summary.
    pub intervals: Vec<Report>,
    /// All of them together: a summary.
    pub whole: Report,
}

/// Facts about the machine, the tracer and the guests, by name, such as `kernel`, `isa`, `cpu` or `vm web-1 vcpus`: runs
/// with different facts may differ for that reason alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// By name.
    pub facts: BTreeMap<String, String>,
}
