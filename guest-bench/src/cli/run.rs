//! What all nouns have in common: options, progress, Ctrl-C, and the report.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::measure::supervisor::{self, Plan, Status};
use crate::measure::tsc::{self, Tsc};
use crate::ops::Spec;
use crate::report::matrix::Matrix;
use crate::report::{Report, detail, heatmap, json, table};
use crate::{cpu, environment};

/// Time per operation when nothing else is said.
const ONE_TIME: Duration = Duration::from_secs(1);
/// Time for all operations then, without what it takes to prepare them.
const ALL_TIME: Duration = Duration::from_secs(30);

/// Options of every measurement.
#[derive(Clone, Debug, Args)]
pub(super) struct Options {
    /// CPU on which operations are done [default: the last one allowed]
    #[arg(long, global = true, value_name = "N")]
    cpu: Option<usize>,
    /// Samples per operation [default: 100000, for those that sleep 5000, or as many as fit into --time]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    samples: Option<u64>,
    /// Rounds, in each of which the order is shuffled; comparing reports needs 5 or more
    #[arg(long, global = true, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Time per operation at most, such as 500ms, 2s or 1m [default: 1s, less if there are many, so that all take 30s]
    #[arg(short, long, global = true, value_name = "T", value_parser = duration)]
    time: Option<Duration>,
    /// Seed of the shuffled order [default: another one each time]
    #[arg(long, global = true, value_name = "N")]
    seed: Option<u64>,
    /// The report's form
    #[arg(short, long, global = true, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    #[default]
    Table,
    /// kvm-bench/v1
    Json,
}

impl Options {
    pub(super) fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// The same with another number of samples, if one is given.
    pub(super) fn with_samples(&self, samples: Option<u64>) -> Self {
        Self { samples: samples.or(self.samples), ..self.clone() }
    }

    /// The CPU on which operations are done when they do not say so themselves.
    pub(super) fn cpu(&self) -> Option<usize> {
        self.cpu
    }

    /// The same, or else the last CPU that may be used.
    pub(super) fn cpu_or_last(&self) -> Result<usize> {
        let allowed = cpu::allowed().context("cannot tell which CPUs may be used")?;
        Ok(match (self.cpu, allowed.last()) {
            (Some(cpu), _) if allowed.contains(&cpu) => cpu,
            (Some(cpu), _) => bail!("CPU {cpu} is offline or outside of this cpuset; there are {allowed:?}"),
            (None, Some(&last)) => last,
            (None, None) => bail!("no CPU may be used"),
        })
    }

    /// For so many operations.
    pub(super) fn plan(&self, tsc: &Tsc, operations: usize) -> Result<Plan> {
        let cpu = self.cpu_or_last()?;
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..));
        let share = ALL_TIME / u32::try_from(operations.max(1))?;
        let time = self.time.unwrap_or_else(|| ONE_TIME.min(share));
        Ok(Plan { cpu, hz: tsc.hz, rounds: self.rounds, samples: self.samples, time, seed, again: false })
    }
}

/// Ctrl-C has been pressed.
static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn stop(_: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

/// Prints what there is at the first Ctrl-C; the second one ends the program.
fn catch_interrupts() {
    let handler: extern "C" fn(libc::c_int) = stop;
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only stores to an atomic; SA_RESETHAND gives the next one its usual effect.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as libc::sighandler_t;
            action.sa_flags = libc::SA_RESETHAND | libc::SA_RESTART;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

/// Measures and reports.
pub(super) fn run(specs: &[Spec], options: &Options) -> Result<ExitCode> {
    measure(specs, options, false)
}

/// The same, and measures once more what was suspect.
pub(super) fn run_twice(specs: &[Spec], options: &Options) -> Result<ExitCode> {
    measure(specs, options, true)
}

fn measure(specs: &[Spec], options: &Options, again: bool) -> Result<ExitCode> {
    catch_interrupts();
    let tsc = tsc::find();
    let plan = Plan { again, ..options.plan(&tsc, specs.len())? };
    let progress = Progress::new();
    let results = supervisor::run(specs, &plan, &STOP, &mut |spec, done| progress.show(spec, done))?;
    progress.clear();
    let interrupted = STOP.load(Ordering::Relaxed);
    let mut report = Report { environment: environment::fingerprint(), tsc, results, interrupted };
    report.judge_tsc();
    print(&match options.output {
        Output::Table => format!("{}{}", table::text(&report), heat(&report)),
        Output::Json => format!("{}\n", json::document(&report)?),
    })?;
    let failed = report.results.iter().any(|one| matches!(one.status, Status::Failed(_)));
    Ok(ExitCode::from(u8::from(failed)))
}

/// The heat map of the matrix, if there is one.
fn heat(report: &Report) -> String {
    let Some(matrix) = Matrix::of(&report.results) else { return String::new() };
    let is_terminal = io::stdout().is_terminal();
    let width = rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col));
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let width = width.filter(|width| *width > 0).unwrap_or(100);
    let map = heatmap::text(&matrix, report.tsc.hz, width, is_terminal && !no_color);
    format!("{map}{}", detail::of_matrix(&report.results))
}

/// Writes to standard output; a reader that has gone is no error.
pub(super) fn print(text: &str) -> Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write the report"),
    }
}

/// One line on a terminal that says how far it is.
struct Progress {
    is_terminal: bool,
}

impl Progress {
    fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal() }
    }

    fn show(&self, spec: &Spec, done: f64) {
        if self.is_terminal {
            eprint!("\r\x1b[K{:3.0} %  {}", done * 100.0, spec.title());
        }
    }

    fn clear(&self) {
        if self.is_terminal {
            eprint!("\r\x1b[K");
        }
    }
}

/// A number in decimal, or in hexadecimal after 0x.
pub(super) fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "give a number, such as 12 or 0x40000000".to_owned())
}

/// How many bytes are read at once.
pub(super) fn size(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(size @ (1 | 2 | 4 | 8)) => Ok(size),
        _ => Err("give 1, 2, 4 or 8".to_owned()),
    }
}

/// A time with its unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "give a time with its unit, such as 500ms, 2s or 1m".to_owned();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        _ => return Err(wrong()),
    };
    if seconds <= 0.0 || seconds > 86_400.0 {
        return Err("more than nothing and at most a day".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        for wrong in ["5", "", "s", "0s", "-1s", "1h", "1e9s", "1.2.3s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
