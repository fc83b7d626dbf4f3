//! `kvm-bench payload`: the freestanding payload as a file, and a report of what it printed.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use super::run;
use crate::measure::supervisor::Status;
use crate::payload::BENCH_ELF;
use crate::payload_report;
use crate::report::{json, table};

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Options {
    /// Write it to a file that QEMU (-kernel), Firecracker and Cloud Hypervisor boot; it prints on the first serial port
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Read what it printed, from a file or from standard input (-), and report it
    #[arg(long, value_name = "FILE")]
    read: Option<PathBuf>,
}

pub(super) fn run(options: &Options, common: &run::Options) -> Result<ExitCode> {
    if let Some(path) = &options.save {
        fs::write(path, BENCH_ELF).with_context(|| format!("cannot write {}", path.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = match &options.read {
        Some(path) if path != Path::new("-") => {
            fs::read(path).with_context(|| format!("cannot read {}", path.display()))?
        }
        _ => {
            let mut text = Vec::new();
            io::stdin().lock().read_to_end(&mut text).context("cannot read standard input")?;
            text
        }
    };
    // A serial line may hold anything.
    let text = String::from_utf8_lossy(&text);
    let heard = payload_report::read(text.lines())?;
    if !heard.done {
        let last = heard.last.as_deref().map_or(String::new(), |last| format!(" after {last}"));
        eprintln!("kvm-bench: the payload did not come to its end: it stopped{last}");
    }
    let done = heard.done;
    let report = heard.report(None)?;
    run::print(&if common.is_json() {
        format!("{}\n", json::document(&report)?)
    } else {
        table::text(&report)
    })?;
    let failed = report.results.iter().any(|one| matches!(one.status, Status::Failed(_)));
    Ok(ExitCode::from(u8::from(failed || !done)))
}
