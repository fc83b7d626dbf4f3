//! The program that runs inside a lab kernel: makes exits, counts them without the tracer, and holds the tests that
//! need a kernel with KVM.

mod aio;
mod check;
mod cost;
mod count;
mod drilldown;
mod program;
mod reference;
mod registry;
mod report;
mod shell;
mod tests;
mod tracer;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Makes and counts VM exits inside a lab kernel.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run guests that make a known number of exits; print what they did as JSON
    Vm(vm::Options),
    /// Run a command and count all exits meanwhile, by reason, with perf events
    Count(count::Options),
    /// Time one exit, to see what a tracer beside it adds
    Cost(cost::Options),
    /// Run one test
    Run(registry::RunOptions),
    /// Run every test
    RunAll(registry::RunAllOptions),
    /// List the tests
    List,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Vm(options) => vm::run(&options),
        Command::Count(options) => count::run(&options),
        Command::Cost(options) => cost::run(&options),
        Command::Run(options) => registry::run(&options),
        Command::RunAll(options) => registry::run_all(&options),
        Command::List => registry::list(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("lab: {error:#}");
        ExitCode::FAILURE
    })
}

/// What a subcommand returns.
type Outcome = Result<ExitCode>;
