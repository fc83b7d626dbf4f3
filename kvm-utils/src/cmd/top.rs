//! `kvm-utils top`: VMs, vCPUs, reasons and drill-downs on a full screen.

mod input;
mod outlet;
mod screen;
mod source;
mod suspend;
mod terminal;
mod watching;

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
    time::Duration,
};

use clap::{Args as ClapArgs, builder::PossibleValuesParser};

pub use screen::{End, Pace, show};
pub use source::{Source, offers};

use super::{
    options::{HOW, Look, Output, TRUST, WHAT, WHEN, Which, duration},
    printer::Printer,
    trace::verdict,
    watch::Devices,
};
use crate::{
    bpf::source::SourceChoice,
    drilldown::registry::{named, names},
    error::{Failure, say},
    view::By,
};
use watching::Watching;

/// Watch VMs, their vCPUs, the reasons of their exits and what is behind these, on a full screen
///
/// Begins with all VMs: how often they exit, how much of their time that takes, and where the rest of it goes. Enter or
/// the right arrow opens what is selected: a VM's vCPUs, the reasons of a vCPU's exits, and the drill-down that tells more
/// about a reason; the left arrow goes back. `?` shows all keys.
///
/// Numbers are of the last interval. Drill-downs that do not run yet are started by Enter where they would be shown, or
/// with --with. `q` ends it with a summary of the whole run.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  kvm-utils top                      all VMs, exits and where time goes
  kvm-utils top --vm 'web-*' -i 2s   some, every two seconds
  kvm-utils top --with io,msr        with two drill-downs from the beginning
  NO_COLOR=1 kvm-utils top           without colours

Keys: Enter opens, Left goes back, Tab and numbers change the drill-down,
s sorts, / filters, p pauses, i tells notes and doubts, ? helps, q quits.

Exit codes: 0 ok, 1 --strict and the counts are in doubt, 2 usage, 3 this host
cannot do it.")]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Run these drill-downs too, from the beginning
    #[arg(long = "with", value_name = "NOUN,...", value_delimiter = ',',
          value_parser = PossibleValuesParser::new(names()), help_heading = WHAT)]
    with: Vec<String>,
    /// Do without the ledger of time: it follows every exit and every change of threads on the host
    #[arg(long, help_heading = WHAT)]
    no_time: bool,
    /// Time between updates: 500ms, 2s, 1m
    #[arg(short, long, value_name = "T", default_value = "1s", value_parser = duration, help_heading = WHEN)]
    interval: Duration,
    /// Stop after this time: 500ms, 10s, 1m (default: at q)
    #[arg(short, long, value_name = "T", value_parser = duration, help_heading = WHEN)]
    duration: Option<Duration>,
    /// Show only the first N rows of each table of the summary (default: 30)
    #[arg(long, value_name = "N", default_value = "30", value_parser = clap::value_parser!(u32).range(1..), help_heading = HOW)]
    top: u32,
    /// Exit with 1 unless the counts are beyond doubt
    #[arg(long, help_heading = TRUST)]
    strict: bool,
    /// How to learn of events
    #[arg(long, value_name = "SOURCE", value_enum, default_value = "auto", help_heading = TRUST)]
    source: SourceChoice,
    /// Call devices by well-known names only: leave QEMU's monitor alone
    #[arg(long, help_heading = TRUST)]
    no_qmp: bool,
}

/// Traces until told to stop.
///
/// # Errors
///
/// With cause and remedy.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if !io::stdout().is_terminal() {
        return Err(Failure::usage(
            "top needs a terminal to draw on; `kvm-utils exits` also writes to pipes and files",
        )
        .into());
    }
    let nouns: Vec<_> = args.with.iter().filter_map(|name| named(name)).collect();
    let devices = if args.no_qmp { Devices::WellKnown } else { Devices::Ask };
    let mut source = Watching::start(&args.which, &nouns, !args.no_time, args.source, devices)?;
    let end = show(&mut source, &Pace { interval: args.interval, duration: args.duration })?;
    if end == End::Lost {
        // There is nobody to read a summary.
        return Ok(ExitCode::SUCCESS);
    }
    if source.is_over() {
        say("the VM has ended");
    }
    let look = Look { output: Output::Table, by: By::Vm, top: Some(args.top) };
    let mut printer = Printer::in_a_row(&look);
    let mut code = ExitCode::SUCCESS;
    for summary in source.summaries(args.top as usize)? {
        printer.show(&summary)?;
        if code == ExitCode::SUCCESS {
            code = verdict(args.strict, &summary);
        }
    }
    Ok(code)
}
