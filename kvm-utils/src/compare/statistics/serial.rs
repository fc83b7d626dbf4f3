//! Two series of figures that follow each other in time, and so resemble their neighbours.
//!
//! Means of consecutive intervals (batch means: G. S. Fishman, Operations Research 9 (1961); 10 to 30 batches: B. Schmeiser,
//! Operations Research 30 (1982)) resemble each other less than the intervals do, but they still do. How far their mean may be
//! off is estimated in two ways, and a difference has to be clear by both.
//!
//! From neighbours: n figures with the correlation rho between neighbours say about a mean as much as n (1 - rho) /
//! (1 + rho) independent ones; with this number in place of n the t test keeps its level as long as the number is not small
//! (F. W. Zwiers and H. von Storch, Journal of Climate 8 (1995)). Three things make it hold for small numbers too: rho estimated
//! from few figures is too low, so its bias is taken out (F. H. C. Marriott and J. A. Pope, Biometrika 41 (1954)) and 1.25 standard
//! errors added; the variance within correlated figures is too low as well, and is divided by n - n / (independent
//! figures); with fewer than [`LEAST_WORTH`] independent figures a side nothing is said.
//!
//! From slow waves: where a slow change hides beneath fast noise, neighbours do not show it, but the weight of the lowest
//! cosines in the series does: the mean of their squares estimates the variance of the mean times n, with as many degrees of
//! freedom as there are of them (U. K. Müller, Journal of Econometrics 141 (2007); E. Lazarus, D. J. Lewis, J. H. Stock and M. W.
//! Watson, Journal of Business & Economic Statistics 36 (2018)).
//!
//! The degrees of freedom are Welch's, so that the sides need not vary alike. What changes more slowly than the series are long
//! is in neither: it looks like a difference, and only more series tell.

use super::student;

/// Fewer independent figures than this are too few.
pub const LEAST_WORTH: f64 = 3.0;

/// Standard errors by which the correlation between neighbours is taken to be higher than it looks.
const CAUTION: f64 = 1.25;

/// How many of the slowest waves are looked at.
const WAVES: usize = 3;

/// How two series differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// Mean of the new figures less that of the base's.
    pub by: f64,
    /// By neighbours, and by slow waves.
    errors: [Error; 2],
    /// How many independent figures each side is worth.
    pub worth: [f64; 2],
}

/// How far a difference may be off.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Error {
    /// One standard error.
    size: f64,
    /// Degrees of freedom.
    freedom: f64,
}

impl Error {
    /// Of the difference of two means of these variances, known with these degrees of freedom.
    fn welch(variances: [f64; 2], freedoms: [f64; 2]) -> Self {
        let sum = variances[0] + variances[1];
        let parts = variances[0].powi(2) / freedoms[0] + variances[1].powi(2) / freedoms[1];
        let freedom = sum * sum / parts;
        Self {
            size: sum.sqrt(),
            freedom: if freedom.is_finite() { freedom } else { freedoms[0] + freedoms[1] },
        }
    }
}

impl Difference {
    /// Probability of a difference at least as large, either way, where there is none.
    #[must_use]
    pub fn p(&self) -> f64 {
        if self.by == 0.0 {
            return 1.0;
        }
        self.errors
            .iter()
            .map(|error| student::two_sided(self.by / error.size, error.freedom))
            .fold(0.0, f64::max)
    }

    /// The differences that are to be expected with this confidence.
    #[must_use]
    pub fn interval(&self, confidence: f64) -> [f64; 2] {
        let reach = |error: &Error| student::quantile(1.0 - confidence, error.freedom) * error.size;
        let reach = self.errors.iter().map(reach).fold(0.0, f64::max);
        [self.by - reach, self.by + reach]
    }
}

/// What is known of two series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answer {
    /// How they differ.
    Difference(Difference),
    /// Their neighbours resemble each other so much that the series are worth only so many independent figures.
    Correlated([f64; 2]),
}

/// Compares two sides of one or several series each; figures of different series are no neighbours. `None` without five
/// figures on each side.
#[must_use]
pub fn compare(base: &[Vec<f64>], new: &[Vec<f64>]) -> Option<Answer> {
    let (one, two) = (Side::of(base), Side::of(new));
    if one.count < 5.0 || two.count < 5.0 {
        return None;
    }
    let spread = one.squares + two.squares;
    let worth = |count: f64, per_figure: f64| count / per_figure;
    let per_figure =
        if spread > 0.0 { per_figure((one.neighbours + two.neighbours) / spread, &one, &two) } else { 1.0 };
    let worths = [worth(one.count, per_figure), worth(two.count, per_figure)];
    if worths.iter().any(|worth| *worth < LEAST_WORTH) {
        return Some(Answer::Correlated(worths));
    }
    let variance = |side: &Side, worth: f64| side.squares / (side.count - per_figure) / worth;
    let by_neighbours = Error::welch(
        [variance(&one, worths[0]), variance(&two, worths[1])],
        [worths[0] - 1.0, worths[1] - 1.0],
    );
    let by_waves = Error::welch([one.waves(base), two.waves(new)], [WAVES as f64; 2]);
    Some(Answer::Difference(Difference {
        by: two.mean - one.mean,
        errors: [by_neighbours, by_waves],
        worth: worths,
    }))
}

/// How many figures say as much as one independent one: (1 + rho) / (1 - rho).
fn per_figure(seen: f64, one: &Side, two: &Side) -> f64 {
    // Of one series; several a side are shorter, and so is what their correlation rests on.
    let length = (one.count + two.count) / (one.series + two.series);
    let unbiased = if length > 5.0 { (length * seen + 1.0) / (length - 4.0) } else { 1.0 };
    let rho = unbiased.max(0.0);
    let error = ((1.0 - rho.min(0.99).powi(2)) / (one.count + two.count)).sqrt();
    let rho = (rho + CAUTION * error).min(0.999);
    (1.0 + rho) / (1.0 - rho)
}

/// Sums over one side.
struct Side {
    series: f64,
    count: f64,
    mean: f64,
    /// Squared distances from the mean.
    squares: f64,
    /// Products of neighbours' distances.
    neighbours: f64,
}

impl Side {
    fn of(series: &[Vec<f64>]) -> Self {
        let all = || series.iter().flatten();
        let count = all().count() as f64;
        let mean = all().sum::<f64>() / count.max(1.0);
        let apart = |value: &f64| value - mean;
        let neighbours = series.iter().flat_map(|one| one.windows(2));
        Self {
            series: series.iter().filter(|one| !one.is_empty()).count().max(1) as f64,
            count,
            mean,
            squares: all().map(|value| apart(value).powi(2)).sum(),
            neighbours: neighbours.map(|pair| apart(&pair[0]) * apart(&pair[1])).sum(),
        }
    }

    /// The variance of the mean, from the weights of the slowest waves.
    fn waves(&self, series: &[Vec<f64>]) -> f64 {
        let weight = |wave: usize| -> f64 {
            let turn = std::f64::consts::PI * wave as f64 / self.count;
            let all = series.iter().flatten().enumerate();
            all.map(|(at, value)| (value - self.mean) * (turn * (at as f64 + 0.5)).cos()).sum()
        };
        let squares: f64 = (1..=WAVES).map(|wave| weight(wave).powi(2) * 2.0 / self.count).sum();
        squares / WAVES as f64 / self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::simulated::{Noise, Random};

    fn series(random: &mut Random, noise: Noise, count: usize) -> Vec<f64> {
        noise.series(random, count)
    }

    /// In how many of 2,000 pairs of series, which have the same mean, a difference is found at 1 %, and how many say nothing.
    fn found(noise: Noise, count: usize) -> (f64, f64) {
        const TRIALS: u32 = 2_000;
        let mut random = Random::new(7);
        let (mut found, mut silent) = (0, 0);
        for _ in 0..TRIALS {
            let mut side = || vec![series(&mut random, noise, count)];
            match compare(&side(), &side()) {
                Some(Answer::Difference(difference)) => found += u32::from(difference.p() < 0.01),
                _ => silent += 1,
            }
        }
        (f64::from(found) / f64::from(TRIALS), f64::from(silent) / f64::from(TRIALS))
    }

    #[test]
    fn correlated_figures_of_the_same_mean_differ_in_less_than_one_case_of_a_hundred() {
        for (count, correlations) in [
            (10, [0.0, 0.3, 0.6].as_slice()),
            (15, [0.0, 0.3, 0.6, 0.8].as_slice()),
            (20, [0.0, 0.3, 0.6, 0.8, 0.9, 0.95].as_slice()),
        ] {
            for correlation in correlations {
                let (wrong, _) = found(Noise::Correlated(*correlation), count);
                assert!(wrong <= 0.01, "{correlation} {count}: {wrong}");
            }
        }
        for noise in [Noise::Wild, Noise::Bursts, Noise::Smoothed, Noise::States(3.0)] {
            let (wrong, _) = found(noise, 20);
            assert!(wrong <= 0.01, "{noise:?}: {wrong}");
        }
        // The plain t test is wrong much more often: the correction is what holds the level.
        let mut random = Random::new(7);
        let wrong = (0..1_000)
            .filter(|_| {
                let (one, two) = (
                    Side::of(&[series(&mut random, Noise::Correlated(0.8), 20)]),
                    Side::of(&[series(&mut random, Noise::Correlated(0.8), 20)]),
                );
                let error = ((one.squares + two.squares) / 19.0 / 20.0).sqrt();
                student::two_sided((one.mean - two.mean) / error, 38.0) < 0.01
            })
            .count();
        assert!(wrong > 100, "{wrong}");
    }

    #[test]
    fn independent_figures_are_not_taken_for_correlated_ones() {
        let (wrong, silent) = found(Noise::Correlated(0.0), 20);
        assert!(wrong <= 0.01 && silent < 0.02, "{wrong} {silent}");
        let mut random = Random::new(3);
        let (mut shown, mut within) = (0, 0);
        for _ in 0..200 {
            let base = vec![series(&mut random, Noise::Correlated(0.0), 20)];
            let new =
                series(&mut random, Noise::Correlated(0.0), 20).iter().map(|value| value + 2.0).collect();
            if let Some(Answer::Difference(difference)) = compare(&base, &[new]) {
                shown += u32::from(difference.p() < 0.01);
                let [low, high] = difference.interval(0.95);
                within += u32::from(low < 2.0 && 2.0 < high);
            }
        }
        // A difference of two standard deviations.
        assert!(shown >= 170 && within >= 190, "{shown} {within}");
    }

    #[test]
    fn slow_changes_beneath_fast_noise_are_found_by_their_waves() {
        let mut random = Random::new(9);
        let hidden = |random: &mut Random| {
            let slow = Noise::Correlated(0.9).series(random, 20);
            vec![slow.iter().map(|slow| slow + random.normal()).collect::<Vec<f64>>()]
        };
        let (mut by_both, mut by_neighbours) = (0, 0);
        for _ in 0..3_000 {
            let Some(Answer::Difference(difference)) = compare(&hidden(&mut random), &hidden(&mut random))
            else {
                continue;
            };
            by_both += u32::from(difference.p() < 0.001);
            let [alone, _] = difference.errors;
            by_neighbours += u32::from(student::two_sided(difference.by / alone.size, alone.freedom) < 0.001);
        }
        assert!(by_both <= 30 && by_neighbours > 2 * by_both, "{by_both} {by_neighbours} of 3,000");
    }

    #[test]
    fn a_drift_says_nothing() {
        let drift = |from: f64| vec![(0..20).map(|i| from + f64::from(i)).collect::<Vec<f64>>()];
        assert!(matches!(compare(&drift(0.0), &drift(3.0)), Some(Answer::Correlated(_))));
    }

    #[test]
    fn constants_differ_or_not() {
        let constant = |value: f64| vec![vec![value; 10]];
        let Some(Answer::Difference(same)) = compare(&constant(3.0), &constant(3.0)) else { panic!() };
        assert_eq!(same.p(), 1.0);
        let Some(Answer::Difference(other)) = compare(&constant(3.0), &constant(4.0)) else { panic!() };
        assert_eq!(other.p(), 0.0);
        assert_eq!(compare(&[vec![1.0; 4]], &constant(1.0)), None);
        assert_eq!(compare(&[], &constant(1.0)), None);
    }
}
