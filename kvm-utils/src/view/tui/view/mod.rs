//! What the screen looks like: a function of the state, the terminal's abilities and its size.
//!
//! From top to bottom: where one is, whose numbers, the table, the last minutes and more of what is selected, whether to
//! believe it, and the keys.

mod detail;
mod empty;
mod footer;
mod graph;
mod head;
mod look;
mod overlay;
mod table;

use ratatui_core::{buffer::Buffer, layout::Rect, style::Style};

pub use look::Look;

use super::state::{Overlay, State, Table};
use crate::view::{table as report_table, text};

/// Columns and lines that it takes; on a smaller terminal it says so.
pub const LEAST_SIZE: (u16, u16) = (60, 15);

/// What fitted on the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drawn {
    /// Lines of rows.
    pub table_lines: usize,
    /// The first row that was on the screen.
    pub offset: usize,
    /// Lines of what lies over the table.
    pub overlay_lines: usize,
    /// By how many lines it can be scrolled at most.
    pub last_scroll: usize,
}

/// Draws the state into an empty buffer.
pub fn draw(state: &State, look: Look, buffer: &mut Buffer) -> Drawn {
    let area = *buffer.area();
    if area.width < LEAST_SIZE.0 || area.height < LEAST_SIZE.1 {
        too_small(area, buffer);
        return Drawn::default();
    }
    let mut rest = area;
    head::crumbs(state, look, line(&mut rest), buffer);
    footer::keys(state, look, last_line(&mut rest), buffer);
    let mut drawn = Drawn::default();
    let (lines, scroll) = match state.overlay() {
        None => {
            drawn = body(state, look, rest, area.height, buffer);
            return drawn;
        }
        Some((Overlay::Help, scroll)) => (overlay::help(rest.width), scroll),
        Some((Overlay::Notes, scroll)) => (overlay::notes(state, look, rest.width), scroll),
    };
    drawn.offset = state.table().offset;
    drawn.overlay_lines = usize::from(rest.height);
    drawn.last_scroll = lines.len().saturating_sub(drawn.overlay_lines);
    let first = scroll.min(drawn.last_scroll);
    put_lines(&lines[first..], rest, buffer);
    drawn
}

/// All but the first and the last line.
fn body(state: &State, look: Look, mut rest: Rect, height: u16, buffer: &mut Buffer) -> Drawn {
    let wide = usize::from(rest.width);
    let tall = |lines: u16| height >= lines;
    // As many lines whatever is said in them: what is below must not jump.
    let most = head::height(state.place(), tall(20));
    put_lines(&head::heading(state, look, wide, most), lines(&mut rest, most), buffer);
    if matches!(state.place().table(), Table::Rows(_)) {
        head::tabs(state, line(&mut rest), buffer);
    }
    let proof = footer::proof(
        state,
        look,
        wide,
        if tall(30) {
            5
        } else if tall(20) {
            3
        } else {
            2
        },
    );
    put_lines(&proof, last_lines(&mut rest, proof.len()), buffer);
    let grid = table::layout(state, look, rest.width);
    if tall(16) && grid.has_ledger() {
        footer::legend(look, last_line(&mut rest), buffer);
    }
    if tall(18) {
        let most = if tall(30) { 4 } else { 2 };
        put_lines(&detail::lines(state, look, wide, most), last_lines(&mut rest, most), buffer);
    }
    if tall(22) {
        let rows = if tall(36) { 4 } else { 2 };
        detail::chart(state, look, last_lines(&mut rest, rows + 1), buffer);
    }
    table::render(state, look, &grid, rest, buffer)
}

fn too_small(area: Rect, buffer: &mut Buffer) {
    let (columns, lines) = LEAST_SIZE;
    let sentence = format!(
        "kvm-utils top needs {columns} columns and {lines} lines, here are {} and {}: make the terminal larger, or q to quit",
        area.width, area.height
    );
    let lines: Vec<_> = text::wrap(&sentence, usize::from(area.width).max(1))
        .into_iter()
        .map(|text| (text, Style::default()))
        .collect();
    put_lines(&lines, area, buffer);
}

/// How the sentences of a table are to be written here.
fn sentences(look: Look, width: usize) -> report_table::Style {
    report_table::Style {
        width: Some(width),
        height: Some(usize::MAX),
        color: false,
        unicode: look.unicode,
        by: report_table::By::Vm,
    }
}

/// Takes the first line of an area.
fn line(rest: &mut Rect) -> Rect {
    lines(rest, 1)
}

/// Takes the first lines of an area, as far as there are some.
fn lines(rest: &mut Rect, count: usize) -> Rect {
    let height = u16::try_from(count).unwrap_or(u16::MAX).min(rest.height);
    let taken = Rect { height, ..*rest };
    rest.y += height;
    rest.height -= height;
    taken
}

/// Takes the last line of an area.
fn last_line(rest: &mut Rect) -> Rect {
    last_lines(rest, 1)
}

/// Takes the last lines of an area, as far as there are some.
fn last_lines(rest: &mut Rect, count: usize) -> Rect {
    let height = u16::try_from(count).unwrap_or(u16::MAX).min(rest.height);
    rest.height -= height;
    Rect { y: rest.y + rest.height, height, ..*rest }
}

/// Writes a text at a column of an area's first line, and returns the columns it took.
fn put(buffer: &mut Buffer, area: Rect, column: u16, text: &str, style: Style) -> u16 {
    if area.height == 0 || column >= area.width {
        return 0;
    }
    let (end, _) = buffer.set_stringn(area.x + column, area.y, text, usize::from(area.width - column), style);
    end - area.x - column
}

/// Writes lines, as many as there is room for.
fn put_lines(lines: &[(String, Style)], area: Rect, buffer: &mut Buffer) {
    for ((text, style), y) in lines.iter().zip(area.y..area.bottom()) {
        put(buffer, Rect { y, height: 1, ..area }, 0, text, *style);
    }
}
