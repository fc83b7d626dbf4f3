//! `kvm-bench doctor`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::run;
use crate::doctor::{self, System, view};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// How long to count interrupts
    #[arg(long, value_name = "T", default_value = "1s", value_parser = run::duration)]
    interval: Duration,
}

pub(super) fn run(options: &Options, common: &run::Options) -> Result<ExitCode> {
    let sections = doctor::examine(&System::this(), options.interval);
    let text =
        if common.is_json() { format!("{}\n", view::document(&sections)) } else { view::text(&sections) };
    run::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
