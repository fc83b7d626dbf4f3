//! kvm-utils: trace and time the VM exits of KVM guests from the host.

use std::process::ExitCode;

use clap::Parser as _;
use kvm_utils::{
    cmd::{self, Cli},
    error,
};

fn main() -> ExitCode {
    match cmd::run(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            if !error::is_closed_pipe(&error) {
                error::say(format_args!("{error:#}"));
            }
            error::exit_code(&error)
        }
    }
}
