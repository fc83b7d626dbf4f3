//! The table: which columns fit, bars and curves in what is left, and the lines around what is selected.

use ratatui_core::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Style},
};

use super::{Drawn, Look, empty, graph, put};
use crate::{
    model::{Column, Row, Unit},
    view::{
        columns::{GAP, Shown, candidates, choose, needed},
        text,
        tui::state::{Item, KEPT, Listing, State, Table},
        units,
    },
};

/// Before each row: whether it is selected.
const MARK: u16 = 2;

/// Where time goes. It holds no texts: its unit keeps it from being cut.
static LEDGER: Column = Column::new("ledger", "WHERE TIME GOES", Unit::Share, Some(1));
/// The last minutes.
static CURVE: Column = Column::new("curve", "LAST", Unit::Share, Some(2));
/// The last minutes, where other columns say more.
static CURVE_OF_ROW: Column = Column::new("curve", "LAST", Unit::Share, Some(9));

/// The least columns that they take, and the most.
const LEDGER_WIDTH: (usize, usize) = (14, 42);
const CURVE_WIDTH: (usize, usize) = (11, 60);

/// The columns that fit.
pub struct Grid {
    shown: Vec<Shown>,
}

impl Grid {
    /// Whether there are bars in it.
    pub fn has_ledger(&self) -> bool {
        self.shown.iter().any(|shown| shown.column.id == LEDGER.id)
    }
}

/// Lays out the table of a state in so many columns.
pub fn layout(state: &State, look: Look, width: u16) -> Grid {
    let listing = state.listing();
    let max = usize::from(width.saturating_sub(MARK));
    let rows: Vec<&Row> = listing.items.iter().map(|item| &item.row).collect();
    let mut shown = candidates(listing.columns, &rows, look.unicode);
    for column in &mut shown {
        if listing.sort == Some(column.column.id) {
            column.width = column.width.max(text::width(column.column.title) + 1);
        }
    }
    // A name is no reason to push out bars either.
    if let Some(first) = shown.first_mut().filter(|first| first.column.unit == Unit::Text) {
        let longest = (max * 3 / 10).max(16);
        if first.width > longest {
            first.width = longest;
            for text in &mut first.texts {
                *text = text::cut(text, longest, look.unicode);
            }
        }
    }
    let graph = |column: &'static Column, width| Shown {
        column,
        importance: column.importance.unwrap_or(0),
        width,
        texts: Vec::new(),
    };
    if listing.items.iter().any(|item| item.ledger.is_some()) {
        shown.push(graph(&LEDGER, LEDGER_WIDTH.0));
    }
    let series = state.data().series();
    let known = |item: &Item| item.series.as_ref().is_some_and(|key| series.values(key).len() > 0);
    if listing.items.iter().any(known) {
        let of_rows = matches!(state.place().table(), Table::Rows(_));
        shown.push(graph(if of_rows { &CURVE_OF_ROW } else { &CURVE }, CURVE_WIDTH.0));
    }
    choose(&mut shown, max, look.unicode);
    for (id, (_, most)) in [(LEDGER.id, LEDGER_WIDTH), (CURVE.id, CURVE_WIDTH)] {
        let spare = max.saturating_sub(needed(&shown));
        if let Some(graph) = shown.iter_mut().find(|shown| shown.column.id == id) {
            // What is left is for both.
            let share = if id == LEDGER.id { spare.div_ceil(2) } else { spare };
            graph.width = (graph.width + share).min(most);
        }
    }
    Grid { shown }
}

/// Draws it.
pub fn render(state: &State, look: Look, grid: &Grid, area: Rect, buffer: &mut Buffer) -> Drawn {
    let listing = state.listing();
    if area.height == 0 {
        return Drawn::default();
    }
    if listing.items.is_empty() {
        empty::render(state, look, area, buffer);
        return Drawn::default();
    }
    header(state, look, grid, Rect { height: 1, ..area }, buffer);
    let lines = usize::from(area.height - 1);
    let offset = visible(state.table().offset, listing, lines);
    let last = (offset + lines).min(listing.items.len());
    let most = most_of(state, grid);
    for (index, y) in (offset..last).zip(area.y + 1..area.bottom()) {
        let line = Rect { y, height: 1, ..area };
        row(state, look, grid, index, most, line, buffer);
    }
    Drawn { table_lines: lines, offset, ..Drawn::default() }
}

/// The first row to show so that the selected one is among them, moved no more than needed.
fn visible(offset: usize, listing: &Listing, lines: usize) -> usize {
    let last = listing.items.len().saturating_sub(lines.max(1));
    let least = (listing.selected + 1).saturating_sub(lines.max(1));
    offset.clamp(least, listing.selected.max(least)).min(last)
}

fn header(state: &State, look: Look, grid: &Grid, area: Rect, buffer: &mut Buffer) {
    let sort = state.listing().sort;
    let reverse = state.table().reverse;
    let mut column = MARK;
    for shown in &grid.shown {
        let id = shown.column.id;
        let mut title = shown.column.title.to_owned();
        if id == CURVE.id {
            title = format!("{title} {}", span(state));
        }
        let by_this = sort == Some(id);
        if by_this {
            let upwards = (shown.column.unit == Unit::Text) != reverse;
            title.push(if upwards { look.char('▲', '^') } else { look.char('▼', 'v') });
        }
        let numbers = shown.column.unit != Unit::Text && !is_graph(shown.column);
        let title = text::cut(&title, shown.width, look.unicode);
        let before = if numbers { shown.width.saturating_sub(text::width(&title)) } else { 0 };
        let style = if by_this { look.place() } else { Look::BOLD };
        put(buffer, area, column + fixed(before), &title, style);
        column = column.saturating_add(fixed(shown.width + GAP));
    }
}

/// The time that curves are about.
fn span(state: &State) -> String {
    let interval = state.data().reports().next().map_or(0.0, |report| report.interval.as_secs_f64());
    units::duration(interval.round().max(1.0) * KEPT as f64 * 1e9)
}

/// The greatest value of all curves: they have one scale, so that they compare.
fn most_of(state: &State, grid: &Grid) -> f64 {
    if !grid.shown.iter().any(|shown| shown.column.id == CURVE.id) {
        return 0.0;
    }
    let series = state.data().series();
    let keys = state.listing().items.iter().filter_map(|item| item.series.as_ref());
    keys.flat_map(|key| series.values(key)).fold(0.0, f64::max)
}

fn row(state: &State, look: Look, grid: &Grid, index: usize, most: f64, area: Rect, buffer: &mut Buffer) {
    let listing = state.listing();
    let Some(item) = listing.items.get(index) else { return };
    let selected = index == listing.selected;
    let style = match item {
        _ if selected => Look::SELECTED,
        Item { gone: true, .. } => Look::FAINT,
        item if item.row.waiting => Look::FAINT,
        Item { pinned: true, .. } => Look::BOLD,
        _ => Look::PLAIN,
    };
    if selected {
        buffer.set_style(area, style);
        put(buffer, area, 0, ">", style);
    }
    let mut column = MARK;
    for shown in &grid.shown {
        let cell = Rect {
            x: area.x + column.min(area.width),
            width: fixed(shown.width).min(area.width.saturating_sub(column)),
            ..area
        };
        if shown.column.id == LEDGER.id {
            if let Some(ledger) = &item.ledger {
                buffer.set_style(cell, Style::reset());
                graph::ledger(ledger, look, cell, buffer);
            }
        } else if shown.column.id == CURVE.id {
            if let Some(key) = &item.series {
                let values = state.data().series().picture(key, shown.width);
                let style = if selected { style } else { look.fg(style, Color::Cyan) };
                graph::curve(&values, most, look, style, cell, buffer);
            }
        } else if let Some(text) = shown.texts.get(index) {
            let spare = shown.width.saturating_sub(text::width(text));
            let before = if shown.column.unit == Unit::Text { 0 } else { fixed(spare) };
            put(buffer, cell, before, text, style);
        }
        column = column.saturating_add(fixed(shown.width + GAP));
    }
}

fn is_graph(column: &Column) -> bool {
    column.id == LEDGER.id || column.id == CURVE.id
}

fn fixed(width: usize) -> u16 {
    u16::try_from(width).unwrap_or(u16::MAX)
}
