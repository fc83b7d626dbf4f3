//! From rounds of samples to the figures of a report.
//!
//! Consecutive samples resemble each other, so that confidence comes from the rounds: a quantile is taken in each, and the
//! interval between two order statistics of these values holds the true one with a known probability, whatever the
//! distribution (H. A. David, Order Statistics, 7.1).

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::measure::round::{Cause, Pairs, Round, add, histogram};
use crate::measure::worker::Ready;

/// The quantiles of a report: name and share.
pub const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99_9", 0.999)];

/// A quantile is told only if this many samples lie beyond it.
pub const BEYOND: f64 = 10.0;

/// What is wanted of a confidence interval, if there are rounds enough.
const CONFIDENCE: f64 = 0.95;

/// Figures of one histogram, per operation.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Number of samples.
    pub n: u64,
    /// The least.
    pub min: f64,
    /// Half of the samples are not above it.
    pub p50: Option<f64>,
    /// 90 %
    pub p90: Option<f64>,
    /// 99 %
    pub p99: Option<f64>,
    /// 99.9 %
    pub p99_9: Option<f64>,
    /// The most.
    pub max: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Median of the absolute distances from the median.
    pub mad: f64,
    /// Confidence intervals of quantiles by name, from the rounds.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ci: BTreeMap<&'static str, [f64; 2]>,
    /// With which probability each of them holds the true value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
}

/// How to read a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// As it was: bracket and repetitions included.
    Raw,
    /// One operation, without the bracket; never negative.
    Net(Ready),
}

impl Scale {
    /// One value of a histogram.
    pub fn of(self, cycles: u64) -> f64 {
        match self {
            Self::Raw => cycles as f64,
            Self::Net(ready) => {
                cycles.saturating_sub(ready.overhead + ready.way) as f64 / f64::from(ready.repeat.max(1))
            }
        }
    }
}

/// All rounds in one histogram.
pub fn merge<'a>(rounds: impl IntoIterator<Item = &'a Pairs>) -> Histogram<u64> {
    let mut all = histogram();
    rounds.into_iter().for_each(|pairs| add(&mut all, pairs));
    all
}

/// What was left out, by cause.
pub fn rejected(rounds: &[Round]) -> BTreeMap<Cause, u64> {
    sums(rounds.iter().map(|round| &round.rejected))
}

/// What was counted meanwhile, by name.
pub fn evidence(rounds: &[Round]) -> BTreeMap<String, u64> {
    sums(rounds.iter().map(|round| &round.evidence))
}

/// Totals of the operation's own, by name.
pub fn totals(rounds: &[Round]) -> BTreeMap<String, u64> {
    sums(rounds.iter().map(|round| &round.details.totals))
}

/// Further distributions by name, of those rounds that have them.
pub fn series(rounds: &[Round]) -> BTreeMap<&str, Vec<&Pairs>> {
    let mut series: BTreeMap<&str, Vec<&Pairs>> = BTreeMap::new();
    for (name, pairs) in rounds.iter().flat_map(|round| &round.details.series) {
        series.entry(name).or_default().push(pairs);
    }
    series
}

/// How it was done, as the last round that says it has it.
pub fn notes(rounds: &[Round]) -> BTreeMap<String, String> {
    let notes = rounds.iter().flat_map(|round| &round.details.notes);
    notes.map(|(name, words)| (name.clone(), words.clone())).collect()
}

/// Interrupts per second, of operations that say how many they were and how long they took together.
pub fn rate(totals: &BTreeMap<String, u64>) -> Option<f64> {
    let elapsed = totals.get("elapsed_ns").filter(|elapsed| **elapsed > 0)?;
    Some(*totals.get("interrupts")? as f64 * 1e9 / *elapsed as f64)
}

fn sums<'a, K: Ord + Clone + 'a>(maps: impl Iterator<Item = &'a BTreeMap<K, u64>>) -> BTreeMap<K, u64> {
    let mut sums = BTreeMap::new();
    for (key, count) in maps.flatten() {
        *sums.entry(key.clone()).or_insert(0) += count;
    }
    sums
}

impl Summary {
    /// Of the rounds' histograms; None when there is no sample.
    pub fn of(rounds: &[&Pairs], scale: Scale) -> Option<Self> {
        let all = merge(rounds.iter().copied());
        let n = all.len();
        if n == 0 {
            return None;
        }
        let quantile = |share| told(n, share).then(|| scale.of(all.value_at_quantile(share)));
        let mean =
            all.iter_recorded().map(|one| scale.of(one.value_iterated_to()) * one.count_at_value() as f64);
        let mut summary = Self {
            n,
            min: scale.of(all.min()),
            p50: Some(scale.of(all.value_at_quantile(0.5))),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p99_9: quantile(0.999),
            max: scale.of(all.max()),
            mean: mean.sum::<f64>() / n as f64,
            mad: deviation(&all, scale),
            ..Self::default()
        };
        let each: Vec<_> = rounds.iter().map(|pairs| merge([*pairs])).filter(|one| !one.is_empty()).collect();
        if let Some((rank, confidence)) = interval(each.len()) {
            summary.confidence = Some(confidence);
            for (name, share) in QUANTILES.into_iter().filter(|(_, share)| told(n, *share)) {
                let mut values: Vec<u64> = each.iter().map(|one| one.value_at_quantile(share)).collect();
                values.sort_unstable();
                summary.ci.insert(name, [scale.of(values[rank]), scale.of(values[values.len() - 1 - rank])]);
            }
        }
        Some(summary)
    }

    /// A quantile by its name in [`QUANTILES`].
    pub fn quantile(&self, name: &str) -> Option<f64> {
        match name {
            "p50" => self.p50,
            "p90" => self.p90,
            "p99" => self.p99,
            "p99_9" => self.p99_9,
            _ => None,
        }
    }
}

fn told(n: u64, share: f64) -> bool {
    share <= 0.5 || n as f64 * (1.0 - share) >= BEYOND - 1e-6
}

/// Median absolute deviation from the median.
fn deviation(all: &Histogram<u64>, scale: Scale) -> f64 {
    let median = scale.of(all.value_at_quantile(0.5));
    let mut distances: Vec<(f64, u64)> = all
        .iter_recorded()
        .map(|one| ((scale.of(one.value_iterated_to()) - median).abs(), one.count_at_value()))
        .collect();
    distances.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut before = 0;
    let half = all.len().div_ceil(2);
    let middle = distances.iter().find(|(_, count)| {
        before += count;
        before >= half
    });
    middle.map_or(0.0, |(distance, _)| *distance)
}

/// Of so many sorted values: how many to leave out at each end, and with which probability the true median of their
/// distribution lies between the outermost of the rest. None with fewer than 3.
fn interval(values: usize) -> Option<(usize, f64)> {
    if values < 3 {
        return None;
    }
    // Probability that at most k of so many fair coins fall on one side.
    let mut tail = 0.0;
    let mut ways = 1.0;
    let mut best = None;
    for k in 0..values.div_ceil(2) {
        tail += ways / 2_f64.powi(i32::try_from(values).unwrap_or(i32::MAX));
        let confidence = 1.0 - 2.0 * tail;
        if best.is_none() || confidence >= CONFIDENCE {
            best = Some((k, confidence));
        }
        ways *= (values - k) as f64 / (k + 1) as f64;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(values: impl IntoIterator<Item = u64>) -> Pairs {
        let mut all = histogram();
        values.into_iter().for_each(|value| all.saturating_record(value));
        crate::measure::round::pairs(&all)
    }

    #[test]
    fn known_distributions_give_known_quantiles() {
        let uniform = pairs(1..=100_000);
        let summary = Summary::of(&[&uniform], Scale::Raw).unwrap();
        for (name, share) in QUANTILES {
            let (is, should) = (summary.quantile(name).unwrap(), share * 100_000.0);
            assert!((is / should - 1.0).abs() < 0.002, "{name}: {is}, not {should}");
        }
        assert_eq!((summary.n, summary.min, summary.ci.len()), (100_000, 1.0, 0));
        assert!((summary.mean / 50_000.5 - 1.0).abs() < 0.002);
        assert!((summary.mad / 25_000.0 - 1.0).abs() < 0.002);
    }

    #[test]
    fn rare_quantiles_need_samples_beyond_them() {
        let summary = |n| Summary::of(&[&pairs(1..=n)], Scale::Raw).unwrap();
        assert_eq!((summary(99).p90, summary(100).p90.is_some()), (None, true));
        assert_eq!((summary(999).p99, summary(1000).p99.is_some()), (None, true));
        assert_eq!(summary(9_999).p99_9, None);
        assert!(summary(1).p50.is_some());
        assert_eq!(Summary::of(&[&Vec::new()], Scale::Raw), None);
    }

    #[test]
    fn net_is_per_operation_and_never_negative() {
        let ready = Ready { overhead: 52, quantum: 26, repeat: 4, ..Ready::default() };
        let summary = Summary::of(&[&pairs([26, 452, 452])], Scale::Net(ready)).unwrap();
        assert_eq!((summary.min, summary.p50, summary.max), (0.0, Some(100.0), 100.0));
        let ready = Ready { overhead: 52, way: 1000, repeat: 1, ..Ready::default() };
        let summary = Summary::of(&[&pairs([1000, 1352, 1352])], Scale::Net(ready)).unwrap();
        assert_eq!((summary.min, summary.p50, summary.max), (0.0, Some(300.0), 300.0));
    }

    #[test]
    fn intervals_of_order_statistics_have_their_textbook_confidence() {
        assert_eq!(interval(2), None);
        assert_eq!(interval(5), Some((0, 0.9375)));
        assert_eq!(interval(6), Some((0, 0.96875)));
        // 9 values: from the second to the eighth, 1 - 2 * 10 / 512.
        assert_eq!(interval(9), Some((1, 1.0 - 2.0 * 10.0 / 512.0)));
        let rounds: Vec<_> = [10, 30, 20, 50, 40].map(|value| pairs([value])).into();
        let summary = Summary::of(&rounds.iter().collect::<Vec<_>>(), Scale::Raw).unwrap();
        assert_eq!(summary.ci["p50"], [10.0, 50.0]);
    }
}
