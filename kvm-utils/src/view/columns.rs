//! Which columns of a table fit into a line, and the texts of their cells: the same in every view for people.

use super::{text, units};
use crate::model::{Cell, Column, Row, Unit};

/// Spaces between columns.
pub(super) const GAP: usize = 2;
/// Texts longer than this are cut even where there is room: a name is no reason to push out the numbers.
const LONGEST_TEXT: usize = 40;
/// What texts may be cut down to before numbers are left out.
const SHORTEST_TEXT: usize = 8;

/// A column that may be shown.
pub(super) struct Shown {
    /// What it holds.
    pub column: &'static Column,
    /// The highest go first.
    pub importance: u8,
    /// Columns of the terminal that it takes.
    pub width: usize,
    /// A text for each row.
    pub texts: Vec<String>,
}

/// Every column that has something to show, with its texts and the width it would like.
pub(super) fn candidates(columns: &'static [Column], rows: &[&Row], unicode: bool) -> Vec<Shown> {
    let mut shown: Vec<Shown> = Vec::new();
    let name = columns.iter().position(|c| c.unit == Unit::Text && c.importance.is_some());
    for (index, column) in columns.iter().enumerate() {
        let Some(importance) = column.importance else { continue };
        let cells = rows.iter().map(|row| row.cells.get(index).unwrap_or(&Cell::Unknown));
        // Flags are rare: no column for them while there are none.
        let mut lists = cells.clone().peekable();
        if importance > 0
            && lists.peek().is_some()
            && lists.all(|cell| matches!(cell, Cell::List(list) if list.is_empty()))
        {
            continue;
        }
        let texts: Vec<String> = rows
            .iter()
            .zip(cells)
            .map(|(row, cell)| {
                if row.waiting && column.unit == Unit::TimeShare {
                    return units::UNKNOWN.to_owned();
                }
                let text = text::safe(&units::cell(cell, column.unit), unicode);
                if row.waiting && name == Some(index) { format!("{text}  (waiting)") } else { text }
            })
            .map(|text| text::cut(&text, LONGEST_TEXT, unicode))
            .collect();
        let least = if name == Some(index) { 16 } else { usual_width(column.unit) };
        let width = texts
            .iter()
            .map(|t| text::width(t))
            .chain([text::width(column.title), least])
            .max()
            .unwrap_or(least);
        shown.push(Shown { column, importance, width, texts });
    }
    shown
}

/// Room for what these numbers usually are, so that columns stay where they are from one report to the next.
const fn usual_width(unit: Unit) -> usize {
    match unit {
        Unit::Text => 0,
        Unit::Count => 9,
        Unit::PerSecond => 7,
        Unit::Share | Unit::TimeShare => 5,
        Unit::Nanoseconds => 5,
    }
}

/// Leaves out columns, the least important and of those the last first, until the rest fits into `max`. Those of
/// importance 0 go only when cutting texts and giving up spare room was not enough.
pub(super) fn choose(shown: &mut Vec<Shown>, max: usize, unicode: bool) {
    while needed(shown) > max {
        let Some(least) = shown.iter().map(|s| s.importance).max().filter(|importance| *importance > 0)
        else {
            break;
        };
        let last = shown.iter().rposition(|s| s.importance == least);
        last.map(|last| shown.remove(last));
    }
    squeeze(shown, max, unicode);
    while needed(shown) > max && shown.len() > 1 {
        shown.pop();
    }
    if let [only] = shown.as_mut_slice() {
        shrink(only, max, unicode);
    }
}

/// Takes the room that is missing first from spare width, then from texts.
fn squeeze(shown: &mut [Shown], max: usize, unicode: bool) {
    for i in (0..shown.len()).rev() {
        let missing = needed(shown).saturating_sub(max);
        let longest = shown[i].texts.iter().map(|t| text::width(t)).max().unwrap_or(0);
        let content = longest.max(text::width(shown[i].column.title));
        shown[i].width = shown[i].width.saturating_sub(missing).max(content);
    }
    for i in (0..shown.len()).rev() {
        let missing = needed(shown).saturating_sub(max);
        if missing > 0 && shown[i].column.unit == Unit::Text {
            let width = shown[i].width.saturating_sub(missing).max(SHORTEST_TEXT).min(shown[i].width);
            shrink(&mut shown[i], width, unicode);
        }
    }
}

/// Cuts the texts of a column to `width`.
fn shrink(shown: &mut Shown, width: usize, unicode: bool) {
    shown.width = shown.width.min(width).max(text::width(shown.column.title));
    for cell in &mut shown.texts {
        *cell = text::cut(cell, shown.width, unicode);
    }
}

/// Columns of the terminal that a line takes.
pub(super) fn needed(shown: &[Shown]) -> usize {
    shown.iter().map(|s| s.width).sum::<usize>() + GAP * shown.len().saturating_sub(1)
}
