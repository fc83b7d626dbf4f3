//! The command line: each noun's options become a list of [`Spec`]s; everything else is common to all.

mod clock;
mod compare;
mod cpuid;
mod cpus;
mod doctor;
mod hypercall;
mod ipi;
mod jitter;
mod list;
mod mmio;
mod msr;
mod payload;
mod pio;
mod run;
mod timer;
mod tlb;
mod wake;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::measure::worker;
use crate::ops::{self, Spec};

/// For --help.
const EXIT_CODES: &str = "\
Exit codes:
  0  done, also when some operations cannot be measured here, and when Ctrl-C ended it early
  1  an operation failed; of compare: --fail-above was exceeded
  2  usage: a wrong option, a file that cannot be read
  3  of compare: the reports are not of the same machine, or have nothing in common";

/// Measures what each trip out of a KVM guest costs, in cycles of the time-stamp counter
#[derive(Debug, Parser)]
#[command(name = "kvm-bench", version = crate::VERSION, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: run::Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything that can be measured here without changing anything
    All(All),
    /// CPUID, which KVM always intercepts
    Cpuid(cpuid::Options),
    /// A hypercall that KVM does not know
    Hypercall(hypercall::Options),
    /// Port I/O, which KVM always intercepts: its own devices, and those of the VMM
    Pio(pio::Options),
    /// Reads of device memory
    Mmio(mmio::Options),
    /// Model-specific registers
    Msr(msr::Options),
    /// Interrupts from one vCPU to others
    Ipi(ipi::Options),
    /// Removal of a page that other vCPUs have in their TLBs
    Tlb(tlb::Options),
    /// Waking a thread on another vCPU
    Wake(wake::Options),
    /// The shortest system call
    Syscall,
    /// Asking for the time
    Clock(clock::Options),
    /// What arming a timer takes, and how late timers are
    Timer(timer::Options),
    /// The first touch of a page, 4 KiB and 2 MiB
    Fault,
    /// Gaps in which a thread that does nothing but look did not run
    Jitter(jitter::Options),
    /// What can be measured here, and what is missing for the rest
    List(list::Options),
    /// What changed between reports written with -o json, and how sure that is
    #[command(after_help = EXIT_CODES)]
    Compare(compare::Options),
    /// What in this guest makes it leave more often than it needs to
    Doctor(doctor::Options),
    /// The same operations and those that need ring 0, without an operating system: a file that boots, and a reader of what it says
    Payload(payload::Options),
    /// Measure one operation, asked by another kvm-bench
    #[command(hide = true)]
    Worker,
}

#[derive(Debug, Args)]
struct All {
    /// Only operations of these nouns, or of these names
    #[arg(value_name = "NOUN")]
    only: Vec<String>,
}

impl All {
    fn specs(&self) -> Result<Vec<Spec>> {
        let all = ops::usual();
        if self.only.is_empty() {
            return Ok(all);
        }
        let is_it = |spec: &Spec, name: &String| spec.op == *name || spec.op.split(':').next() == Some(name);
        if let Some(name) = self.only.iter().find(|name| !all.iter().any(|spec| is_it(spec, name))) {
            anyhow::bail!("there is no operation {name}; `kvm-bench list` names them");
        }
        Ok(all.into_iter().filter(|spec| self.only.iter().any(|name| is_it(spec, name))).collect())
    }
}

/// What `all` measures of a noun.
fn usual(noun: &str) -> Vec<Spec> {
    ops::NOUNS.iter().filter(|one| one.name == noun).flat_map(|one| (one.usual)()).collect()
}

/// The command line's definition, from which manual pages and completions are made.
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Runs the program; the exit codes are [`EXIT_CODES`].
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Worker => worker::main().map(|()| ExitCode::SUCCESS),
        Command::Compare(options) => compare::run(&options, &cli.common),
        Command::Doctor(options) => doctor::run(&options, &cli.common),
        Command::Payload(options) => payload::run(&options, &cli.common),
        Command::List(options) => list::run(&options, &cli.common),
        Command::All(all) => all.specs().and_then(|specs| run::run_twice(&specs, &cli.common)),
        Command::Cpuid(options) => run::run(&options.specs(), &cli.common),
        Command::Hypercall(options) => run::run(&options.specs(), &cli.common),
        Command::Pio(options) => run::run(&options.specs(), &cli.common),
        Command::Mmio(options) => run::run(&options.specs(), &cli.common),
        Command::Msr(options) => run::run(&options.specs(), &cli.common),
        Command::Syscall => run::run(&usual("syscall"), &cli.common),
        Command::Clock(options) => options.specs().and_then(|specs| run::run(&specs, &cli.common)),
        Command::Timer(options) => run::run(&options.specs(), &cli.common),
        Command::Fault => run::run(&usual("fault"), &cli.common),
        Command::Jitter(options) => run::run(&options.specs(), &cli.common),
        Command::Ipi(options) => options.run(&cli.common),
        Command::Tlb(options) => options.run(&cli.common),
        Command::Wake(options) => options.run(&cli.common),
    };
    result.unwrap_or_else(|error| {
        eprintln!("kvm-bench: {error:#}");
        ExitCode::from(2)
    })
}
