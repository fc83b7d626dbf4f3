//! Reads the reports of two sides and compares them.

use std::path::PathBuf;

use super::comparable::{self, Environments};
use super::document::{Document, Unreadable};
use super::verdicts::{self, Outcome, Quantile, RUNS};
use super::view::View;

/// Compares the reports in files, unless they are of different machines; with `force` also then.
///
/// # Errors
/// When a file is no report.
pub fn compare(
    base: &[PathBuf],
    new: &[PathBuf],
    quantile: Quantile,
    force: bool,
) -> Result<View, Unreadable> {
    let read =
        |paths: &[PathBuf]| paths.iter().map(|path| Document::read(path)).collect::<Result<Vec<_>, _>>();
    let names = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    let (one, two) = (read(base)?, read(new)?);
    let environments = environments(&one, &two);
    let is_comparable = environments.differ.is_empty() || force;
    Ok(View {
        base: names(base),
        new: names(new),
        notes: notes(&one, &two, &environments),
        environments,
        forced: force,
        quantile,
        unit: verdicts::unit(&one, &two),
        results: if is_comparable { verdicts::judge(&one, &two, quantile) } else { Vec::new() },
    })
}

impl View {
    /// Whether there is an operation that could be compared: not of different machines, and measured on both sides.
    #[must_use]
    pub fn has_compared(&self) -> bool {
        self.results.iter().any(|judged| judged.outcome != Outcome::NotCompared)
    }
}

/// Each report against the first: all have to be of one machine.
fn environments(base: &[Document], new: &[Document]) -> Environments {
    let mut all = Environments::default();
    let mut documents = base.iter().chain(new);
    let Some(first) = documents.next() else { return all };
    for document in documents {
        let found = comparable::compare(&first.environment, &document.environment);
        for one in found.differ {
            if !all.differ.iter().any(|known| known.field == one.field) {
                all.differ.push(one);
            }
        }
        for field in found.unknown {
            if !all.unknown.contains(&field) {
                all.unknown.push(field);
            }
        }
    }
    all
}

fn notes(base: &[Document], new: &[Document], environments: &Environments) -> Vec<String> {
    let mut notes = Vec::new();
    if !environments.unknown.is_empty() {
        notes.push(format!(
            "not known in every report, so it may differ: {}; measure as root with one version of kvm-bench",
            environments.unknown.join(", ")
        ));
    }
    if base.len() < RUNS || new.len() < RUNS {
        notes.push(format!(
            "rounds of one report resemble each other: a neighbour that came between the reports looks like a change. \
             {RUNS} or more reports a side, taken in turn, tell (--base, --new)"
        ));
    }
    if base.iter().chain(new).any(|document| document.interrupted) {
        notes.push("a report was interrupted: some operations have fewer rounds than others".into());
    }
    let doubts = base
        .iter()
        .chain(new)
        .filter_map(|document| document.environment.pointer("/tsc/untrusted")?.as_array());
    if doubts.flatten().next().is_some() {
        notes.push("a report does not trust its time-stamp counter".into());
    }
    notes
}
