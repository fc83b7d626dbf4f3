//! What a drill-down is made of.

use std::time::Duration;

use kvm_utils_common::rows::RowKey;

use crate::{
    bpf::{
        hook::Hook,
        rows::{RowStats, Slice},
    },
    decode::{Isa, reason_filter::ReasonFilter, symbols::Symbols},
    drilldown::exits::rows::Code,
    model::{Cell, Column, Row},
};

/// A drill-down. Its name is the subcommand, the JSON key, the file here and the file in kvm-utils-ebpf/src/drilldown.
#[derive(Debug)]
pub struct Noun {
    /// The name.
    pub name: &'static str,
    /// What it counts: one, and many.
    pub counting: (&'static str, &'static str),
    /// Where its events come from.
    pub hooks: &'static [Hook],
    /// Maps of its own, beside those that belong to all.
    pub maps: &'static [&'static str],
    /// Its columns.
    pub columns: &'static [Column],
    /// The column by which rows are sorted unless the user says otherwise.
    pub sort: &'static str,
    /// Switches of the programs, `kvm_utils_common::config::mode`.
    pub mode: u32,
    /// Each vCPU's table has room for two to the power of this many keys; 0 = it counts no rows.
    pub row_bits: u32,
    /// Counters at fixed places that it has per vCPU, from the first on (`kvm_utils_common::numbers`).
    pub counters: usize,
    /// Builds its rows; none for `exits`, whose rows are its own.
    pub build: Option<Build>,
}

/// How a noun turns what was counted into rows.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    /// Whether the rows of this key are events, which the sums are made of, or say more of events counted elsewhere.
    pub is_event: fn(RowKey) -> bool,
    /// Counters that are events as well.
    pub event_counters: &'static [usize],
    /// The rows of a vCPU, of a VM or of all together, in any order.
    pub rows: fn(&Numbers<'_>) -> Vec<Row>,
    /// What the reader must know beside the rows. There are no exits if they are not counted.
    pub notes: Option<Notes>,
    /// Makes counters that the kernel corrects after the fact fit an earlier copy, so that none ever becomes less.
    pub settle: Option<fn(&mut Slice, &Slice)>,
    /// A vCPU has one row: tables have a line for each, and one for their sum.
    pub one_row: bool,
}

/// Sentences from the numbers of all VMs together and the exits of the same time.
pub type Notes = fn(&Numbers<'_>, &[(Code, u64)]) -> Vec<String>;

/// What rows are built from.
#[derive(Clone, Copy, Debug)]
pub struct Numbers<'a> {
    /// What was counted.
    pub slice: &'a Slice,
    /// Events counted, all keys: what shares are shares of.
    pub events: u64,
    /// Measured length of the interval.
    pub interval: Duration,
    /// Wall time of the vCPUs concerned, ns.
    pub wall_ns: u64,
    /// Instruction set of the host's KVM, where it is known.
    pub isa: Option<Isa>,
    /// Ids of the VM's vCPUs; empty where it is about several VMs.
    pub vcpus: &'a [u32],
    /// The vCPU it is about, if it is about one.
    pub vcpu: Option<u32>,
    /// What the user gave for reading them.
    pub aids: &'a Aids,
}

/// What the user gives for reading the numbers.
#[derive(Debug)]
pub struct Aids {
    /// The guest's functions.
    pub symbols: Option<Symbols>,
    /// Only exits for these reasons are shown; empty = any.
    pub reasons: Vec<ReasonFilter>,
}

/// Nothing was given.
pub static NO_AIDS: Aids = Aids { symbols: None, reasons: Vec::new() };

impl Numbers<'_> {
    /// Events per second.
    #[must_use]
    pub fn rate(&self, count: u64) -> Cell {
        let seconds = self.interval.as_secs_f64();
        if seconds > 0.0 { Cell::Real(count as f64 / seconds) } else { Cell::Unknown }
    }

    /// Share of all events.
    #[must_use]
    pub fn share(&self, count: u64) -> Cell {
        if self.events > 0 { Cell::Real(count as f64 / self.events as f64) } else { Cell::Unknown }
    }

    /// Rows of one of the noun's kinds.
    pub fn kind(&self, kind: u8) -> impl Iterator<Item = (RowKey, &RowStats)> {
        self.slice.rows.iter().filter(move |(key, _)| key.kind() == kind).map(|(key, stats)| (*key, stats))
    }
}

impl Build {
    /// Every row is an event, there are no rows, and nothing more is to be said: for what a noun has no need of.
    pub const PLAIN: Self = Self {
        is_event: |_| true,
        event_counters: &[],
        rows: |_| Vec::new(),
        notes: None,
        settle: None,
        one_row: false,
    };

    /// Events in a slice.
    #[must_use]
    pub fn events(&self, slice: &Slice) -> u64 {
        let rows = slice.rows.iter().filter(|(key, _)| (self.is_event)(**key));
        let counters: u64 = self.event_counters.iter().map(|index| slice.counter(*index)).sum();
        rows.map(|(_, stats)| stats.count).sum::<u64>() + counters + slice.other
    }
}

/// Keeps the tables of columns one line each. See [`Column::new`] for the role.
#[must_use]
pub const fn column(
    id: &'static str,
    title: &'static str,
    unit: crate::model::Unit,
    importance: Option<u8>,
) -> Column {
    Column::new(id, title, unit, importance)
}
