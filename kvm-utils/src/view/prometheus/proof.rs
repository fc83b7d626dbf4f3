//! Whether to believe a drill-down's counts.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Family, Labels, Value, own};
use crate::model::{KvmStat, Proof, Report, Verdict};

/// What the last report of a drill-down said of itself.
#[derive(Clone, Debug)]
pub(super) struct Said {
    noun: &'static str,
    time: SystemTime,
    proof: Proof,
    /// Durations that are in no bucket.
    unbinned: u64,
    /// Rows that are in the one that stands for several.
    folded: usize,
}

impl Said {
    /// By the first report.
    pub fn new(report: &Report) -> Self {
        Self { noun: report.noun, time: report.time, proof: report.proof.clone(), unbinned: 0, folded: 0 }
    }

    /// The drill-down.
    pub fn noun(&self) -> &'static str {
        self.noun
    }

    /// Takes over a report. What the proof counts does not go back, though VMs that ended long ago are left out of some of
    /// it.
    pub fn update(&mut self, report: &Report, unbinned: u64, folded: usize) {
        let before = &self.proof;
        let mut proof = report.proof.clone();
        proof.counted = proof.counted.max(before.counted);
        proof.missed = proof.missed.map(|missed| missed.max(before.missed.unwrap_or(0)));
        proof.unpaired = proof.unpaired.max(before.unpaired);
        proof.entries_without_exit = proof.entries_without_exit.max(before.entries_without_exit);
        proof.vcpus_full = proof.vcpus_full.max(before.vcpus_full);
        proof.histograms_full = proof.histograms_full.max(before.histograms_full);
        proof.unreadable = proof.unreadable.max(before.unreadable);
        proof.rows_full = proof.rows_full.max(before.rows_full);
        self.proof = proof;
        self.time = report.time;
        self.unbinned = self.unbinned.max(unbinned);
        self.folded = folded;
    }
}

/// The families of what several drill-downs said.
pub(super) fn families(all: &[Said]) -> Vec<Family> {
    let count = |family: fn() -> Family, of: fn(&Said) -> Option<u64>| {
        all.iter().fold(family(), |family, said| match of(said) {
            Some(count) => family.with(labels(said), Value::Count(count)),
            None => family,
        })
    };
    let real = |family: fn() -> Family, of: fn(&Said) -> Option<f64>| {
        all.iter().fold(family(), |family, said| match of(said) {
            Some(value) => family.with(labels(said), Value::Real(value)),
            None => family,
        })
    };
    let source = all.iter().fold(own::source(), |family, said| {
        family.with(labels(said).and("source", said.proof.source), Value::Count(1))
    });
    vec![
        source,
        real(own::report_time, |said| Some(said.time.duration_since(UNIX_EPOCH).ok()?.as_secs_f64())),
        verdicts(all),
        count(own::counted, |said| Some(said.proof.counted)),
        count(own::stat_least, |said| bounds(said).map(|(least, _)| least)),
        count(own::stat_most, |said| bounds(said).map(|(_, most)| most)),
        count(own::missed, |said| said.proof.missed),
        count(own::unpaired, |said| Some(said.proof.unpaired)),
        count(own::entries, |said| Some(said.proof.entries_without_exit)),
        count(own::in_progress, |said| Some(said.proof.in_progress)),
        count(own::vcpus_full, |said| Some(said.proof.vcpus_full)),
        count(own::histograms_full, |said| Some(said.proof.histograms_full)),
        count(own::unbinned, |said| Some(said.unbinned)),
        count(own::unreadable, |said| Some(said.proof.unreadable)),
        count(own::rows_full, |said| Some(said.proof.rows_full)),
        count(own::folded, |said| Some(said.folded as u64)),
        real(own::own_cost, |said| said.proof.own_cost),
    ]
}

fn labels(said: &Said) -> Labels {
    Labels::of("noun", said.noun)
}

fn bounds(said: &Said) -> Option<(u64, u64)> {
    match said.proof.kvm_stat {
        KvmStat::Between { least, most } => Some((least, most)),
        KvmStat::Unknown(_) | KvmStat::NotKept => None,
    }
}

fn verdicts(all: &[Said]) -> Family {
    let mut family = own::verdict();
    for said in all {
        let verdict = match said.proof.verdict() {
            Verdict::Proven => "proven",
            Verdict::Unchecked => "unchecked",
            Verdict::Doubtful(_) => "doubtful",
        };
        for state in ["proven", "unchecked", "doubtful"] {
            // OpenMetrics wants the label to have the family's name.
            let labels = labels(said).and(&family.name, state);
            family.push(labels, Value::Count(u64::from(state == verdict)));
        }
    }
    family
}
