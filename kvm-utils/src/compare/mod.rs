//! `kvm-utils compare`: what changed between recordings, how sure that is, and whether it is too much.
//!
//! - [`table`] makes rows, classes and sums of what was recorded; [`tally`] adds up, [`measure`] makes figures.
//! - [`blocks`] puts intervals together, [`statistics`] compares figures, [`judge`] gives verdicts.
//! - [`comparable`] decides whether two recordings are of the same machine and guests.
//! - [`limits`] reads what is allowed, [`applies`] finds what it is for, [`gate`] decides whether it was exceeded, [`words`] says it in a sentence.
//! - [`view`] shows the result; [`bench`] brings reports of kvm-bench into the same form.
//!
//! It knows only the model; `docs/compare.md` describes the method.

pub mod applies;
pub mod bench;
pub mod blocks;
pub mod comparable;
pub mod finding;
pub mod gate;
pub mod judge;
pub mod limits;
pub mod measure;
#[cfg(test)]
mod simulated;
pub mod statistics;
pub mod table;
pub mod tally;
pub mod view;
pub mod words;

pub use kvm_bench::compare::verdicts::RUNS;

use self::{
    comparable::Difference,
    finding::{Finding, Verdict},
    gate::Breach,
    judge::Method,
    limits::Limits,
    measure::{Floors, Kind, Measure},
    table::What,
};
use crate::{
    model::{History, Verdict as Proven},
    view::By,
};

/// What is in one file.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The file, as it was named.
    pub name: String,
    /// One for each drill-down.
    pub histories: Vec<History>,
    /// What the reader must know of it: that it was cut off, for one.
    pub notes: Vec<String>,
}

/// What rates are told per.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Per {
    /// A second.
    Second,
    /// A unit of work, of which each file of the base and of the new side did so many.
    Units([f64; 2]),
    /// A file, which is all of one boot, or of whatever this word says.
    Run(&'static str),
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// What rates are told per.
    pub per: Per,
    /// What a table is about.
    pub by: By,
    /// Only these figures.
    pub measures: Vec<Kind>,
    /// Only these drill-downs; empty is all.
    pub nouns: Vec<String>,
    /// What is too small to matter.
    pub floors: Floors,
    /// What is worse by more than this share is a regression.
    pub fail_above: Option<f64>,
    /// What is allowed.
    pub limits: Limits,
    /// Compare what is not of the same machine.
    pub force: bool,
}

impl Default for Question {
    fn default() -> Self {
        Self {
            per: Per::Second,
            by: By::Reason,
            measures: Kind::ALL.to_vec(),
            nouns: Vec::new(),
            floors: Floors::default(),
            fail_above: None,
            limits: Limits::default(),
            force: false,
        }
    }
}

/// A file that was compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// As it was named.
    pub name: String,
    /// Seconds; none where it is not known.
    pub seconds: Option<f64>,
    /// Intervals, or rounds.
    pub intervals: usize,
}

/// All that was found.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Files of the base.
    pub base: Vec<Source>,
    /// Files of the new side.
    pub new: Vec<Source>,
    /// What rates are told per.
    pub per: Per,
    /// What verdicts rest on; none where another program judged.
    pub method: Option<Method>,
    /// What makes the recordings those of something else.
    pub differ: Vec<Difference>,
    /// They are compared all the same.
    pub forced: bool,
    /// Every figure that was judged, the worst first; none when the recordings are not comparable.
    pub findings: Vec<Finding>,
    /// What is too much.
    pub breaches: Vec<Breach>,
    /// There were limits to be kept.
    pub limited: bool,
    /// What one must know to read it rightly.
    pub notes: Vec<String>,
}

/// What a comparison amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is too much.
    Passed,
    /// Something is.
    Failed,
    /// The recordings are of different machines or guests, or have nothing in common.
    NotComparable,
}

impl Comparison {
    /// What it amounts to.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        if self.findings.is_empty() {
            Outcome::NotComparable
        } else if self.breaches.is_empty() {
            Outcome::Passed
        } else {
            Outcome::Failed
        }
    }

    /// How many figures got this verdict.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == verdict).count()
    }
}

/// Compares two sides of one or several files each.
#[must_use]
pub fn compare(base: &[Recorded], new: &[Recorded], question: &Question) -> Comparison {
    let facts = comparable::compare(base, new);
    let method = judge::method([base.len(), new.len()], question.per);
    let mut comparison = Comparison {
        base: base.iter().map(source).collect(),
        new: new.iter().map(source).collect(),
        per: question.per,
        method: Some(method),
        forced: question.force,
        findings: Vec::new(),
        breaches: Vec::new(),
        limited: !question.limits.rules.is_empty(),
        notes: facts.notes,
        differ: facts.differ,
    };
    if !comparison.differ.is_empty() && !question.force {
        return comparison;
    }
    let (mut tables, lone) = table::tables(base, new, question.by);
    tables.retain(|table| question.nouns.is_empty() || question.nouns.iter().any(|noun| noun == table.noun));
    let mut findings = judge::judge(&tables, question, method);
    sort(&mut findings);
    if !lone.is_empty() {
        comparison.notes.push(format!("recorded on one side only, and not compared: {}", lone.join(", ")));
    }
    if !facts.unknown.is_empty() {
        comparison
            .notes
            .push(format!("not known in every file, so it may differ: {}", facts.unknown.join(", ")));
    }
    comparison.notes.extend(base.iter().chain(new).flat_map(|recorded| recorded.notes.clone()));
    comparison.notes.extend(trust(base, new));
    let has_changes = findings.iter().any(|finding| finding.verdict.is_change());
    if method == Method::Blocks && has_changes {
        comparison.notes.push(format!(
            "what differs from run to run looks like a change: {RUNS} or more files a side, taken in turn, tell (`kvm-utils compare --base ... --new ...`)"
        ));
    }
    let (breaches, notes) = gate::breaches(&findings, question);
    comparison.notes.extend(notes);
    comparison.breaches = breaches;
    comparison.findings = findings;
    comparison
}

fn source(recording: &Recorded) -> Source {
    let longest = recording.histories.iter().max_by_key(|history| history.whole.interval);
    Source {
        name: recording.name.clone(),
        seconds: longest.map(|history| history.whole.interval.as_secs_f64()),
        intervals: longest.map_or(0, |history| history.intervals.len()),
    }
}

/// Counts that are in doubt, and why.
fn trust(base: &[Recorded], new: &[Recorded]) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    for recording in base.iter().chain(new) {
        for history in &recording.histories {
            let Proven::Doubtful(doubts) = history.whole.proof.verdict() else { continue };
            let note = format!(
                "counts of {} are in doubt in {}: {}",
                history.whole.noun,
                recording.name,
                doubts.join("; ")
            );
            notes.push(note);
        }
    }
    notes
}

/// The worst first: of changes rows before sums, how often before how long, the largest first.
fn sort(findings: &mut [Finding]) {
    let rank = |finding: &Finding| match finding.verdict {
        Verdict::Worse | Verdict::New => 0,
        Verdict::Better | Verdict::Gone => 1,
        Verdict::Inconclusive => 2,
        Verdict::Same => 3,
    };
    let level = |finding: &Finding| match finding.what {
        What::Row { .. } => 0,
        What::Class(_) => 1,
        What::Total => 2,
    };
    let kind = |finding: &Finding| match finding.measure {
        Some(Measure::Rate) => 0,
        Some(Measure::Busy | Measure::Time(..)) => 1,
        Some(Measure::Mean) => 2,
        Some(Measure::P99) | None => 3,
    };
    let size = |finding: &Finding| match (finding.measure, finding.base, finding.new) {
        // Of events, so many more or fewer.
        (Some(Measure::Rate | Measure::Busy | Measure::Time(..)), Some(base), Some(new)) => {
            (new - base).abs()
        }
        (_, Some(base), Some(new)) if base > 0.0 && new > 0.0 => (new / base).ln().abs(),
        _ => 0.0,
    };
    let noun = |finding: &Finding| finding.noun;
    // The noun of the first finding comes first.
    let mut nouns: Vec<&'static str> = Vec::new();
    for finding in findings.iter() {
        if !nouns.contains(&noun(finding)) {
            nouns.push(noun(finding));
        }
    }
    let place = |finding: &Finding| nouns.iter().position(|known| *known == finding.noun);
    findings.sort_by(|a, b| {
        (rank(a), place(a), level(a), kind(a))
            .cmp(&(rank(b), place(b), level(b), kind(b)))
            .then_with(|| size(b).total_cmp(&size(a)))
    });
}
