//! Columns, cells and rows.

/// What a number is. A view chooses notation by it; JSON writes the number as it is, in this unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// No number.
    Text,
    /// Number of events.
    Count,
    /// Events per second.
    PerSecond,
    /// Fraction of a whole, 0 to 1; shown as percent.
    Share,
    /// Fraction of wall time spent on work, 0 to 1; shown as percent, and as `-` in a waiting row's table line, whose
    /// time is not work.
    TimeShare,
    /// Nanoseconds.
    Nanoseconds,
}

/// What a column's cells are to their row, for who adds rows up, compares them or keeps them as series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Tells the row from the others of its table, or describes what it is of.
    Key,
    /// A sum of events or of time: of two intervals, and of the rows of several vCPUs, it is the sum of both; over a run
    /// it never becomes less.
    Sum,
    /// Anything else: rates, shares, extremes, quantiles, values of a moment.
    Derived,
}

/// A column of a drill-down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Key in JSON and CSV, and what `--sort` names.
    pub id: &'static str,
    /// Header in tables.
    pub title: &'static str,
    /// What its cells hold.
    pub unit: Unit,
    /// What its cells are to their row.
    pub role: Role,
    /// What a table does with it when the terminal is narrow: the highest go first, 0 always stays; `None` is never
    /// shown in a table.
    pub importance: Option<u8>,
}

impl Column {
    /// A column with the role that most columns of its unit have: texts are keys, counts are sums.
    #[must_use]
    pub const fn new(id: &'static str, title: &'static str, unit: Unit, importance: Option<u8>) -> Self {
        let role = match unit {
            Unit::Text => Role::Key,
            Unit::Count => Role::Sum,
            _ => Role::Derived,
        };
        Self { id, title, unit, role, importance }
    }

    /// The same with another role.
    #[must_use]
    pub const fn role(self, role: Role) -> Self {
        Self { role, ..self }
    }
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Text.
    Text(String),
    /// Several texts, for instance flags.
    List(Vec<String>),
    /// A whole number in the column's unit.
    Number(u64),
    /// A fractional number in the column's unit.
    Real(f64),
    /// Not known; JSON `null`, `-` in tables.
    Unknown,
}

impl Cell {
    /// The value as a number for sorting; `None` for texts and unknown values.
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Number(n) => Some(*n as f64),
            Self::Real(r) => Some(*r),
            Self::Text(_) | Self::List(_) | Self::Unknown => None,
        }
    }
}

/// How long events took that ended in the interval.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// Events whose duration is known.
    pub timed: u64,
    /// Sum of their durations, ns.
    pub total_ns: u64,
    /// Buckets of `kvm_utils_common::hist` with how many events are in each, sorted, without empty ones.
    pub buckets: Vec<(u16, u64)>,
    /// Of `timed`, how many are in no bucket, because no histogram was left for them.
    pub unbinned: u64,
}

/// One row: a cell for each column of the drill-down.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// In the order of the drill-down's columns.
    pub cells: Vec<Cell>,
    /// Its time is waiting, not work: shown apart and left out of the totals of time.
    pub waiting: bool,
    /// What more there is to say of it, for people; the cells have the numbers.
    pub detail: Option<String>,
    /// It is a sum of other rows of its table, which are to be left out or it, where rows are added up.
    pub of_others: bool,
    /// How its durations are distributed, where the drill-down keeps that.
    pub durations: Option<Durations>,
}

/// Sorts rows by the column `sort` (numbers downwards, texts upwards), waiting rows last, and keeps the first `top`.
/// An unknown column leaves the order as it is.
pub fn arrange(rows: &mut Vec<Row>, columns: &[Column], sort: &str, top: Option<usize>) {
    if let Some(index) = columns.iter().position(|c| c.id == sort) {
        rows.sort_by(|a, b| {
            a.waiting.cmp(&b.waiting).then_with(|| match (&a.cells[index], &b.cells[index]) {
                (Cell::Text(a), Cell::Text(b)) => a.cmp(b),
                (a, b) => b.number().unwrap_or(-1.0).total_cmp(&a.number().unwrap_or(-1.0)),
            })
        });
    }
    if let Some(top) = top {
        rows.truncate(top);
    }
}
