//! What a row counted in some time, and how to add that up.

use std::collections::BTreeMap;

use kvm_utils_common::hist;

/// Events of one row, in an interval or in a whole run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Events.
    pub count: u64,
    /// Events whose duration is known.
    pub timed: u64,
    /// Sum of these durations, ns.
    pub total_ns: u64,
    /// How many durations are in each bucket of `kvm_utils_common::hist`.
    pub buckets: BTreeMap<u16, u64>,
    /// Durations that are in no bucket.
    pub unbinned: u64,
    /// The shortest and the longest duration, ns, where that is told.
    pub extremes: Option<(u64, u64)>,
    /// Time by what it was spent on, ns, in the order of the table's `times`.
    pub times: Vec<u64>,
}

impl Tally {
    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.timed = self.timed.saturating_add(other.timed);
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
        self.unbinned = self.unbinned.saturating_add(other.unbinned);
        for (bucket, count) in &other.buckets {
            let sum = self.buckets.entry(*bucket).or_default();
            *sum = sum.saturating_add(*count);
        }
        self.extremes = match (self.extremes, other.extremes) {
            (Some(one), Some(two)) => Some((one.0.min(two.0), one.1.max(two.1))),
            (one, two) => one.or(two),
        };
        self.times.resize(self.times.len().max(other.times.len()), 0);
        for (sum, more) in self.times.iter_mut().zip(&other.times) {
            *sum = sum.saturating_add(*more);
        }
    }

    /// The same without durations: those of waiting are not added to those of work.
    #[must_use]
    pub fn without_durations(&self) -> Self {
        Self { count: self.count, times: self.times.clone(), ..Self::default() }
    }

    /// Mean duration, ns.
    #[must_use]
    pub fn mean_ns(&self) -> Option<f64> {
        (self.timed > 0).then(|| self.total_ns as f64 / self.timed as f64)
    }

    /// The duration that 99 % do not exceed, by nearest rank, ns; `None` with fewer than a hundred, and where some are in no
    /// bucket.
    #[must_use]
    pub fn p99_ns(&self) -> Option<f64> {
        let (low, high) = self.p99_bucket()?;
        let middle = u64::midpoint(low, high - 1);
        let (least, most) = self.extremes.unwrap_or((0, u64::MAX));
        Some(middle.max(least).min(most) as f64)
    }

    /// How wide the bucket is that holds it, ns.
    #[must_use]
    pub fn p99_step_ns(&self) -> Option<f64> {
        self.p99_bucket().map(|(low, high)| (high - low) as f64)
    }

    fn p99_bucket(&self) -> Option<(u64, u64)> {
        let all = self.buckets.values().fold(0_u64, |sum, count| sum.saturating_add(*count));
        if self.unbinned > 0 || all < 100 {
            return None;
        }
        let rank = (all as f64 * 0.99).ceil() as u64;
        let mut below = 0_u64;
        let found = self.buckets.iter().find(|(_, count)| {
            below = below.saturating_add(**count);
            below >= rank
        });
        found.map(|(bucket, _)| hist::bounds(usize::from(*bucket)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(durations: &[u64]) -> Tally {
        let mut tally = Tally::default();
        for ns in durations {
            let buckets = [(hist::bucket(*ns) as u16, 1)].into();
            let extremes = Some((*ns, *ns));
            tally.add(&Tally { count: 1, timed: 1, total_ns: *ns, buckets, extremes, ..Tally::default() });
        }
        tally
    }

    #[test]
    fn figures_are_those_of_all_durations_together() {
        let tally = of(&(1..=1000).map(|i| i * 1000).collect::<Vec<u64>>());
        assert_eq!((tally.count, tally.mean_ns()), (1000, Some(500_500.0)));
        let p99 = tally.p99_ns().unwrap();
        assert!((p99 / 990_000.0 - 1.0).abs() <= hist::MAX_ERROR, "{p99}");
        assert_eq!(tally.p99_step_ns(), Some(32_768.0));
        // Never beyond what is known exactly.
        assert_eq!(of(&[61_440; 100]).p99_ns(), Some(61_440.0));
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        assert_eq!(of(&[5; 99]).p99_ns(), None);
        assert_eq!(Tally { unbinned: 1, ..of(&[5; 200]) }.p99_ns(), None);
        assert_eq!(Tally::default().mean_ns(), None);
        let full = Tally { count: u64::MAX, total_ns: u64::MAX, ..of(&[u64::MAX; 100]) };
        let mut twice = full.clone();
        twice.add(&full);
        assert_eq!((twice.count, twice.timed), (u64::MAX, 200));
        assert!(twice.p99_ns().is_some());
    }
}
