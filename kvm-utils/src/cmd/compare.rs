//! `kvm-utils compare`: what changed between recordings, or between reports of kvm-bench.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args as ClapArgs, ValueEnum};
use kvm_bench::compare::{files, verdicts::Quantile};

use super::printer::{abilities, terminal_size};
use crate::{
    compare::{
        Comparison, Outcome, Per, Question, Recorded, bench, compare,
        limits::Limits,
        measure::{Floors, Kind},
        view::{
            json, junit, markdown,
            table::{self, Shown},
        },
    },
    drilldown::registry::REGISTRY,
    error::{CHECK_FAILED, Failure, NOT_COMPARABLE},
    recording::Recording,
    view::{By, Style},
};

/// What changed between recordings: more exits or fewer, longer or shorter, and how sure that is
///
/// Compares what `kvm-utils record` wrote, by row, class and drill-down, or what `kvm-bench -o json` wrote, by operation.
/// With a file a side, noise is judged from the intervals in each; with five or more a side, taken in turn, from how
/// the files differ. That anything is called a change though nothing changed happens in less than 1 of 100 tables.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  kvm-utils compare old.kvmrec new.kvmrec               rates, durations
  kvm-utils compare a.kvmrec b.kvmrec --fail-above 10%  fails if 10 % worse
  kvm-utils compare a.kvmrec b.kvmrec -o markdown       for a pull request
  kvm-utils compare a.kvmrec b.kvmrec --per 50000       per request, of 50,000
  kvm-utils compare --per boot --base a* --new b*       a boot a file, 5 or more
  kvm-utils compare a.kvmrec b.kvmrec --limits a.toml   fails beyond limits
  kvm-utils compare a.json b.json                       reports of kvm-bench

Exit codes: 0 nothing is too much, 1 a regression, 2 usage, 3 not comparable
(another machine, kernel or guest, nothing in common). docs/compare.md has the
method and the file of limits.")]
pub struct Args {
    /// What was, and what is
    #[arg(value_name = "FILE", num_args = 2, conflicts_with_all = ["base", "new"])]
    files: Vec<PathBuf>,
    /// Several files of what was; five or more a side also tell what differs from run to run
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "new")]
    base: Vec<PathBuf>,
    /// Several files of what is
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "base")]
    new: Vec<PathBuf>,
    /// Compare what is of different machines, kernels or guests
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    gate: Gate,
    /// Show every figure in a table, not only the worst and what changed
    #[arg(long, help_heading = HOW)]
    all: bool,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value = "table", help_heading = HOW)]
    output: Output,
}

const HOW: &str = "How to show it";
const WHAT: &str = "What to compare";
/// What is too much.
pub const GATE: &str = "What is too much";

/// What is compared.
#[derive(ClapArgs, Debug)]
struct What {
    /// What rates are per: `second`; a number of units of work that each file did; `boot`, `run` or `job`: each file is one
    #[arg(long, value_name = "WHAT", value_parser = per, default_value = "second", help_heading = WHAT)]
    per: Per,
    /// Units of work that each file of the base did
    #[arg(long, value_name = "N", value_parser = units, requires = "per_new", conflicts_with = "per", help_heading = WHAT)]
    per_base: Option<f64>,
    /// Units of work that each new file did
    #[arg(long, value_name = "N", value_parser = units, requires = "per_base", conflicts_with = "per", help_heading = WHAT)]
    per_new: Option<f64>,
    /// What a row is about: all VMs together, each VM by name, or each vCPU
    #[arg(long, value_enum, value_name = "WHAT", default_value = "reason", help_heading = WHAT)]
    by: By,
    /// Only this drill-down; may be given several times
    #[arg(long = "noun", value_name = "NOUN", value_parser = noun, help_heading = WHAT)]
    nouns: Vec<String>,
    /// Only these figures; several with commas
    #[arg(long = "figure", value_name = "FIGURE", value_enum, value_delimiter = ',', help_heading = WHAT)]
    figures: Vec<Kind>,
}

/// What is too much.
#[derive(ClapArgs, Debug)]
struct Gate {
    /// A regression is what is worse by more than this, such as 10% (default: worse at all; with --limits, what these say)
    #[arg(long, value_name = "P%", value_parser = percent, help_heading = GATE)]
    fail_above: Option<f64>,
    /// How much is allowed, in a TOML file, by drill-down, class and row: max_rate, max_increase, max_mean, max_p99
    #[arg(long, value_name = "FILE", help_heading = GATE)]
    limits: Option<PathBuf>,
    /// A change of a rate by less than this does not matter (events per second, or per what --per says)
    #[arg(long, value_name = "N", value_parser = not_negative, default_value = "0", help_heading = GATE)]
    min_change: f64,
}

/// Output formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// One document, for programs
    Json,
    /// A test case per figure
    Junit,
    /// For a pull request
    Markdown,
}

/// Compares, and says whether anything is too much.
///
/// # Errors
///
/// With cause and remedy.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (base, new) = match args.files.as_slice() {
        [base, new] => (vec![base.clone()], vec![new.clone()]),
        _ if args.base.is_empty() => {
            return Err(Failure::usage("name two files, or several with --base and --new").into());
        }
        _ => (args.base.clone(), args.new.clone()),
    };
    let question = question(args)?;
    let mut is_bench = Vec::new();
    for path in base.iter().chain(&new) {
        is_bench.push(is_json(path)?);
    }
    let comparison = if is_bench.iter().all(|is_bench| *is_bench) {
        of_bench(&base, &new, args, &question)?
    } else if let Some((path, _)) = base.iter().chain(&new).zip(&is_bench).find(|(_, is_bench)| **is_bench) {
        return Err(Failure::usage(format!(
            "{} is JSON, others are recordings: compare recordings with recordings, and reports of kvm-bench with reports of kvm-bench",
            path.display()
        ))
        .into());
    } else {
        let read = |paths: &[PathBuf]| paths.iter().map(|path| load(path)).collect::<Result<Vec<_>, _>>();
        compare(&read(&base)?, &read(&new)?, &question)
    };
    show(&comparison, args).context("cannot write to standard output")?;
    Ok(code(&comparison))
}

/// The exit code that a comparison amounts to.
pub(super) fn code(comparison: &Comparison) -> ExitCode {
    match comparison.outcome() {
        Outcome::Passed => ExitCode::SUCCESS,
        Outcome::Failed => ExitCode::from(CHECK_FAILED),
        Outcome::NotComparable => ExitCode::from(NOT_COMPARABLE),
    }
}

fn question(args: &Args) -> Result<Question, Failure> {
    let per = match (args.what.per_base, args.what.per_new) {
        (Some(base), Some(new)) => Per::Units([base, new]),
        _ => args.what.per,
    };
    Ok(Question {
        per,
        by: args.what.by,
        measures: if args.what.figures.is_empty() { Kind::ALL.to_vec() } else { args.what.figures.clone() },
        nouns: args.what.nouns.clone(),
        floors: Floors { events: args.gate.min_change, ..Floors::default() },
        fail_above: args.gate.fail_above,
        limits: limits(args.gate.limits.as_deref())?,
        force: args.force,
    })
}

fn of_bench(
    base: &[PathBuf],
    new: &[PathBuf],
    args: &Args,
    question: &Question,
) -> anyhow::Result<Comparison> {
    let is_of_recordings = [
        (args.gate.limits.is_some(), "--limits"),
        (args.gate.min_change > 0.0, "--min-change"),
        (question.per != Per::Second, "--per"),
        (args.what.by != By::Reason, "--by"),
        (!args.what.nouns.is_empty(), "--noun"),
        (!args.what.figures.is_empty(), "--figure"),
    ];
    if let Some((_, option)) = is_of_recordings.into_iter().find(|(is_given, _)| *is_given) {
        return Err(Failure::usage(format!(
            "{option} is for recordings, and these are reports of kvm-bench: leave it out; --fail-above is for both"
        ))
        .into());
    }
    let view = files::compare(base, new, Quantile::P50, question.force).map_err(Failure::usage)?;
    Ok(bench::comparison(&view, question))
}

/// Whether a file is JSON; recordings are not.
fn is_json(path: &Path) -> Result<bool, Failure> {
    use std::io::Read as _;
    let mut start = [0; 64];
    let read = std::fs::File::open(path).and_then(|mut file| file.read(&mut start));
    let read = read.map_err(|error| {
        Failure::usage(format!(
            "cannot read {}: {error}; name a file that `kvm-utils record -o` or `kvm-bench -o json` wrote",
            path.display()
        ))
    })?;
    Ok(start[..read].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{'))
}

/// Reads a recording.
pub(super) fn load(path: &Path) -> Result<Recorded, Failure> {
    let recording = Recording::open(path).map_err(|error| {
        Failure::usage(format!(
            "{error}; name a file that `kvm-utils record -o` or `kvm-bench -o json` wrote"
        ))
    })?;
    let name = path.display().to_string();
    let notes = recording.notes.iter().map(|note| format!("{name}: {note}")).collect();
    Ok(Recorded { histories: recording.histories(), name, notes })
}

/// Reads the file of limits, if there is one.
pub(super) fn limits(path: Option<&Path>) -> Result<Limits, Failure> {
    path.map_or_else(|| Ok(Limits::default()), |path| Limits::read(path).map_err(Failure::usage))
}

fn show(comparison: &Comparison, args: &Args) -> anyhow::Result<()> {
    let text = match args.output {
        Output::Table => {
            table::render(comparison, &style(), if args.all { Shown::All } else { Shown::Worst })
        }
        Output::Json => json::line(comparison)? + "\n",
        Output::Junit => junit::render(comparison),
        Output::Markdown => markdown::render(comparison),
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// How standard output is to be written to.
pub(super) fn style() -> Style {
    let terminal = io::stdout().is_terminal();
    let (color, unicode) = abilities();
    Style {
        width: Some(if terminal { terminal_size().columns } else { 80 }),
        color: terminal && color,
        unicode,
        ..Style::default()
    }
}

fn per(text: &str) -> Result<Per, String> {
    match text {
        "second" => Ok(Per::Second),
        "boot" => Ok(Per::Run("boot")),
        "run" => Ok(Per::Run("run")),
        "job" => Ok(Per::Run("job")),
        _ => units(text).map(|units| Per::Units([units; 2])).map_err(|_| {
            "write second, boot, run, job, or how many units of work each file did, such as 50000".to_owned()
        }),
    }
}

fn units(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "write how many units of work it was, such as 50000".to_owned())
}

fn not_negative(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| "write a number that is not negative, such as 5".to_owned())
}

pub(super) fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|number| not_negative(number).ok());
    number.map(|number| number / 100.0).ok_or_else(|| "write a percentage, such as 10%".to_owned())
}

fn noun(text: &str) -> Result<String, String> {
    let mut names: Vec<&str> = REGISTRY.iter().map(|noun| noun.name).collect();
    names.dedup();
    if names.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(format!("there is no such drill-down; there are {}", names.join(", ")))
}
