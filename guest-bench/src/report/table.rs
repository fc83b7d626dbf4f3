//! A table for people.

use std::collections::BTreeMap;

use super::{Report, detail, gaps, matrix};
use crate::measure::supervisor::{Measured, Status};
use crate::stats::{self, Scale, Summary};

const HEAD: [&str; 9] = ["OPERATION", "N", "p50", "p90", "p99", "p99.9", "MAX", "p50 TIME", "CLEAN"];

/// The whole report.
pub fn text(report: &Report) -> String {
    let mut rows: Vec<Vec<String>> = vec![HEAD.map(str::to_owned).into()];
    let mut details = vec![Vec::new()];
    let mut remarks = Vec::new();
    // By what is missing, which is often the same.
    let mut skipped: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for measured in &report.results {
        let title = measured.spec.title();
        // A row of the matrix is of many targets: the heat map shows them.
        let row = row(measured, &title, report.tsc.hz).filter(|_| measured.spec.op != matrix::OP);
        if let Some(row) = row {
            rows.push(row);
            details.push(detail::lines(measured, report.tsc.hz));
        }
        remarks.extend(gaps::line(measured));
        match &measured.status {
            Status::Ok => {}
            Status::Suspect(reason) => remarks.push(format!("SUSPECT {title}: {reason}")),
            Status::Skipped(reason, hint) => {
                skipped.entry(format!("{reason}; {hint}")).or_default().push(title);
            }
            Status::Failed(reason) => remarks.push(format!("FAILED  {title}: {reason}")),
        }
    }
    remarks.extend(skipped.iter().map(|(why, titles)| format!("skipped {}: {why}", titles.join(", "))));
    let mut text = String::new();
    if rows.len() > 1 {
        text.push_str("in TSC cycles, one operation without the bracket, undisturbed samples\n");
        for (row, details) in aligned(&rows).lines().zip(&details) {
            text.push_str(row);
            text.push('\n');
            details.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
        }
    }
    for remark in remarks {
        text.push_str(&remark);
        text.push('\n');
    }
    for guess in report.environment["guess"].as_array().into_iter().flatten().filter_map(|one| one.as_str()) {
        text.push_str(&format!("guess  {guess}\n"));
    }
    if let Some(why) = report.no_exit_costs() {
        text.push_str(&format!("note  {why}\n"));
    }
    text.push_str(&tsc(report));
    text
}

/// What the last line says of the counter.
fn tsc(report: &Report) -> String {
    let tsc = &report.tsc;
    let trust: String =
        tsc.untrusted.iter().map(|why| format!("\ntsc  NOT TRUSTED, times may be wrong: {why}")).collect();
    let ready =
        report.results.iter().find(|measured| measured.ready.quantum > 0).map(|measured| measured.ready);
    let quantum = ready.map_or(String::new(), |ready| format!(", moves in steps of {}", ready.quantum));
    format!(
        "tsc  {:.3} MHz by {} (+-{} ppm){quantum}{trust}\n",
        tsc.hz as f64 / 1e6,
        tsc.source,
        tsc.error_ppm
    )
}

fn row(measured: &Measured, title: &str, hz: u64) -> Option<Vec<String>> {
    let net = Scale::Net(measured.ready);
    let clean: Vec<_> = measured.rounds.iter().map(|round| &round.clean).collect();
    let summary = Summary::of(&clean, net)?;
    let all: u64 = measured.rounds.iter().map(crate::measure::Round::samples).sum();
    let cycles = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), grouped);
    Some(vec![
        title.to_owned(),
        grouped(all as f64),
        cycles(summary.p50),
        cycles(summary.p90),
        cycles(summary.p99),
        cycles(summary.p99_9),
        grouped(summary.max),
        summary.p50.map_or_else(|| "-".to_owned(), |p50| time(p50 / hz.max(1) as f64)),
        format!("{:.1}%", stats::merge(clean).len() as f64 * 100.0 / all.max(1) as f64),
    ])
}

/// The first column to the left, the others to the right. All rows have as many columns as the first.
pub fn aligned(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 => format!("{cell:width$}"),
            _ => format!("  {cell:>width$}"),
        });
        text.push_str(cells.collect::<String>().trim_end());
        text.push('\n');
    }
    text
}

/// A number with its thousands apart; small ones keep a digit behind the point.
pub fn grouped(value: f64) -> String {
    if value < 100.0 && value.fract() != 0.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds in the unit that suits.
pub fn time(seconds: f64) -> String {
    match seconds {
        s if s < 1e-6 => format!("{:.0}ns", s * 1e9),
        s if s < 1e-3 => format!("{:.2}us", s * 1e6),
        s if s < 1.0 => format!("{:.2}ms", s * 1e3),
        s => format!("{s:.2}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(
            [0.0, 7.25, 999.0, 1000.0, 1_234_567.8].map(grouped),
            ["0", "7.2", "999", "1,000", "1,234,568"]
        );
        assert_eq!([52e-9, 8.75e-6, 2e-3, 1.5].map(time), ["52ns", "8.75us", "2.00ms", "1.50s"]);
    }
}
