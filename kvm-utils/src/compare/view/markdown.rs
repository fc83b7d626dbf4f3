//! For a pull request: the sentence on top, what changed as a table, all else folded away.

use super::{is_too_much, row_name};
use crate::{
    compare::{Comparison, Outcome, finding::Finding, words},
    view::text,
};

/// More rows than this are nobody's to read in a pull request.
const ROWS: usize = 200;

/// The text; every line ends with a newline.
#[must_use]
pub fn render(comparison: &Comparison) -> String {
    let mark = match comparison.outcome() {
        Outcome::Passed => "✅",
        Outcome::Failed => "❌",
        Outcome::NotComparable => "⚠️",
    };
    let mut page = format!("{mark} **{}**\n", escape(&words::summary(comparison)));
    if !comparison.differ.is_empty() {
        page.push_str("\n| differs | base | new |\n|---|---|---|\n");
        for one in &comparison.differ {
            page.push_str(&format!(
                "| {} | {} | {} |\n",
                escape(&one.fact),
                escape(&one.base),
                escape(&one.new)
            ));
        }
    }
    let is_shown =
        |(index, finding): &(usize, &Finding)| finding.verdict.is_change() || is_too_much(*index, comparison);
    let (shown, folded): (Vec<_>, Vec<_>) = comparison.findings.iter().enumerate().partition(is_shown);
    if !shown.is_empty() {
        page.push('\n');
        table(&shown, comparison, &mut page);
    }
    if !folded.is_empty() {
        let counts = words::counts(&folded.iter().map(|(_, finding)| *finding));
        page.push_str(&format!("\n<details><summary>{counts}</summary>\n\n"));
        table(&folded, comparison, &mut page);
        page.push_str("\n</details>\n");
    }
    let names = |files: &[crate::compare::Source]| {
        let names: Vec<String> = files.iter().map(|file| escape(&file.name)).collect();
        names.join(", ")
    };
    page.push_str(&format!("\nbase: {}; new: {}\n", names(&comparison.base), names(&comparison.new)));
    if !comparison.notes.is_empty() {
        page.push('\n');
    }
    for note in &comparison.notes {
        page.push_str(&format!("- {}\n", escape(note)));
    }
    page
}

fn table(rows: &[(usize, &Finding)], comparison: &Comparison, page: &mut String) {
    page.push_str("| row | class | figure | base | new | change | sure | verdict |\n");
    page.push_str("|---|---|---|--:|--:|--:|--:|---|\n");
    for (index, finding) in rows.iter().take(ROWS) {
        let figure = |value| words::number(finding, value, comparison.per);
        let verdict = match &finding.because {
            Some(because) => format!("{}: {because}", finding.verdict.name()),
            None => finding.verdict.name().to_owned(),
        };
        let cells = [
            row_name(finding, comparison),
            finding.class().unwrap_or_default().to_owned(),
            words::figure_name(finding, comparison.per),
            figure(finding.base),
            figure(finding.new),
            words::change(finding),
            words::confidence(finding),
            verdict,
        ];
        let bold = |cell: &String| match escape(cell) {
            cell if is_too_much(*index, comparison) && !cell.is_empty() => format!("**{cell}**"),
            cell => cell,
        };
        page.push_str(&format!("| {} |\n", cells.iter().map(bold).collect::<Vec<_>>().join(" | ")));
    }
    if rows.len() > ROWS {
        page.push_str(&format!("\n{} more are left out.\n", rows.len() - ROWS));
    }
}

/// Text that stays text: nothing in a name makes a column, a tag, a link or emphasis.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text::safe(text, true).chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            // A user or an issue is mentioned by these.
            '@' => escaped.push_str("&#64;"),
            '#' => escaped.push_str("&#35;"),
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '~' | '!' => {
                escaped.push('\\');
                escaped.push(c);
            }
            c => escaped.push(c),
        }
    }
    escaped
}
