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
        let mut cpus = BTreeSet::new();
        for measured in results.iter().filter(|one| one.spec.op == OP) {
            let Some(src) = measured.spec.source().ok().flatten() else { continue };
            cpus.insert(src);
            for (dst, rounds) in stats::series(&measured.rounds) {
                let p50 = Summary::of(&rounds, Scale::Raw).and_then(|summary| summary.p50);
                if let (Ok(dst), Some(p50)) = (dst.parse(), p50) {
                    cells.insert((src, dst), p50);
                }
            }
        }
        cpus.extend(cells.keys().flat_map(|&(src, dst)| [src, dst]));
        let cpus: Vec<usize> = cpus.into_iter().collect();
        let row = |&src: &usize| cpus.iter().map(|&dst| cells.get(&(src, dst)).copied()).collect();
        (!cells.is_empty()).then(|| Self {
            unit: "cycles",
            p50: cpus.iter().map(row).collect(),
            cpus: cpus.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::round::Round;
    use crate::measure::supervisor::Status;
    use crate::measure::worker::Ready;
    use crate::ops::Spec;

    #[test]
    fn cpus_need_not_be_contiguous_and_what_was_not_measured_is_not_there() {
        let row = |src: usize, dst: Option<&str>| {
            let mut round = Round::default();
            round.details.series.extend(dst.map(|dst| (dst.to_owned(), vec![(100 + src as u64, 3)])));
            let spec = Spec::new(OP).with("src", src);
            Measured { spec, status: Status::Ok, ready: Ready::default(), rounds: vec![round] }
        };
        // CPU 5 measured nothing.
        let matrix = Matrix::of(&[row(0, Some("130")), row(5, None), row(130, Some("0"))]).unwrap();
        assert_eq!(matrix.cpus, [0, 5, 130]);
        assert_eq!(matrix.p50[0], [None, None, Some(100.0)]);
        assert_eq!(matrix.p50[1], [None, None, None]);
        assert_eq!(matrix.p50[2], [Some(230.0), None, None]);
        assert_eq!(Matrix::of(&[row(0, None)]), None);
    }
}
