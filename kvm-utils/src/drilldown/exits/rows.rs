//! The columns of `exits`, and one row of them.

use std::{collections::BTreeMap, time::Duration};

use kvm_utils_common::exits::{CODE_OTHER, CODE_UNREADABLE};

use super::stats::ExitStats;
use crate::{
    decode::{ExitReason, Isa},
    drilldown::noun::column,
    model::{Cell, Column, EventReason, Role, Row, Unit},
};

/// The columns, in the order of [`row`]'s cells.
pub static COLUMNS: [Column; 16] = [
    column("reason", "REASON", Unit::Text, Some(0)),
    column("code", "CODE", Unit::Count, None).role(Role::Key),
    column("flags", "FLAGS", Unit::Text, None),
    column("isa", "ISA", Unit::Text, None),
    column("class", "CLASS", Unit::Text, Some(9)),
    column("count", "COUNT", Unit::Count, Some(0)),
    column("rate", "/s", Unit::PerSecond, Some(0)),
    column("share", "SHARE", Unit::Share, Some(2)),
    column("time_share", "TIME", Unit::TimeShare, Some(1)),
    column("total_ns", "TOTAL", Unit::Nanoseconds, Some(8)).role(Role::Sum),
    column("min_ns", "MIN", Unit::Nanoseconds, Some(6)),
    column("mean_ns", "MEAN", Unit::Nanoseconds, Some(5)),
    column("p50_ns", "p50", Unit::Nanoseconds, Some(1)),
    column("p90_ns", "p90", Unit::Nanoseconds, Some(4)),
    column("p99_ns", "p99", Unit::Nanoseconds, Some(2)),
    column("max_ns", "MAX", Unit::Nanoseconds, Some(3)),
];

/// Why a vCPU left the guest, as the programs recorded it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code {
    /// The event's isa.
    pub isa: u32,
    /// The event's exit_reason, or a pseudo code above `u32::MAX`.
    pub code: u64,
}

impl Code {
    /// The reason, unless it is a pseudo code.
    #[must_use]
    pub fn reason(self) -> Option<ExitReason> {
        let code = u32::try_from(self.code).ok()?;
        Some(ExitReason::new(Isa::from_raw(self.isa), code))
    }

    /// Its name with flags, for people.
    #[must_use]
    pub fn name(self) -> String {
        match (self.reason(), self.code) {
            (Some(reason), _) => reason.to_string(),
            (None, CODE_UNREADABLE) => "(unreadable)".to_owned(),
            (None, CODE_OTHER) => "(other codes)".to_owned(),
            (None, code) => format!("(pseudo code {code:#x})"),
        }
    }

    /// Its vendor-neutral class.
    #[must_use]
    pub fn class(self) -> &'static str {
        self.reason().map_or("other", |reason| reason.class().id())
    }

    /// As the reason of an event.
    #[must_use]
    pub fn event_reason(self) -> EventReason {
        EventReason {
            isa: self.isa,
            code: self.code,
            name: self.name(),
            class: self.class(),
            waiting: self.is_waiting(),
        }
    }

    /// Whether time in it is waiting, not work.
    #[must_use]
    pub fn is_waiting(self) -> bool {
        self.reason().is_some_and(ExitReason::is_waiting)
    }
}

/// Exits by reason.
pub type ByCode = BTreeMap<Code, ExitStats>;

/// What the shares of a row are shares of.
#[derive(Clone, Copy, Debug)]
pub struct Whole {
    /// Exits of all reasons.
    pub count: u64,
    /// Measured length of the interval.
    pub interval: Duration,
    /// Wall time of all vCPUs concerned, ns.
    pub wall_ns: u64,
}

/// `part / whole`, unknown for an empty whole.
fn share(part: u64, whole: u64) -> Cell {
    if whole == 0 { Cell::Unknown } else { Cell::Real(part as f64 / whole as f64) }
}

/// The row of one reason.
#[must_use]
pub fn row(code: Code, stats: &ExitStats, whole: Whole) -> Row {
    let reason = code.reason();
    let ns = |value: Option<u64>| value.map_or(Cell::Unknown, Cell::Number);
    let seconds = whole.interval.as_secs_f64();
    let rate = if seconds > 0.0 { Cell::Real(stats.count as f64 / seconds) } else { Cell::Unknown };
    let flags = reason.map(ExitReason::flags).unwrap_or_default();
    Row {
        cells: vec![
            Cell::Text(code.name()),
            reason.map_or(Cell::Unknown, |r| Cell::Number(u64::from(r.basic()))),
            Cell::List(flags.into_iter().map(std::borrow::Cow::into_owned).collect()),
            Cell::Text(Isa::from_raw(code.isa).to_string()),
            Cell::Text(code.class().to_owned()),
            Cell::Number(stats.count),
            rate,
            share(stats.count, whole.count),
            share(stats.within_ns, whole.wall_ns),
            Cell::Number(stats.total_ns),
            ns(stats.min_ns),
            ns(stats.mean_ns()),
            ns(stats.quantile_ns(0.5)),
            ns(stats.quantile_ns(0.9)),
            ns(stats.quantile_ns(0.99)),
            ns(stats.max_ns),
        ],
        waiting: code.is_waiting(),
        durations: Some(stats.durations()),
        ..Row::default()
    }
}
