//! `kvm-utils hypercall`: what guests call.

use std::process::ExitCode;

use clap::{Args as ClapArgs, builder::PossibleValuesParser};

use super::{
    options::{Common, HOW, TRUST},
    trace::{self, Plan},
};
use crate::{
    bpf::source::SourceChoice,
    drilldown::hypercall::{COLUMNS, NOUN},
};

/// Count hypercalls by number
///
/// Shows what the guests ask of the host through hypercalls: of KVM's own interface, of Hyper-V's (Windows guests, and
/// Linux ones to which the VMM offers it) and of Xen's. Numbers without a name are not known to this version.
#[derive(ClapArgs, Debug)]
#[command(after_help = concat!("Examples:
  kvm-utils hypercall                    all VMs, live
  kvm-utils hypercall --vm web-1 -d 10s  ten seconds of one VM
  kvm-utils hypercall --by vcpu          each vCPU

A Linux guest with Hyper-V's interface, from its start on, of --summary:
  HYPERCALL                           INTERFACE  NUMBER      COUNT       /s
  HVCALL_SEND_IPI                     hyper-v    0xb         1,212       48
  HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST   hyper-v    0x3            20      0.8
      20 repetitions
  HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE  hyper-v    0x2            12      0.5

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
