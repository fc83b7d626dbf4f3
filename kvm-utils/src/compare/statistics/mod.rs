//! What the comparison of tables needs beyond the comparison of two sets of figures (`kvm_bench::compare::statistics`):
//! figures that follow each other in time, and many comparisons at once. Numbers in, probabilities out.

pub mod family;
pub mod serial;
pub mod student;

/// A change is told with less than this probability that there is one in the whole table though nothing changed.
pub use kvm_bench::compare::statistics::SIGNIFICANT;
