//! What was measured, for people and for programs. Nothing here measures.

mod gaps;
pub mod json;
pub mod table;

use serde_json::Value;

use crate::measure::supervisor::Measured;
use crate::measure::tsc::Tsc;

/// A whole run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The machine, as `environment` in JSON.
    pub environment: Value,
    /// Its time-stamp counter.
    pub tsc: Tsc,
    /// Each operation.
    pub results: Vec<Measured>,
    /// The user ended it early.
    pub interrupted: bool,
}
