//! `kvm-utils caps`: what this host can do, and why not.

mod drilldowns;
mod json;
mod table;

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use clap::ValueEnum;

use super::options::duration;
use crate::{
    bpf::caps::{Caps, Verdict},
    error::HOST,
    host::SysRoot,
};

/// Output formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// One document
    Json,
}

/// Show what this host can do, why not, and what to do about it
///
/// Asks the kernel by loading and attaching small programs for a moment; changes nothing. Run this first on a new
/// host.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:
  kvm-utils caps             a table with remedies
  kvm-utils caps --watch 5s  watch longer whether running guests make exits
  kvm-utils caps -o json     for a program

Exit codes: 0 `kvm-utils exits` can run here, 2 usage, 3 it cannot.")]
pub struct Args {
    /// Output format
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value = "table")]
    pub output: Output,
    /// How long to watch whether running guests make kvm_exit fire: 500ms, 2s, 1m
    #[arg(long, value_name = "T", default_value = "200ms", value_parser = duration)]
    pub watch: Duration,
}

/// Gathers and shows.
///
/// # Errors
///
/// Those of standard output.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut caps = Caps::gather(&SysRoot::default());
    caps.watch(args.watch);
    caps.items.extend(drilldowns::items());
    let verdict = caps.exits();
    let text = match args.output {
        Output::Table => table::render(&caps, &verdict, color()),
        Output::Json => json::document(&caps, &verdict, SystemTime::now())?,
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(match verdict {
        Verdict::Runs { .. } => ExitCode::SUCCESS,
        Verdict::Blocked(_) => ExitCode::from(HOST),
    })
}

/// https://no-color.org: any value but the empty one.
fn color() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal()
        && !set("NO_COLOR")
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
