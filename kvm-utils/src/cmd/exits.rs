//! `kvm-utils exits`: every VM exit, counted and timed.

use std::process::ExitCode;

use clap::{Args as ClapArgs, builder::PossibleValuesParser};

use super::{
    options::{Common, HOW, TRUST},
    trace::{self, Plan},
};
use crate::{
    bpf::source::SourceChoice,
    drilldown::exits::{self, rows::COLUMNS},
};

/// Count and time every VM exit, per VM, vCPU and reason
///
/// Shows the exits of all VMs of this host as they happen: how many, why, and how long the guest was kept out. On a
/// terminal it refreshes in place, in a pipe it appends. Ctrl-C ends it with a summary.
#[derive(ClapArgs, Debug)]
#[command(after_help = concat!("Examples:
  kvm-utils exits                              all VMs, live
  kvm-utils exits --vm web-1 -d 10s            ten seconds of one VM
  kvm-utils exits -p 4711 --by vcpu            each vCPU of a process's VMs
  kvm-utils exits --vm 'db-*' --wait           VMs by pattern, once they start
  kvm-utils exits --vm web.service             a unit's, pod's, container's VMs
  kvm-utils exits --sort p99_ns --top 5        the five slowest reasons
  kvm-utils exits -o json -i 5s >>exits.jsonl  JSON, every five seconds
  kvm-utils exits -d 1m --summary --strict     a minute, exit code 1 if in doubt

", super::exit_codes!()))]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Sort rows by this column
    #[arg(long, value_name = "COLUMN", default_value = "count", help_heading = HOW,
          value_parser = PossibleValuesParser::new(COLUMNS.iter().map(|column| column.id)))]
    sort: String,
    /// How to learn of exits
    #[arg(long, value_name = "SOURCE", value_enum, default_value = "auto", help_heading = TRUST)]
    source: SourceChoice,
}

/// Traces until told to stop.
///
/// # Errors
///
/// With cause and remedy.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    trace::run(&args.common, &Plan { noun: &exits::NOUN, sort: &args.sort, source: args.source })
}
