//! Reports of kvm-bench, judged by kvm-bench's own comparison, in the form that the views here show.

use kvm_bench::compare::{
    verdicts::{Judged, Outcome},
    view::View,
};
use serde_json::Value;

use super::{
    Comparison, Per, Question, Source,
    comparable::Difference,
    finding::{Because, FigureUnit, Finding, Verdict},
    gate::Breach,
    table::What,
    words,
};

/// What kvm-bench found.
#[must_use]
pub fn comparison(view: &View, question: &Question) -> Comparison {
    let mut results: Vec<&Judged> = view.results.iter().collect();
    results.sort_by_key(|judged| judged.outcome);
    let findings: Vec<Finding> = if view.has_compared() {
        results.iter().map(|judged| finding(judged, view)).collect()
    } else {
        Vec::new()
    };
    let above = question.fail_above.unwrap_or(0.0);
    let breach = |(index, judged): (usize, &&Judged)| {
        let finding = findings.get(index).filter(|_| judged.is_regression(above))?;
        let limit = question
            .fail_above
            .map_or_else(|| "worse".to_owned(), |limit| format!("--fail-above {}", words::percent(limit)));
        let text = match (&finding.because, judged.outcome) {
            (Some(because), Outcome::Broken) => format!("{}: {because}", judged.title),
            _ => words::sentence(finding, Per::Second),
        };
        Some(Breach { finding: index, limit, text })
    };
    let breaches = results.iter().enumerate().filter_map(breach).collect();
    let source = |name: &String| Source { name: name.clone(), seconds: None, intervals: 0 };
    let short = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Comparison {
        base: view.base.iter().map(source).collect(),
        new: view.new.iter().map(source).collect(),
        per: Per::Second,
        method: None,
        differ: view
            .environments
            .differ
            .iter()
            .map(|one| Difference { fact: one.field.clone(), base: short(&one.base), new: short(&one.new) })
            .collect(),
        forced: view.forced,
        findings,
        breaches,
        limited: false,
        notes: view.notes.clone(),
    }
}

fn finding(judged: &Judged, view: &View) -> Finding {
    let compared = judged.comparison.as_ref();
    let key = judged.args.iter().map(|(name, value)| (name.clone(), value.to_string()));
    Finding {
        noun: "bench",
        counting: ("operation", "operations"),
        scope: None,
        what: What::Row {
            label: judged.title.clone(),
            key: [("op".to_owned(), judged.op.clone())].into_iter().chain(key).collect(),
            class: None,
        },
        waiting: false,
        measure: None,
        figure: view.quantile.name().to_owned(),
        unit: FigureUnit::Named(view.unit),
        verdict: match judged.outcome {
            Outcome::Worse | Outcome::Broken => Verdict::Worse,
            Outcome::Better => Verdict::Better,
            Outcome::Same => Verdict::Same,
            Outcome::Inconclusive | Outcome::NotCompared => Verdict::Inconclusive,
        },
        because: judged.reason.clone().map(Because::Other),
        base: compared.map(|compared| compared.base),
        new: compared.map(|compared| compared.new),
        events: [0, 0],
        interval: compared.and_then(|compared| compared.interval).map(|one| [one.low, one.high]),
        p: compared.and_then(|compared| compared.p),
        floor: compared.map(|compared| compared.floor).filter(|floor| floor.is_finite()),
        figures: judged.figures,
        worth: None,
    }
}
