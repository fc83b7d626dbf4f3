//! `kvm-bench compare`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use super::run;
use crate::compare::verdicts::Quantile;
use crate::compare::{files, view};

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
    let view = files::compare(&base, &new, options.quantile.into(), options.force)?;
    let text = if common.is_json() { format!("{}\n", view::document(&view)) } else { view::text(&view) };
    run::print(&text)?;
    if !view.has_compared() {
        return Ok(ExitCode::from(NOT_COMPARABLE));
    }
    let limit = options.fail_above.map(|limit| view.results.iter().any(|judged| judged.is_regression(limit)));
    Ok(ExitCode::from(u8::from(limit == Some(true))))
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<f64>().ok();
    number
        .filter(|number| number.is_finite() && *number >= 0.0)
        .map(|number| number / 100.0)
        .ok_or_else(|| "give a percentage, such as 10%".to_owned())
}
