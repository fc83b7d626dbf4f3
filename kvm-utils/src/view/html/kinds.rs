//! What rows are about: which of a report's rows is which of the picture's kinds.

use crate::model::{Cell, Column, Report, Role, Row, Unit};
use crate::view::{text, units};

/// Key columns up to this importance make the name of a kind.
const TELLING: u8 = 2;

/// A kind of rows: those whose keys are these.
#[derive(Clone, Debug)]
pub struct Kind {
    keys: Vec<Cell>,
    /// What people call it.
    pub name: String,
    /// Its time is waiting.
    pub waiting: bool,
    /// Events in the whole run.
    pub count: u64,
}

/// The columns of a drill-down that matter here.
#[derive(Clone, Debug)]
pub struct Layout {
    keys: Vec<usize>,
    telling: Vec<usize>,
    /// The column that counts events.
    pub count: usize,
}

impl Layout {
    /// `None` if nothing is counted.
    pub fn of(columns: &'static [Column]) -> Option<Self> {
        let count = columns.iter().position(|c| c.role == Role::Sum && c.unit == Unit::Count)?;
        let keys: Vec<usize> = (0..columns.len()).filter(|i| columns[*i].role == Role::Key).collect();
        let is_telling = |i: &usize| columns[*i].importance.is_some_and(|importance| importance <= TELLING);
        let telling = keys.iter().copied().filter(is_telling).collect();
        Some(Self { keys, telling, count })
    }

    /// Events of a row.
    pub fn count(&self, row: &Row) -> u64 {
        match row.cells.get(self.count) {
            Some(Cell::Number(n)) => *n,
            _ => 0,
        }
    }

    /// The title of the first key that makes the name, in small letters: `reason`.
    pub fn by(&self, columns: &[Column]) -> String {
        self.telling.first().map_or_else(String::new, |i| columns[*i].title.to_lowercase())
    }

    /// The kinds of the run's rows, most events first; rows that sum up others are none.
    pub fn kinds(&self, whole: &Report) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = Vec::new();
        for row in whole.totals.iter().filter(|row| !row.of_others) {
            let count = self.count(row);
            match kinds.iter_mut().find(|kind| self.is(kind, row)) {
                Some(kind) => kind.count = kind.count.saturating_add(count),
                None => kinds.push(Kind {
                    keys: self.keys.iter().map(|i| cell(row, *i).clone()).collect(),
                    name: self.name(row, whole.columns),
                    waiting: row.waiting,
                    count,
                }),
            }
        }
        kinds.sort_by_key(|kind| std::cmp::Reverse(kind.count));
        kinds
    }

    /// Whether a row is of a kind.
    pub fn is(&self, kind: &Kind, row: &Row) -> bool {
        kind.waiting == row.waiting && self.keys.iter().zip(&kind.keys).all(|(i, key)| cell(row, *i) == key)
    }

    fn name(&self, row: &Row, columns: &[Column]) -> String {
        let texts = self.telling.iter().filter_map(|i| {
            let text = units::cell(cell(row, *i), columns[*i].unit);
            (!text.is_empty() && text != units::UNKNOWN).then_some(text)
        });
        let name = texts.collect::<Vec<_>>().join(" ");
        if name.is_empty() { units::UNKNOWN.to_owned() } else { text::safe(&name, true) }
    }
}

fn cell(row: &Row, index: usize) -> &Cell {
    row.cells.get(index).unwrap_or(&Cell::Unknown)
}
