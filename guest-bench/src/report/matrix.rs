//! From rows of targets to a matrix of vCPU by vCPU.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::measure::supervisor::Measured;
use crate::stats::{self, Scale, Summary};

/// The operation that measures a row of it.
pub const OP: &str = "ipi:matrix";

/// Medians from each source (row) to each target (column).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Matrix {
    /// `cycles`
    pub unit: &'static str,
    /// The CPUs of rows and of columns, ascending; they need not be contiguous.
    pub cpus: Vec<usize>,
    /// Rows of medians; None where nothing was measured, as from a CPU to itself.
    pub p50: Vec<Vec<Option<f64>>>,
}

impl Matrix {
    /// From the results of a run; None when it has no row.
    pub fn of(results: &[Measured]) -> Option<Self> {
        let mut cells: BTreeMap<(usize, usize), f64> = BTreeMap::new();
        for measured in results.iter().filter(|one| one.spec.op == OP) {
            let Some(src) = measured.spec.source().ok().flatten() else { continue };
            for (dst, rounds) in stats::series(&measured.rounds) {
                let p50 = Summary::of(&rounds, Scale::Raw).and_then(|summary| summary.p50);
                if let (Ok(dst), Some(p50)) = (dst.parse(), p50) {
                    cells.insert((src, dst), p50);
                }
            }
        }
        let cpus: BTreeSet<usize> = cells.keys().flat_map(|&(src, dst)| [src, dst]).collect();
        let cpus: Vec<usize> = cpus.into_iter().collect();
        let row = |&src: &usize| cpus.iter().map(|&dst| cells.get(&(src, dst)).copied()).collect();
        (!cells.is_empty()).then(|| Self {
            unit: "cycles",
            p50: cpus.iter().map(row).collect(),
            cpus: cpus.clone(),
        })
    }
}
