//! `kvm-utils halt`: how vCPUs halt, and what KVM spends on polling.

use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::{
    options::{Common, TRUST},
    trace::{self, Plan},
};
use crate::{bpf::source::SourceChoice, drilldown::halt::NOUN};

/// Show how vCPUs halt, and what KVM spends on polling before it blocks them
///
/// One line per vCPU:
///
///   HALTS   halts that ended
///   FALSE   of those, how many ended without anything for the guest to do
///   p50     how long the thread was blocked, half of the times at most
///   p99     the same, 99 of 100 times
///   POLLS   halts in which KVM polled first
///   HIT     of those, how many ended while it polled
///   USEFUL  time polled in these
///   WASTED  time polled in the others
///   WINDOW  how long KVM polls now, at most
///   GROWN   how often it chose to poll longer
///   SHRUNK  how often it chose to poll shorter
#[derive(ClapArgs, Debug)]
#[command(
    verbatim_doc_comment,
    after_help = concat!("Examples:
  kvm-utils halt                    all VMs, live
  kvm-utils halt --vm web-1 -d 10s  ten seconds of one VM

Two vCPUs whose halts are longer than KVM is ready to poll:

  VCPU                  HALTS    p50    p99    HIT  USEFUL  WASTED  WINDOW
  0                       479  1.2ms  9.2ms   1.0%     0ns   241us     0ns
  1                       468  1.2ms  9.2ms     0%     0ns   293us     0ns
  all                     947  1.2ms  9.2ms   0.5%     0ns   534us     0ns

", super::exit_codes!())
)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// How to learn of halts
    #[arg(long, value_name = "SOURCE", value_enum, default_value = "auto", help_heading = TRUST)]
    source: SourceChoice,
}

/// Traces until told to stop.
///
/// # Errors
///
/// With cause and remedy.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    trace::run(&args.common, &Plan { noun: &NOUN, sort: NOUN.sort, source: args.source })
}
