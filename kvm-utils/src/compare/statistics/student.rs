//! Student's distribution: how rare a t value is, and which value is how rare.

/// Terms of the continued fraction; it converges in some tens.
const TERMS: u32 = 300;

/// Probability of a t value at least as far from zero, on both sides; 1 for what is no number.
#[must_use]
pub fn two_sided(t: f64, freedom: f64) -> f64 {
    if t.is_nan() || freedom.is_nan() || freedom <= 0.0 {
        return 1.0;
    }
    if t.is_infinite() {
        return 0.0;
    }
    incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + t * t))
}

/// The value that is exceeded, on both sides, with this probability.
#[must_use]
pub fn quantile(two_sided_p: f64, freedom: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while two_sided(high, freedom) > two_sided_p && high < 1e12 {
        high *= 2.0;
    }
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if two_sided(middle, freedom) > two_sided_p {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// The regularized incomplete beta function, by its continued fraction (M. Abramowitz and I. A. Stegun 26.5.8), evaluated
/// with W. J. Lentz's method.
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp();
    if x < (a + 1.0) / (a + b + 2.0) {
        front * fraction(a, b, x) / a
    } else {
        1.0 - front * fraction(b, a, 1.0 - x) / b
    }
}

fn fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / away(1.0 - (a + b) * x / (a + 1.0));
    let mut value = d;
    for m in 1..=TERMS {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut change = 1.0;
        for term in [even, odd] {
            d = 1.0 / away(1.0 + term * d);
            c = away(1.0 + term / c);
            change = c * d;
            value *= change;
        }
        if (change - 1.0).abs() < 1e-14 {
            break;
        }
    }
    value
}

/// Logarithm of the gamma function of a positive number: Stirling's series, from 10 on after the recurrence.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut product) = (x, 1.0);
    while x < 10.0 {
        product *= x;
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    let series = (1.0 / 12.0 - inverse * (1.0 / 360.0 - inverse * (1.0 / 1260.0 - inverse / 1680.0))) / x;
    (x - 0.5) * x.ln() - x + (std::f64::consts::TAU.ln()) / 2.0 + series - product.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Table of the distribution: degrees of freedom, two-sided probability, value.
    const TABLE: [(f64, f64, f64); 8] = [
        (1.0, 0.05, 12.706),
        (2.0, 0.01, 9.925),
        (3.0, 0.001, 12.924),
        (5.0, 0.05, 2.571),
        (10.0, 0.01, 3.169),
        (10.0, 0.001, 4.587),
        (30.0, 0.05, 2.042),
        (120.0, 0.01, 2.617),
    ];

    #[test]
    fn the_printed_table_is_met_both_ways() {
        for (freedom, p, t) in TABLE {
            assert!(
                (two_sided(t, freedom) / p - 1.0).abs() < 2e-3,
                "{freedom} {p}: {}",
                two_sided(t, freedom)
            );
            assert!((quantile(p, freedom) - t).abs() < 1e-3, "{freedom} {p}: {}", quantile(p, freedom));
        }
        // One degree of freedom is Cauchy's distribution, two have a closed form.
        assert!((two_sided(1.0, 1.0) - 0.5).abs() < 1e-12);
        let two = 1.0 - 3.0 / (2.0_f64 + 9.0).sqrt();
        assert!((two_sided(3.0, 2.0) - two).abs() < 1e-12);
    }

    #[test]
    fn what_is_no_number_is_no_surprise() {
        for (t, freedom) in [(f64::NAN, 3.0), (1.0, f64::NAN), (1.0, 0.0), (0.0, 4.0)] {
            assert_eq!(two_sided(t, freedom), 1.0, "{t} {freedom}");
        }
        assert_eq!(two_sided(f64::INFINITY, 4.0), 0.0);
        assert!(two_sided(50.0, 8.0) > 0.0 && two_sided(50.0, 8.0) < 1e-9);
    }
}
