//! Numbers of exits over some interval, and how to add them up.

use crate::model::{
    Durations,
    durations::{merge, middle, quantile},
};

/// Durations as (bucket, count), sorted by bucket, without zeros.
pub type Sparse = Vec<(u16, u64)>;

/// Exits of one reason, of one vCPU or of several, over an interval or over the whole run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExitStats {
    /// Exits.
    pub count: u64,
    /// Exits that ended within the interval and whose duration is known.
    pub timed: u64,
    /// Sum of those durations, ns: each in full, although it may have begun before the interval.
    pub total_ns: u64,
    /// Time spent in such exits within the interval, ns: without what lies before, with the part so far of exits that
    /// are still going on.
    pub within_ns: u64,
    /// Shortest duration, ns; exact over the whole run, within
    /// [`MAX_ERROR`](kvm_utils_common::hist::MAX_ERROR) in an interval.
    pub min_ns: Option<u64>,
    /// Longest duration, ns; as `min_ns`.
    pub max_ns: Option<u64>,
    /// Durations.
    pub hist: Sparse,
    /// Durations that no histogram was left for.
    pub unbinned: u64,
}

impl ExitStats {
    /// Adds the exits of another vCPU or interval.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.timed += other.timed;
        self.total_ns += other.total_ns;
        self.within_ns += other.within_ns;
        self.min_ns = self.min_ns.into_iter().chain(other.min_ns).min();
        self.max_ns = self.max_ns.max(other.max_ns);
        self.unbinned += other.unbinned;
        merge(&mut self.hist, &other.hist);
    }

    /// Mean duration, ns.
    #[must_use]
    pub fn mean_ns(&self) -> Option<u64> {
        self.total_ns.checked_div(self.timed)
    }

    /// The duration that the share `q` (0 to 1) of all exits does not exceed, by nearest rank; wrong by at most
    /// [`MAX_ERROR`](kvm_utils_common::hist::MAX_ERROR). `None` without durations, or if some have no histogram.
    #[must_use]
    pub fn quantile_ns(&self, q: f64) -> Option<u64> {
        if self.unbinned > 0 {
            return None;
        }
        Some(self.clamp(quantile(&self.hist, q)?))
    }

    /// What the model keeps of how they are distributed.
    #[must_use]
    pub fn durations(&self) -> Durations {
        let Self { timed, total_ns, unbinned, .. } = *self;
        Durations { timed, total_ns, buckets: self.hist.clone(), unbinned }
    }

    /// Fills in the shortest and longest duration from the histogram, for intervals in which the kernel's own extremes,
    /// which hold since the beginning, say nothing.
    pub fn estimate_extremes(&mut self) {
        if let (Some(first), Some(last)) = (self.hist.first(), self.hist.last()) {
            let (first, last) = (middle(first.0), middle(last.0));
            self.min_ns = self.min_ns.or(Some(first));
            self.max_ns = self.max_ns.or(Some(last));
        }
    }

    fn clamp(&self, ns: u64) -> u64 {
        ns.max(self.min_ns.unwrap_or(0)).min(self.max_ns.unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use kvm_utils_common::hist;

    use super::*;
    use proptest::prelude::*;

    fn stats(durations: &[u64]) -> ExitStats {
        let mut stats = ExitStats {
            count: durations.len() as u64,
            timed: durations.len() as u64,
            total_ns: durations.iter().sum(),
            min_ns: durations.iter().min().copied(),
            max_ns: durations.iter().max().copied(),
            ..ExitStats::default()
        };
        for d in durations {
            merge(&mut stats.hist, &[(hist::bucket(*d) as u16, 1)]);
        }
        stats
    }

    #[test]
    fn without_durations_nothing_is_claimed() {
        let empty = ExitStats { count: 3, ..ExitStats::default() };
        assert_eq!((empty.mean_ns(), empty.quantile_ns(0.5), empty.min_ns), (None, None, None));
    }

    #[test]
    fn one_duration_without_histogram_makes_percentiles_unknown() {
        let mut sum = stats(&[100, 200]);
        sum.add(&ExitStats { count: 1, timed: 1, total_ns: 5, unbinned: 1, ..ExitStats::default() });
        assert_eq!(sum.quantile_ns(0.5), None);
        assert_eq!(sum.mean_ns(), Some(101));
    }

    proptest! {
        #[test]
        fn quantiles_are_within_the_promised_error(
            mut durations in prop::collection::vec(1u64..(1 << 39), 1..300), q in 0.0f64..=1.0
        ) {
            let stats = stats(&durations);
            durations.sort_unstable();
            let rank = ((q * durations.len() as f64).ceil() as usize).clamp(1, durations.len());
            let exact = durations[rank - 1] as f64;
            let got = stats.quantile_ns(q).unwrap() as f64;
            prop_assert!((got - exact).abs() <= exact * hist::MAX_ERROR + 0.5, "{got} for {exact}");
        }

        #[test]
        fn adding_parts_gives_the_whole(
            a in prop::collection::vec(1u64..1_000_000, 0..50),
            b in prop::collection::vec(1u64..1_000_000, 0..50),
        ) {
            let mut sum = stats(&a);
            sum.add(&stats(&b));
            prop_assert_eq!(sum, stats(&[a, b].concat()));
        }
    }
}
