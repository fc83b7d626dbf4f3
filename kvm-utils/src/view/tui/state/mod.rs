//! What the screen is about: the newest numbers, where one is, and what was typed. Reports and keys change it, nothing
//! else does.

mod data;
mod ident;
mod listing;
mod offer;
mod place;
mod series;
mod settings;

use std::{collections::BTreeMap, time::Duration};

pub use data::{BUCKETS, Data, EXITS, Ledger, TIME, same_vcpu};
pub use ident::{ItemKey, Scope, VcpuKey, VmKey};
pub use listing::Item;
pub use offer::{KEYS, Offer, fitting, key_of};
pub use place::{Place, Table};
pub use series::{KEPT, Series, SeriesKey};
pub use settings::{Listing, Settings};

use super::{Drawn, Key};
use crate::model::{Cell, Report};

/// What is to be done beyond showing something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// End.
    Quit,
    /// Give the terminal back until somebody continues the process.
    Suspend,
    /// Draw everything anew: something else may have written to the terminal.
    Redraw,
    /// Start the drill-down of this noun.
    Start(&'static str),
}

/// What lies over the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlay {
    /// Keys and what things mean.
    Help,
    /// Proofs, doubts, hints and notes of all drill-downs.
    Notes,
}

/// Everything.
#[derive(Debug, Default)]
pub struct State {
    live: Data,
    frozen: Option<Box<Data>>,
    offers: Vec<Offer>,
    place: Place,
    tables: BTreeMap<Table, Settings>,
    listing: Listing,
    overlay: Option<Overlay>,
    scroll: usize,
    typing: bool,
    message: Option<String>,
    drawn: Drawn,
}

impl State {
    /// A state without numbers, which knows what drill-downs there are.
    #[must_use]
    pub fn new(offers: Vec<Offer>) -> Self {
        Self { offers, ..Self::default() }
    }

    /// Takes the reports of an interval, one for each drill-down that runs.
    pub fn update(&mut self, reports: Vec<Report>) {
        self.live.absorb(reports);
        if self.frozen.is_none() {
            self.refresh();
        }
    }

    /// Which drill-downs run, and which may be started, has changed.
    pub fn offer(&mut self, offers: Vec<Offer>) {
        self.offers = offers;
        self.refresh();
    }

    /// Something to be read once, until the next key.
    pub fn say(&mut self, message: String) {
        self.message = Some(message);
    }

    /// Takes note of what fitted on the screen.
    pub fn drawn(&mut self, drawn: Drawn) {
        self.settings().offset = drawn.offset;
        self.scroll = self.scroll.min(drawn.last_scroll);
        self.drawn = drawn;
    }

    /// A key was pressed.
    pub fn key(&mut self, key: Key) -> Option<Action> {
        self.message = None;
        match key {
            Key::Interrupt => return Some(Action::Quit),
            Key::Suspend => return Some(Action::Suspend),
            Key::Redraw => return Some(Action::Redraw),
            _ => {}
        }
        let action = if self.overlay.is_some() {
            self.key_in_overlay(key);
            None
        } else if self.typing && self.key_in_filter(key) {
            None
        } else {
            self.key_in_table(key)
        };
        self.refresh();
        action
    }

    /// The numbers that are shown.
    #[must_use]
    pub fn data(&self) -> &Data {
        self.frozen.as_deref().unwrap_or(&self.live)
    }

    /// Where one is.
    #[must_use]
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// The table that is shown.
    #[must_use]
    pub const fn listing(&self) -> &Listing {
        &self.listing
    }

    /// How it is looked at.
    #[must_use]
    pub fn table(&self) -> Settings {
        self.tables.get(&self.place.table()).cloned().unwrap_or_default()
    }

    /// The drill-downs.
    #[must_use]
    pub fn offers(&self) -> &[Offer] {
        &self.offers
    }

    /// The drill-down that is shown, if it does not run.
    #[must_use]
    pub fn not_running(&self) -> Option<&Offer> {
        let Table::Rows(noun) = self.place.table() else { return None };
        self.offers.iter().find(|offer| offer.noun == noun && !offer.runs)
    }

    /// What lies over it, and by how many lines it is scrolled.
    #[must_use]
    pub const fn overlay(&self) -> Option<(Overlay, usize)> {
        match self.overlay {
            Some(overlay) => Some((overlay, self.scroll)),
            None => None,
        }
    }

    /// A filter is being typed.
    #[must_use]
    pub const fn is_typing(&self) -> bool {
        self.typing
    }

    /// Something to be read once.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// How old the numbers are, when the screen is paused.
    #[must_use]
    pub fn paused(&self) -> Option<Duration> {
        let frozen = self.frozen.as_deref()?;
        let time = |data: &Data| data.reports().next().map(|report| report.time);
        let age = time(&self.live).zip(time(frozen)).and_then(|(now, then)| now.duration_since(then).ok());
        Some(age.unwrap_or_default())
    }

    fn settings(&mut self) -> &mut Settings {
        self.tables.entry(self.place.table()).or_default()
    }

    /// Makes the table anew from the numbers and what was typed.
    fn refresh(&mut self) {
        let (columns, items) = listing::items(self.data(), &self.place);
        let place = self.place.clone();
        let settings = self.settings();
        settings.enter(&place);
        self.listing = settings.arrange(columns, items);
    }

    fn key_in_overlay(&mut self, key: Key) {
        let page = self.drawn.overlay_lines.max(1);
        match key {
            Key::Esc
            | Key::Enter
            | Key::Backspace
            | Key::Left
            | Key::Help
            | Key::Char('q' | '?' | 'i' | 'h') => {
                self.overlay = None;
            }
            Key::Up | Key::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            Key::Down | Key::Char('j') => self.scroll = (self.scroll + 1).min(self.drawn.last_scroll),
            Key::PageUp => self.scroll = self.scroll.saturating_sub(page),
            Key::PageDown | Key::Char(' ') => self.scroll = (self.scroll + page).min(self.drawn.last_scroll),
            Key::Home | Key::Char('g') => self.scroll = 0,
            Key::End | Key::Char('G') => self.scroll = self.drawn.last_scroll,
            _ => {}
        }
    }

    /// Whether the key belongs to what is being typed.
    fn key_in_filter(&mut self, key: Key) -> bool {
        match key {
            Key::Char(c) => self.settings().type_filter(c),
            Key::Enter => self.typing = false,
            Key::Esc => {
                self.typing = false;
                self.settings().filter.clear();
            }
            Key::Backspace => {
                if self.settings().filter.pop().is_none() {
                    self.typing = false;
                }
            }
            _ => return false,
        }
        true
    }

    fn key_in_table(&mut self, key: Key) -> Option<Action> {
        let page = self.drawn.table_lines.max(1);
        let at = self.listing.selected;
        match key {
            Key::Char('q') => return Some(Action::Quit),
            Key::Up | Key::Char('k') => self.select(at.saturating_sub(1)),
            Key::Down | Key::Char('j') => self.select(at + 1),
            Key::PageUp => self.select(at.saturating_sub(page)),
            Key::PageDown => self.select(at + page),
            Key::Home | Key::Char('g') => self.select(0),
            Key::End | Key::Char('G') => self.select(usize::MAX),
            Key::Enter | Key::Right | Key::Char('l') => return self.open(key),
            Key::Esc if !self.settings().filter.is_empty() => self.settings().filter.clear(),
            Key::Esc | Key::Left | Key::Backspace | Key::Char('h') => self.go_back(),
            Key::Char('s' | '>') => self.sort(false),
            Key::Char('<') => self.sort(true),
            Key::Char('r') => {
                let settings = self.settings();
                settings.reverse = !settings.reverse;
            }
            Key::Char('/') => self.typing = true,
            Key::Char(' ' | 'p') => {
                self.frozen = match self.frozen.take() {
                    Some(_) => None,
                    None => Some(Box::new(self.live.clone())),
                };
            }
            Key::Char('?') | Key::Help => self.lay_over(Overlay::Help),
            Key::Char('i') => self.lay_over(Overlay::Notes),
            Key::Tab => self.turn(false),
            Key::BackTab => self.turn(true),
            Key::Char('a') => return self.start(),
            Key::Char(c) => self.jump(c),
            Key::Interrupt | Key::Suspend | Key::Redraw => {}
        }
        None
    }

    fn lay_over(&mut self, overlay: Overlay) {
        self.overlay = Some(overlay);
        self.scroll = 0;
    }

    fn select(&mut self, index: usize) {
        let mut listing = std::mem::take(&mut self.listing);
        self.settings().select(&mut listing, index);
        self.listing = listing;
    }

    fn sort(&mut self, back: bool) {
        let listing = std::mem::take(&mut self.listing);
        self.settings().next_sort(&listing, back);
        self.listing = listing;
    }

    fn go(&mut self, place: Place) {
        self.place = place;
        self.typing = false;
    }

    fn go_back(&mut self) {
        match self.place.up() {
            Some(up) => self.go(up),
            None => self.message = Some("these are all VMs; q quits".to_owned()),
        }
    }

    /// One level down.
    fn open(&mut self, key: Key) -> Option<Action> {
        if self.not_running().is_some() {
            return if key == Key::Enter { self.start() } else { None };
        }
        let item = self.listing.selected()?.clone();
        match (self.place.table(), &item.key) {
            (Table::Vms, ItemKey::Vm(vm)) => {
                let vm = Some((*vm, name_of(&item)));
                self.go(Place { vm, ..Place::default() });
            }
            (Table::Vcpus, ItemKey::Scope(scope)) => {
                self.go(Place { scope: Some(*scope), ..self.place.clone() });
            }
            (Table::Rows(noun), ItemKey::Row(_)) if noun == EXITS => self.tell_more(&item),
            _ => {}
        }
        None
    }

    /// The drill-down that tells more about a reason.
    fn tell_more(&mut self, item: &Item) {
        let column = self.listing.columns.iter().position(|column| column.id == "class");
        let class = match column.and_then(|column| item.row.cells.get(column)) {
            Some(Cell::Text(class)) => class.clone(),
            _ => String::new(),
        };
        let noun = offer::choose(&self.offers, fitting(&class));
        let anywhere =
            self.offers.iter().find(|offer| offer.noun == "rip" && offer.runs).map(|offer| offer.noun);
        match noun.or(anywhere) {
            Some(noun) => self.go(Place { noun: Some(noun), ..self.place.clone() }),
            None => {
                self.message = Some(format!(
                    "no drill-down is about {} exits; 0 (rip) tells where in the guest they come from",
                    if class.is_empty() { "these" } else { &class }
                ));
            }
        }
    }

    /// To the drill-down behind a number key, for what is selected.
    fn jump(&mut self, key: char) {
        let Some((_, nouns)) = KEYS.iter().find(|(of, _)| *of == key) else { return };
        match offer::choose(&self.offers, nouns) {
            Some(noun) => self.show(noun),
            None => self.message = Some(format!("there is no {} here", nouns[0])),
        }
    }

    /// The next drill-down that runs, or the one before.
    fn turn(&mut self, back: bool) {
        let mut running: Vec<_> =
            self.offers.iter().filter(|offer| offer.runs).map(|offer| offer.noun).collect();
        if back {
            running.reverse();
        }
        let now = match self.place.table() {
            Table::Rows(noun) => running.iter().position(|of| *of == noun),
            Table::Vms | Table::Vcpus => None,
        };
        let next = now.map_or(0, |now| now + 1);
        if let Some(noun) = running.get(next).or_else(|| running.first()) {
            self.show(noun);
        }
    }

    /// A drill-down's rows of what is selected.
    fn show(&mut self, noun: &'static str) {
        let mut place = self.place.clone();
        match (place.table(), self.listing.selected()) {
            (Table::Vms, Some(item)) => {
                let ItemKey::Vm(vm) = item.key else { return };
                place.vm = Some((vm, name_of(item)));
                place.scope = Some(Scope::All);
            }
            (Table::Vcpus, Some(item)) => {
                let ItemKey::Scope(scope) = item.key else { return };
                place.scope = Some(scope);
            }
            (Table::Rows(_), _) => {}
            (Table::Vms | Table::Vcpus, None) => {
                self.message = Some("nothing is selected".to_owned());
                return;
            }
        }
        place.noun = (noun != EXITS).then_some(noun);
        self.go(place);
    }

    /// Starts the drill-down that is shown and does not run.
    fn start(&mut self) -> Option<Action> {
        let offer = self.not_running()?;
        if offer.can_start {
            return Some(Action::Start(offer.noun));
        }
        self.message = Some(format!("start it with kvm-utils top --with {}", offer.noun));
        None
    }
}

/// The first text of a line: what it is called.
fn name_of(item: &Item) -> String {
    match item.row.cells.first() {
        Some(Cell::Text(name)) => name.clone(),
        _ => String::new(),
    }
}
