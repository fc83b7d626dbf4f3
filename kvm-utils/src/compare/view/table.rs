//! For people at a terminal: the worst first, the reasons for what is not clear, and one line at the end that says what it
//! amounts to.

use super::{is_too_much, row_name};
use crate::{
    compare::{
        Comparison, Outcome, Source,
        finding::{Finding, Verdict},
        words,
    },
    view::{Style, table::PIPE_WIDTH, text, units},
};

/// Rows that are shown where nothing more is asked for; what changed is always shown.
pub const ROWS: usize = 20;

/// The name of a row is cut down to this before anything else is.
const SHORTEST_NAME: usize = 12;

/// Too many breaches are nobody's to read one by one.
const BREACHES: usize = 10;

/// How much is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The worst, and what changed.
    Worst,
    /// Every figure.
    All,
    /// The worst, after a live run, whose command has no options for more.
    Live,
}

const TITLES: [&str; 7] = ["ROW", "FIGURE", "BASE", "NEW", "CHANGE", "SURE", "VERDICT"];

/// Writes a comparison; every line ends with a newline.
#[must_use]
pub fn render(comparison: &Comparison, style: &Style, shown: Shown) -> String {
    let mut page = Page { style, text: String::new() };
    page.line(&side("base", &comparison.base, style), Paint::Heading);
    page.line(&side("new ", &comparison.new, style), Paint::Heading);
    if !comparison.differ.is_empty() {
        let what =
            if comparison.forced { "compared all the same, though they differ in" } else { "they differ in" };
        page.line(what, Paint::Bad);
        for one in &comparison.differ {
            page.wrapped("  ", &format!("{}: {} | {}", one.fact, one.base, one.new), Paint::Plain);
        }
        if !comparison.forced {
            let how = match shown {
                Shown::Worst | Shown::All => "--force compares them all the same",
                Shown::Live => "record this run and compare with --force",
            };
            page.line(&format!("{how}; what differs is then a cause like any other"), Paint::Plain);
        }
    }
    rows(comparison, &mut page, shown);
    unclear(comparison, &mut page);
    for note in &comparison.notes {
        page.wrapped("note  ", note, Paint::Plain);
    }
    for breach in comparison.breaches.iter().take(BREACHES) {
        page.wrapped("too much  ", &breach.text, Paint::Bad);
    }
    if comparison.breaches.len() > BREACHES {
        page.line(
            &format!("and {} more that are too much", comparison.breaches.len() - BREACHES),
            Paint::Bad,
        );
    }
    if comparison.outcome() == Outcome::NotComparable && comparison.differ.is_empty() {
        page.wrapped("", words::NOTHING_IN_COMMON, Paint::Plain);
    }
    let (last, paint) = last(comparison);
    page.line(&last, paint);
    page.text
}

/// The line that says it all.
fn last(comparison: &Comparison) -> (String, Paint) {
    let (all, counts) = (comparison.findings.len(), words::counts(&comparison.findings.iter()));
    match comparison.outcome() {
        Outcome::NotComparable => ("NOT COMPARABLE".to_owned(), Paint::Bad),
        Outcome::Passed => (format!("passed  {}: {counts}", words::figures(all)), Paint::Good),
        Outcome::Failed => {
            let count = (0..all).filter(|index| is_too_much(*index, comparison)).count();
            (format!("FAILED  {count} of {}: {counts}", words::figures(all)), Paint::Bad)
        }
    }
}

fn side(title: &str, files: &[Source], style: &Style) -> String {
    let length = |file: &Source| {
        let seconds = file.seconds.map(units::interval);
        let intervals =
            (file.intervals > 0).then(|| units::counted(file.intervals as u64, "interval", "intervals"));
        seconds.into_iter().chain(intervals).collect::<Vec<_>>().join(", ")
    };
    let name = |file: &Source| text::safe(&file.name, style.unicode);
    match files {
        [] => format!("{title}  nothing"),
        [one] => format!("{title}  {}  {}", name(one), length(one)),
        [first, .., last] => {
            let seconds: f64 = files.iter().filter_map(|file| file.seconds).sum();
            let mean = units::interval(seconds / files.len() as f64);
            format!("{title}  {} files, {mean} on average: {} to {}", files.len(), name(first), name(last))
        }
    }
}

fn rows(comparison: &Comparison, page: &mut Page<'_>, how_much: Shown) {
    let is_wanted = |(index, finding): &(usize, &Finding)| {
        how_much == Shown::All
            || *index < ROWS
            || finding.verdict.is_change()
            || is_too_much(*index, comparison)
    };
    let (shown, hidden): (Vec<_>, Vec<_>) = comparison.findings.iter().enumerate().partition(is_wanted);
    if shown.is_empty() {
        return;
    }
    let cells = |(_, finding): &(usize, &Finding)| {
        let figure = |value| words::number(finding, value, comparison.per);
        let name = row_name(finding, comparison);
        let name = if finding.waiting { format!("{name} (waiting)") } else { name };
        [
            text::safe(&name, page.style.unicode),
            words::figure_name(finding, comparison.per),
            figure(finding.base),
            figure(finding.new),
            words::change(finding),
            words::confidence(finding),
            finding.verdict.name().to_owned(),
        ]
    };
    let table: Vec<[String; 7]> = shown.iter().map(cells).collect();
    let wide = |column: usize| {
        table
            .iter()
            .map(|row| text::width(&row[column]))
            .chain([text::width(TITLES[column])])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..TITLES.len()).map(wide).collect();
    let others: usize = widths[1..].iter().map(|width| width + 2).sum();
    let name = widths[0].min(page.width().saturating_sub(others).max(SHORTEST_NAME));
    let line = |row: &[String; 7]| {
        let cut = text::cut(&row[0], name, page.style.unicode);
        let mut line = format!("{cut}{:1$}", "", name - text::width(&cut));
        for (column, cell) in row.iter().enumerate().skip(1) {
            let room = " ".repeat(widths[column] - text::width(cell));
            // Words begin, numbers end at the same column.
            let is_word = column == 1 || column == 6;
            line.push_str(&if is_word { format!("  {cell}{room}") } else { format!("  {room}{cell}") });
        }
        line.trim_end().to_owned()
    };
    let titles = TITLES.map(str::to_owned);
    page.line(&line(&titles), Paint::Heading);
    for ((index, finding), row) in shown.iter().zip(&table) {
        let paint = match finding.verdict {
            _ if is_too_much(*index, comparison) => Paint::Bad,
            Verdict::Better | Verdict::Gone => Paint::Good,
            Verdict::Inconclusive => Paint::Faint,
            Verdict::Worse | Verdict::New | Verdict::Same => Paint::Plain,
        };
        page.line(&line(row), paint);
    }
    if !hidden.is_empty() {
        let counts = words::counts(&hidden.iter().map(|(_, finding)| *finding));
        let remedy = if how_much == Shown::Live { "" } else { "; --all shows them" };
        page.line(&format!("and {counts}{remedy}"), Paint::Faint);
    }
}

/// A line for each reason, with how many it holds for and the first of them.
fn unclear(comparison: &Comparison, page: &mut Page<'_>) {
    const NAMES: usize = 3;
    let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
    for finding in comparison.findings.iter().filter(|finding| finding.verdict == Verdict::Inconclusive) {
        let reason =
            finding.because.as_ref().map_or_else(|| "no reason is given".to_owned(), ToString::to_string);
        let name =
            format!("{} {}", row_name(finding, comparison), words::figure_name(finding, comparison.per));
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, names)) => names.push(name),
            None => reasons.push((reason, vec![name])),
        }
    }
    for (reason, names) in reasons {
        let more = names.len().saturating_sub(NAMES);
        let mut list = names[..names.len() - more].join(", ");
        if more > 0 {
            list.push_str(&format!(" and {more} more"));
        }
        page.wrapped("inconclusive  ", &format!("{list}: {reason}"), Paint::Faint);
    }
}

#[derive(Clone, Copy)]
enum Paint {
    Plain,
    Heading,
    Faint,
    Good,
    Bad,
}

struct Page<'a> {
    style: &'a Style,
    text: String,
}

impl Page<'_> {
    fn width(&self) -> usize {
        self.style.width.unwrap_or(PIPE_WIDTH).max(1)
    }

    fn line(&mut self, line: &str, paint: Paint) {
        let line = text::cut(&text::safe(line, self.style.unicode), self.width(), true);
        // Select Graphic Rendition, ECMA-48 8.3.117: 1 bold, 2 faint, 31 red, 32 green.
        let sgr = match paint {
            _ if !self.style.color || line.is_empty() => None,
            Paint::Plain => None,
            Paint::Heading => Some("1"),
            Paint::Faint => Some("2"),
            Paint::Good => Some("32"),
            Paint::Bad => Some("31"),
        };
        self.text.push_str(&match sgr {
            Some(sgr) => format!("\u{1b}[{sgr}m{line}\u{1b}[0m\n"),
            None => format!("{line}\n"),
        });
    }

    /// A sentence behind a label; lines after the first are moved to the right as well.
    fn wrapped(&mut self, label: &str, sentence: &str, paint: Paint) {
        let sentence = text::safe(sentence, self.style.unicode);
        let room = self.width().saturating_sub(label.len());
        for (number, line) in text::wrap(&sentence, room).iter().enumerate() {
            let before = if number == 0 { label.to_owned() } else { " ".repeat(label.len()) };
            self.line(&format!("{before}{line}"), paint);
        }
    }
}
