//! `kvm-utils/compare/v1`, for programs; docs/json.md describes it.

use serde_json::{Map, Value, json};

use crate::compare::{
    Comparison, Outcome, Per, Source,
    finding::{FigureUnit, Finding, Verdict},
    judge::Method,
    table::What,
    words,
};

/// Name and version of the form.
pub const SCHEMA: &str = "kvm-utils/compare/v1";

/// One document, without the newline.
///
/// # Errors
///
/// serde_json's; the types here give it no cause for any.
pub fn line(comparison: &Comparison) -> serde_json::Result<String> {
    Ok(crate::view::json::terminal_safe(&serde_json::to_string(&document(comparison))?))
}

/// The document. What is no number in JSON, such as a change from nothing, is null.
#[must_use]
pub fn document(comparison: &Comparison) -> Value {
    let counts: Map<String, Value> = Verdict::ALL
        .iter()
        .map(|verdict| (verdict.name().to_owned(), comparison.count(*verdict).into()))
        .collect();
    let (per, units) = match comparison.per {
        Per::Second => ("second", None),
        Per::Units(units) => ("unit", Some(units)),
        Per::Run(what) => (what, None),
    };
    json!({
        "schema": SCHEMA,
        "outcome": match comparison.outcome() {
            Outcome::Passed => "passed",
            Outcome::Failed => "failed",
            Outcome::NotComparable => "not comparable",
        },
        "summary": words::summary(comparison),
        "base": comparison.base.iter().map(source).collect::<Vec<_>>(),
        "new": comparison.new.iter().map(source).collect::<Vec<_>>(),
        "per": per,
        "units": units,
        "method": comparison.method.map(|method| match method {
            Method::Blocks => "blocks",
            Method::Files => "files",
        }),
        "comparable": comparison.differ.is_empty() && comparison.outcome() != Outcome::NotComparable,
        "forced": comparison.forced,
        "differ": comparison.differ.iter()
            .map(|one| json!({"fact": one.fact, "base": one.base, "new": one.new})).collect::<Vec<_>>(),
        "counts": counts,
        "results": comparison.findings.iter().map(|finding| result(finding, comparison)).collect::<Vec<_>>(),
        "breaches": comparison.breaches.iter()
            .map(|one| json!({"result": one.finding, "limit": one.limit, "text": one.text})).collect::<Vec<_>>(),
        "notes": comparison.notes,
    })
}

fn source(source: &Source) -> Value {
    json!({"file": source.name, "seconds": source.seconds, "intervals": source.intervals})
}

fn result(finding: &Finding, comparison: &Comparison) -> Value {
    let (kind, name, key) = match &finding.what {
        What::Row { label, key, .. } => {
            let key: Map<String, Value> =
                key.iter().map(|(id, text)| (id.clone(), text.as_str().into())).collect();
            ("row", Some(label.clone()), Some(key))
        }
        What::Class(class) => ("class", Some(class.clone()), None),
        What::Total => ("total", None, None),
    };
    let unit = match finding.unit {
        FigureUnit::Events => words::per(comparison.per),
        FigureUnit::Nanoseconds => "ns".to_owned(),
        FigureUnit::NanosecondsPer => format!("ns{}", words::per(comparison.per)),
        FigureUnit::Named(unit) => unit.to_owned(),
    };
    json!({
        "noun": finding.noun,
        "scope": finding.scope,
        "kind": kind,
        "name": name,
        "class": finding.class(),
        "key": key,
        "waiting": finding.waiting,
        "figure": finding.figure,
        "unit": unit,
        "verdict": finding.verdict.name(),
        "reason": finding.because.as_ref().map(ToString::to_string),
        "base": finding.base,
        "new": finding.new,
        "change": finding.change(),
        "ci": finding.interval.map(|interval| interval.map(|ratio| ratio - 1.0)),
        "confidence": finding.confidence(),
        "p": finding.p,
        "floor": finding.floor,
        "events": finding.events,
        "figures": finding.figures,
        "worth": finding.worth,
    })
}
