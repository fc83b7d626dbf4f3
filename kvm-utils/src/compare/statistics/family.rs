//! Many comparisons at once: of a hundred, one is rare in one of a hundred ways by chance alone. The probabilities that come
//! out of here are of a false alarm anywhere in the table.

/// Up to so many arrangements all are tried.
const ARRANGEMENTS_MAX: f64 = 20_000.0;

/// Else so many are drawn.
const DRAWN: usize = 9_999;

/// Corrects probabilities with S. Holm's procedure (Scandinavian Journal of Statistics 6 (1979)), which holds however
/// the comparisons depend on each other. What is no number is left as it is and not counted.
#[must_use]
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).filter(|index| !p[*index].is_nan()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut corrected = p.to_vec();
    let mut least = 0.0_f64;
    for (rank, index) in order.iter().enumerate() {
        least = least.max((p[*index] * (order.len() - rank) as f64).min(1.0));
        corrected[*index] = least;
    }
    corrected
}

/// What is compared of each run, for [`by_rearranging`].
#[derive(Clone, Debug)]
pub struct Figures {
    /// Of each run of the base and then of the new side; `None` where it has none.
    pub of_runs: Vec<Option<f64>>,
    /// Standard errors smaller than this are taken to be as large: figures that happen to agree to the last digit do not
    /// prove that they always do.
    pub least_error: f64,
}

/// For each comparison, the probability of one at least as clear anywhere among those that are no clearer, where nothing
/// differs: the step-down maxT procedure of P. H. Westfall and S. S. Young (Resampling-Based Multiple Testing, 1993; as in
/// Y. Ge, S. Dudoit and T. P. Speed, Test 12 (2003)). The labels "base" and "new" are dealt out anew to whole runs, for
/// all comparisons at the same time, so that their dependence is that of the runs; no distribution is assumed. The first
/// `base` runs are the base's. What cannot be compared has the probability 1.
#[must_use]
pub fn by_rearranging(figures: &[Figures], base: usize) -> Vec<f64> {
    let runs = figures.iter().map(|one| one.of_runs.len()).max().unwrap_or(0);
    if base == 0 || base >= runs {
        return vec![1.0; figures.len()];
    }
    // The answer shall not depend on which side is called base, nor on the order of files.
    let mut order: Vec<usize> = (0..runs).collect();
    order.sort_by(|a, b| {
        let values = |run: usize| figures.iter().map(move |one| one.of_runs.get(run).copied().flatten());
        let key = |value: Option<f64>| value.unwrap_or(f64::NEG_INFINITY);
        values(*a)
            .zip(values(*b))
            .map(|(a, b)| key(a).total_cmp(&key(b)))
            .find(|o| o.is_ne())
            .unwrap_or(a.cmp(b))
    });
    let ordered: Vec<Ordered> = figures.iter().map(|one| Ordered::new(one, &order)).collect();
    let mut is_chosen: Vec<bool> = order.iter().map(|run| *run < base).collect();
    if base * 2 > runs {
        is_chosen.iter_mut().for_each(|one| *one = !*one);
    }
    let seen: Vec<f64> = ordered.iter().map(|one| one.clarity(&is_chosen)).collect();
    let mut by_clarity: Vec<usize> = (0..figures.len()).collect();
    by_clarity.sort_by(|a, b| seen[*b].total_cmp(&seen[*a]));

    let mut as_clear = vec![0_usize; figures.len()];
    let mut count = |is_chosen: &[bool]| {
        let mut most = 0.0_f64;
        for index in by_clarity.iter().rev() {
            most = most.max(ordered[*index].clarity(is_chosen));
            // Sums in another order differ by rounding.
            as_clear[*index] += usize::from(most >= seen[*index] * (1.0 - 1e-9));
        }
    };
    let all = each_arrangement(&mut is_chosen, &mut count);
    let mut corrected = vec![1.0; figures.len()];
    let mut least = 0.0_f64;
    for index in by_clarity {
        least = least.max(as_clear[index] as f64 / all as f64);
        corrected[index] = least;
    }
    corrected
}

/// The figures of one comparison in a fixed order of runs.
struct Ordered {
    values: Vec<Option<f64>>,
    least_error: f64,
    count: f64,
    sum: f64,
    squares: f64,
}

impl Ordered {
    fn new(figures: &Figures, order: &[usize]) -> Self {
        let of = |run: &usize| figures.of_runs.get(*run).copied().flatten().filter(|value| value.is_finite());
        let mut values: Vec<Option<f64>> = order.iter().map(of).collect();
        // Distances from the mean: large numbers lose digits in squares.
        let known: Vec<f64> = values.iter().copied().flatten().collect();
        let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
        values.iter_mut().flatten().for_each(|value| *value -= mean);
        let known = || values.iter().flatten();
        Self {
            least_error: figures.least_error.max(f64::MIN_POSITIVE),
            count: known().count() as f64,
            sum: known().sum(),
            squares: known().map(|value| value * value).sum(),
            values,
        }
    }

    /// How far the chosen are from the others, in standard errors; 0 with fewer than two on either side.
    fn clarity(&self, is_chosen: &[bool]) -> f64 {
        let (mut count, mut sum) = (0.0, 0.0);
        for (value, is_chosen) in self.values.iter().zip(is_chosen) {
            if let (Some(value), true) = (value, is_chosen) {
                count += 1.0;
                sum += value;
            }
        }
        let others = self.count - count;
        if count < 2.0 || others < 2.0 {
            return 0.0;
        }
        let apart = (sum / count - (self.sum - sum) / others).abs();
        let between = self.sum * self.sum / self.count + count * others / self.count * apart * apart;
        let within = (self.squares - between).max(0.0) / (self.count - 2.0);
        apart / (within * (1.0 / count + 1.0 / others) + self.least_error * self.least_error).sqrt()
    }
}

/// Shows every choice of as many as are chosen, or many drawn at random and the one that is; returns how many.
fn each_arrangement(is_chosen: &mut [bool], tell: &mut dyn FnMut(&[bool])) -> usize {
    let chosen = is_chosen.iter().filter(|one| **one).count();
    let all = (0..chosen).fold(1.0, |ways, i| ways * (is_chosen.len() - i) as f64 / (i + 1) as f64);
    if all <= ARRANGEMENTS_MAX {
        let mut arrangement = vec![false; is_chosen.len()];
        return choose(&mut arrangement, 0, chosen, tell);
    }
    tell(is_chosen);
    // The same draws each time: a verdict must not change from one look to the next.
    let mut random = fastrand::Rng::with_seed(0x6b76_6d75);
    let mut order: Vec<usize> = (0..is_chosen.len()).collect();
    for _ in 0..DRAWN {
        is_chosen.fill(false);
        for i in 0..chosen {
            let other = random.usize(i..order.len());
            order.swap(i, other);
            is_chosen[order[i]] = true;
        }
        tell(is_chosen);
    }
    DRAWN + 1
}

fn choose(arrangement: &mut [bool], from: usize, chosen: usize, tell: &mut dyn FnMut(&[bool])) -> usize {
    if chosen == 0 {
        tell(arrangement);
        return 1;
    }
    let mut told = 0;
    for first in from..=arrangement.len() - chosen {
        arrangement[first] = true;
        told += choose(arrangement, first + 1, chosen - 1, tell);
        arrangement[first] = false;
    }
    told
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::compare::simulated::Random;

    #[test]
    fn holm_multiplies_by_how_many_are_left() {
        // From Holm's paper's procedure by hand: 4 * 0.01, 3 * 0.02, 2 * 0.03, never less than the one before.
        let corrected = holm(&[0.03, 0.01, 0.02, 0.04, f64::NAN]);
        let expected = [0.06, 0.04, 0.06, 0.06];
        for (one, other) in corrected.iter().zip(expected) {
            assert!((one - other).abs() < 1e-12, "{corrected:?}");
        }
        assert!(corrected[4].is_nan());
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
        assert!(holm(&[]).is_empty());
    }

    fn figures(values: &[f64]) -> Figures {
        Figures { of_runs: values.iter().copied().map(Some).collect(), least_error: 0.001 }
    }

    #[test]
    fn one_clear_difference_among_many_rows_is_found_with_five_runs_a_side() {
        let mut random = Random::new(1);
        let mut table: Vec<Figures> =
            (0..40).map(|_| figures(&(0..10).map(|_| random.normal()).collect::<Vec<_>>())).collect();
        let shifted: Vec<f64> =
            (0..10).map(|run| random.normal() * 0.1 + if run < 5 { 0.0 } else { 9.0 }).collect();
        table.push(figures(&shifted));
        let p = by_rearranging(&table, 5);
        // The rarest there is among 252 arrangements.
        assert!((p[40] - 2.0 / 252.0).abs() < 1e-12, "{}", p[40]);
        assert!(p[..40].iter().all(|p| *p > 0.01), "{p:?}");
    }

    #[test]
    fn a_false_alarm_anywhere_in_a_table_is_as_rare_as_promised() {
        let mut random = Random::new(5);
        // Rows that go together, as those of one run do.
        let mut alarms = 0;
        for _ in 0..400 {
            let common: Vec<f64> = (0..12).map(|_| random.normal()).collect();
            let table: Vec<Figures> = (0..20)
                .map(|_| figures(&common.iter().map(|c| c + 0.5 * random.normal()).collect::<Vec<_>>()))
                .collect();
            alarms += usize::from(by_rearranging(&table, 6).iter().any(|p| *p < 0.05));
        }
        assert!((5..=32).contains(&alarms), "{alarms} of 400 at 5 %");
    }

    #[test]
    fn what_cannot_be_compared_is_no_difference() {
        let missing =
            Figures { of_runs: vec![Some(1.0), None, None, None, Some(2.0), None], least_error: 0.1 };
        let nan = figures(&[f64::NAN; 6]);
        let same = figures(&[7.0; 6]);
        assert_eq!(by_rearranging(&[missing, nan, same], 3), [1.0, 1.0, 1.0]);
        assert_eq!(by_rearranging(&[figures(&[1.0, 2.0])], 0), [1.0]);
        assert_eq!(by_rearranging(&[figures(&[1.0, 2.0])], 2), [1.0]);
        assert!(by_rearranging(&[], 3).is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn exchanging_the_sides_changes_nothing(
            rows in prop::collection::vec(prop::collection::vec(-9.0_f64..9.0, 11..=18), 1..4),
            base in 5_usize..6,
        ) {
            let runs = rows.iter().map(Vec::len).min().unwrap_or(0);
            let table: Vec<Figures> = rows.iter().map(|row| figures(&row[..runs])).collect();
            let mirrored: Vec<Figures> = rows
                .iter()
                .map(|row| figures(&row[base..runs].iter().chain(&row[..base]).copied().collect::<Vec<_>>()))
                .collect();
            let (one, two) = (by_rearranging(&table, base), by_rearranging(&mirrored, runs - base));
            for (one, two) in one.iter().zip(&two) {
                prop_assert!((one - two).abs() < 1e-12);
            }
        }
    }
}
