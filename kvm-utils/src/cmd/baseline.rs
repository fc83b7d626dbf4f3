//! `--baseline FILE`: a live run held against a recording when it ends.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Args;

use super::{
    compare::{GATE, code, limits, load, percent, style},
    options::Output,
    trace::host_error,
};
use crate::{
    compare::{
        Question, Recorded, comparable, compare,
        view::{
            json,
            table::{self, Shown},
        },
    },
    drilldown::{report::Order, sample::Sample},
    error::{Failure, NOT_COMPARABLE},
    host::{SysRoot, facts},
    model::{Fingerprint, History, Report},
    session::Session,
};

/// What a live run is held against.
#[derive(Args, Clone, Debug, Default)]
pub struct Against {
    /// When it ends, compare the run with this recording; exit with 1 if anything is worse
    #[arg(long, value_name = "FILE", help_heading = GATE)]
    pub baseline: Option<PathBuf>,
    /// With --baseline: a regression is what is worse by more than this, such as 10%
    #[arg(long, value_name = "P%", value_parser = percent, requires = "baseline", help_heading = GATE)]
    pub fail_above: Option<f64>,
    /// With --baseline: how much is allowed, in a TOML file, as of `kvm-utils compare`
    #[arg(long, value_name = "FILE", requires = "baseline", help_heading = GATE)]
    pub limits: Option<PathBuf>,
}

/// A recording, and what is counted beside it.
pub struct Baseline {
    base: Option<(Recorded, Question)>,
    samples: Vec<Sample>,
}

impl Baseline {
    /// Reads what is asked for, if anything is.
    ///
    /// # Errors
    ///
    /// When it cannot be read, does not hold this drill-down, or is of another machine.
    pub fn new(against: &Against, noun: &str) -> Result<Self, Failure> {
        let Some(path) = &against.baseline else { return Ok(Self { base: None, samples: Vec::new() }) };
        let base = load(path)?;
        if !base.histories.iter().any(|history| history.whole.noun == noun) {
            return Err(Failure::usage(format!(
                "{} holds no {noun}: record it with --with {noun}, or trace what it holds",
                path.display()
            )));
        }
        // Before the run, not after it.
        let differ = comparable::with_machine(&base, &facts::gather(&SysRoot::default()));
        if let Some(one) = differ.first() {
            return Err(Failure {
                code: NOT_COMPARABLE,
                message: format!(
                    "{} is of another machine, {} was {} and is {}: record this run, and compare with --force",
                    path.display(),
                    one.fact,
                    one.base,
                    one.new
                ),
            });
        }
        let question = Question {
            fail_above: against.fail_above,
            limits: limits(against.limits.as_deref())?,
            nouns: vec![noun.to_owned()],
            ..Question::default()
        };
        Ok(Self { base: Some((base, question)), samples: Vec::new() })
    }

    /// Ends the session's interval, reports it, and keeps what the comparison needs.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to change a map.
    pub fn interval(&mut self, session: &mut Session, order: &Order) -> Result<Report, Failure> {
        let (sample, report) = session.interval_with_sample(order).map_err(host_error)?;
        if self.base.is_some() {
            self.samples.push(sample);
        }
        Ok(report)
    }

    /// Compares, shows the result after the summary, and gives the exit code, if there is something to compare with.
    ///
    /// # Errors
    ///
    /// Those of standard output.
    pub fn finish(self, session: &mut Session, output: Output) -> anyhow::Result<Option<ExitCode>> {
        let Some((base, question)) = self.base else { return Ok(None) };
        // All rows, whatever was shown.
        let order = Order::of(session.noun());
        let whole = session.summary(&order).map_err(host_error)?;
        let history = History {
            fingerprint: Fingerprint { facts: facts::gather(&SysRoot::default()) },
            intervals: self.samples.iter().map(|sample| session.report(sample, &order)).collect(),
            whole,
        };
        let new = Recorded { name: "this run".to_owned(), histories: vec![history], notes: Vec::new() };
        let comparison = compare(&[base], &[new], &question);
        let shown = || table::render(&comparison, &style(), Shown::Live);
        let written = match output {
            Output::Table => io::stdout().lock().write_all(format!("\n{}", shown()).as_bytes()),
            Output::Json => writeln!(io::stdout().lock(), "{}", json::line(&comparison)?),
            // Rows have no place for it.
            Output::Csv => io::stderr().lock().write_all(shown().as_bytes()),
        };
        written.context("cannot write the comparison")?;
        Ok(Some(code(&comparison)))
    }
}
