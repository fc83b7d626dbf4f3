//! Development tasks of kvm-utils: `cargo xtask TASK`.
//!
//! Nothing here is part of what a user runs; the tasks build, boot and check what is.

mod bench;
mod cleanup;
mod demo;
mod dist;
mod ebpf;
mod lab;
mod process;
mod project;
mod release;
mod test;
mod ui;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Development tasks of kvm-utils")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run a command as root inside a stock Debian kernel with working KVM, on any machine
    Lab(lab::Options),
    /// Build the eBPF object that is committed, or compare it with a fresh build
    Ebpf(ebpf::Options),
    /// Check everything: format, lints, unit tests, the eBPF object, and the tests inside the labs
    Test(test::Options),
    /// Measure what the documents quote: overhead, reading of counters, start
    Bench(bench::Options),
    /// Watch the exits of a real guest, on this machine's KVM or else in the lab
    Demo,
    /// Build what users get: static programs, manual pages, completions, an archive, a .deb, checksums
    Dist,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = cleanup::install().and_then(|()| match cli.task {
        Task::Lab(options) => lab::main(options),
        Task::Ebpf(options) => ebpf::main(&options),
        Task::Test(options) => test::main(options),
        Task::Bench(options) => bench::main(&options),
        Task::Demo => demo::main(),
        Task::Dist => dist::main(),
    });
    match result {
        Ok(code) => code,
        Err(error) => {
            ui::error(&error);
            ExitCode::FAILURE
        }
    }
}
