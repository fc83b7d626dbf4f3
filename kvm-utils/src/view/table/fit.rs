//! The lines of a table, and which of them to show when there are too many for the screen.

use super::Style;
use crate::view::text;

/// How a line looks where colours are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// As it is.
    Plain,
    /// Whose numbers follow.
    Heading,
    /// A waiting row, or what was left out.
    Waiting,
    /// The numbers could not be checked.
    Unchecked,
    /// The numbers are doubtful.
    Doubt,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    text: String,
    paint: Paint,
}

impl Line {
    /// A line of `text`, which holds no escape sequences.
    pub const fn new(text: String, paint: Paint) -> Self {
        Self { text, paint }
    }

    /// What it says.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How it looks.
    pub const fn paint(&self) -> Paint {
        self.paint
    }

    /// The line with its newline, cut to the style's width.
    pub fn render(&self, style: &Style) -> String {
        let text = text::cut(&self.text, style.columns(), style.unicode);
        // Select Graphic Rendition, ECMA-48 8.3.117: 1 bold, 2 faint, 31 red, 33 yellow.
        let sgr = match self.paint {
            _ if !style.color || text.is_empty() => return text + "\n",
            Paint::Plain => return text + "\n",
            Paint::Heading => "1",
            Paint::Waiting => "2",
            Paint::Unchecked => "33",
            Paint::Doubt => "31",
        };
        format!("\u{1b}[{sgr}m{text}\u{1b}[0m\n")
    }
}

/// A heading and its rows.
#[derive(Debug, Default)]
pub struct Block {
    /// An empty line stands before it.
    pub apart: bool,
    /// Heading and titles.
    pub head: Vec<Line>,
    /// Rows, waiting ones last.
    pub rows: Vec<Line>,
}

impl Block {
    /// Lines with at most `cap` lines of rows.
    fn height(&self, cap: usize) -> usize {
        usize::from(self.apart) + self.head.len() + self.rows.len().min(cap)
    }

    /// The block with at most `cap` (1 or more) lines of rows; the last but waiting ones are left out and counted.
    fn cut(mut self, cap: usize, style: &Style) -> Vec<Line> {
        let mut lines = Vec::new();
        if self.apart {
            lines.push(Line::new(String::new(), Paint::Plain));
        }
        lines.append(&mut self.head);
        if self.rows.len() > cap {
            let waiting = self.rows.iter().rev().take_while(|row| row.paint == Paint::Waiting).count();
            // Waiting rows stay if that leaves room for two others.
            let waiting = if waiting + 3 <= cap { waiting } else { 0 };
            let end = self.rows.len() - waiting;
            let begin = cap.saturating_sub(1 + waiting);
            self.rows.splice(begin..end, [more(end - begin, "row", "rows", style)]);
        }
        lines.append(&mut self.rows);
        lines
    }
}

/// A whole table.
pub struct Document {
    /// Before the first block.
    pub lead: Vec<Line>,
    /// Blocks.
    pub blocks: Vec<Block>,
    /// What a block stands for, one and many.
    pub unit: (&'static str, &'static str),
    /// Blocks that were left out from the beginning.
    pub hidden: usize,
    /// Whether to believe it; shown always.
    pub proof: Vec<Line>,
    /// The same in fewer lines.
    pub brief_proof: Vec<Line>,
    /// What to look at next; the first to go.
    pub extra: Vec<Line>,
}

/// The fewest lines of rows that make a block worth showing.
const USEFUL_ROWS: usize = 4;

/// The lines to show, at most as many as the style's height.
pub fn lines(mut document: Document, style: &Style) -> Vec<Line> {
    let most_rows = document.blocks.iter().map(|block| block.rows.len()).max().unwrap_or(0).max(1);
    let Some(height) = style.height.map(|height| height.max(1)) else {
        let caps = vec![most_rows; document.blocks.len()];
        return document.assemble(&caps, style);
    };
    let useful = USEFUL_ROWS.min(most_rows);
    if document.height(useful) > height {
        document.extra.clear();
    }
    if document.height(useful) > height {
        document.proof = std::mem::take(&mut document.brief_proof);
    }
    while document.blocks.len() > 1 && document.height(useful) > height {
        document.blocks.pop();
        document.hidden += 1;
    }
    let cap = (1..=most_rows).rev().find(|cap| document.height(*cap) <= height).unwrap_or(1);
    let mut spare = height.saturating_sub(document.height(cap));
    let mut caps = Vec::new();
    for block in &document.blocks {
        let extra = spare.min(block.rows.len().saturating_sub(cap));
        spare -= extra;
        caps.push(cap + extra);
    }
    // A screen of a few lines: whether to believe the numbers matters less than the numbers.
    let mut lines = document.assemble(&caps, style);
    lines.truncate(height);
    lines
}

impl Document {
    fn height(&self, cap: usize) -> usize {
        let blocks: usize = self.blocks.iter().map(|block| block.height(cap)).sum();
        let others = usize::from(self.hidden > 0) + usize::from(self.spread());
        self.lead.len() + blocks + others + self.proof.len() + self.extra.len()
    }

    /// An empty line stands before the proof where it could be taken for the last block's.
    fn spread(&self) -> bool {
        self.blocks.iter().any(|block| block.apart)
    }

    fn assemble(self, caps: &[usize], style: &Style) -> Vec<Line> {
        let spread = self.spread();
        let mut lines = self.lead;
        for (block, cap) in self.blocks.into_iter().zip(caps) {
            lines.extend(block.cut(*cap, style));
        }
        if self.hidden > 0 {
            lines.push(more(self.hidden, self.unit.0, self.unit.1, style));
        }
        if spread {
            lines.push(Line::new(String::new(), Paint::Plain));
        }
        lines.extend(self.proof);
        lines.extend(self.extra);
        lines
    }
}

/// `… 12 more rows`.
fn more(n: usize, one: &str, many: &str, style: &Style) -> Line {
    let dots = if style.unicode { "…" } else { "..." };
    Line::new(format!("{dots} {n} more {}", if n == 1 { one } else { many }), Paint::Waiting)
}
