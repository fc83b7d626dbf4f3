//! What is too much.

use std::collections::BTreeSet;

use super::{
    Question,
    finding::Finding,
    limits::{Rule, Target},
    measure::Measure,
    table::What,
    words,
};
use crate::{
    host::names::{is_glob, matches_glob},
    view::units,
};

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

/// All breaches, the worst first, and notes on limits that could not be checked.
#[must_use]
pub fn breaches(findings: &[Finding], question: &Question) -> (Vec<Breach>, Vec<String>) {
    let mut breaches = Vec::new();
    let sums = Sums::of(findings);
    // Who names limits decides what is too much.
    let above = question.fail_above.or(question.limits.rules.is_empty().then_some(0.0));
    let worse_by = |finding: &Finding, most: f64| {
        finding.verdict.is_regression() && finding.change().is_some_and(|change| change > most)
    };
    for (index, finding) in findings.iter().enumerate() {
        let sentence = words::sentence(finding, question.per);
        if let Some(most) = above.filter(|most| worse_by(finding, *most)) {
            let (limit, text) = match question.fail_above {
                Some(_) => {
                    let limit = format!("--fail-above {}", words::percent(most));
                    (limit.clone(), format!("{sentence} (more than {limit})"))
                }
                None => ("worse".to_owned(), sentence.clone()),
            };
            breaches.push(Breach { finding: index, limit, text });
        }
        let mut exceeds = |rule: &Rule, key: &str, most: String| {
            let limit = format!("{} {key} {most}", rule.path());
            let text = format!("{sentence} (limit: {limit})");
            breaches.push(Breach { finding: index, limit, text });
        };
        let rule = |is_set: &dyn Fn(&Rule) -> bool| strictest(&question.limits.rules, finding, &sums, is_set);
        if let Some((rule, most)) = rule(&|rule| rule.max_increase.is_some())
            .and_then(|rule| Some((rule, rule.max_increase?)))
            .filter(|(_, most)| worse_by(finding, *most))
        {
            exceeds(rule, "max_increase", words::percent(most));
        }
        let Some(new) = finding.new else { continue };
        match finding.measure {
            Some(Measure::Rate) => {
                if let Some((rule, most)) = rule(&|rule| rule.max_rate.is_some())
                    .and_then(|rule| Some((rule, rule.max_rate?)))
                    .filter(|(_, most)| new > *most)
                {
                    exceeds(rule, "max_rate", units::rate(most));
                }
            }
            Some(Measure::Mean) => {
                if let Some((rule, most)) = rule(&|rule| rule.max_mean_ns.is_some())
                    .and_then(|rule| Some((rule, rule.max_mean_ns?)))
                    .filter(|(_, most)| new > *most)
                {
                    exceeds(rule, "max_mean", units::duration(most));
                }
            }
            Some(Measure::P99) => {
                if let Some((rule, most)) = rule(&|rule| rule.max_p99_ns.is_some())
                    .and_then(|rule| Some((rule, rule.max_p99_ns?)))
                    .filter(|(_, most)| new > *most)
                {
                    exceeds(rule, "max_p99", units::duration(most));
                }
            }
            Some(Measure::Busy | Measure::Time(..)) | None => {}
        }
    }
    (breaches, unused(findings, &sums, question))
}

/// The rule for a finding among those that set something: the one with its very name, else the pattern that says most of it.
fn strictest<'a>(
    rules: &'a [Rule],
    finding: &Finding,
    sums: &Sums<'_>,
    is_set: &dyn Fn(&Rule) -> bool,
) -> Option<&'a Rule> {
    let fitting = rules.iter().filter(|rule| is_set(rule) && sums.applies(rule, finding));
    fitting.max_by_key(|rule| match &rule.target {
        Target::Total => (0, true, 0),
        Target::Class(name) => (1, !is_glob(name), literal(name)),
        Target::Row(name) => (2, !is_glob(name), literal(name)),
    })
}

fn literal(pattern: &str) -> usize {
    pattern.chars().filter(|c| !matches!(c, '*' | '?')).count()
}

/// What is summed up, by scope. A class or a table of one row has no sum: the row is the sum.
struct Sums<'a> {
    classes: BTreeSet<(&'a str, Option<&'a str>, &'a str)>,
    totals: BTreeSet<(&'a str, Option<&'a str>)>,
}

impl<'a> Sums<'a> {
    fn of(findings: &'a [Finding]) -> Self {
        let mut sums = Self { classes: BTreeSet::new(), totals: BTreeSet::new() };
        for finding in findings {
            match &finding.what {
                What::Class(class) => {
                    sums.classes.insert((finding.noun, finding.scope.as_deref(), class));
                }
                What::Total => {
                    sums.totals.insert((finding.noun, finding.scope.as_deref()));
                }
                What::Row { .. } => {}
            }
        }
        sums
    }

    fn applies(&self, rule: &Rule, finding: &Finding) -> bool {
        if rule.noun != finding.noun {
            return false;
        }
        let scope = finding.scope.as_deref();
        match (&rule.target, &finding.what) {
            (Target::Total, What::Total) => true,
            (Target::Total, What::Row { .. }) => !self.totals.contains(&(finding.noun, scope)),
            (Target::Class(pattern), What::Class(class)) => matches_glob(pattern, class),
            (Target::Class(pattern), What::Row { class: Some(class), .. }) => {
                matches_glob(pattern, class) && !self.classes.contains(&(finding.noun, scope, class))
            }
            (Target::Row(pattern), What::Row { label, .. }) => matches_glob(pattern, label),
            _ => false,
        }
    }
}

/// Limits that met nothing. A reason that does not occur keeps any limit; but a name that is not spelled as in the tables does so
/// too.
fn unused(findings: &[Finding], sums: &Sums<'_>, question: &Question) -> Vec<String> {
    let rules = question.limits.rules.iter();
    let idle = rules.filter(|rule| {
        !matches!(rule.target, Target::Total) && !findings.iter().any(|finding| sums.applies(rule, finding))
    });
    let idle: Vec<String> = idle.map(Rule::path).collect();
    if idle.is_empty() {
        return Vec::new();
    }
    vec![format!("limits for what was on neither side, or is spelled otherwise: {}", idle.join(", "))]
}
