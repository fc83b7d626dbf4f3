//! What is too much.

use super::{
    Question,
    applies::{Sums, Thing},
    finding::Finding,
    limits::{Key, Rule},
    measure::Measure,
    words,
};
use crate::view::units;

/// A figure that is too much.
#[derive(Clone, Debug, PartialEq)]
pub struct Breach {
    /// Which finding, by number.
    pub finding: usize,
    /// What it exceeds: `--fail-above 10%`, `exits.reason.io max_rate 500`; `worse` where nothing was said.
    pub limit: String,
    /// The sentence, without a full stop.
    pub text: String,
}

fn thing(finding: &Finding) -> Thing<'_> {
    (finding.noun, finding.scope.as_deref(), &finding.what)
}

/// All breaches, the worst first, and notes on limits that could not be checked.
#[must_use]
pub fn breaches(findings: &[Finding], question: &Question) -> (Vec<Breach>, Vec<String>) {
    let mut breaches = Vec::new();
    let sums = Sums::of(findings.iter().map(thing));
    let rules = &question.limits.rules;
    // Who names limits decides what is too much.
    let above = question.fail_above.or(rules.is_empty().then_some(0.0));
    for (index, finding) in findings.iter().enumerate() {
        let sentence = words::sentence(finding, question.per);
        if let Some(most) = above.filter(|most| is_exceeded(finding, Key::Increase, *most)) {
            let (limit, text) = match question.fail_above {
                Some(_) => {
                    let limit = format!("--fail-above {}", words::percent(most));
                    (limit.clone(), format!("{sentence} (more than {limit})"))
                }
                None => ("worse".to_owned(), sentence.clone()),
            };
            breaches.push(Breach { finding: index, limit, text });
        }
        for key in [Key::Increase, Key::Rate, Key::Mean, Key::P99] {
            for (rule, most) in sums.rules(rules, key, thing(finding)) {
                if is_exceeded(finding, key, most) {
                    let limit = format!("{} {} {}", rule.path, key.name(), shown(key, most));
                    let text = format!("{sentence} (limit: {limit})");
                    breaches.push(Breach { finding: index, limit, text });
                }
            }
        }
    }
    (breaches, unchecked(findings, &sums, question))
}

fn shown(key: Key, most: f64) -> String {
    match key {
        Key::Increase => words::percent(most),
        Key::Rate => units::rate(most),
        Key::Mean | Key::P99 => units::duration(most),
    }
}

/// Whether it is the figure that a key is about.
fn is_about(finding: &Finding, key: Key) -> bool {
    key == Key::Increase || finding.measure.and_then(Measure::limit) == Some(key)
}

fn is_exceeded(finding: &Finding, key: Key, most: f64) -> bool {
    match key {
        Key::Increase => {
            finding.verdict.is_regression() && finding.change().is_some_and(|change| change > most)
        }
        Key::Rate | Key::Mean | Key::P99 => {
            is_about(finding, key) && finding.new.is_some_and(|new| new > most)
        }
    }
}

/// Limits that met nothing. A reason that does not occur keeps any limit; but a name that is not spelled as in the tables does so
/// too, and so does what nobody recorded.
fn unchecked(findings: &[Finding], sums: &Sums<'_>, question: &Question) -> Vec<String> {
    let (mut idle, mut unknown) = (Vec::new(), Vec::new());
    let is_asked_for = |rule: &&Rule| question.nouns.is_empty() || question.nouns.contains(&rule.noun);
    for rule in question.limits.rules.iter().filter(is_asked_for) {
        let fitting = || findings.iter().filter(|finding| sums.applies(rule, thing(finding)));
        if fitting().next().is_none() {
            idle.push(rule.path.clone());
            continue;
        }
        let is_gone = fitting().any(|finding| is_about(finding, Key::Rate))
            && fitting().filter(|finding| is_about(finding, Key::Rate)).all(|one| one.new == Some(0.0));
        for key in Key::ALL.into_iter().filter(|key| rule.most(*key).is_some()) {
            let is_known = fitting().any(|finding| is_about(finding, key) && finding.new.is_some());
            if !is_known && !is_gone {
                unknown.push(format!("{} {}", rule.path, key.name()));
            }
        }
    }
    let mut notes = Vec::new();
    if !idle.is_empty() {
        notes.push(format!(
            "limits for what was on neither side, was not recorded, or is spelled otherwise: {}",
            idle.join(", ")
        ));
    }
    if !unknown.is_empty() {
        notes.push(format!(
            "limits not checked, as the new side does not tell the figure (p99 needs 100 events) or it was not asked for: {}",
            unknown.join(", ")
        ));
    }
    notes
}
