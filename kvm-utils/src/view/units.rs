//! Numbers as a person reads them: few digits, always a unit, and never a zero for something that is not zero.

use crate::model::{Cell, Unit};

/// Stands for what is not known.
pub const UNKNOWN: &str = "-";

/// Whole numbers from here on are shortened (`18.4E`), so that no column grows without bound. A host that exits a
/// million times a second takes 31 years to get there; JSON and CSV have every digit anyway.
const SHORTENED_FROM: u64 = 1_000_000_000_000_000;

/// A cell as text in a table; texts are returned as they are, so make them safe before showing them.
#[must_use]
pub fn cell(cell: &Cell, unit: Unit) -> String {
    match cell {
        Cell::Text(text) => text.clone(),
        Cell::List(texts) => texts.join(","),
        Cell::Unknown => UNKNOWN.to_owned(),
        Cell::Number(n) => match unit {
            Unit::Text => n.to_string(),
            Unit::Count => count(*n),
            Unit::PerSecond => rate(*n as f64),
            Unit::Share | Unit::TimeShare => percent(*n as f64, ""),
            Unit::Nanoseconds => duration(*n as f64),
        },
        Cell::Real(r) if !r.is_finite() => UNKNOWN.to_owned(),
        Cell::Real(r) => match unit {
            Unit::Text => r.to_string(),
            Unit::Count | Unit::PerSecond => rate(*r),
            Unit::Share | Unit::TimeShare => percent(*r, ""),
            Unit::Nanoseconds => duration(*r),
        },
    }
}

/// A number of events: `22,480`.
#[must_use]
pub fn count(n: u64) -> String {
    if n < SHORTENED_FROM { grouped(n) } else { shortened(n as f64) }
}

/// Events per second: `1,083`, `0.3`, `<0.1`.
#[must_use]
pub fn rate(per_second: f64) -> String {
    if !per_second.is_finite() || per_second < 0.0 {
        UNKNOWN.to_owned()
    } else if per_second == 0.0 {
        "0".to_owned()
    } else if per_second < 0.05 {
        "<0.1".to_owned()
    } else if per_second < 9.95 {
        format!("{per_second:.1}")
    } else if per_second < SHORTENED_FROM as f64 {
        grouped(per_second.round() as u64)
    } else {
        shortened(per_second)
    }
}

/// A fraction as percent, with `gap` between number and sign: `48.2%`, `0%`, `<0.1%`.
#[must_use]
pub fn percent(fraction: f64, gap: &str) -> String {
    let percent = fraction * 100.0;
    if !percent.is_finite() || percent < 0.0 {
        UNKNOWN.to_owned()
    } else if percent == 0.0 {
        format!("0{gap}%")
    } else if percent < 0.05 {
        format!("<0.1{gap}%")
    } else if percent < 99_999.0 {
        format!("{percent:.1}{gap}%")
    } else {
        format!("{}{gap}%", shortened(percent))
    }
}

/// A duration given in nanoseconds, in two or three digits: `61us`, `1.1ms`, `81ms`, `4m10s`, `3h12m`, `12d`.
#[must_use]
pub fn duration(ns: f64) -> String {
    if !ns.is_finite() || ns < 0.0 {
        return UNKNOWN.to_owned();
    }
    if ns == 0.0 {
        return "0ns".to_owned();
    }
    if ns < 0.05 {
        return "<0.1ns".to_owned();
    }
    // The limits are where the rounded number would no longer fit its unit: 999.5 us is 1.0 ms.
    for (size, limit, unit) in [(1.0, 999.5, "ns"), (1e3, 999.5, "us"), (1e6, 999.5, "ms"), (1e9, 99.5, "s")]
    {
        let value = ns / size;
        if value < limit {
            // A whole number of nanoseconds has no fraction worth a digit.
            let digits = usize::from(value < 9.95 && !(unit == "ns" && value.fract() == 0.0));
            return format!("{value:.digits$}{unit}");
        }
    }
    let seconds = (ns / 1e9).round() as u64;
    if seconds < 3600 {
        return format!("{}m{:02}s", seconds / 60, seconds % 60);
    }
    let minutes = (ns / 60e9).round() as u64;
    if minutes < 48 * 60 {
        return format!("{}h{:02}m", minutes / 60, minutes % 60);
    }
    format!("{}d", count((ns / 86_400e9).round() as u64))
}

/// The length of an interval in seconds: `10.0 s`, `0.25 s`, `5 ms`; longer ones as [`duration`] writes them.
#[must_use]
pub fn interval(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        UNKNOWN.to_owned()
    } else if seconds < 0.0995 {
        format!("{:.0} ms", seconds * 1e3)
    } else if seconds < 0.995 {
        format!("{seconds:.2} s")
    } else if seconds < 99.95 {
        format!("{seconds:.1} s")
    } else {
        duration(seconds * 1e9)
    }
}

/// `1 exit`, `2 exits`: a count and its noun.
#[must_use]
pub fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// Digits in groups of three.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three digits and the SI prefix.
fn shortened(n: f64) -> String {
    const PREFIXES: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    let mut value = n;
    let mut prefix = 0;
    while value >= 999.5 && prefix + 1 < PREFIXES.len() {
        value /= 1000.0;
        prefix += 1;
    }
    if value >= 999.5 {
        return format!("{n:.0e}");
    }
    let digits = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.digits$}{}", PREFIXES[prefix])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counts_have_separators_and_stay_exact_far_beyond_what_a_host_can_do() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(22_480), "22,480");
        assert_eq!(count(1_204_511), "1,204,511");
        assert_eq!(count(999_999_999_999_999), "999,999,999,999,999");
        assert_eq!(count(1_000_000_000_000_000), "1.00P");
        assert_eq!(count(u64::MAX), "18.4E");
    }

    #[test]
    fn rates() {
        for (value, text) in [
            (0.0, "0"),
            (0.001, "<0.1"),
            (0.3, "0.3"),
            (9.94, "9.9"),
            (9.96, "10"),
            (1083.4, "1,083"),
            (f64::NAN, "-"),
            (f64::INFINITY, "-"),
            (-1.0, "-"),
            (1.8e19, "18.0E"),
            (f64::MAX, "2e308"),
        ] {
            assert_eq!(rate(value), text, "{value}");
        }
    }

    #[test]
    fn percents() {
        for (value, text) in [
            (0.0, "0%"),
            (0.0001, "<0.1%"),
            (0.0005, "0.1%"),
            (0.482, "48.2%"),
            (1.0, "100.0%"),
            (f64::NAN, "-"),
            (1e9, "100G%"),
        ] {
            assert_eq!(percent(value, ""), text, "{value}");
        }
        assert_eq!(percent(0.119, " "), "11.9 %");
    }

    #[test]
    fn durations_keep_two_or_three_digits_across_every_change_of_unit() {
        for (ns, text) in [
            (0.0, "0ns"),
            (0.01, "<0.1ns"),
            (0.4, "0.4ns"),
            (7.0, "7ns"),
            (7.25, "7.2ns"),
            (999.0, "999ns"),
            (999.6, "1.0us"),
            (1_000.0, "1.0us"),
            (9_949.0, "9.9us"),
            (9_951.0, "10us"),
            (61_200.0, "61us"),
            (999_499.0, "999us"),
            (999_500.0, "1.0ms"),
            (1_100_000.0, "1.1ms"),
            (81e6, "81ms"),
            (2.3e9, "2.3s"),
            (99.4e9, "99s"),
            (99.5e9, "1m40s"),
            (250e9, "4m10s"),
            (3_599.4e9, "59m59s"),
            (3_599.6e9, "1h00m"),
            (11_520e9, "3h12m"),
            (172_700e9, "47h58m"),
            (172_799e9, "2d"),
            (12.0 * 86_400e9, "12d"),
            (u64::MAX as f64, "213,504d"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(duration(ns), text, "{ns}");
        }
    }

    #[test]
    fn intervals() {
        for (seconds, text) in [
            (0.005, "5 ms"),
            (0.25, "0.25 s"),
            (1.000_2, "1.0 s"),
            (10.0, "10.0 s"),
            (125.0, "2m05s"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(interval(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn a_cell_of_any_kind_is_shown_under_any_unit() {
        assert_eq!(cell(&Cell::Number(114), Unit::Text), "114");
        assert_eq!(cell(&Cell::Number(1083), Unit::PerSecond), "1,083");
        assert_eq!(cell(&Cell::Number(1), Unit::Share), "100.0%");
        assert_eq!(cell(&Cell::Real(2.5), Unit::Count), "2.5");
        assert_eq!(cell(&Cell::Unknown, Unit::Nanoseconds), "-");
        assert_eq!(cell(&Cell::List(vec!["smi".into(), "enclave".into()]), Unit::Text), "smi,enclave");
    }

    proptest! {
        #[test]
        fn nothing_that_is_there_reads_as_zero(value in prop_oneof![f64::MIN_POSITIVE..1e20, Just(5e-324)]) {
            for text in [rate(value), percent(value, ""), duration(value)] {
                prop_assert!(text.starts_with('<') || text.contains(|c: char| ('1'..='9').contains(&c)), "{}", text);
            }
        }

        #[test]
        fn every_number_is_short(n in any::<u64>(), r in any::<f64>()) {
            for text in [count(n), rate(n as f64), rate(r)] {
                prop_assert!(text.len() <= 19, "{}", text);
            }
            for text in [percent(r, ""), duration(n as f64)] {
                prop_assert!(text.len() <= 8, "{}", text);
            }
        }
    }
}
