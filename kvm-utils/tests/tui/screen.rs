//! A state and a screen of a given size, for tests to type on and look at.

use kvm_utils::model::Report;
use kvm_utils::view::tui::{Action, Decoder, Look, Offer, State, draw};
use ratatui_core::{buffer::Buffer, layout::Rect, style::Modifier};

use crate::fleet::Fleet;

/// Every drill-down that has a key, and one that has none.
pub const NOUNS: [&str; 12] =
    ["exits", "time", "io", "msr", "wrmsr", "irq", "halt", "cpuid", "hypercall", "fault", "rip", "ipi"];

pub const UNICODE: Look = Look { color: false, unicode: true };

/// What runs of [`NOUNS`].
pub fn offers(running: &[&str], can_start: bool) -> Vec<Offer> {
    let offer = |noun| Offer {
        noun,
        runs: running.contains(&noun),
        can_start: can_start && !running.contains(&noun),
        failure: None,
    };
    NOUNS.into_iter().map(offer).collect()
}

pub struct Screen {
    pub state: State,
    pub fleet: Fleet,
    pub look: Look,
    pub size: (u16, u16),
    nouns: Vec<&'static str>,
}

impl Screen {
    /// A screen on which these drill-downs run, after so many intervals.
    pub fn new(size: (u16, u16), nouns: &[&'static str], intervals: usize) -> Self {
        let mut screen = Self {
            state: State::new(offers(nouns, false)),
            fleet: Fleet::new(7),
            look: UNICODE,
            size,
            nouns: nouns.to_vec(),
        };
        screen.draw();
        screen.intervals(intervals);
        screen
    }

    pub fn intervals(&mut self, count: usize) {
        for _ in 0..count {
            let reports = self.fleet.reports(&self.nouns);
            self.update(reports);
        }
    }

    pub fn update(&mut self, reports: Vec<Report>) {
        self.state.update(reports);
        self.draw();
    }

    /// Types what a terminal would send.
    pub fn types(&mut self, bytes: &str) -> Option<Action> {
        let mut decoder = Decoder::default();
        let mut keys = decoder.feed(bytes.as_bytes());
        keys.extend(decoder.flush());
        let mut last = None;
        for key in keys {
            last = self.state.key(key);
            self.draw();
        }
        last
    }

    /// Draws it, and lets the state know.
    pub fn draw(&mut self) -> Buffer {
        let (width, height) = self.size;
        let mut buffer = Buffer::empty(Rect { x: 0, y: 0, width, height });
        let drawn = draw(&self.state, self.look, &mut buffer);
        self.state.drawn(drawn);
        buffer
    }

    /// What is on it, line by line.
    pub fn lines(&mut self) -> Vec<String> {
        let buffer = self.draw();
        (0..self.size.1).map(|y| line(&buffer, y)).collect()
    }

    /// The same as one text.
    pub fn text(&mut self) -> String {
        self.lines().join("\n")
    }

    /// The line that is selected.
    pub fn selected(&mut self) -> Option<String> {
        let buffer = self.draw();
        let marked = |y: &u16| {
            let cell = &buffer[(0, *y)];
            cell.symbol() == ">" && cell.modifier.contains(Modifier::REVERSED)
        };
        (0..self.size.1).find(marked).map(|y| line(&buffer, y))
    }

    /// The first word of what is selected.
    pub fn selected_name(&mut self) -> String {
        self.selected().unwrap()[2..].split_whitespace().next().unwrap_or_default().to_owned()
    }
}

fn line(buffer: &Buffer, y: u16) -> String {
    let mut text = String::new();
    let mut skip = 0;
    for x in 0..buffer.area().width {
        if skip > 0 {
            skip -= 1;
            continue;
        }
        let symbol = buffer[(x, y)].symbol();
        skip = kvm_utils::view::text::width(symbol).saturating_sub(1);
        text.push_str(symbol);
    }
    text.trim_end().to_owned()
}
