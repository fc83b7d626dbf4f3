//! Numbers as the formats write them.

use std::fmt::Write as _;

/// Nanoseconds as seconds, exactly.
pub fn seconds(out: &mut String, ns: u64) {
    let (whole, rest) = (ns / 1_000_000_000, ns % 1_000_000_000);
    let at = out.len();
    let _ = write!(out, "{whole}.{rest:09}");
    let used = out[at..].trim_end_matches('0').len();
    // OpenMetrics has a digit after the point.
    out.truncate(at + used);
    if out.ends_with('.') {
        out.push('0');
    }
}

/// Any number; what is no number is written so.
pub fn real(out: &mut String, value: f64) {
    let _ = if value.is_nan() {
        out.write_str("NaN")
    } else if value.is_infinite() {
        out.write_str(if value > 0.0 { "+Inf" } else { "-Inf" })
    } else {
        write!(out, "{value:?}")
    };
}

/// A bound of a histogram, in the form in which Prometheus itself writes numbers (Go's `%g`): the label is a text, and
/// others compare with it.
#[must_use]
pub fn bound(ns: u64) -> String {
    let value = ns as f64 / 1e9;
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if exponent < -4 => format!("{digits}e-{:02}", exponent.unsigned_abs()),
        _ => format!("{value:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    #[test]
    fn numbers_are_exact_and_have_the_usual_form() {
        let seconds = |ns| text(|out| seconds(out, ns));
        assert_eq!(seconds(0), "0.0");
        assert_eq!(seconds(1), "0.000000001");
        assert_eq!(seconds(20_000_000_000), "20.0");
        assert_eq!(seconds(1_500_000_000), "1.5");
        assert_eq!(seconds(u64::MAX), "18446744073.709551615");
        let real = |value| text(|out| real(out, value));
        assert_eq!([real(0.25), real(f64::NAN), real(f64::NEG_INFINITY)], ["0.25", "NaN", "-Inf"]);
        assert_eq!([real(1e300), real(3.0)], ["1e300", "3.0"]);
        // As Go's strconv.FormatFloat(x, 'g', -1, 64) gives them.
        let bounds = [
            (511, "5.11e-07"),
            (131_071, "0.000131071"),
            (65_535, "6.5535e-05"),
            ((1 << 31) - 1, "2.147483647"),
        ];
        for (ns, expected) in bounds {
            assert_eq!(bound(ns), expected);
        }
    }
}
