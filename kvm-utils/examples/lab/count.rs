//! `lab count -- COMMAND`: the reference counter around any program, e.g. a real QEMU.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;
use kvm_utils::decode::ExitReason;
use kvm_utils::selftest::Host;
use serde_json::json;

use crate::Outcome;
use crate::reference::{Counter, Scope};

#[derive(Debug, Args)]
pub struct Options {
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true)]
    command: Vec<String>,
}

/// Prints one JSON line on standard error, so that the command's output stays its own, and passes its status on.
pub fn run(options: &Options) -> Outcome {
    let isa = Host::detect().isa;
    let counter = Counter::all_reasons(&Scope::System, isa)?;
    let (program, arguments) = options.command.split_first().context("no command")?;
    let before = counter.read()?;
    let status =
        Command::new(program).args(arguments).status().with_context(|| format!("cannot run {program}"))?;
    let counts = counter.read()?.since(&before);
    let name = |code| ExitReason::new(isa, code).name();
    let reasons: BTreeMap<_, _> = counts.reasons.iter().map(|(&code, &count)| (name(code), count)).collect();
    let codes: BTreeMap<_, _> =
        counts.reasons.iter().map(|(code, count)| (code.to_string(), count)).collect();
    eprintln!(
        "{}",
        json!({
            "isa": isa.to_string(), "total": counts.total, "reasons": reasons, "codes": codes, "other": counts.other(),
        })
    );
    exit_code(status)
}

fn exit_code(status: std::process::ExitStatus) -> Result<ExitCode> {
    match status.code() {
        Some(code) => Ok(ExitCode::from(u8::try_from(code)?)),
        None => bail!("the command was ended by a signal: {status}"),
    }
}
