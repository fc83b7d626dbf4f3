//! The lines of rows under their columns.

use comfy_table::{CellAlignment, ColumnConstraint, Table, Width, presets};

use super::Style;
use super::fit::{Line, Paint};
use crate::model::{Column, Row, Unit};
use crate::view::{
    columns::{GAP, candidates, choose},
    text,
};

/// The header and one line per row.
pub struct Grid {
    /// Titles.
    pub header: String,
    /// The lines of each row, in the same order: its cells, and what more there is to say of it.
    pub lines: Vec<Vec<Line>>,
}

/// What more there is to say of a row stands below it, moved to the right.
const DETAIL: usize = 4;

/// Lays out `rows`, moved to the right by `indent`, with the columns that fit into the style's width.
pub fn grid(columns: &'static [Column], rows: &[&Row], style: &Style, indent: usize) -> Grid {
    let mut shown = candidates(columns, rows, style.unicode);
    choose(&mut shown, style.columns().saturating_sub(indent), style.unicode);

    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(shown.iter().map(|s| s.column.title));
    table
        .add_rows((0..rows.len()).map(|row| shown.iter().map(|s| s.texts[row].as_str()).collect::<Vec<_>>()));
    let last = shown.len().saturating_sub(1);
    for (i, (column, shown)) in table.column_iter_mut().zip(&shown).enumerate() {
        let gap = if i == last { 0 } else { GAP };
        column.set_padding((0, fixed(gap)));
        // With padding: comfy-table takes it off again.
        column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(fixed(shown.width + gap))));
        let numbers = shown.column.unit != Unit::Text;
        column.set_cell_alignment(if numbers { CellAlignment::Right } else { CellAlignment::Left });
    }
    let mut lines = table.lines().map(|line| format!("{:indent$}{}", "", line.trim_end()));
    let header = lines.next().unwrap_or_default();
    let paint = |row: &Row| if row.waiting { Paint::Waiting } else { Paint::Plain };
    let all = |(line, row): (String, &&Row)| {
        let mut all = vec![Line::new(line, paint(row))];
        let room = style.columns().saturating_sub(indent + DETAIL);
        let detail =
            row.detail.iter().flat_map(|detail| text::wrap(&text::safe(detail, style.unicode), room));
        all.extend(detail.map(|line| Line::new(format!("{:1$}{line}", "", indent + DETAIL), paint(row))));
        all
    };
    Grid { header, lines: lines.zip(rows).map(all).collect() }
}

fn fixed(width: usize) -> u16 {
    u16::try_from(width).unwrap_or(u16::MAX)
}
