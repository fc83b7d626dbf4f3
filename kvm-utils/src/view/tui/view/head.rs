//! The first lines: where one is, and whose numbers these are.

use ratatui_core::{buffer::Buffer, layout::Rect, style::Style};

use super::{Look, put, sentences};
use crate::{
    model::Report,
    view::{
        table::words,
        text,
        tui::state::{EXITS, KEYS, Place, Scope, State, Table, key_of, same_vcpu},
        units,
    },
};

/// A name takes no more columns than this.
const LONGEST_NAME: usize = 24;
/// So many columns are enough to say which program this is.
const ROOMY: u16 = 80;

/// The way from all VMs to here; at the right, whether it is paused, which row of how many, and what it costs.
pub fn crumbs(state: &State, look: Look, area: Rect, buffer: &mut Buffer) {
    let right = standing(state);
    let wide: usize = right.iter().map(|(text, _)| text::width(text) + 2).sum();
    let mut column = area.width.saturating_sub(u16::try_from(wide).unwrap_or(u16::MAX)) + 2;
    let left = Rect { width: column.saturating_sub(3), ..area };
    for (text, style) in right {
        column += put(buffer, area, column, &text, style) + 2;
    }
    let program = if area.width >= ROOMY { "kvm-utils top  " } else { "" };
    let between = if look.unicode { " › " } else { " > " };
    let mut steps = way(state, look);
    let long = |steps: &[String], program: &str| {
        let steps = steps.iter().map(|step| text::width(step)).sum::<usize>()
            + (steps.len() - 1) * text::width(between);
        program.len() + steps > usize::from(left.width)
    };
    let program = if long(&steps, program) { "" } else { program };
    // Where one is says more than where one came from.
    while steps.len() > 2 && long(&steps, program) {
        steps.drain(..2);
        steps.insert(0, if look.unicode { "…" } else { "..." }.to_owned());
    }
    let mut column = put(buffer, left, 0, program, Look::PLAIN);
    let last = steps.len() - 1;
    for (index, step) in steps.iter().enumerate() {
        column += put(buffer, left, column, step, if index == last { look.place() } else { Look::PLAIN });
        if index < last {
            column += put(buffer, left, column, between, Look::FAINT);
        }
    }
}

fn way(state: &State, look: Look) -> Vec<String> {
    let place = state.place();
    let mut way = vec!["VMs".to_owned()];
    if let Some((_, name)) = &place.vm {
        way.push(text::cut(&text::safe(name, look.unicode), LONGEST_NAME, look.unicode));
    }
    if let Some(scope) = place.scope {
        way.push(scope.name());
        way.push("reasons".to_owned());
    }
    if let Some(noun) = place.noun {
        way.push(noun.to_owned());
    }
    way
}

fn standing(state: &State) -> Vec<(String, Style)> {
    let mut right = Vec::new();
    if let Some(age) = state.paused() {
        let age = units::duration(age.as_nanos() as f64);
        right.push((format!(" PAUSED, {age} old "), Look::SELECTED.patch(Look::BOLD)));
    }
    let listing = state.listing();
    if !listing.items.is_empty() {
        right.push((format!("{}/{}", listing.selected + 1, listing.items.len()), Look::FAINT));
    }
    if let Some(report) = state.data().reports().next() {
        right.push((units::interval(report.interval.as_secs_f64()), Look::PLAIN));
    }
    if let Some(cost) = state.data().own_cost() {
        right.push((format!("our cost {}", units::percent(cost, " ")), Look::PLAIN));
    }
    right
}

/// Lines of the heading.
pub const fn height(place: &Place, tall: bool) -> usize {
    match place {
        Place { vm: None, .. } | Place { scope: Some(Scope::Vcpu(_)), .. } => 1,
        _ => 1 + tall as usize,
    }
}

/// Whose numbers these are, in at most `most` lines.
pub fn heading(state: &State, look: Look, width: usize, most: usize) -> Vec<(String, Style)> {
    let style = sentences(look, width);
    let place = state.place();
    let Some((key, name)) = &place.vm else { return vec![(overview(state), Look::BOLD)] };
    let noun = match place.table() {
        Table::Rows(noun) => noun,
        Table::Vms | Table::Vcpus => EXITS,
    };
    let found = |report: &'_ Report| -> Option<Vec<(String, Style)>> {
        let vm = key.find(report)?;
        let lines = match place.scope {
            Some(Scope::Vcpu(vcpu)) => words::vcpu(same_vcpu(vcpu, vm)?, report, &style),
            _ => words::vm(vm, report, &style),
        };
        Some(lines.iter().take(most).map(|line| (line.text().to_owned(), Look::BOLD)).collect())
    };
    let data = state.data();
    data.report(noun).and_then(found).or_else(|| data.reports().find_map(found)).unwrap_or_else(|| {
        let name = text::safe(name, look.unicode);
        vec![(format!("{name} is not there any more"), look.paint(crate::view::table::fit::Paint::Unchecked))]
    })
}

fn overview(state: &State) -> String {
    let Some(report) = state.data().reports().next() else { return String::new() };
    let vcpus = report.vms.iter().flat_map(|vm| &vm.vcpus).filter(|vcpu| !vcpu.others).count();
    let rate = units::rate(report.events as f64 / report.interval.as_secs_f64());
    format!(
        "{}  {}  {}  {}   {rate} {}/s",
        units::counted(report.vms.len() as u64, "VM", "VMs"),
        units::counted(vcpus as u64, "vCPU", "vCPUs"),
        report.host.isa,
        report.host.kernel,
        report.counting.1
    )
}

/// The drill-downs with their keys: those that run, then the others.
pub fn tabs(state: &State, area: Rect, buffer: &mut Buffer) {
    let Table::Rows(shown) = state.place().table() else { return };
    let behind = |noun: &str| KEYS.iter().position(|(_, nouns)| nouns.contains(&noun)).unwrap_or(KEYS.len());
    let mut offers: Vec<_> = state.offers().iter().collect();
    offers.sort_by_key(|offer| behind(offer.noun));
    let name = |noun: &str| key_of(noun).map_or_else(|| noun.to_owned(), |key| format!("{key} {noun}"));
    let mut column = 0;
    for offer in offers.iter().filter(|offer| offer.runs || offer.noun == shown) {
        let style = if offer.noun == shown { Look::SELECTED.patch(Look::BOLD) } else { Look::BOLD };
        column += put(buffer, area, column, &name(offer.noun), style) + 1;
    }
    // Of two behind one key, one is enough.
    let taken = |noun: &str| {
        let runs =
            |other: &str| offers.iter().any(|offer| offer.noun == other && (offer.runs || other == shown));
        let first = KEYS.iter().find(|(_, nouns)| nouns.contains(&noun)).map(|(_, nouns)| nouns);
        first.is_none_or(|nouns| nouns.iter().any(|other| runs(other)) || nouns[0] != noun)
    };
    let mut before = " off: ";
    for offer in offers.iter().filter(|offer| !offer.runs && offer.noun != shown && !taken(offer.noun)) {
        column += put(buffer, area, column, before, Look::FAINT);
        column += put(buffer, area, column, &name(offer.noun), Look::FAINT);
        before = " ";
    }
}
