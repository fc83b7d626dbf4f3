//! What is written to the terminal: the picture, and not more than has changed.

use std::{io::Write, num::NonZero};

use kvm_utils::view::tui::{Ansi, Look, draw};
use ratatui_core::{
    backend::Backend,
    layout::Size,
    style::{Color, Modifier},
    terminal::{Frame, Terminal},
};

use crate::screen::Screen;

const SIZE: (u16, u16) = (80, 24);

fn size() -> Size {
    Size { width: SIZE.0, height: SIZE.1 }
}

/// A terminal that understands what is written to it.
struct Emulator {
    screen: vt100::Parser,
    bytes: usize,
}

impl Emulator {
    fn new() -> Self {
        let of = |number| NonZero::new(number).unwrap();
        Self { screen: vt100::Parser::new(of(SIZE.1), of(SIZE.0), 0), bytes: 0 }
    }
}

impl Write for Emulator {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.screen.process(bytes);
        self.bytes += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn color(color: Color) -> vt100::Color {
    match color {
        Color::Reset => vt100::Color::Default,
        Color::Black => vt100::Color::Idx(0),
        Color::Red => vt100::Color::Idx(1),
        Color::Green => vt100::Color::Idx(2),
        Color::Yellow => vt100::Color::Idx(3),
        Color::Blue => vt100::Color::Idx(4),
        Color::Magenta => vt100::Color::Idx(5),
        Color::Cyan => vt100::Color::Idx(6),
        Color::White => vt100::Color::Idx(15),
        other => panic!("{other:?} is not used"),
    }
}

#[test]
fn the_terminal_shows_the_picture_and_gets_little_for_it() {
    let mut screen = Screen::new(SIZE, &["exits", "time", "io"], 30);
    screen.fleet.guests[1].name = "データベース".to_owned();
    screen.look = Look { color: true, unicode: true };
    let emulator = Emulator::new();
    let mut terminal = Terminal::new(Ansi::new(emulator, size)).unwrap();
    terminal.backend_mut().enter().unwrap();
    let mut of_interval = Vec::new();
    for typed in
        ["", "", "", "j", "j", "", "k", "l", "", "l", "", "\r", "?", "?", "h", "h", "/b", "\u{1b}", "p", ""]
    {
        if typed.is_empty() {
            screen.intervals(1);
        } else {
            screen.types(typed);
        }
        let before = terminal.backend().writer().bytes;
        let mut expected = None;
        terminal
            .draw(|frame| {
                draw(&screen.state, screen.look, frame.buffer_mut());
                expected = Some(frame.buffer_mut().clone());
            })
            .unwrap();
        let expected = expected.unwrap();
        if typed.is_empty() {
            of_interval.push(terminal.backend().writer().bytes - before);
        }
        let shown = terminal.backend().writer().screen.screen();
        assert!(shown.alternate_screen() && shown.hide_cursor());
        for y in 0..SIZE.1 {
            for x in 0..SIZE.0 {
                let (cell, got) = (&expected[(x, y)], shown.cell(y, x).unwrap());
                if got.is_wide_continuation() {
                    continue;
                }
                let symbol = if got.has_contents() { got.contents() } else { " " };
                assert_eq!(symbol, cell.symbol(), "{x},{y} after {typed:?}");
                let reversed = cell.modifier.contains(Modifier::REVERSED);
                assert_eq!(
                    (got.bgcolor(), got.inverse()),
                    (color(cell.bg), reversed),
                    "{x},{y} after {typed:?}"
                );
                // Of a space nobody sees it.
                if symbol != " " {
                    assert_eq!(got.fgcolor(), color(cell.fg), "{x},{y} after {typed:?}");
                }
            }
        }
    }
    // The first picture is whole, the others are what changed.
    assert!(of_interval[0] > 1000, "{of_interval:?}");
    for bytes in &of_interval[1..3] {
        assert!(*bytes < 1200, "{of_interval:?}");
    }
    terminal.backend_mut().leave().unwrap();
    let shown = terminal.backend().writer().screen.screen();
    assert!(!shown.alternate_screen() && !shown.hide_cursor());
}

#[test]
fn without_colours_there_are_none() {
    let mut screen = Screen::new(SIZE, &["exits", "time"], 30);
    screen.look = Look { color: false, unicode: true };
    for typed in ["", "l", "l", "?"] {
        screen.types(typed);
        let buffer = screen.draw();
        assert!(buffer.content().iter().all(|cell| (cell.fg, cell.bg) == (Color::Reset, Color::Reset)));
    }
}

#[test]
fn a_size_that_changes_draws_anew() {
    let emulator = Emulator::new();
    let mut terminal: Terminal<Ansi<Emulator>> = Terminal::new(Ansi::new(emulator, size)).unwrap();
    let screen = Screen::new(SIZE, &["exits"], 3);
    let show = |terminal: &mut Terminal<Ansi<Emulator>>| {
        let frame = |frame: &mut Frame<'_>| {
            draw(&screen.state, screen.look, frame.buffer_mut());
        };
        terminal.draw(frame).unwrap();
    };
    show(&mut terminal);
    let before = terminal.backend().writer().bytes;
    show(&mut terminal);
    assert!(terminal.backend().writer().bytes - before < 32);
    terminal.clear().unwrap();
    terminal.backend_mut().flush().unwrap();
    show(&mut terminal);
    assert!(terminal.backend().writer().bytes - before > 500);
}
