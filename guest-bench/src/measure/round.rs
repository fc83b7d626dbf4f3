//! What one round of one operation gave. The freestanding payload and the worker processes write it as JSON, so that there
//! is one reader and one place for statistics.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Significant decimal digits that histograms keep.
pub const DIGITS: u8 = 3;

/// Why a sample is left out of the clean histogram. It stays in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The hypervisor let something else run (steal time of the CPU).
    Steal,
    /// The guest's scheduler let something else run.
    Preempted,
    /// An interrupt came.
    Interrupted,
    /// It ended on another CPU than it began.
    Migrated,
    /// The counter went back.
    Wrapped,
}

impl Cause {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Steal => "stolen time",
            Self::Preempted => "preemption",
            Self::Interrupted => "interrupts",
            Self::Migrated => "another CPU",
            Self::Wrapped => "a counter that went back",
        }
    }
}

/// Values of a histogram with their counts, ascending.
pub type Pairs = Vec<(u64, u64)>;

/// What an operation says of a round beside its samples.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// Further distributions by name, TSC cycles without any bracket: `one_way`, for one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub series: BTreeMap<String, Pairs>,
    /// Totals by name, with the unit at its end: `elapsed_ns`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub totals: BTreeMap<String, u64>,
    /// How it was done, in words, by name: `via`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<String, String>,
}

/// The time between a round's first and last sample, as the payload tells it, with all that it does between two samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// TSC cycles.
    pub cycles: u64,
    /// How many other vCPUs get each interrupt: the second, the third, ...
    pub targets: u32,
    /// Whether samples are all of it but for notes of them, so that the measuring vCPU leaves the guest within samples only.
    pub enclosed: bool,
    /// Whether interrupts are what it is about, so that the host's own cannot be told from them.
    pub interrupts: bool,
}

/// One round of one operation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// All samples in TSC cycles, the bracket's own included.
    pub all: Pairs,
    /// Those that nothing disturbed.
    pub clean: Pairs,
    /// How many were left out, by cause.
    #[serde(default)]
    pub rejected: BTreeMap<Cause, u64>,
    /// What was counted meanwhile, to tell whether the operation happened: interrupts sent, for one.
    #[serde(default)]
    pub evidence: BTreeMap<String, u64>,
    /// What the operation says beside this.
    #[serde(default)]
    pub details: Details,
    /// All of its time; of the payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
    /// Why the round is not to be trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
}

impl Round {
    /// Number of samples.
    pub fn samples(&self) -> u64 {
        self.all.iter().map(|(_, count)| count).sum()
    }

    /// Adds samples with the cause for which each is left out, if any.
    pub fn of(samples: &[(u64, Option<Cause>)]) -> Self {
        let (mut all, mut clean, mut rejected) = (histogram(), histogram(), BTreeMap::new());
        for &(cycles, cause) in samples {
            all.saturating_record(cycles);
            match cause {
                None => clean.saturating_record(cycles),
                Some(cause) => *rejected.entry(cause).or_default() += 1,
            }
        }
        Self { all: pairs(&all), clean: pairs(&clean), rejected, ..Self::default() }
    }
}

/// The most that a histogram tells apart, TSC cycles: a day at 3 GHz.
const MOST: u64 = 1 << 48;

/// An empty histogram of cycles; what is beyond the most counts as the most.
pub fn histogram() -> Histogram<u64> {
    let Ok(histogram) = Histogram::new_with_bounds(1, MOST, DIGITS) else { unreachable!("1 < 2^48, 3 <= 5") };
    histogram
}

/// The values of a histogram: exact ones up to 2047, beyond that the highest that count as equal.
pub fn pairs(histogram: &Histogram<u64>) -> Pairs {
    histogram.iter_recorded().map(|value| (value.value_iterated_to(), value.count_at_value())).collect()
}

/// Adds what [`pairs`] gave to a histogram.
pub fn add(histogram: &mut Histogram<u64>, pairs: &[(u64, u64)]) {
    for &(value, count) in pairs {
        histogram.saturating_record_n(value, count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_keeps_every_sample_and_tells_what_was_left_out() {
        let round = Round::of(&[(100, None), (100, None), (90_000, Some(Cause::Steal)), (5, None)]);
        assert_eq!(round.samples(), 4);
        assert_eq!(round.clean, [(5, 1), (100, 2)]);
        assert_eq!(round.rejected, [(Cause::Steal, 1)].into());
    }

    #[test]
    fn pairs_and_histograms_are_the_same() {
        let mut one = histogram();
        for value in [0, 1, 52, 2047, 2048, 123_456, 1 << 40] {
            one.saturating_record_n(value, value + 1);
        }
        let mut two = histogram();
        add(&mut two, &pairs(&one));
        assert_eq!(one, two);
    }
}
