//! Rows as tables, with the same texts as on a terminal.

use super::markup::Markup;
use crate::model::{Cell, Column, Report, Row, Unit};
use crate::view::units;

/// Rows of the table of all VMs.
pub const ROWS: usize = 40;
/// Rows of a VM's table.
pub const ROWS_OF_VM: usize = 15;

/// Writes the first `most` rows.
pub fn table(out: &mut Markup, report: &Report, rows: &[&Row], most: usize, caption: &str) {
    let shown = &rows[..rows.len().min(most)];
    let columns: Vec<(usize, &Column)> = visible(report.columns, shown);
    let name = columns.iter().find(|(_, c)| c.unit == Unit::Text).map(|(i, _)| *i);
    let bar = columns.iter().find(|(_, c)| c.unit == Unit::Share).map(|(i, _)| *i);
    // Where shares are of one vCPU's time, several stand beside each other: none of them is the row's size.
    let bar = bar.filter(|_| !report.one_row);
    out.raw("<div class=\"wide\" tabindex=\"0\" role=\"region\"")
        .attr("aria-label", caption)
        .raw("><table class=\"rows\"><caption>");
    out.text(caption).raw("</caption><thead><tr>");
    for (_, column) in &columns {
        out.raw("<th scope=\"col\"");
        if column.unit != Unit::Text {
            out.attr("class", "n");
        }
        out.attr("data-id", column.id).raw(">").text(column.title).raw("</th>");
    }
    out.raw("</tr></thead>");
    for row in shown {
        out.raw("<tbody").attr("class", if row.waiting { "waiting" } else { "work" }).raw("><tr>");
        for (index, column) in &columns {
            let cell = row.cells.get(*index).unwrap_or(&Cell::Unknown);
            let is_number = column.unit != Unit::Text;
            out.raw(if name == Some(*index) { "<th scope=\"row\"" } else { "<td" });
            if is_number {
                out.attr("class", if bar == Some(*index) { "n bar" } else { "n" });
                out.attr("data-v", &exact(cell));
            }
            if let (true, Some(share)) = (bar == Some(*index), cell.number().filter(|n| n.is_finite())) {
                out.attr("style", &format!("--share:{:.1}%", (share * 100.0).clamp(0.0, 100.0)));
            }
            out.raw(">").text(&shown_text(row, cell, column.unit));
            if name == Some(*index) {
                out.raw(if row.waiting { " <i>(waiting)</i></th>" } else { "</th>" });
            } else {
                out.raw("</td>");
            }
        }
        out.raw("</tr>");
        if let Some(detail) = &row.detail {
            out.raw("<tr class=\"detail\"><td").attr("colspan", &columns.len().to_string()).raw(">");
            out.text(detail).raw("</td></tr>");
        }
        out.raw("</tbody>");
    }
    out.raw("</table></div>");
    if rows.len() > shown.len() {
        let more = units::counted((rows.len() - shown.len()) as u64, "more row", "more rows");
        out.raw("<p class=\"more\">… ").text(&more).raw("</p>");
    }
}

/// What stands in a cell, but that a waiting row's name is marked.
pub fn shown_text(row: &Row, cell: &Cell, unit: Unit) -> String {
    if row.waiting && unit == Unit::TimeShare { units::UNKNOWN.to_owned() } else { units::cell(cell, unit) }
}

/// The number with all its digits, for sorting; nothing where it is not known.
fn exact(cell: &Cell) -> String {
    match cell {
        Cell::Number(n) => n.to_string(),
        Cell::Real(r) if r.is_finite() => format!("{r:?}"),
        _ => String::new(),
    }
}

/// The columns that a table shows: those that may be, unless they are lists without an entry.
fn visible(columns: &'static [Column], rows: &[&Row]) -> Vec<(usize, &'static Column)> {
    let is_empty = |index: usize| {
        !rows.is_empty()
            && rows
                .iter()
                .all(|row| matches!(row.cells.get(index), Some(Cell::List(list)) if list.is_empty()))
    };
    let shown = columns.iter().enumerate().filter(|(_, column)| column.importance.is_some());
    shown.filter(|(index, column)| column.importance == Some(0) || !is_empty(*index)).collect()
}

/// What the classes of exits amount to, for a drill-down that has classes.
pub fn classes(out: &mut Markup, report: &Report, rows: &[Row]) {
    let at = |id: &str| report.columns.iter().position(|column| column.id == id);
    let (Some(class), Some(count), Some(name)) = (at("class"), at("count"), at("reason")) else { return };
    let time = at("time_share");
    let mut sums: Vec<Sum> = Vec::new();
    let text = |row: &Row, index: usize| match row.cells.get(index) {
        Some(Cell::Text(text)) => text.clone(),
        _ => units::UNKNOWN.to_owned(),
    };
    let mut all = 0_u64;
    for row in rows.iter().filter(|row| !row.of_others) {
        let Some(Cell::Number(n)) = row.cells.get(count) else { continue };
        let class = text(row, class);
        let time = time.and_then(|time| row.cells.get(time)).and_then(Cell::number);
        all = all.saturating_add(*n);
        let found = sums.iter().position(|sum| sum.class == class && sum.waiting == row.waiting);
        let at = found.unwrap_or(sums.len());
        if found.is_none() {
            sums.push(Sum { class, waiting: row.waiting, count: 0, time: None, reasons: Vec::new() });
        }
        sums[at].count = sums[at].count.saturating_add(*n);
        sums[at].time = time.map(|time| time + sums[at].time.unwrap_or(0.0)).or(sums[at].time);
        sums[at].reasons.push(text(row, name));
    }
    if sums.is_empty() || all == 0 {
        return;
    }
    sums.sort_by_key(|sum| (sum.waiting, std::cmp::Reverse(sum.count)));
    let caption = "By class";
    out.raw("<div class=\"wide\" tabindex=\"0\" role=\"region\"").attr("aria-label", caption);
    out.raw("><table class=\"classes\"><caption>").text(caption);
    out.raw("</caption><thead><tr><th scope=\"col\">CLASS</th><th class=\"n\" scope=\"col\">COUNT</th><th class=\"n\" scope=\"col\">SHARE</th><th class=\"n\" scope=\"col\">TIME</th><th scope=\"col\">REASONS</th></tr></thead>");
    for sum in &sums {
        let share = sum.count as f64 / all as f64;
        let time = sum
            .time
            .filter(|_| !sum.waiting)
            .map_or_else(|| units::UNKNOWN.to_owned(), |time| units::percent(time, ""));
        out.raw("<tbody").attr("class", if sum.waiting { "waiting" } else { "work" });
        out.raw("><tr><th scope=\"row\">").text(&sum.class);
        out.raw(if sum.waiting { " <i>(waiting)</i></th>" } else { "</th>" });
        out.raw("<td class=\"n\"")
            .attr("data-v", &sum.count.to_string())
            .raw(">")
            .text(&units::count(sum.count));
        out.raw("</td><td class=\"n bar\"").attr("style", &format!("--share:{:.1}%", share * 100.0)).raw(">");
        out.text(&units::percent(share, "")).raw("</td><td class=\"n\">").text(&time);
        out.raw("</td><td class=\"reasons\">").text(&sum.reasons.join(", ")).raw("</td></tr></tbody>");
    }
    out.raw("</table></div>");
}

/// The rows of a class.
struct Sum {
    class: String,
    waiting: bool,
    count: u64,
    time: Option<f64>,
    reasons: Vec<String>,
}
