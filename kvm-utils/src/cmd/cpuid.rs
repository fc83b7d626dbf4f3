//! `kvm-utils cpuid`: what guests ask of the processor.

use std::process::ExitCode;

use clap::{Args as ClapArgs, builder::PossibleValuesParser};

use super::{
    options::{Common, HOW, TRUST},
    trace::{self, Plan},
};
use crate::{
    bpf::source::SourceChoice,
    drilldown::cpuid::{COLUMNS, NOUN},
};

/// Count CPUID instructions by leaf and subleaf
///
/// Shows what the guests ask of the processor, how often, and whether the VMM gave them an answer for it: found, none
/// (zeros), or highest (what the highest basic leaf says, as Intel's processors do). Each CPUID is an exit, which a guest
/// can spare itself by asking once.
#[derive(ClapArgs, Debug)]
#[command(after_help = concat!("Examples:
  kvm-utils cpuid                    all VMs, live
  kvm-utils cpuid --vm web-1 -d 10s  ten seconds of one VM
  kvm-utils cpuid --by vcpu --top 5  the five commonest leaves of each vCPU

A Linux guest while it boots:
  NAME                   LEAF        SUB  ANSWER      COUNT       /s  SHARE
  highest extended leaf  0x80000000  -    found         460       46  28.4%
  L2 and L3 cache        0x80000006  -    found         204       20  12.6%
  L1 cache and TLB       0x80000005  -    found         170       17  10.5%

", super::exit_codes!()))]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Sort rows by this column
    #[arg(long, value_name = "COLUMN", default_value = "count", help_heading = HOW,
          value_parser = PossibleValuesParser::new(COLUMNS.iter().map(|column| column.id)))]
    sort: String,
    /// How to learn of them
    #[arg(long, value_name = "SOURCE", value_enum, default_value = "auto", help_heading = TRUST)]
    source: SourceChoice,
}

/// Traces until told to stop.
///
/// # Errors
///
/// With cause and remedy.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    trace::run(&args.common, &Plan { noun: &NOUN, sort: &args.sort, source: args.source })
}
