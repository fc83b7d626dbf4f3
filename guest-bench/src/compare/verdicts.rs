//! Judges each operation of two sides, each of one or more reports.

use std::collections::BTreeMap;

use serde_json::Value;

use super::document::{Document, Entry};
use super::statistics::{self, Comparison, Floor, Verdict};
use crate::shared::ops::{self, Pace};

/// Which quantile of each round is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantile {
    /// The median.
    P50,
    /// 90 %
    P90,
    /// 99 %
    P99,
}

impl Quantile {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
        }
    }

    fn of(self, entry: &Entry) -> &[f64] {
        match self {
            Self::P50 => &entry.rounds_p50,
            Self::P90 => &entry.rounds_p90,
            Self::P99 => &entry.rounds_p99,
        }
    }
}

/// Smallest change that matters: medians of what does not sleep; of what sleeps, and tails, which vary more.
const FLOORS: [f64; 2] = [0.05, 0.15];

/// So many reports a side are compared report by report; fewer of them round by round.
pub const RUNS: usize = 5;

/// Where something else had the CPU in more than this share of the samples, others were slowed down too.
const BUSY: f64 = 0.02;

/// Clocks that differ more than this count other cycles.
const OTHER_CLOCK: f64 = 0.01;

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It costs more.
    Worse,
    /// It was measured and no longer can be trusted or measured at all: `failed` or `suspect`.
    Broken,
    /// It costs less.
    Better,
    /// There is too little to tell.
    Inconclusive,
    /// If it differs, then by less than what matters.
    Same,
    /// There are not two figures.
    NotCompared,
}

impl Outcome {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Worse => "worse",
            Self::Broken => "broken",
            Self::Better => "better",
            Self::Inconclusive => "inconclusive",
            Self::Same => "same",
            Self::NotCompared => "not compared",
        }
    }
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Its name.
    pub op: String,
    /// What it was done with.
    pub args: BTreeMap<String, Value>,
    /// Both, for people.
    pub title: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why there is no better answer.
    pub reason: Option<String>,
    /// The figures, if both sides have some.
    pub comparison: Option<Comparison>,
    /// How many figures each side has.
    pub figures: [usize; 2],
    /// Median over the reports of the 99 % quantile of all samples, as far as there is one: told, not judged.
    pub p99: [Option<f64>; 2],
}

impl Judged {
    /// Relative change, positive when the figure grew.
    pub fn change(&self) -> Option<f64> {
        self.comparison.as_ref().map(|comparison| comparison.ratio - 1.0)
    }

    /// Whether it is worse by more than a share, or can no longer be measured.
    pub fn is_regression(&self, share: f64) -> bool {
        match self.outcome {
            Outcome::Broken => true,
            Outcome::Worse => {
                self.comparison.as_ref().is_some_and(|one| one.ratio.max(1.0 / one.ratio) - 1.0 > share)
            }
            _ => false,
        }
    }
}

/// The figures' unit: cycles, or nanoseconds where the sides' clocks count other cycles.
pub fn unit(base: &[Document], new: &[Document]) -> &'static str {
    let mut hz = base.iter().chain(new).map(Document::hz);
    let Some(Some(first)) = hz.next() else { return "cycles" };
    // One that does not tell its clock cannot be converted.
    let is_other = |hz: f64| (hz / first - 1.0).abs() > OTHER_CLOCK;
    let all: Option<Vec<f64>> = hz.collect();
    if all.is_some_and(|all| all.into_iter().any(is_other)) { "ns" } else { "cycles" }
}

/// Judges every operation that either side knows, in the order of the base.
pub fn judge(base: &[Document], new: &[Document], quantile: Quantile) -> Vec<Judged> {
    let in_ns = unit(base, new) == "ns";
    let mut titles: Vec<String> = Vec::new();
    for entry in base.iter().chain(new).flat_map(|document| &document.results) {
        let title = entry.title();
        if !titles.contains(&title) {
            titles.push(title);
        }
    }
    let one = |title: &String| {
        let side = |documents| Side::of(documents, title, in_ns);
        pair(title, &side(base), &side(new), quantile)
    };
    titles.iter().map(one).collect()
}

/// What one side has of one operation.
struct Side<'a> {
    /// Of each report that has it, with the factor to the common unit.
    entries: Vec<(&'a Entry, f64)>,
}

impl<'a> Side<'a> {
    fn of(documents: &'a [Document], title: &str, in_ns: bool) -> Self {
        let factor = |document: &Document| match document.hz() {
            Some(hz) if in_ns => 1e9 / hz,
            _ => 1.0,
        };
        let found = |document: &'a Document| {
            let entry = document.results.iter().find(|entry| entry.title() == title)?;
            Some((entry, factor(document)))
        };
        Self { entries: documents.iter().filter_map(found).collect() }
    }

    fn first(&self) -> Option<&'a Entry> {
        self.entries.first().map(|(entry, _)| *entry)
    }

    /// The first that is not ok, or what is missing.
    fn trouble(&self) -> Option<(&'a str, String)> {
        if self.entries.is_empty() {
            return Some(("missing", "there is none".into()));
        }
        let (entry, _) = self.entries.iter().find(|(entry, _)| entry.status != "ok")?;
        let reason = entry.reason.clone().unwrap_or_else(|| "no reason is given".into());
        Some((&entry.status, reason))
    }

    /// The figures of each report.
    fn rounds(&self, quantile: Quantile) -> Vec<Vec<f64>> {
        let scaled = |(entry, factor): &(&Entry, f64)| {
            // A file may hold anything.
            let figures = quantile.of(entry).iter().filter(|figure| figure.is_finite() && **figure >= 0.0);
            figures.map(|figure| figure * factor).collect::<Vec<_>>()
        };
        self.entries.iter().map(scaled).filter(|rounds| !rounds.is_empty()).collect()
    }

    /// The counter's step for one operation.
    fn step(&self) -> f64 {
        let step = |(entry, factor): &(&Entry, f64)| entry.quantum / entry.repeat.max(1.0) * factor;
        self.entries.iter().map(step).filter(|step| step.is_finite()).fold(0.0, f64::max)
    }

    /// Of the report where it is most.
    fn share_elsewhere(&self) -> f64 {
        self.entries.iter().map(|(entry, _)| entry.share_elsewhere()).fold(0.0, f64::max)
    }

    fn p99(&self) -> Option<f64> {
        let of = |(entry, factor): &(&Entry, f64)| Some(entry.p99.or_else(|| entry.quantile(0.99))? * factor);
        let mut all: Vec<f64> = self.entries.iter().filter_map(of).collect();
        all.sort_by(f64::total_cmp);
        (!all.is_empty()).then(|| statistics::median(&all))
    }
}

fn medians(reports: &[Vec<f64>]) -> Vec<f64> {
    let median = |rounds: &Vec<f64>| {
        let mut rounds = rounds.clone();
        rounds.sort_by(f64::total_cmp);
        statistics::median(&rounds)
    };
    reports.iter().map(median).collect()
}

fn pair(title: &str, base: &Side, new: &Side, quantile: Quantile) -> Judged {
    let entry = base.first().or(new.first());
    let mut judged = Judged {
        op: entry.map(|entry| entry.op.clone()).unwrap_or_default(),
        args: entry.map(|entry| entry.args.clone()).unwrap_or_default(),
        title: title.to_owned(),
        outcome: Outcome::NotCompared,
        reason: None,
        comparison: None,
        figures: [0, 0],
        p99: [base.p99(), new.p99()],
    };
    match (base.trouble(), new.trouble()) {
        (None, None) => {}
        (None, Some((status @ ("failed" | "suspect"), why))) => {
            judged.outcome = Outcome::Broken;
            judged.reason = Some(format!("ok in base, {status} in new: {why}"));
            return judged;
        }
        (Some((one, _)), Some((two, _))) if one == two => {
            judged.reason = Some(format!("{one} in both"));
            return judged;
        }
        (Some((one, _)), Some((two, why))) => {
            judged.reason = Some(format!("{one} in base, {two} in new: {why}"));
            return judged;
        }
        (Some((status, why)), None) => {
            judged.reason = Some(format!("{status} in base, ok in new: {why}"));
            return judged;
        }
        (None, Some((status, why))) => {
            judged.reason = Some(format!("ok in base, {status} in new: {why}"));
            return judged;
        }
    }
    let units =
        base.entries.iter().chain(&new.entries).map(|(entry, _)| entry.unit.as_deref().unwrap_or("cycles"));
    let units: Vec<&str> = units.collect();
    if let Some(other) = units.iter().find(|unit| **unit != units[0]) {
        judged.reason = Some(format!("the figures have different units, {} and {other}", units[0]));
        return judged;
    }
    let (one, two) = (base.rounds(quantile), new.rounds(quantile));
    let by_run = one.len() >= RUNS && two.len() >= RUNS;
    let figures = |reports: &[Vec<f64>]| if by_run { medians(reports) } else { reports.concat() };
    let (from, to) = (figures(&one), figures(&two));
    judged.figures = [from.len(), to.len()];
    if from.is_empty() || to.is_empty() {
        judged.reason = Some(format!(
            "a report has no {} of each round: measure again, with more --samples if it is a tail",
            quantile.name()
        ));
        return judged;
    }
    let floor =
        Floor { relative: relative_floor(&judged.op, quantile), absolute: base.step().max(new.step()) };
    let mut comparison = statistics::compare(&from, &to, floor);
    let is_rate = units[0].ends_with("/s");
    judged.outcome = match comparison.verdict {
        Verdict::Same => Outcome::Same,
        Verdict::Inconclusive => Outcome::Inconclusive,
        Verdict::Lower if is_rate => Outcome::Worse,
        Verdict::Lower => Outcome::Better,
        Verdict::Higher if is_rate => Outcome::Better,
        Verdict::Higher => Outcome::Worse,
    };
    judged.reason = comparison.because.take();
    if matches!(judged.outcome, Outcome::Better | Outcome::Worse) && !by_run {
        let busy = base.share_elsewhere().max(new.share_elsewhere());
        if overlap(&medians(&one), &medians(&two)) {
            judged.outcome = Outcome::Inconclusive;
            judged.reason = Some(format!(
                "the reports of one side differ as much as the sides: give {RUNS} or more reports a side, taken in turn"
            ));
        } else if busy > BUSY {
            judged.outcome = Outcome::Inconclusive;
            judged.reason = Some(format!(
                "something else had the CPU in more than {:.0} % of the samples, so that a neighbour may be the cause: measure again on a \
                 quieter machine, or give {RUNS} or more reports a side, taken in turn",
                BUSY * 100.0
            ));
        }
    }
    judged.comparison = Some(comparison);
    judged
}

/// Whether not all of one side are on the same side of all of the other.
fn overlap(base: &[f64], new: &[f64]) -> bool {
    let least = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    least(new) <= most(base) && least(base) <= most(new)
}

fn relative_floor(op: &str, quantile: Quantile) -> f64 {
    // What a later version measures may sleep.
    let is_fast = ops::find(op).is_some_and(|op| op.pace == Pace::Fast);
    FLOORS[usize::from(!is_fast || quantile != Quantile::P50)]
}
