//! More of what is selected: its last minutes, and what the columns have no room for.

use ratatui_core::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Style},
};

use super::{Look, graph, put, sentences};
use crate::{
    decode::Class,
    model::Cell,
    view::{
        table::words,
        text,
        tui::state::{Item, ItemKey, Scope, SeriesKey, State, Table, fitting, same_vcpu},
        units,
    },
};

/// A name takes no more columns than this.
const LONGEST_NAME: usize = 32;

/// Sentences about what is selected, at most `most` lines.
pub fn lines(state: &State, look: Look, width: usize, most: usize) -> Vec<(String, Style)> {
    let Some(item) = state.listing().selected() else { return Vec::new() };
    let sentence = |text: &str| text::wrap(&text::safe(text, look.unicode), width);
    let mut lines = if item.gone {
        sentence("nothing of it in this interval")
    } else {
        let detail = item.row.detail.as_deref().map(sentence);
        detail.or_else(|| about(state, item, look, width)).unwrap_or_default()
    };
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            last.push_str(if look.unicode { "…" } else { "..." });
            *last = text::cut(last, width, look.unicode);
        }
    }
    lines.into_iter().map(|text| (text, look.fg(Look::PLAIN, Color::Cyan))).collect()
}

fn about(state: &State, item: &Item, look: Look, width: usize) -> Option<Vec<String>> {
    let data = state.data();
    let style = sentences(look, width);
    let texts = |lines: Vec<crate::view::table::fit::Line>| {
        lines.iter().map(|line| line.text().to_owned()).collect::<Vec<_>>()
    };
    match (&item.key, state.place().table()) {
        (ItemKey::Vm(key), _) => {
            let report = data.reports().find(|report| key.find(report).is_some())?;
            Some(texts(words::vm(key.find(report)?, report, &style)))
        }
        (ItemKey::Scope(Scope::Vcpu(vcpu)), _) => {
            let (vm, _) = state.place().vm.as_ref()?;
            let known = |report: &&crate::model::Report| {
                vm.find(report).is_some_and(|vm| same_vcpu(*vcpu, vm).is_some())
            };
            let report = data.reports().find(known)?;
            Some(texts(words::vcpu(same_vcpu(*vcpu, vm.find(report)?)?, report, &style)))
        }
        (ItemKey::Row(_), Table::Rows(_)) => {
            let column = state.listing().columns.iter().position(|column| column.id == "class")?;
            let Some(Cell::Text(class)) = item.row.cells.get(column) else { return None };
            let class = Class::ALL.iter().find(|known| known.id() == class.as_str())?;
            let next = match fitting(class.id()) {
                [] => String::new(),
                [noun, ..] => format!("; Enter: {noun}"),
            };
            Some(text::wrap(&format!("{class}: {}{next}", class.help()), width))
        }
        _ => None,
    }
}

/// The last minutes of what is selected: a line about them, and a curve in the lines below.
pub fn chart(state: &State, look: Look, area: Rect, buffer: &mut Buffer) {
    if area.height < 2 {
        return;
    }
    let Some(item) = state.listing().selected() else { return };
    let Some(key) = &item.series else { return };
    let series = state.data().series();
    let interval = state.data().reports().next().map_or(0.0, |report| report.interval.as_secs_f64());
    // Rows of the ledger have no rate of their own: their vCPU's exits have.
    let of_exits = SeriesKey { row: None, ..key.clone() };
    let key = if series.values(key).len() == 0 { &of_exits } else { key };
    let count = series.values(key).len();
    if count == 0 {
        return;
    }
    let most = series.values(key).fold(0.0, f64::max);
    let now = series.values(key).next_back().unwrap_or(0.0);
    let title = format!(
        "{}   now {}/s   most {}/s in {}",
        what(state, item, key, look),
        units::rate(now),
        units::rate(most),
        units::duration(count as f64 * interval * 1e9)
    );
    put(buffer, area, 0, &text::cut(&title, usize::from(area.width), look.unicode), Look::FAINT);
    let below = Rect { y: area.y + 1, height: area.height - 1, ..area };
    let values = series.picture(key, usize::from(area.width));
    graph::curve(&values, most, look, look.fg(Look::PLAIN, Color::Cyan), below, buffer);
}

/// What the curve is of.
fn what(state: &State, item: &Item, key: &SeriesKey, look: Look) -> String {
    let name = match item.row.cells.first() {
        Some(cell) => text::cut(
            &text::safe(&units::cell(cell, crate::model::Unit::Text), look.unicode),
            LONGEST_NAME,
            look.unicode,
        ),
        None => String::new(),
    };
    let counting = |noun: &str| state.data().report(noun).map_or("events", |report| report.counting.1);
    match (&item.key, &key.row) {
        (ItemKey::Vm(_), _) => format!("exits of {name}"),
        (ItemKey::Scope(scope), _) => format!("exits of {}", scope.name()),
        (ItemKey::Row(_), None) => format!("exits of {}", key.scope.name()),
        (ItemKey::Row(_), Some((noun, _))) => format!("{name}: {}", counting(noun)),
    }
}
