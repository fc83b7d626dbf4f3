//! `kvm-bench compare`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use super::run;
use crate::compare::comparable::{self, Environments};
use crate::compare::document::Document;
use crate::compare::verdicts::{self, Outcome, Quantile, RUNS};
use crate::compare::view::{self, View};

/// The reports are of different machines, or have no operation in common.
const NOT_COMPARABLE: u8 = 3;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Two reports written with -o json: what was, and what is
    #[arg(value_name = "REPORT", num_args = 2, conflicts_with_all = ["base", "new"])]
    reports: Vec<PathBuf>,
    /// Several reports of what was; five or more a side, taken in turn, also show what differs from run to run
    #[arg(long, value_name = "REPORT", num_args = 1.., requires = "new")]
    base: Vec<PathBuf>,
    /// Several reports of what is
    #[arg(long, value_name = "REPORT", num_args = 1.., requires = "base")]
    new: Vec<PathBuf>,
    /// Compare reports of different machines, kernels or settings
    #[arg(long)]
    force: bool,
    /// Which quantile of each round to compare
    #[arg(long, value_enum, default_value_t)]
    quantile: Which,
    /// Exit code 1 if an operation is worse by more than this, or can no longer be measured
    #[arg(long, value_name = "P%", value_parser = percent)]
    fail_above: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Which {
    #[default]
    P50,
    P90,
    P99,
}

impl From<Which> for Quantile {
    fn from(which: Which) -> Self {
        match which {
            Which::P50 => Self::P50,
            Which::P90 => Self::P90,
            Which::P99 => Self::P99,
        }
    }
}

pub(super) fn run(options: &Options, common: &run::Options) -> Result<ExitCode> {
    let (base, new) = match options.reports.as_slice() {
        [base, new] => (vec![base.clone()], vec![new.clone()]),
        _ if options.base.is_empty() => bail!("name two reports, or several with --base and --new"),
        _ => (options.base.clone(), options.new.clone()),
    };
    let read =
        |paths: &[PathBuf]| paths.iter().map(|path| Document::read(path)).collect::<Result<Vec<_>, _>>();
    let names = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    let (one, two) = (read(&base)?, read(&new)?);
    let environments = environments(&one, &two);
    let is_comparable = environments.differ.is_empty() || options.force;
    let quantile = options.quantile.into();
    let results = if is_comparable { verdicts::judge(&one, &two, quantile) } else { Vec::new() };
    let is_empty = !results.iter().any(|judged| judged.outcome != Outcome::NotCompared);
    let view = View {
        base: names(&base),
        new: names(&new),
        notes: notes(&one, &two, &environments),
        environments,
        forced: options.force,
        quantile,
        unit: verdicts::unit(&one, &two),
        results,
    };
    let text = if common.is_json() { format!("{}\n", view::document(&view)) } else { view::text(&view) };
    run::print(&text)?;
    if !is_comparable || is_empty {
        return Ok(ExitCode::from(NOT_COMPARABLE));
    }
    let limit = options.fail_above.map(|limit| view.results.iter().any(|judged| judged.is_regression(limit)));
    Ok(ExitCode::from(u8::from(limit == Some(true))))
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

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<f64>().ok();
    number
        .filter(|number| number.is_finite() && *number >= 0.0)
        .map(|number| number / 100.0)
        .ok_or_else(|| "give a percentage, such as 10%".to_owned())
}
