//! Writes reports to standard output in the format asked for: in place on a terminal, one after the other elsewhere.

use std::io::{self, IsTerminal as _, Stdout, Write as _};

use anyhow::Context as _;

use super::options::{Look, Output};
use crate::{
    error::say,
    model::{Report, Verdict},
    view::{self, Frame, Style, live::Size},
};

/// Whether a terminal may get colours, and whether it shows characters outside ASCII, by the environment.
pub(super) fn abilities() -> (bool, bool) {
    // https://no-color.org: any value but the empty one.
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
        || std::env::var_os("TERM").is_some_and(|v| v == "dumb");
    let utf8 = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .filter_map(std::env::var_os)
        .find(|v| !v.is_empty())
        .is_some_and(|v| v.to_string_lossy().to_ascii_lowercase().replace('-', "").contains("utf8"));
    (!no_color, utf8)
}

/// Standard output.
pub struct Printer {
    output: Output,
    style: Style,
    frame: Frame<Stdout>,
    terminal: bool,
    /// A report on a terminal takes the place of the one before.
    live: bool,
    header_done: bool,
    /// Notes that were told beside the rows.
    noted: Vec<String>,
}

impl Printer {
    /// A printer for what the options say and what standard output is.
    pub fn new(look: &Look) -> Self {
        let terminal = io::stdout().is_terminal();
        let (color, unicode) = abilities();
        Self {
            output: look.output,
            style: Style { color: terminal && color, unicode, by: look.by, ..Style::default() },
            frame: Frame::new(io::stdout()),
            terminal,
            live: true,
            header_done: false,
            noted: Vec::new(),
        }
    }

    /// For reports that are there already: none is drawn over another.
    #[must_use]
    pub fn in_a_row(look: &Look) -> Self {
        Self { live: false, ..Self::new(look) }
    }

    /// Shows a report. A summary stays on the screen, whatever comes after.
    ///
    /// # Errors
    ///
    /// Those of standard output.
    pub fn show(&mut self, report: &Report) -> anyhow::Result<()> {
        self.write(report).context("cannot write to standard output")
    }

    fn write(&mut self, report: &Report) -> anyhow::Result<()> {
        match self.output {
            Output::Table if self.terminal => self.draw(report)?,
            Output::Table => self.frame.append(&view::table::render(report, &self.style))?,
            Output::Json => {
                let mut out = io::stdout().lock();
                writeln!(out, "{}", view::json::line(report)?)?;
                out.flush()?;
            }
            Output::Csv => {
                let mut out = io::stdout().lock();
                if !self.header_done {
                    view::csv::header(&mut out, report.columns)?;
                    self.header_done = true;
                }
                view::csv::rows(&mut out, report)?;
                out.flush()?;
                // Rows have no place for it.
                if let Verdict::Doubtful(doubts) = report.proof.verdict() {
                    for doubt in doubts {
                        say(doubt);
                    }
                }
                for note in &report.notes {
                    if !self.noted.contains(note) {
                        say(note);
                        self.noted.push(note.clone());
                    }
                }
            }
        }
        Ok(())
    }

    fn draw(&mut self, report: &Report) -> io::Result<()> {
        let size = terminal_size();
        let mut style = Style { width: Some(size.columns), ..self.style };
        if report.summary || !self.live {
            self.frame.erase()?;
            return self.frame.append(&view::table::render(report, &style));
        }
        style.height = Some(size.room());
        self.frame.redraw(&view::table::render(report, &style), size)
    }
}

/// Whether nothing is to be coloured. https://no-color.org: any value but the empty one.
pub fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
        || std::env::var_os("TERM").is_some_and(|v| v == "dumb")
}

/// Whether the terminal shows characters outside ASCII.
pub fn utf8() -> bool {
    ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .filter_map(std::env::var_os)
        .find(|v| !v.is_empty())
        .is_some_and(|v| v.to_string_lossy().to_ascii_lowercase().replace('-', "").contains("utf8"))
}

/// The terminal's size.
pub fn terminal_size() -> Size {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            Size { columns: usize::from(size.ws_col), rows: usize::from(size.ws_row) }
        }
        // A serial console does not know its size.
        _ => Size { columns: 80, rows: 24 },
    }
}
