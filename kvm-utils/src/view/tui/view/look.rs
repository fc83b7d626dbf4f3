//! Colours and characters, by what the terminal is said to be able to.

use ratatui_core::style::{Color, Modifier, Style};

use crate::view::table::fit::Paint;

/// What the terminal is said to be able to. Nothing depends on seeing colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Colours, the sixteen that every terminal with colours has.
    pub color: bool,
    /// Characters outside ASCII.
    pub unicode: bool,
}

impl Look {
    /// As it is.
    pub const PLAIN: Style = Style::new();
    /// What matters.
    pub const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
    /// What does not.
    pub const FAINT: Style = Style::new().add_modifier(Modifier::DIM);
    /// What is selected.
    pub const SELECTED: Style = Style::new().add_modifier(Modifier::REVERSED);

    /// With a colour, where there are colours.
    #[must_use]
    pub const fn fg(self, style: Style, color: Color) -> Style {
        if self.color { style.fg(color) } else { style }
    }

    /// Where one is.
    #[must_use]
    pub const fn place(self) -> Style {
        self.fg(Self::BOLD, Color::Cyan)
    }

    /// A line of a report.
    #[must_use]
    pub const fn paint(self, paint: Paint) -> Style {
        match paint {
            Paint::Plain => Self::PLAIN,
            Paint::Heading => Self::BOLD,
            Paint::Waiting => Self::FAINT,
            Paint::Unchecked => self.fg(Self::PLAIN, Color::Yellow),
            Paint::Doubt => self.fg(Self::BOLD, Color::Red),
        }
    }

    /// A bucket of the ledger.
    #[must_use]
    pub const fn bucket(self, bucket: usize) -> Style {
        const COLORS: [Option<(Color, Color)>; 7] = [
            Some((Color::Black, Color::Green)),
            Some((Color::Black, Color::Yellow)),
            Some((Color::White, Color::Magenta)),
            Some((Color::Black, Color::Cyan)),
            None,
            Some((Color::White, Color::Red)),
            Some((Color::White, Color::Blue)),
        ];
        match COLORS[bucket] {
            Some((fg, bg)) if self.color => Style::new().fg(fg).bg(bg),
            Some(_) => Self::PLAIN,
            None => Self::FAINT,
        }
    }

    /// The character for characters with or without Unicode.
    #[must_use]
    pub const fn char(self, unicode: char, ascii: char) -> char {
        if self.unicode { unicode } else { ascii }
    }
}
