//! Cells to bytes: what changed, in the sequences that every terminal since the VT220 obeys, with its sixteen colours at
//! most. Bytes are kept until a whole picture is there, so that none is seen half drawn.

use std::io::{self, Write};

use ratatui_core::{
    backend::{Backend, ClearType, WindowSize},
    buffer::Cell,
    layout::{Position, Size},
    style::{Color, Modifier},
};

use crate::view::text;

/// Alternate screen with the cursor saved; cursor hidden; lines that are too long are cut (DEC private modes 1049, 25
/// and 7).
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7l\u{1b}[H\u{1b}[2J";
/// All of that undone, and no colours (SGR 0).
const LEAVE: &str = "\u{1b}[0m\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l";

/// A terminal behind a writer.
#[derive(Debug)]
pub struct Ansi<W> {
    out: W,
    size: fn() -> Size,
    bytes: Vec<u8>,
    cursor: Option<Position>,
    /// As of the last cell; `None` = unknown.
    style: Option<(Color, Color, Modifier)>,
}

impl<W: Write> Ansi<W> {
    /// A terminal that is asked for its size by `size`.
    pub const fn new(out: W, size: fn() -> Size) -> Self {
        Self { out, size, bytes: Vec::new(), cursor: None, style: None }
    }

    /// Takes the whole screen.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn enter(&mut self) -> io::Result<()> {
        (self.cursor, self.style) = (None, None);
        self.bytes.extend_from_slice(ENTER.as_bytes());
        self.flush()
    }

    /// Gives it back.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn leave(&mut self) -> io::Result<()> {
        self.bytes.clear();
        self.bytes.extend_from_slice(LEAVE.as_bytes());
        self.flush()
    }

    /// The bytes that give a screen back, for when all else is lost.
    #[must_use]
    pub const fn leaving() -> &'static [u8] {
        LEAVE.as_bytes()
    }

    /// The writer.
    #[must_use]
    pub const fn writer(&self) -> &W {
        &self.out
    }

    fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn go_to(&mut self, to: Position) {
        match self.cursor {
            Some(at) if at == to => {}
            // A few columns to the right on the same line: CUF is shorter than CUP.
            Some(at) if at.y == to.y && at.x < to.x => {
                let by = to.x - at.x;
                self.push(&if by == 1 { "\u{1b}[C".to_owned() } else { format!("\u{1b}[{by}C") });
            }
            _ => self.push(&format!("\u{1b}[{};{}H", to.y + 1, to.x + 1)),
        }
        self.cursor = Some(to);
    }

    fn paint(&mut self, cell: &Cell) {
        let style = (cell.fg, cell.bg, cell.modifier);
        if self.style == Some(style) {
            return;
        }
        // ECMA-48 8.3.117; 90 to 107 are aixterm's bright colours.
        let mut sgr = "\u{1b}[0".to_owned();
        let attributes =
            [(Modifier::BOLD, 1), (Modifier::DIM, 2), (Modifier::UNDERLINED, 4), (Modifier::REVERSED, 7)];
        for (modifier, code) in attributes {
            if cell.modifier.contains(modifier) {
                sgr += &format!(";{code}");
            }
        }
        for (color, base) in [(cell.fg, 30), (cell.bg, 40)] {
            if let Some(code) = code(color) {
                sgr += &format!(";{}", base + code);
            }
        }
        sgr.push('m');
        self.push(&sgr);
        self.style = Some(style);
    }
}

/// What a colour adds to 30 or 40; none for the terminal's own, and for what not every terminal has.
const fn code(color: Color) -> Option<u8> {
    Some(match color {
        Color::Black => 0,
        Color::Red => 1,
        Color::Green => 2,
        Color::Yellow => 3,
        Color::Blue => 4,
        Color::Magenta => 5,
        Color::Cyan => 6,
        Color::Gray => 7,
        Color::DarkGray => 60,
        Color::LightRed => 61,
        Color::LightGreen => 62,
        Color::LightYellow => 63,
        Color::LightBlue => 64,
        Color::LightMagenta => 65,
        Color::LightCyan => 66,
        Color::White => 67,
        Color::Reset | Color::Rgb(..) | Color::Indexed(_) => return None,
    })
}

impl<W: Write> Backend for Ansi<W> {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        let columns = (self.size)().width;
        for (x, y, cell) in content {
            self.go_to(Position { x, y });
            self.paint(cell);
            self.push(cell.symbol());
            let next = x.saturating_add(u16::try_from(text::width(cell.symbol())).unwrap_or(1));
            // Behind the last column terminals disagree on where the cursor is.
            self.cursor = (next < columns).then_some(Position { x: next, y });
        }
        Ok(())
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        self.push("\u{1b}[?25l");
        Ok(())
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        self.push("\u{1b}[?25h");
        Ok(())
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(self.cursor.unwrap_or_default())
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        self.go_to(position.into());
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        (self.cursor, self.style) = (None, None);
        self.push("\u{1b}[0m\u{1b}[H\u{1b}[2J");
        Ok(())
    }

    fn clear_region(&mut self, region: ClearType) -> io::Result<()> {
        self.style = None;
        self.push("\u{1b}[0m");
        self.push(match region {
            ClearType::All => "\u{1b}[2J",
            ClearType::AfterCursor => "\u{1b}[J",
            ClearType::BeforeCursor => "\u{1b}[1J",
            ClearType::CurrentLine => "\u{1b}[2K",
            ClearType::UntilNewLine => "\u{1b}[K",
        });
        Ok(())
    }

    fn size(&self) -> io::Result<Size> {
        Ok((self.size)())
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: (self.size)(), pixels: Size::default() })
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.out.write_all(&self.bytes);
        self.bytes.clear();
        written.and_then(|()| self.out.flush())
    }
}
