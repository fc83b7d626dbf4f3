//! `kvm-utils msr` and `kvm-utils wrmsr`: which model-specific registers guests access.

use std::process::ExitCode;

use clap::{Args as ClapArgs, builder::PossibleValuesParser};

use super::{
    options::{Common, HOW, TRUST},
    trace::{self, Plan},
};
use crate::{
    bpf::source::{MsrSourceChoice, SourceChoice},
    drilldown::{
        msr::{COLUMNS, IPI, IPI_COLUMNS, MSR, MSR_PATHS, WRMSR, WRMSR_PATHS},
        noun::Noun,
    },
    error::Failure,
};

/// Count accesses to model-specific registers, reads and writes
///
/// Shows which registers the guests read and write, how often, and how often that gave them a fault. See `kvm-utils
/// wrmsr` for writes only.
#[derive(ClapArgs, Debug)]
#[command(after_help = concat!("Examples:
  kvm-utils msr                    all VMs, live
  kvm-utils msr --vm web-1 -d 10s  ten seconds of one VM
  kvm-utils msr --sort faults      what guests ask for that KVM does not have

A Linux guest while it boots:
  MSR                 INDEX  ACCESS      COUNT       /s  SHARE        #GP
  IA32_TSC_DEADLINE   0x6e0  write       1,322       94  49.8%          0
      armed 3.7ms ahead (p50), 2.9s (p99), 6.4 % re-armed before firing
  x2APIC_ICR          0x830  write         853       61  32.1%          0
  x2APIC_ESR          0x828  read           10      0.7   0.4%          0

", super::exit_codes!()))]
pub struct Args {
    #[command(flatten)]
    options: Options,
}

/// Count writes to model-specific registers
///
/// Shows which registers the guests write, how often, how often that gave them a fault, and for TSC_DEADLINE how far
/// ahead they arm their timers and how many are armed anew before they fire.
#[derive(ClapArgs, Debug)]
#[command(after_help = concat!("Examples:
  kvm-utils wrmsr                      all VMs, live
  kvm-utils wrmsr --vm web-1 -d 10s    ten seconds of one VM
  kvm-utils wrmsr -p 4711 --by vcpu    each vCPU of the VM in process 4711
  kvm-utils wrmsr --ipi --vm web-1     which vCPU interrupts which
  kvm-utils wrmsr --source kprobe      which took the fast path

A guest that arms its timer again and again:
  MSR                  INDEX  ACCESS      COUNT       /s  SHARE        #GP
  IA32_TSC_DEADLINE    0x6e0  write      14,474      575  90.6%          0
      armed 868us ahead (p50), 111ms (p99), 72.7 % re-armed before firing
  x2APIC_ICR           0x830  write         930       37   5.8%          0
  x2APIC_EOI           0x80b  write         449       18   2.8%          0

A guest of two vCPUs, with --ipi:
  FROM              TO  WHAT                   COUNT       /s  SHARE
  1                 0   fixed vector 0xfb        532       53  50.0%
  0                 1   fixed vector 0xfb        425       42  39.9%
  1                 0   fixed vector 0xfd         57      5.7   5.4%

", super::exit_codes!()))]
pub struct WriteArgs {
    #[command(flatten)]
    options: Options,
    /// Show who sends interrupts to whom: commands written to x2APICs, by sender, receiver and vector
    #[arg(long, help_heading = HOW)]
    ipi: bool,
}

#[derive(ClapArgs, Debug)]
struct Options {
    #[command(flatten)]
    common: Common,
    /// Sort rows by this column
    #[arg(long, value_name = "COLUMN", default_value = "count", help_heading = HOW,
          value_parser = PossibleValuesParser::new(COLUMNS.iter().map(|column| column.id)))]
    sort: String,
    /// How to learn of accesses
    #[arg(long, value_name = "SOURCE", value_enum, default_value = "auto", help_heading = TRUST)]
    source: MsrSourceChoice,
}

/// Traces until told to stop.
///
/// # Errors
///
/// With cause and remedy.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    trace(&args.options, [&MSR, &MSR_PATHS])
}

/// Traces writes until told to stop.
///
/// # Errors
///
/// With cause and remedy.
pub fn run_writes(args: &WriteArgs) -> anyhow::Result<ExitCode> {
    if !args.ipi {
        return trace(&args.options, [&WRMSR, &WRMSR_PATHS]);
    }
    let Options { common, sort, source } = &args.options;
    let source = match source {
        MsrSourceChoice::Auto => SourceChoice::Auto,
        MsrSourceChoice::Raw => SourceChoice::Raw,
        MsrSourceChoice::Tracepoint => SourceChoice::Tracepoint,
        MsrSourceChoice::Kprobe => {
            let why = "--ipi and --source kprobe do not go together: KVM's functions are not told the whole command";
            return Err(Failure::usage(format!("{why}; leave out one of them")).into());
        }
    };
    let known = IPI_COLUMNS.iter().any(|column| column.id == sort);
    trace::run(common, &Plan { noun: &IPI, sort: if known { sort } else { IPI.sort }, source })
}

fn trace(options: &Options, [plain, with_paths]: [&'static Noun; 2]) -> anyhow::Result<ExitCode> {
    let (noun, source) = match options.source {
        MsrSourceChoice::Auto => (plain, SourceChoice::Auto),
        MsrSourceChoice::Raw => (plain, SourceChoice::Raw),
        MsrSourceChoice::Tracepoint => (plain, SourceChoice::Tracepoint),
        // The functions know a vCPU by its address only.
        MsrSourceChoice::Kprobe => (with_paths, SourceChoice::Raw),
    };
    trace::run(&options.common, &Plan { noun, sort: &options.sort, source })
}
