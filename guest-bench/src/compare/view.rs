//! A comparison for people and for programs.

use serde_json::{Value, json};

use super::comparable::Environments;
use super::verdicts::{Judged, Outcome, Quantile};
use crate::report::table::{aligned, grouped};

/// Name and version of the form.
pub const SCHEMA: &str = "kvm-bench/compare/v1";

/// All that was found.
#[derive(Clone, Debug)]
pub struct View {
    /// Names of the base's reports.
    pub base: Vec<String>,
    /// Names of the new reports.
    pub new: Vec<String>,
    /// How the machines compare.
    pub environments: Environments,
    /// It is compared though they differ.
    pub forced: bool,
    /// What is compared of each round.
    pub quantile: Quantile,
    /// The figures' unit.
    pub unit: &'static str,
    /// Each operation; none when the machines differ.
    pub results: Vec<Judged>,
    /// What one must know to read it rightly.
    pub notes: Vec<String>,
}

/// `kvm-bench/compare/v1`.
pub fn document(view: &View) -> Value {
    let differ = view.environments.differ.iter();
    let differ = differ.map(|one| json!({"field": one.field, "base": one.base, "new": one.new}));
    json!({
        "schema": SCHEMA,
        "base": view.base,
        "new": view.new,
        "comparable": view.environments.differ.is_empty(),
        "forced": view.forced,
        "differ": differ.collect::<Vec<_>>(),
        "unknown": view.environments.unknown,
        "quantile": view.quantile.name(),
        "unit": view.unit,
        "results": view.results.iter().map(result).collect::<Vec<_>>(),
        "notes": view.notes,
    })
}

fn result(judged: &Judged) -> Value {
    let mut value = json!({
        "op": judged.op,
        "args": judged.args,
        "verdict": judged.outcome.name(),
        "reason": judged.reason,
        "figures": judged.figures,
        "p99": judged.p99,
    });
    if let Some(comparison) = &judged.comparison {
        value["base"] = comparison.base.into();
        value["new"] = comparison.new.into();
        // Not a number in JSON when there was nothing before.
        value["change"] = (comparison.ratio - 1.0).into();
        value["ci"] = json!(comparison.interval.map(|interval| [interval.low - 1.0, interval.high - 1.0]));
        value["confidence"] = json!(comparison.interval.map(|interval| interval.confidence));
        value["p"] = json!(comparison.p);
        value["floor"] = if comparison.floor.is_finite() { comparison.floor.into() } else { Value::Null };
    }
    value
}

/// For people.
pub fn text(view: &View) -> String {
    let mut text = String::new();
    if !view.environments.differ.is_empty() {
        let verb = if view.forced {
            "are not of the same machine, compared all the same"
        } else {
            "cannot be compared"
        };
        text.push_str(&format!("the reports {verb}; they differ in\n"));
        for one in &view.environments.differ {
            text.push_str(&format!("  {}: {} | {}\n", one.field, short(&one.base), short(&one.new)));
        }
        if !view.forced {
            text.push_str("--force compares them though; what differs is then a cause like any other\n");
            return text;
        }
    }
    let (compared, left): (Vec<_>, Vec<_>) =
        view.results.iter().partition(|judged| judged.comparison.is_some());
    if !compared.is_empty() {
        text.push_str(&format!("{} of each round, {}\n", view.quantile.name(), view.unit));
        let head = ["OPERATION", "BASE", "NEW", "CHANGE", "BETWEEN", "AND", "SURE", "P", "p99", "VERDICT"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(compared.iter().filter_map(|judged| row(judged)));
        text.push_str(&aligned(&rows));
    }
    let unclear = compared.iter().copied().filter(|judged| judged.outcome == Outcome::Inconclusive);
    text.push_str(&by_reason("inconclusive", unclear));
    let (broken, left): (Vec<_>, Vec<_>) =
        left.into_iter().partition(|judged| judged.outcome == Outcome::Broken);
    text.push_str(&by_reason("BROKEN", broken.into_iter()));
    text.push_str(&by_reason("not compared", left.into_iter()));
    for note in &view.notes {
        text.push_str(&format!("note  {note}\n"));
    }
    let count = |outcome| view.results.iter().filter(|judged| judged.outcome == outcome).count();
    let all = [
        Outcome::Worse,
        Outcome::Broken,
        Outcome::Better,
        Outcome::Same,
        Outcome::Inconclusive,
        Outcome::NotCompared,
    ];
    let counts =
        all.into_iter().map(|outcome| (count(outcome), outcome.name())).filter(|(count, _)| *count > 0);
    let counts: Vec<String> = counts.map(|(count, name)| format!("{count} {name}")).collect();
    text.push_str(&format!("{}\n", counts.join(", ")));
    text
}

/// A line for each reason, with all the operations that it holds for.
fn by_reason<'a>(title: &str, all: impl Iterator<Item = &'a Judged>) -> String {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for judged in all {
        let reason = judged.reason.as_deref().unwrap_or("no reason is given");
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, titles)) => titles.push(&judged.title),
            None => reasons.push((reason, vec![&judged.title])),
        }
    }
    let line = |(reason, titles): (&str, Vec<&str>)| format!("{title}  {}: {reason}\n", titles.join(", "));
    reasons.into_iter().map(line).collect()
}

fn row(judged: &Judged) -> Option<Vec<String>> {
    let comparison = judged.comparison.as_ref()?;
    let interval = comparison.interval;
    let tail = match judged.p99 {
        [Some(base), Some(new)] if base > 0.0 => percent(new / base - 1.0),
        _ => "-".into(),
    };
    Some(vec![
        judged.title.clone(),
        grouped(comparison.base),
        grouped(comparison.new),
        percent(comparison.ratio - 1.0),
        interval.map_or("-".into(), |interval| percent(interval.low - 1.0)),
        interval.map_or("-".into(), |interval| percent(interval.high - 1.0)),
        interval.map_or("-".into(), |interval| format!("{:.1}%", interval.confidence * 100.0)),
        comparison.p.map_or("-".into(), |p| format!("{p:.3}")),
        tail,
        judged.outcome.name().to_owned(),
    ])
}

fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:+.1}%", share * 100.0) } else { "from 0".into() }
}

/// A value on one line.
fn short(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    if text.chars().count() > 100 {
        format!("{}...", text.chars().take(100).collect::<String>())
    } else {
        text
    }
}
