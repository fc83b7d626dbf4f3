//! `kvm-utils exits`: every VM exit, counted and timed.

use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::{options::Common, trace};
use crate::{drilldown::exits::rows::COLUMNS, error::Failure};

/// Count and time every VM exit per VM, vCPU and reason
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  kvm-utils exits                         all VMs, live; Ctrl-C ends with the summary
  kvm-utils exits --vm web-1 -d 10s       ten seconds of one VM
  kvm-utils exits -p 4711 --by vcpu       each vCPU of the VM in process 4711
  kvm-utils exits -o json -i 5s >> log    one JSON document every five seconds")]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Sort by this column: count, time_share, total_ns, p99_ns, max_ns, reason, ...
    #[arg(long, value_name = "KEY", default_value = "count")]
    sort: String,
}

/// Traces until told to stop.
///
/// # Errors
///
/// With cause and remedy.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if !COLUMNS.iter().any(|column| column.id == args.sort) {
        let keys: Vec<&str> = COLUMNS.iter().map(|column| column.id).collect();
        return Err(Failure::usage(format!(
            "--sort {}: there is no such column; it is one of {}",
            args.sort,
            keys.join(", ")
        ))
        .into());
    }
    trace::run(&args.common, &args.sort)
}
