//! `kvm-utils io`: which ports and memory-mapped registers guests access.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args as ClapArgs, builder::PossibleValuesParser};

use super::{
    options::{Common, HOW, TRUST},
    trace::{self, Plan},
};
use crate::{
    bpf::source::SourceChoice,
    drilldown::io::{COLUMNS, IO, IO_PAGES, IO_PAGES_UNTIMED, IO_UNTIMED},
};

/// Count and time port I/O and memory-mapped I/O, by device and address
///
/// Shows which ports and which memory-mapped registers the guests access, how often, whether KVM answers or the VMM in
/// user space has to, and for how long that keeps the guest out.
#[derive(ClapArgs, Debug)]
#[command(after_help = concat!("What it shows, of a guest whose clock is the ACPI PM timer:
  DEVICE              ADDRESS     DIR        COUNT       /s   TIME  TO VMM   MEAN
  ACPI PM timer       0x608       in        19,593    1,375  15.9%  100.0%  150us
  IOAPIC select       0xfec00000  write        332       23   0.1%      0%   34us
COUNT are accesses, TIME is the vCPUs' in exits for them, TO VMM how many KVM
could not answer itself.

Examples:
  kvm-utils io                            all VMs, live
  kvm-utils io --vm web-1 -d 10s          ten seconds of one VM
  kvm-utils io --sort total_ns --top 5    the five that take most time
  kvm-utils io --pages --by vcpu          registers by page, for each vCPU

", super::exit_codes!()))]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Group memory-mapped registers by their page of 4 KiB
    #[arg(long, help_heading = HOW)]
    pages: bool,
    /// Sort rows by this column
    #[arg(long, value_name = "COLUMN", default_value = "count", help_heading = HOW,
          value_parser = PossibleValuesParser::new(COLUMNS.iter().map(|column| column.id)))]
    sort: String,
    /// The monitor socket of the VM's QEMU, to be asked what its devices are called (default: one of its own that nobody
    /// uses)
    #[arg(long, value_name = "PATH", help_heading = HOW)]
    qmp: Option<PathBuf>,
    /// Call devices by well-known names only: leave QEMU's monitor alone
    #[arg(long, conflicts_with = "qmp", help_heading = HOW)]
    no_qmp: bool,
    /// How to learn of accesses
    #[arg(long, value_name = "SOURCE", value_enum, default_value = "auto", help_heading = TRUST)]
    source: SourceChoice,
    /// Count only: costs nothing at exits that are no I/O, but tells neither times nor who answered
    #[arg(long, help_heading = TRUST)]
    no_time: bool,
}

/// Traces until told to stop.
///
/// # Errors
///
/// With cause and remedy.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let noun = match (args.pages, args.no_time) {
        (false, false) => &IO,
        (false, true) => &IO_UNTIMED,
        (true, false) => &IO_PAGES,
        (true, true) => &IO_PAGES_UNTIMED,
    };
    let plan = Plan { noun, sort: &args.sort, source: args.source };
    trace::run_with(&args.common, &plan, |session| {
        if !args.no_qmp {
            session.ask_for_devices(args.qmp.clone());
        }
    })
}
