//! What a comparison looks like: pure functions of it, one file per format.

pub mod json;
pub mod junit;
pub mod markdown;
pub mod table;

use super::{Comparison, finding::Finding, words};

/// The name of a finding's row, with its drill-down where several were compared.
fn row_name(finding: &Finding, comparison: &Comparison) -> String {
    let subject = words::subject(finding);
    if comparison.findings.iter().all(|other| other.noun == finding.noun) {
        subject
    } else {
        format!("{} {subject}", finding.noun)
    }
}

/// Whether a finding is too much.
fn is_too_much(index: usize, comparison: &Comparison) -> bool {
    comparison.breaches.iter().any(|breach| breach.finding == index)
}
