//! Adding up how durations are distributed, and what that tells.

use kvm_utils_common::hist;

use super::Durations;

impl Durations {
    /// Adds the events of another row.
    pub fn add(&mut self, other: &Self) {
        self.timed += other.timed;
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
        self.unbinned += other.unbinned;
        merge(&mut self.buckets, &other.buckets);
    }

    /// The duration, ns, that the share `q` (0 to 1) of all events does not exceed, by nearest rank; wrong by at most
    /// [`hist::MAX_ERROR`]. `None` without durations, or if some are in no bucket.
    #[must_use]
    pub fn quantile_ns(&self, q: f64) -> Option<u64> {
        if self.unbinned > 0 {
            return None;
        }
        quantile(&self.buckets, q)
    }
}

/// The middle of the bucket in which the share `q` of all events is reached.
pub fn quantile(buckets: &[(u16, u64)], q: f64) -> Option<u64> {
    let n: u64 = buckets.iter().map(|(_, count)| count).sum();
    let rank = ((q * n as f64).ceil() as u64).clamp(1, n.max(1));
    let mut below = 0;
    for &(bucket, count) in buckets {
        below += count;
        if below >= rank {
            return Some(middle(bucket));
        }
    }
    None
}

/// The middle of a bucket, ns.
pub fn middle(bucket: u16) -> u64 {
    let (low, high) = hist::bounds(usize::from(bucket));
    u64::midpoint(low, high - 1)
}

/// Adds the sorted `more` to the sorted `sum`.
pub fn merge(sum: &mut Vec<(u16, u64)>, more: &[(u16, u64)]) {
    if more.is_empty() {
        return;
    }
    let mut merged = Vec::with_capacity(sum.len() + more.len());
    let (mut a, mut b) = (sum.iter().peekable(), more.iter().peekable());
    loop {
        match (a.peek(), b.peek()) {
            (Some(x), Some(y)) if x.0 == y.0 => {
                merged.push((x.0, x.1 + y.1));
                a.next();
                b.next();
            }
            (Some(x), Some(y)) if x.0 < y.0 => {
                merged.push(**x);
                a.next();
            }
            (Some(x), None) => {
                merged.push(**x);
                a.next();
            }
            (_, Some(y)) => {
                merged.push(**y);
                b.next();
            }
            (None, None) => break,
        }
    }
    *sum = merged;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn durations(ns: &[u64]) -> Durations {
        let mut sum = Durations::default();
        for ns in ns {
            let one = Durations {
                timed: 1,
                total_ns: *ns,
                buckets: vec![(hist::bucket(*ns) as u16, 1)],
                unbinned: 0,
            };
            sum.add(&one);
        }
        sum
    }

    #[test]
    fn sums_have_the_quantiles_of_all_events() {
        let mut sum = durations(&[100, 200, 300]);
        sum.add(&durations(&[1_000_000]));
        assert_eq!((sum.timed, sum.total_ns), (4, 1_000_600));
        let near = |got: Option<u64>, ns: f64| (got.unwrap() as f64 - ns).abs() <= ns * hist::MAX_ERROR;
        assert!(near(sum.quantile_ns(0.5), 200.0));
        assert!(near(sum.quantile_ns(0.99), 1e6));
        assert_eq!(Durations::default().quantile_ns(0.5), None);
    }

    #[test]
    fn one_that_is_in_no_bucket_makes_quantiles_unknown() {
        let mut sum = durations(&[100]);
        sum.add(&Durations { timed: 1, total_ns: 5, buckets: Vec::new(), unbinned: 1 });
        assert_eq!(sum.quantile_ns(0.5), None);
    }
}
