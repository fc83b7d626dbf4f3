//! Whether two sets of figures differ: numbers in, a verdict out. Nothing here knows what was measured.
//!
//! A figure stands for one round, or for one run, of a measurement: its median, its rate. Two questions are asked of two
//! sets of them:
//!
//! 1. Is there a difference? A permutation test (R. A. Fisher, The Design of Experiments, 21; E. J. G. Pitman 1937): if
//!    there is none, the labels "base" and "new" could have fallen on the figures in any way, and what was seen should not
//!    stand out among all these ways. All are tried when they are few, else 9,999 drawn at random.
//! 2. How large is it? The median of the ratios of each new figure to each base figure (J. L. Hodges and E. L. Lehmann
//!    1963), with the interval between two order statistics of these ratios, whose confidence the distribution of the
//!    rank sum gives exactly (W. J. Conover, Practical Nonparametric Statistics, 5.4).
//!
//! Both are free of assumptions on the distribution, and exchanging the two sets mirrors the answer. Five figures a
//! side are the fewest that can show a difference: of 252 arrangements only the two that part all new from all base
//! figures are rare enough (2 / 252 = 0.8 %).

/// A difference is shown by a smaller share of arrangements than this.
pub const SIGNIFICANT: f64 = 0.01;

/// That there is no difference is said by the interval of this confidence: two one-sided tests, each of 5 %
/// (D. J. Schuirmann 1987).
pub const CONFIDENT: f64 = 0.9;

/// What the interval that is told aims at.
const TOLD: f64 = 0.95;

/// Up to so many arrangements all are tried: 8 figures a side.
const ARRANGEMENTS_MAX: f64 = 20_000.0;

/// Else so many are drawn.
const DRAWN: u32 = 9_999;

/// Up to so many ratios their confidence is exact; beyond, the rank sum is as good as normal.
const RATIOS_EXACT: usize = 10_000;

/// What is too small to matter, or to be seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Floor {
    /// Smallest relative change that matters, such as 0.05.
    pub relative: f64,
    /// What figures may differ by without any change, in their unit: the step of the clock. Added to the relative.
    pub absolute: f64,
}

impl Floor {
    /// As a relative change of the lesser of two figures.
    fn between(self, one: f64, other: f64) -> f64 {
        let least = one.min(other);
        if least > 0.0 {
            // A clock's step may be added to any difference.
            self.relative + self.absolute / least
        } else if (one - other).abs() <= self.absolute {
            f64::INFINITY
        } else {
            self.relative
        }
    }
}

/// What is known of the difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The new figures are lower.
    Lower,
    /// They are higher.
    Higher,
    /// If they differ, then by less than what matters.
    Same,
    /// There is too little to tell.
    Inconclusive,
}

/// How two sets compare.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// What can be said.
    pub verdict: Verdict,
    /// Why no more can be said, of [`Verdict::Inconclusive`].
    pub because: Option<String>,
    /// Median of the base figures.
    pub base: f64,
    /// Median of the new figures.
    pub new: f64,
    /// New to base, as the median of all ratios. Infinite when only the base figures are zero.
    pub ratio: f64,
    /// Where the true ratio is; None when there are too few figures to say.
    pub interval: Option<Interval>,
    /// Share of arrangements that differ at least as much; None when there are none.
    pub p: Option<f64>,
    /// The relative change that counted as large enough.
    pub floor: f64,
}

/// A confidence interval of a ratio.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// With which probability it holds the true ratio.
    pub confidence: f64,
}

impl Interval {
    /// Whether a ratio between 1 / (1 + floor) and 1 + floor is all that it allows.
    fn is_within(self, floor: f64) -> bool {
        let most = (1.0 + floor) * (1.0 + 1e-9);
        self.low >= 1.0 / most && self.high <= most
    }
}

/// How large a difference is, without the question whether there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct Size {
    /// Median of the base figures.
    pub base: f64,
    /// Median of the new figures.
    pub new: f64,
    /// New to base, as the median of all ratios. Infinite when only the base figures are zero.
    pub ratio: f64,
    /// Where the true ratio is; None when there are too few figures to say.
    pub interval: Option<Interval>,
    /// The same with the confidence that "no difference" is said with, where there are figures enough for that.
    pub trusted: Option<Interval>,
    /// The relative change that counts as large enough.
    pub floor: f64,
}

impl Size {
    /// Whether it is large enough to matter.
    pub fn is_large(&self) -> bool {
        let change = self.ratio.max(1.0 / self.ratio) - 1.0;
        // What equals the floor by the width of a rounding error does not exceed it.
        change > self.floor * (1.0 + 1e-9)
    }

    /// Whether no difference that matters is possible.
    pub fn is_same(&self) -> bool {
        self.trusted.is_some_and(|interval| interval.is_within(self.floor))
    }
}

/// Estimates how much finite figures that are not negative differ.
pub fn size(base: &[f64], new: &[f64], floor: Floor) -> Size {
    let (base, new) = (sorted(base), sorted(new));
    let (from, to) = (median(&base), median(&new));
    let mut ratios: Vec<f64> =
        new.iter().flat_map(|new| base.iter().map(move |base| ratio(*base, *new))).collect();
    ratios.sort_by(f64::total_cmp);
    let trusted = interval(&ratios, base.len(), new.len(), CONFIDENT);
    Size {
        base: from,
        new: to,
        ratio: middle(&ratios),
        interval: interval(&ratios, base.len(), new.len(), TOLD),
        trusted: trusted.filter(|interval| interval.confidence >= CONFIDENT - 1e-9),
        floor: floor.between(from, to),
    }
}

/// Compares finite figures that are not negative.
pub fn compare(base: &[f64], new: &[f64], floor: Floor) -> Comparison {
    let size = size(base, new, floor);
    let p = permutations(&sorted(base), &sorted(new));
    let is_shown = p.is_some_and(|p| p < SIGNIFICANT);
    let verdict = match () {
        () if is_shown && size.is_large() && size.ratio < 1.0 => Verdict::Lower,
        () if is_shown && size.is_large() => Verdict::Higher,
        () if size.is_same() => Verdict::Same,
        () => Verdict::Inconclusive,
    };
    let because = (verdict == Verdict::Inconclusive).then(|| match size.trusted {
        None => format!(
            "{} and {} rounds are too few to tell: 3 a side can show that nothing changed, 5 that something did",
            base.len(),
            new.len()
        ),
        Some(_) if size.is_large() && least_p(base.len(), new.len()) >= SIGNIFICANT => format!(
            "{} and {} rounds are too few to tell a change from chance: measure 5 or more a side",
            base.len(),
            new.len()
        ),
        Some(_) => {
            "the rounds differ too much among themselves: measure more of them, on a quieter machine".into()
        }
    });
    let Size { base, new, ratio, interval, floor, .. } = size;
    Comparison { verdict, because, base, new, ratio, interval, p, floor }
}

/// The smallest p that so many figures can give.
fn least_p(base: usize, new: usize) -> f64 {
    2.0 / ways(base + new, base)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

/// The middle of sorted values; NaN of none.
pub fn median(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// The middle of sorted ratios. Of two in the middle it is the geometric mean, so that ratios and their inverses agree.
fn middle(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n if sorted[n / 2 - 1] > 0.0 && sorted[n / 2].is_finite() => {
            (sorted[n / 2 - 1] * sorted[n / 2]).sqrt()
        }
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// Nothing to nothing is no change.
fn ratio(base: f64, new: f64) -> f64 {
    if base == new { 1.0 } else { new / base }
}

/// Binomial coefficient.
fn ways(all: usize, chosen: usize) -> f64 {
    (0..chosen.min(all - chosen)).fold(1.0, |ways, i| ways * (all - i) as f64 / (i + 1) as f64)
}

/// The interval of at least the wanted confidence, or the widest.
fn interval(ratios: &[f64], base: usize, new: usize, wanted: f64) -> Option<Interval> {
    if base == 0 || new == 0 {
        return None;
    }
    let (left_out, confidence) =
        if ratios.len() <= RATIOS_EXACT { exact(base, new, wanted) } else { normal(base, new, wanted) };
    Some(Interval { low: ratios[left_out], high: ratios[ratios.len() - 1 - left_out], confidence })
}

/// How many ratios to leave out at each end, and the confidence of the rest: from the distribution of the
/// Mann-Whitney statistic, whose counts are the coefficients of the Gaussian binomial.
fn exact(base: usize, new: usize, wanted: f64) -> (usize, f64) {
    let half = base * new / 2 + 1;
    let mut counts = vec![0.0; half];
    counts[0] = 1.0;
    for i in 1..=new.min(base) {
        // times (1 - q^(larger + i)), divided by (1 - q^i)
        let factor = new.max(base) + i;
        for u in (factor..half).rev() {
            counts[u] -= counts[u - factor];
        }
        for u in i..half {
            counts[u] += counts[u - i];
        }
    }
    let all = ways(base + new, base);
    let mut tail = 0.0;
    let mut best = (0, 1.0 - 2.0 / all);
    for (u, count) in counts.iter().enumerate().take((base * new).div_ceil(2)) {
        tail += count / all;
        if 1.0 - 2.0 * tail < wanted - 1e-12 {
            break;
        }
        best = (u, 1.0 - 2.0 * tail);
    }
    best
}

/// The same by the normal approximation of the rank sum (mean nm / 2, variance nm (n + m + 1) / 12).
fn normal(base: usize, new: usize, wanted: f64) -> (usize, f64) {
    let (n, m) = (base as f64, new as f64);
    // The normal distribution's 97.5 % quantile, and its 95 % quantile.
    let quantile = if wanted > 0.9 { 1.960 } else { 1.645 };
    let left_out = (n * m / 2.0 - quantile * (n * m * (n + m + 1.0) / 12.0).sqrt()).floor().max(0.0);
    (left_out as usize, wanted)
}

/// Share of arrangements of the pooled figures whose means differ at least as much as those of the two sets.
fn permutations(base: &[f64], new: &[f64]) -> Option<f64> {
    let (fewer, more) = if base.len() <= new.len() { (base, new) } else { (new, base) };
    if fewer.is_empty() {
        return None;
    }
    let is_positive = fewer.iter().chain(more).all(|value| *value > 0.0);
    // Ratios are what is asked for; zeros have none.
    let value = |value: &f64| if is_positive { value.ln() } else { *value };
    let mut pool: Vec<f64> = fewer.iter().chain(more).map(value).collect();
    let whole: f64 = pool.iter().sum();
    let chosen = fewer.len();
    let difference = |sum: f64| (sum / chosen as f64 - (whole - sum) / (more.len()) as f64).abs();
    let seen = difference(pool[..chosen].iter().sum());
    // Sums of the same figures in another order differ by rounding.
    let seen = seen - (seen + whole.abs() / pool.len() as f64) * 1e-12;
    pool.sort_by(f64::total_cmp);
    let all = ways(pool.len(), chosen);
    if all <= ARRANGEMENTS_MAX {
        let mut as_large = 0_u32;
        each_choice(&pool, chosen, 0.0, &mut |sum| as_large += u32::from(difference(sum) >= seen));
        return Some(f64::from(as_large) / all);
    }
    // The same draws each time: a verdict must not change from one look to the next.
    let mut random = fastrand::Rng::with_seed(0x6b76_6d62);
    let mut as_large = 1_u32;
    for _ in 0..DRAWN {
        for i in 0..chosen {
            let other = random.usize(i..pool.len());
            pool.swap(i, other);
        }
        as_large += u32::from(difference(pool[..chosen].iter().sum()) >= seen);
    }
    Some(f64::from(as_large) / f64::from(DRAWN + 1))
}

/// Tells the sum of each choice of so many values.
fn each_choice(values: &[f64], chosen: usize, sum: f64, tell: &mut dyn FnMut(f64)) {
    if chosen == 0 {
        return tell(sum);
    }
    for first in 0..=values.len() - chosen {
        each_choice(&values[first + 1..], chosen - 1, sum + values[first], tell);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FLOOR: Floor = Floor { relative: 0.05, absolute: 0.0 };

    #[test]
    fn what_is_apart_in_all_rounds_differs() {
        let base = [100.0, 101.0, 99.0, 100.5, 100.2];
        let comparison = compare(&base, &base.map(|value| value * 1.1), FLOOR);
        assert_eq!(comparison.verdict, Verdict::Higher);
        assert!((comparison.p.unwrap() - 2.0 / 252.0).abs() < 1e-12, "{comparison:?}");
        assert!((comparison.ratio - 1.1).abs() < 0.01);
        assert_eq!(compare(&base, &base.map(|value| value / 1.1), FLOOR).verdict, Verdict::Lower);
        // Shown, but too small to matter.
        assert_eq!(compare(&base, &base.map(|value| value * 1.03), FLOOR).verdict, Verdict::Same);
    }

    #[test]
    fn too_few_rounds_never_show_a_change() {
        for (n, verdict) in [(1, Verdict::Inconclusive), (2, Verdict::Inconclusive), (3, Verdict::Same)] {
            assert_eq!(compare(&vec![100.0; n], &vec![100.0; n], FLOOR).verdict, verdict, "{n}");
        }
        for n in 0..=4 {
            let comparison = compare(&vec![100.0; n], &vec![200.0; n], FLOOR);
            assert_eq!(comparison.verdict, Verdict::Inconclusive, "{n}");
            assert!(comparison.because.unwrap().contains("too few"), "{n}");
        }
    }

    #[test]
    fn noise_is_inconclusive_not_same() {
        let comparison =
            compare(&[100.0, 150.0, 80.0, 120.0, 90.0], &[110.0, 100.0, 160.0, 85.0, 95.0], FLOOR);
        assert_eq!(comparison.verdict, Verdict::Inconclusive);
        assert!(comparison.because.unwrap().contains("differ too much"));
    }

    #[test]
    fn one_step_of_the_clock_is_no_change() {
        let floor = Floor { relative: 0.05, absolute: 26.0 };
        assert_eq!(compare(&[260.0; 5], &[286.0; 5], floor).verdict, Verdict::Same);
        assert_eq!(compare(&[260.0; 5], &[312.0; 5], floor).verdict, Verdict::Higher);
        assert_eq!(compare(&[0.0; 5], &[26.0; 5], floor).verdict, Verdict::Same);
        assert_eq!(compare(&[0.0; 5], &[52.0; 5], floor).verdict, Verdict::Higher);
    }

    #[test]
    fn rates_may_be_zero() {
        assert_eq!(compare(&[0.0; 5], &[0.0; 5], FLOOR).verdict, Verdict::Same);
        let comparison = compare(&[0.0; 5], &[3.0, 4.0, 5.0, 6.0, 7.0], FLOOR);
        assert_eq!((comparison.verdict, comparison.ratio), (Verdict::Higher, f64::INFINITY));
        let comparison = compare(&[3.0, 4.0, 5.0, 6.0, 7.0], &[0.0; 5], FLOOR);
        assert_eq!((comparison.verdict, comparison.ratio), (Verdict::Lower, 0.0));
    }

    /// Conover's table A7 of the Mann-Whitney statistic: of 5 and 5, w(0.025) = 3; of 8 and 8, 14; of 10 and 7, 15.
    #[test]
    fn intervals_leave_out_what_the_tables_say() {
        assert_eq!(exact(5, 5, TOLD).0, 2);
        assert!((exact(5, 5, TOLD).1 - (1.0 - 8.0 / 252.0)).abs() < 1e-12);
        assert_eq!(exact(8, 8, TOLD).0, 13);
        assert_eq!((exact(10, 7, TOLD).0, exact(7, 10, TOLD).0), (14, 14));
        // w(0.05) of 5 and 5 is 5, of 8 and 8 it is 16.
        assert_eq!((exact(5, 5, CONFIDENT).0, exact(8, 8, CONFIDENT).0), (4, 15));
        // Too few for 95 %: the widest, with what it is worth.
        assert_eq!(exact(3, 3, TOLD), (0, 0.9));
        for wanted in [TOLD, CONFIDENT] {
            let (exact, normal) = (exact(100, 100, wanted), normal(100, 100, wanted));
            assert!(exact.0.abs_diff(normal.0) <= 2, "{exact:?} {normal:?}");
        }
    }

    #[test]
    fn many_arrangements_are_drawn_and_agree_with_all() {
        let side = |from: f64, count: i32| (0..count).map(|i| from + f64::from(i)).collect::<Vec<f64>>();
        let all = permutations(&side(100.0, 8), &side(104.5, 8)).unwrap();
        let drawn = permutations(&side(100.0, 11), &side(104.5, 11)).unwrap();
        // The t test, which is as good for figures that lie like these, says 0.0023 and 0.0044.
        assert!(all > 0.001 && all < 0.005, "{all}");
        assert!(drawn > 0.002 && drawn < 0.009, "{drawn}");
    }

    proptest! {
        #[test]
        fn exchanging_the_sides_mirrors_the_answer(
            base in prop::collection::vec(0.1_f64..1000.0, 1..12),
            new in prop::collection::vec(0.1_f64..1000.0, 1..12),
        ) {
            let floor = Floor { relative: 0.05, absolute: 3.0 };
            let (one, two) = (compare(&base, &new, floor), compare(&new, &base, floor));
            let mirrored = match two.verdict {
                Verdict::Lower => Verdict::Higher,
                Verdict::Higher => Verdict::Lower,
                other => other,
            };
            prop_assert_eq!(one.verdict, mirrored);
            prop_assert!((one.ratio * two.ratio - 1.0).abs() < 1e-9);
            prop_assert!((one.p.unwrap() - two.p.unwrap()).abs() < 1e-9);
            let (a, b) = (one.interval.unwrap(), two.interval.unwrap());
            prop_assert!((a.low * b.high - 1.0).abs() < 1e-9 && (a.confidence - b.confidence).abs() < 1e-12);
        }
    }
}
