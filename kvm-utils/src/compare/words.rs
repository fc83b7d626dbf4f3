//! A finding in words: what a reviewer reads, without a table beside it.

use super::{
    Comparison, Outcome, Per,
    finding::{FigureUnit, Finding, Verdict},
    measure::Measure,
    table::What,
};
use crate::view::units;

/// `/s`, `/boot` and the like.
#[must_use]
pub fn per(per: Per) -> String {
    match per {
        Per::Second => "/s".to_owned(),
        Per::Units(_) => "/unit".to_owned(),
        Per::Run(what) => format!("/{what}"),
    }
}

/// What a finding is about: the row's name, and the VM's where it is about one.
#[must_use]
pub fn subject(finding: &Finding) -> String {
    let what = match &finding.what {
        What::Row { label, .. } => label.clone(),
        What::Class(class) => format!("class {class}"),
        What::Total => "all".to_owned(),
    };
    match &finding.scope {
        Some(scope) => format!("{scope}: {what}"),
        None => what,
    }
}

/// Which figure it is, in a word.
#[must_use]
pub fn figure_name(finding: &Finding, rate: Per) -> String {
    match finding.measure {
        Some(Measure::Rate) => per(rate),
        Some(Measure::Mean) => "mean".to_owned(),
        Some(Measure::P99) => "p99".to_owned(),
        Some(Measure::Busy) => "time".to_owned(),
        Some(Measure::Time(_, column)) => column.title.to_lowercase(),
        None => finding.figure.clone(),
    }
}

/// A number as a table shows it.
#[must_use]
pub fn number(finding: &Finding, value: Option<f64>, rate: Per) -> String {
    let Some(value) = value else { return units::UNKNOWN.to_owned() };
    match finding.unit {
        FigureUnit::Events | FigureUnit::Named(_) => units::rate(value),
        FigureUnit::Nanoseconds => units::duration(value),
        FigureUnit::NanosecondsPer if rate == Per::Second => units::percent(value / 1e9, ""),
        FigureUnit::NanosecondsPer => units::duration(value),
    }
}

/// The same with its unit.
#[must_use]
pub fn number_with_unit(finding: &Finding, value: Option<f64>, rate: Per) -> String {
    let number = number(finding, value, rate);
    match finding.unit {
        FigureUnit::Events => format!("{number}{}", per(rate)),
        FigureUnit::Nanoseconds => number,
        FigureUnit::NanosecondsPer if rate == Per::Second => format!("{number} of a CPU"),
        FigureUnit::NanosecondsPer => format!("{number}{}", per(rate)),
        FigureUnit::Named(unit) => format!("{number} {unit}"),
    }
}

/// `+21.1%`, `-3.0%`, `x12` for what is more than ten times as much, `new` for what there was none of.
#[must_use]
pub fn change(finding: &Finding) -> String {
    let Some(change) = finding.change() else { return units::UNKNOWN.to_owned() };
    if change.is_infinite() {
        return "from 0".to_owned();
    }
    let percent = change * 100.0;
    if change >= 9.995 {
        let times = change + 1.0;
        return if times < 1e6 { format!("x{times:.0}") } else { format!("x{times:.0e}") };
    }
    // No sign for what rounds to nothing.
    if percent.abs() < 0.05 { "0.0%".to_owned() } else { format!("{percent:+.1}%") }
}

/// A share as it was asked for: `10%`, `2.5%`.
#[must_use]
pub fn percent(share: f64) -> String {
    // Hundredths of a percent are as far as anybody goes.
    format!("{}%", (share * 1e4).round() / 1e2)
}

/// `99.2%`, `>99.9%`.
#[must_use]
pub fn confidence(finding: &Finding) -> String {
    match finding.confidence() {
        None => units::UNKNOWN.to_owned(),
        Some(share) if share > 0.9995 => ">99.9%".to_owned(),
        // Never rounded up.
        Some(share) => format!("{:.1}%", (share * 1000.0).floor() / 10.0),
    }
}

/// What a finding says, as a sentence without a full stop.
#[must_use]
pub fn sentence(finding: &Finding, rate: Per) -> String {
    let name = match (&finding.what, finding.class()) {
        (What::Row { .. }, Some(class)) => format!("{} (class {class})", subject(finding)),
        _ => subject(finding),
    };
    let (one, many) = finding.counting;
    let (base, new) =
        (number_with_unit(finding, finding.base, rate), number_with_unit(finding, finding.new, rate));
    let change = change(finding);
    let sure = match finding.confidence() {
        Some(_) if finding.verdict.is_change() => format!(", {} sure", confidence(finding)),
        _ => String::new(),
    };
    match (finding.measure, finding.verdict) {
        (Some(Measure::Rate), Verdict::New) => {
            format!("{name}: {many} that there were none of before, {new} now{sure}")
        }
        (Some(Measure::Rate), Verdict::Gone) => format!("{name}: no {many} any more, {base} before{sure}"),
        (Some(Measure::Rate), Verdict::Worse) => {
            format!("{name}: more {many}, {base} before and {new} now, {change}{sure}")
        }
        (Some(Measure::Rate), Verdict::Better) => {
            format!("{name}: fewer {many}, {base} before and {new} now, {change}{sure}")
        }
        (Some(Measure::Rate), _) => format!("{name}: {many}, {base} before and {new} now, {change}"),
        // What there was none of, or too little, has only a limit to be held against.
        (Some(Measure::Mean), _) if finding.base.is_none() => {
            format!("{name}: {} takes {new} on average", a(one))
        }
        (Some(Measure::P99), _) if finding.base.is_none() => {
            format!("{name}: 99 % of {many} take no longer than {new}")
        }
        (Some(Measure::Mean), _) => {
            format!("{name}: {} takes {new} on average, {base} before, {change}{sure}", a(one))
        }
        (Some(Measure::P99), _) => {
            format!("{name}: 99 % of {many} take no longer than {new}, {base} before, {change}{sure}")
        }
        (Some(Measure::Busy), _) => format!("{name}: {many} take {new}, {base} before, {change}{sure}"),
        (Some(Measure::Time(_, column)), _) => {
            format!("{name}: {} takes {new}, {base} before, {change}{sure}", column.title)
        }
        (None, _) => format!("{name}: {} is {new}, {base} before, {change}{sure}", finding.figure),
    }
}

fn a(noun: &str) -> String {
    let vowel = noun.starts_with(['a', 'e', 'i', 'o', 'u', 'A', 'E', 'I', 'O', 'U']);
    format!("{} {noun}", if vowel { "an" } else { "a" })
}

/// How many figures got which verdict: `2 worse, 40 same`.
#[must_use]
pub fn counts<'a>(findings: &(impl Iterator<Item = &'a Finding> + Clone)) -> String {
    let count = |verdict| findings.clone().filter(|finding| finding.verdict == verdict).count();
    let counts = Verdict::ALL.map(|verdict| (count(verdict), verdict.name()));
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    counts.join(", ")
}

/// Why recordings of the same machine and guests cannot be compared.
pub const NOTHING_IN_COMMON: &str =
    "the recordings have no drill-down in common in which anything was counted";

/// What it all amounts to, for someone who sees nothing else.
#[must_use]
pub fn summary(comparison: &Comparison) -> String {
    match comparison.outcome() {
        Outcome::NotComparable if comparison.differ.is_empty() => {
            format!("Not comparable: {NOTHING_IN_COMMON}.")
        }
        Outcome::NotComparable => {
            let facts: Vec<&str> = comparison.differ.iter().map(|one| one.fact.as_str()).collect();
            format!("Not comparable: the recordings differ in {}.", facts.join(", "))
        }
        Outcome::Passed => {
            let (all, findings) = (comparison.findings.len(), comparison.findings.iter());
            let said = if findings.clone().any(|finding| finding.verdict.is_regression()) {
                format!("Nothing is too much in {} ({})", figures(all), counts(&findings))
            } else if comparison.count(Verdict::Inconclusive) == all {
                format!("No regression shown, but none of {} is conclusive", figures(all))
            } else {
                format!("No regression in {} ({})", figures(all), counts(&findings))
            };
            let limits = if comparison.limited { "; no limit is exceeded" } else { "" };
            format!("{said}{limits}.")
        }
        Outcome::Failed => {
            let mut said: Vec<usize> = Vec::new();
            for breach in &comparison.breaches {
                if !said.contains(&breach.finding) {
                    said.push(breach.finding);
                }
            }
            let first = comparison.breaches.first().map(|breach| breach.text.as_str()).unwrap_or_default();
            // A limit may be exceeded by what is as it was, or of which too little is known to tell.
            let is_worse = said
                .first()
                .and_then(|index| comparison.findings.get(*index))
                .is_some_and(|finding| finding.verdict.is_regression());
            let what = if is_worse { "Regression" } else { "Over the limit" };
            let rest = match said.len() - 1 {
                0 => String::new(),
                1 => "; and 1 more figure is too much".to_owned(),
                more => format!("; and {more} more figures are too much"),
            };
            format!("{what}: {first}{rest}.")
        }
    }
}

/// `1 figure`, `40 figures`.
#[must_use]
pub fn figures(count: usize) -> String {
    units::counted(count as u64, "figure", "figures")
}
