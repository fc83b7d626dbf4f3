//! The command line: one file per subcommand, which parses its options and runs.

/// The last lines of the help of `exits` and of every drill-down.
macro_rules! exit_codes {
    () => {
        "Exit codes: 0 ok, 1 --strict and the counts are in doubt, or worse than\n\
         --baseline, 2 usage, 3 this host cannot do it."
    };
}
use exit_codes;

pub mod baseline;
pub mod bench;
pub mod caps;
pub mod compare;
pub mod cpuid;
mod derived;
pub mod exits;
pub mod export;
pub mod fault;
pub mod halt;
pub mod hypercall;
pub mod io;
pub mod irq;
pub mod msr;
pub mod options;
mod printer;
pub mod record;
pub mod report;
pub mod rip;
pub mod selftest;
mod silence;
pub mod time;
pub mod top;
mod trace;
pub mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Trace and time the VM exits of KVM guests from the host
#[derive(Parser, Debug)]
#[command(
    version = kvm_bench::VERSION,
    about,
    max_term_width = 100,
    after_help = "Examples:
  kvm-utils caps                     what this host can do: run this first
  kvm-utils selftest                 whether exits are counted right here
  kvm-utils top                      all VMs on a full screen
  kvm-utils exits                    the exits of all VMs, live; Ctrl-C ends it
  kvm-utils exits --vm web-1 -d 10s  ten seconds of one VM

Needs root, or CAP_BPF and CAP_PERFMON. `kvm-utils COMMAND --help` tells more.

Exit codes: 0 ok, 1 a check failed, 2 usage, 3 this host cannot do it."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Top(top::Args),
    Exits(exits::Args),
    Wrmsr(msr::WriteArgs),
    Msr(msr::Args),
    Io(io::Args),
    Cpuid(cpuid::Args),
    Hypercall(hypercall::Args),
    Fault(fault::Args),
    Rip(rip::Args),
    Time(time::Args),
    Halt(halt::Args),
    Irq(irq::Args),
    Record(record::Args),
    Report(report::Args),
    Export(export::Args),
    Bench(bench::Args),
    Compare(compare::Args),
    Caps(caps::Args),
    Selftest(selftest::Args),
}

/// Runs what the command line says.
///
/// # Errors
///
/// With cause and remedy; see [`crate::error::exit_code`] for the exit code.
pub fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    match &cli.command {
        Command::Exits(args) => exits::run(args),
        Command::Wrmsr(args) => msr::run_writes(args),
        Command::Msr(args) => msr::run(args),
        Command::Io(args) => io::run(args),
        Command::Cpuid(args) => cpuid::run(args),
        Command::Hypercall(args) => hypercall::run(args),
        Command::Fault(args) => fault::run(args),
        Command::Rip(args) => rip::run(args),
        Command::Time(args) => time::run(args),
        Command::Top(args) => top::run(args),
        Command::Halt(args) => halt::run(args),
        Command::Irq(args) => irq::run(args),
        Command::Record(args) => record::run(args),
        Command::Report(args) => report::run(args),
        Command::Export(args) => export::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Caps(args) => caps::run(args),
        Command::Selftest(args) => selftest::run(args),
    }
}
