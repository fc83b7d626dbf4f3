//! What was measured, for people and for programs. Nothing here measures.

pub mod detail;
mod gaps;
pub mod heatmap;
pub mod json;
pub mod matrix;
pub mod table;

use serde_json::Value;

use crate::measure::round::Cause;
use crate::measure::supervisor::Measured;
use crate::measure::tsc::Tsc;
use crate::stats;

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

/// Two fenced reads take some 20 to 100 cycles; a trip out of the guest in each adds 1,000 or more.
const INTERCEPTED: u64 = 1_000;

impl Report {
    /// Adds to what speaks against the counter what the samples show.
    pub fn judge_tsc(&mut self) {
        let overhead = self.results.iter().map(|measured| measured.ready.overhead).max().unwrap_or(0);
        if overhead > INTERCEPTED {
            let why = "RDTSC seems to be intercepted: quantiles hold what reading it costs";
            self.tsc.untrusted.push(format!("an empty bracket takes {overhead} cycles; {why}"));
        }
        let back = self.results.iter().map(|measured| stats::rejected(&measured.rounds));
        let back: u64 = back.filter_map(|causes| causes.get(&Cause::Wrapped).copied()).sum();
        if back > 0 {
            self.tsc.untrusted.push(format!("it went back in {back} samples"));
        }
    }

    /// Whether figures are what exits cost; if not, why.
    pub fn no_exit_costs(&self) -> Option<String> {
        if self.environment["exit_costs"] != Value::Bool(false) {
            return None;
        }
        let kind = self.environment["kind"].as_str().unwrap_or("unknown");
        Some(match kind {
            "bare metal" => {
                "no hypervisor shows itself: these are costs on bare metal, none is that of an exit".into()
            }
            kind => format!("this machine is {kind}: no figure is the cost of an exit"),
        })
    }
}
