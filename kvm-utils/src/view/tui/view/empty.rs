//! What to say where there is nothing to show, and what to do about it.

use ratatui_core::{buffer::Buffer, layout::Rect};

use super::{Look, put_lines};
use crate::view::{
    text,
    tui::state::{Offer, State, Table},
    units,
};

/// Draws sentences in the table's place.
pub fn render(state: &State, look: Look, area: Rect, buffer: &mut Buffer) {
    let wide = usize::from(area.width.saturating_sub(4));
    let mut lines = vec![(String::new(), Look::PLAIN)];
    for (index, sentence) in sentences(state).into_iter().enumerate() {
        let style = if index == 0 { Look::BOLD } else { Look::PLAIN };
        let safe = text::safe(&sentence, look.unicode);
        lines.extend(text::wrap(&safe, wide).into_iter().map(|text| (format!("  {text}"), style)));
    }
    put_lines(&lines, area, buffer);
}

fn sentences(state: &State) -> Vec<String> {
    if let Some(offer) = state.not_running() {
        return not_running(offer);
    }
    let table = state.table();
    if !table.filter.is_empty() {
        return vec![
            format!("nothing here has \"{}\" in it", table.filter),
            "Esc clears the filter".to_owned(),
        ];
    }
    let data = state.data();
    let Some(first) = data.reports().next() else {
        return vec!["waiting for the first numbers".to_owned(), "they come after one interval".to_owned()];
    };
    let interval = units::interval(first.interval.as_secs_f64());
    let place = state.place();
    let name = place.vm.as_ref().map_or("it", |(_, name)| name);
    let there = place.vm.as_ref().is_none_or(|(key, _)| data.vm(*key).is_some());
    let mut sentences = match place.table() {
        Table::Vms => vec![
            "no exits so far: no VM runs, or none that the options select; waiting for one".to_owned(),
            "kvm-utils caps tells whether this host can trace at all".to_owned(),
        ],
        _ if !there => vec![
            format!("{name} is not there any more, or did nothing for {interval}"),
            "Left goes back".to_owned(),
        ],
        Table::Vcpus => vec![format!("no vCPU of {name} ran for {interval}")],
        Table::Rows(noun) if data.report(noun).is_none() => {
            vec![
                format!("waiting for the first numbers of {noun}"),
                "they come after one interval".to_owned(),
            ]
        }
        Table::Rows(noun) => {
            let many = data.report(noun).map_or("events", |report| report.counting.1);
            let whose = place.scope.map_or_else(String::new, |scope| format!(" of {}", scope.name()));
            vec![format!("no {many}{whose} of {name} for {interval}")]
        }
    };
    let noun = match place.table() {
        Table::Rows(noun) => noun,
        Table::Vms | Table::Vcpus => first.noun,
    };
    sentences.extend(data.report(noun).into_iter().flat_map(|report| report.notes.iter().cloned()));
    sentences
}

fn not_running(offer: &Offer) -> Vec<String> {
    let noun = offer.noun;
    let mut sentences = vec![format!("{noun} does not run")];
    if let Some(failure) = &offer.failure {
        sentences.push(format!("it could not be started: {failure}"));
    }
    sentences.push(if offer.can_start {
        "Enter starts it; from then on its events cost the guests a little".to_owned()
    } else {
        format!("start it beside the others: kvm-utils top --with {noun}")
    });
    // A noun that is no command of its own.
    if noun != "ipi" {
        sentences.push(format!("kvm-utils {noun} shows it alone"));
    }
    sentences
}
