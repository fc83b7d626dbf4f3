//! For CI that shows test results: a test case per figure. What is too much failed, what is inconclusive was skipped, each with
//! its sentence.

use super::is_too_much;
use crate::compare::{
    Comparison, Outcome,
    finding::{Finding, Verdict},
    table::What,
    words,
};

/// The document.
#[must_use]
pub fn render(comparison: &Comparison) -> String {
    let all = comparison.findings.len();
    let failed = (0..all).filter(|index| is_too_much(*index, comparison)).count();
    let is_skipped = |(index, finding): &(usize, &Finding)| {
        finding.verdict == Verdict::Inconclusive && !is_too_much(*index, comparison)
    };
    let skipped = comparison.findings.iter().enumerate().filter(is_skipped).count();
    let errors = usize::from(comparison.outcome() == Outcome::NotComparable);
    let counts = format!(
        "tests=\"{}\" failures=\"{failed}\" errors=\"{errors}\" skipped=\"{skipped}\" time=\"0\"",
        all + errors
    );
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"kvm-utils compare\" {counts}>\n  \
         <testsuite name=\"kvm-utils compare\" {counts}>\n    <properties>\n"
    );
    for (name, files) in [("base", &comparison.base), ("new", &comparison.new)] {
        for file in files {
            text.push_str(&format!("      <property name=\"{name}\" value=\"{}\"/>\n", escape(&file.name)));
        }
    }
    for note in &comparison.notes {
        text.push_str(&format!("      <property name=\"note\" value=\"{}\"/>\n", escape(note)));
    }
    text.push_str("    </properties>\n");
    if errors > 0 {
        let differ =
            comparison.differ.iter().map(|one| format!("{}: {} | {}\n", one.fact, one.base, one.new));
        text.push_str(&format!(
            "    <testcase classname=\"compare\" name=\"comparable\" time=\"0\">\n      <error message=\"{}\" type=\"not \
             comparable\">{}</error>\n    </testcase>\n",
            escape(&words::summary(comparison)),
            escape(&differ.collect::<String>())
        ));
    }
    for (index, finding) in comparison.findings.iter().enumerate() {
        case(index, finding, comparison, &mut text);
    }
    text.push_str("  </testsuite>\n</testsuites>\n");
    text
}

fn case(index: usize, finding: &Finding, comparison: &Comparison, text: &mut String) {
    let kind = match finding.what {
        What::Row { .. } => "row",
        What::Class(_) => "class",
        What::Total => "total",
    };
    let name = format!("{} {}", words::subject(finding), words::figure_name(finding, comparison.per));
    text.push_str(&format!(
        "    <testcase classname=\"{}.{kind}\" name=\"{}\" time=\"0\"",
        escape(finding.noun),
        escape(&name)
    ));
    let mut inner = String::new();
    let sentence = words::sentence(finding, comparison.per);
    for breach in comparison.breaches.iter().filter(|breach| breach.finding == index) {
        inner.push_str(&format!(
            "      <failure message=\"{}\" type=\"{}\"/>\n",
            escape(&breach.text),
            escape(&breach.limit)
        ));
    }
    match (&finding.because, finding.verdict) {
        _ if !inner.is_empty() => {}
        (Some(because), Verdict::Inconclusive) => {
            inner = format!("      <skipped message=\"{}\"/>\n", escape(&because.to_string()));
        }
        (None, Verdict::Inconclusive) => inner = "      <skipped/>\n".to_owned(),
        _ => inner = format!("      <system-out>{}</system-out>\n", escape(&sentence)),
    }
    text.push_str(&format!(">\n{inner}    </testcase>\n"));
}

/// Text for an element or an attribute. What XML 1.0 cannot hold (2.2), and what a terminal would obey, is spelled out.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            '\u{fffe}' | '\u{ffff}' => escaped.extend(c.escape_default()),
            c if c.is_control() => escaped.extend(c.escape_default()),
            c => escaped.push(c),
        }
    }
    escaped
}
