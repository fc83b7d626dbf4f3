//! What was found of one figure of one row.

use super::{measure::Measure, table::What};

/// What became of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// More events, or longer ones.
    Worse,
    /// Events that there were none of before.
    New,
    /// There is too little to tell.
    Inconclusive,
    /// Fewer events, or shorter ones.
    Better,
    /// No more events of which there were some before.
    Gone,
    /// If it differs, then by less than what matters.
    Same,
}

impl Verdict {
    /// All, the worst first.
    pub const ALL: [Self; 6] =
        [Self::Worse, Self::New, Self::Inconclusive, Self::Better, Self::Gone, Self::Same];

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Worse => "worse",
            Self::New => "new",
            Self::Inconclusive => "inconclusive",
            Self::Better => "better",
            Self::Gone => "gone",
            Self::Same => "same",
        }
    }

    /// More events, or longer ones.
    #[must_use]
    pub const fn is_regression(self) -> bool {
        matches!(self, Self::Worse | Self::New)
    }

    /// A change that was shown.
    #[must_use]
    pub const fn is_change(self) -> bool {
        !matches!(self, Self::Inconclusive | Self::Same)
    }

    /// The verdict with the sides exchanged.
    #[must_use]
    pub const fn mirrored(self) -> Self {
        match self {
            Self::Worse => Self::Better,
            Self::Better => Self::Worse,
            Self::New => Self::Gone,
            Self::Gone => Self::New,
            Self::Inconclusive | Self::Same => self,
        }
    }
}

/// Why there is no better answer, and what would give one.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Because {
    /// One file a side or a few, and these are short.
    #[error(
        "{0} and {1} intervals are too few: {least} a side can show a change; record for longer or with a shorter interval, or give \
         {runs} files a side",
        least = super::blocks::LEAST_INTERVALS, runs = super::RUNS
    )]
    FewIntervals(usize, usize),
    /// One figure per file, of few files.
    #[error("{0} and {1} files with such events are too few: {runs} a side can show a change", runs = super::RUNS)]
    FewFiles(usize, usize),
    /// Most blocks have too few of them for the figure.
    #[error("too few such events in most intervals to tell how long they take: record for longer")]
    FewTimed,
    /// A limit asks for it, but it is no figure of one thing.
    #[error("how long different events take changes with their mix: the rows tell")]
    Mix,
    /// There is nothing to hold it against.
    #[error("one side has none, or too few, to tell")]
    OneSided,
    /// What is seen is what counting few events looks like.
    #[error("there were too few events: as many more or fewer come by chance")]
    FewEvents,
    /// Neighbours resemble each other.
    #[error(
        "the intervals resemble their neighbours so much that they are worth {0} independent ones a side, not the {least} that are \
         needed: record for longer, or give {runs} files a side",
        least = super::statistics::serial::LEAST_WORTH, runs = super::RUNS
    )]
    Correlated(u32),
    /// The figures of one side differ much.
    #[error(
        "the figures of one side differ too much among themselves: record for longer, or more files a side"
    )]
    Noise,
    /// Clear enough by itself, but one of many.
    #[error("among so many comparisons one this clear comes by chance more often than in 1 of 100 tables")]
    Chance,
    /// Figures say one thing, the sum another.
    #[error("a few moments make the difference, the others do not: look at them with `kvm-utils report`")]
    Bursts,
    /// Few files, which differ among themselves.
    #[error("the files of one side differ as much as the sides: give {runs} or more a side, taken in turn", runs = super::RUNS)]
    FilesDiffer,
    /// What another program says.
    #[error("{0}")]
    Other(String),
}

/// What a figure's number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FigureUnit {
    /// Events, per what the comparison is per.
    Events,
    /// Nanoseconds.
    Nanoseconds,
    /// Nanoseconds, per what the comparison is per.
    NanosecondsPer,
    /// What kvm-bench measured in.
    Named(&'static str),
}

/// One figure of one row, on both sides.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The drill-down.
    pub noun: &'static str,
    /// What it counts: one, and many.
    pub counting: (&'static str, &'static str),
    /// The VM or vCPU that it is about; `None` is all of them.
    pub scope: Option<String>,
    /// The row.
    pub what: What,
    /// Its time is waiting, not work.
    pub waiting: bool,
    /// Which figure, its key in JSON, and its unit.
    pub measure: Option<Measure>,
    /// Key of the figure in JSON.
    pub figure: String,
    /// What the numbers are.
    pub unit: FigureUnit,
    /// What became of it.
    pub verdict: Verdict,
    /// Why there is no better answer.
    pub because: Option<Because>,
    /// The figure of the base: of the whole recording, or the median over files.
    pub base: Option<f64>,
    /// The same of the new side.
    pub new: Option<f64>,
    /// Events on both sides.
    pub events: [u64; 2],
    /// Where the ratio of new to base is with 95 % confidence.
    pub interval: Option<[f64; 2]>,
    /// Probability of a difference as clear as this anywhere in the table, where there is none.
    pub p: Option<f64>,
    /// The relative change that counted as large enough.
    pub floor: Option<f64>,
    /// How many figures each side has: blocks of intervals, or files.
    pub figures: [usize; 2],
    /// How many independent ones these are worth.
    pub worth: Option<[f64; 2]>,
}

impl Finding {
    /// Relative change, positive when the figure grew; infinite when it was zero.
    #[must_use]
    pub fn change(&self) -> Option<f64> {
        let (base, new) = (self.base?, self.new?);
        if base == new { Some(0.0) } else { Some(new / base - 1.0).filter(|change| !change.is_nan()) }
    }

    /// How sure the verdict is, 0 to 1: of a change, that there is no false one in the whole table; of "same", that the
    /// change is below the floor.
    #[must_use]
    pub fn confidence(&self) -> Option<f64> {
        match self.verdict {
            Verdict::Inconclusive => None,
            Verdict::Same => Some(kvm_bench::compare::statistics::CONFIDENT),
            _ => self.p.map(|p| 1.0 - p),
        }
    }

    /// The class of its row.
    #[must_use]
    pub fn class(&self) -> Option<&str> {
        match &self.what {
            What::Row { class, .. } => class.as_deref(),
            What::Class(class) => Some(class),
            What::Total => None,
        }
    }
}
