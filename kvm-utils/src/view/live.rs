//! Reports one after the other: in place on a terminal, below each other in a pipe.

use std::io::{self, Write};

use super::text;

/// Up by `n` lines and to the first column; erase to the end of line; erase to the end of screen (ECMA-48 8.3.22, .41
/// and .39); to the upper left corner (.21).
fn up(n: usize) -> String {
    format!("\r\u{1b}[{n}A")
}
const ERASE_LINE: &str = "\u{1b}[K";
const ERASE_BELOW: &str = "\u{1b}[J";
const HOME: &str = "\u{1b}[H";
/// DEC private mode 7: a line that turns out wider than thought is cut by the terminal instead of upsetting the count
/// of lines.
const NO_WRAP: &str = "\u{1b}[?7l";
const WRAP: &str = "\u{1b}[?7h";

/// Size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Characters in a line.
    pub columns: usize,
    /// Lines.
    pub rows: usize,
}

impl Size {
    /// Lines that can be drawn in place: all but the one that the cursor ends on.
    #[must_use]
    pub fn room(self) -> usize {
        self.rows.saturating_sub(1).max(1)
    }
}

/// Where reports go. Each is written with one call, so that none is ever seen half drawn.
#[derive(Debug)]
pub struct Frame<W> {
    out: W,
    /// What is on the screen: lines, and the size it was drawn for.
    drawn: Option<(usize, Size)>,
    /// Something that was written stays above.
    above: bool,
}

impl<W: Write> Frame<W> {
    /// A frame that has written nothing.
    pub const fn new(out: W) -> Self {
        Self { out, drawn: None, above: false }
    }

    /// Replaces what was drawn last by `text` on a terminal of `size` as it is now. Lines are cut to its width; of
    /// more lines than fit above the cursor's only the first are drawn, so give [`Size::room`] to whoever writes the
    /// text.
    ///
    /// # Errors
    ///
    /// Those of the writer; a closed pipe is [`io::ErrorKind::BrokenPipe`].
    pub fn redraw(&mut self, text: &str, size: Size) -> io::Result<()> {
        let mut bytes = String::with_capacity(text.len() + 256);
        bytes.push_str(NO_WRAP);
        match self.drawn {
            // Narrower than before: the terminal may have broken our lines, or not, and where the frame begins now
            // is anyone's guess. Begin again at the top.
            Some((_, before)) if size.columns < before.columns => bytes.push_str(HOME),
            // It stops at the top of the screen by itself, should the terminal have become lower.
            Some((lines, _)) if lines > 0 => bytes.push_str(&up(lines)),
            _ => bytes.push('\r'),
        }
        let mut lines = 0;
        for line in text.lines().take(size.room()) {
            let (line, width) = text::cut_styled(line, size.columns);
            bytes.push_str(&line);
            // In a full line the cursor stands on the last character, which would be erased.
            if width < size.columns {
                bytes.push_str(ERASE_LINE);
            }
            bytes.push_str("\r\n");
            lines += 1;
        }
        bytes.push_str(ERASE_BELOW);
        bytes.push_str(WRAP);
        self.drawn = Some((lines, size));
        self.write(&bytes)
    }

    /// Writes `text` below what was written before, with an empty line between two reports.
    ///
    /// # Errors
    ///
    /// As [`Frame::redraw`].
    pub fn append(&mut self, text: &str) -> io::Result<()> {
        self.keep();
        let above = std::mem::replace(&mut self.above, true);
        if above { self.write(&format!("\n{text}")) } else { self.write(text) }
    }

    /// What is on the screen stays; the next report goes below it. To be called before anything else is written to
    /// the terminal.
    pub fn keep(&mut self) {
        self.above |= self.drawn.take().is_some();
    }

    /// Removes what was drawn last from the screen, for instance before the summary takes its place.
    ///
    /// # Errors
    ///
    /// As [`Frame::redraw`].
    pub fn erase(&mut self) -> io::Result<()> {
        match self.drawn.take() {
            Some((lines, _)) if lines > 0 => {
                // Line by line: erasing a whole screen at once would push it into the history of some terminals.
                let erased = format!("{ERASE_LINE}\r\n").repeat(lines);
                self.write(&(up(lines) + &erased + &up(lines)))
            }
            _ => Ok(()),
        }
    }

    /// The writer.
    pub fn into_inner(self) -> W {
        self.out
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}
