//! `kvm-utils irq`: what interrupts of guests go through.

use std::process::ExitCode;

use clap::{Args as ClapArgs, builder::PossibleValuesParser};

use super::{
    options::{Common, HOW, TRUST},
    trace::{self, Plan},
};
use crate::{
    bpf::source::SourceChoice,
    drilldown::irq::{COLUMNS, NOUN},
};

/// Count what interrupts go through, by vector, message and line
///
/// One interrupt makes several events: a device's message (msi) or line (gsi, ioapic, pic) or another vCPU (ipi) raises it,
/// a local APIC accepts it, KVM puts it into the guest (injected), and the guest ends it (eoi). ELSEWHERE says how many came
/// on other threads than the vCPUs': those of the VMM and of the kernel, and interrupts of the host.
#[derive(ClapArgs, Debug)]
#[command(after_help = concat!("Examples:
  kvm-utils irq                    all VMs, live
  kvm-utils irq --vm web-1 -d 10s  ten seconds of one VM
  kvm-utils irq -p 4711 --by vcpu  what each vCPU gets, and other threads raise
  kvm-utils irq --sort elsewhere   what devices raise

Some of the rows of a guest with two vCPUs and a disk:
  EVENT             VECTOR  WHAT      COUNT       /s  SHARE  ELSEWHERE
  injected          0xec    -         2,236      220  18.1%          0
  eoi               0xec    -         2,236      220  18.1%          0
  accepted          0xec    to 1      1,133      112   9.2%          0
  ipi               0xfb    to 1        306       30   2.5%          0
  accepted          0xfb    to 1        306       30   2.5%          0
  msi               0x23    to 0         68      6.7   0.6%         68

", super::exit_codes!()))]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Sort rows by this column
    #[arg(long, value_name = "COLUMN", default_value = "count", help_heading = HOW,
          value_parser = PossibleValuesParser::new(COLUMNS.iter().map(|column| column.id)))]
    sort: String,
    /// How to learn of events
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
