//! The last lines: what bars mean, whether to believe the numbers, and the keys.

use ratatui_core::{buffer::Buffer, layout::Rect, style::Style};

use super::{Look, put, sentences};
use crate::{
    model::Verdict,
    view::{
        table::{fit::Paint, words},
        text,
        tui::state::{BUCKETS, EXITS, Overlay, State, Table},
    },
};

/// The labels of the lines about the proof are this wide.
const LABEL: usize = 7;

/// What the parts of bars are.
pub fn legend(look: Look, area: Rect, buffer: &mut Buffer) {
    let mut column = 0;
    for (bucket, (_, letter, name)) in BUCKETS.iter().enumerate() {
        let sign = if look.color { format!(" {letter} ") } else { format!("{letter} ") };
        column += put(buffer, area, column, &sign, look.bucket(bucket));
        let gap = if look.color { " " } else { "" };
        column += put(buffer, area, column, &format!("{gap}{name}  "), Look::PLAIN);
    }
}

/// Our count beside KVM's, and doubts of any drill-down, in at most `most` lines.
pub fn proof(state: &State, look: Look, width: usize, most: usize) -> Vec<(String, Style)> {
    let noun = match state.place().table() {
        Table::Rows(noun) => noun,
        Table::Vms | Table::Vcpus => EXITS,
    };
    let data = state.data();
    let Some(report) = data.report(noun).or_else(|| data.reports().next()) else { return Vec::new() };
    let style = sentences(look, width);
    let of_report = words::proof(report, &style, true);
    let mut lines: Vec<_> =
        of_report.iter().map(|line| (line.text().to_owned(), look.paint(line.paint()))).collect();
    for other in data.reports().filter(|other| other.noun != report.noun) {
        if let Verdict::Doubtful(doubts) = other.proof.verdict() {
            for doubt in doubts {
                let line = format!("{:LABEL$}{}: {doubt}", "DOUBT", other.noun);
                let line = text::cut(&text::safe(&line, look.unicode), width, look.unicode);
                lines.push((line, look.paint(Paint::Doubt)));
            }
        }
    }
    if lines.len() > most {
        let more = format!("{:LABEL$}i shows {} more lines", "", lines.len() - most + 1);
        lines.truncate(most - 1);
        lines.push((more, look.paint(Paint::Doubt)));
    }
    lines
}

/// What can be typed, or what was.
pub fn keys(state: &State, look: Look, area: Rect, buffer: &mut Buffer) {
    let filter = state.table().filter;
    if state.is_typing() {
        let typed = format!("/{}_", text::safe(&filter, look.unicode));
        let column = put(buffer, area, 0, &typed, Look::BOLD);
        put(buffer, area, column + 2, "Enter keeps the filter, Esc clears it", Look::FAINT);
        return;
    }
    if let Some(message) = state.message() {
        let message = text::cut(&text::safe(message, look.unicode), usize::from(area.width), look.unicode);
        put(buffer, area, 0, &message, look.paint(Paint::Unchecked).patch(Look::BOLD));
        return;
    }
    let mut column = 0;
    if !filter.is_empty() && state.overlay().is_none() {
        let listing = state.listing();
        let shown = format!(
            "/{}  {} of {}, Esc clears  ",
            text::cut(&text::safe(&filter, look.unicode), 20, look.unicode),
            listing.items.len(),
            listing.all
        );
        column += put(buffer, area, 0, &shown, look.place());
    }
    for (key, does) in of_place(state) {
        let width = text::width(key) + 1 + text::width(&does);
        if usize::from(column) + width > usize::from(area.width) {
            break;
        }
        column += put(buffer, area, column, key, Look::BOLD);
        column += put(buffer, area, column, &format!(" {does}  "), Look::FAINT);
    }
}

fn of_place(state: &State) -> Vec<(&'static str, String)> {
    let own = |texts: &[(&'static str, &str)]| -> Vec<(&'static str, String)> {
        texts.iter().map(|(key, does)| (*key, (*does).to_owned())).collect()
    };
    match state.overlay() {
        Some((Overlay::Help | Overlay::Notes, _)) => return own(&[("Esc", "closes"), ("Up Down", "scroll")]),
        None => {}
    }
    let mut keys = match state.place().table() {
        Table::Vms => own(&[("Enter", "vCPUs")]),
        Table::Vcpus => own(&[("Enter", "reasons"), ("Left", "back")]),
        Table::Rows(EXITS) => own(&[("Enter", "more"), ("Left", "back"), ("Tab", "next")]),
        Table::Rows(_) if state.not_running().is_some_and(|offer| offer.can_start) => {
            own(&[("Enter", "start"), ("Left", "back"), ("Tab", "next")])
        }
        Table::Rows(_) => own(&[("Left", "back"), ("Tab", "next")]),
    };
    keys.extend(own(&[("s", "sort"), ("/", "filter"), ("p", "pause")]));
    let notes: usize = state.data().reports().map(|report| report.notes.len() + report.hints.len()).sum();
    keys.push(("i", if notes > 0 { format!("notes ({notes})") } else { "notes".to_owned() }));
    keys.extend(own(&[("?", "help"), ("q", "quit")]));
    keys
}
