//! msr, wrmsr: accesses to model-specific registers by index, and how far ahead the guest arms its timer.

use std::{borrow::Cow, collections::BTreeMap};

use kvm_utils_common::{
    config::mode,
    msr::{
        DETAIL_FAULT, DETAIL_HOST, DETAIL_WRITE, IA32_TSC_DEADLINE, KIND_ACCESS, KIND_COMMON, KIND_ICR,
        KIND_VENDOR,
    },
    numbers::{COUNTERS, deadline, histogram},
    rows::RowKey,
};

mod ipi;

pub use ipi::{COLUMNS as IPI_COLUMNS, IPI};

use super::noun::{Build, Noun, Numbers, column};
use crate::{
    bpf::{
        event,
        hook::{Hook, SET_MSR_COMMON, SET_MSR_VENDOR},
        rows::Slice,
    },
    decode,
    drilldown::exits::stats::ExitStats,
    model::{Cell, Column, Role, Row, Unit},
    view::units,
};

/// Reads and writes.
pub static MSR: Noun = noun("msr", READS_AND_WRITES, 0, TRACEPOINT, &COLUMNS);

/// Writes only.
pub static WRMSR: Noun = noun("wrmsr", WRITES, mode::WRITES_ONLY, TRACEPOINT, &COLUMNS);

/// Reads and writes, with the ways that writes took.
pub static MSR_PATHS: Noun = noun("msr", READS_AND_WRITES, 0, FUNCTIONS_TOO, &COLUMNS_WITH_PATHS);

/// Writes only, with the ways that they took.
pub static WRMSR_PATHS: Noun = noun("wrmsr", WRITES, mode::WRITES_ONLY, FUNCTIONS_TOO, &COLUMNS_WITH_PATHS);

const READS_AND_WRITES: (&str, &str) = ("MSR access", "MSR accesses");
const WRITES: (&str, &str) = ("MSR write", "MSR writes");
const TRACEPOINT: &[Hook] = &[Hook::Event(&event::MSR), Hook::VcpuDestroy];
const FUNCTIONS_TOO: &[Hook] = &[
    Hook::Event(&event::MSR),
    Hook::Function(&SET_MSR_VENDOR),
    Hook::Function(&SET_MSR_COMMON),
    Hook::VcpuDestroy,
];

const fn noun(
    name: &'static str,
    counting: (&'static str, &'static str),
    mode: u32,
    hooks: &'static [Hook],
    columns: &'static [Column],
) -> Noun {
    Noun {
        name,
        counting,
        hooks,
        maps: &[],
        columns,
        sort: "count",
        mode,
        row_bits: 8,
        counters: histogram(deadline::AHEAD + 1),
        build: Some(Build { is_event, rows, ..Build::PLAIN }),
    }
}

/// The columns, in the order of [`row`]'s cells; those of the ways come last.
pub static COLUMNS: [Column; 15] = *columns(&COLUMNS_WITH_PATHS);

/// The columns, with those of the ways that writes took.
pub static COLUMNS_WITH_PATHS: [Column; 19] = [
    column("msr", "MSR", Unit::Text, Some(0)),
    column("index", "INDEX", Unit::Text, Some(1)),
    column("access", "ACCESS", Unit::Text, Some(2)),
    column("count", "COUNT", Unit::Count, Some(0)),
    column("rate", "/s", Unit::PerSecond, Some(0)),
    column("share", "SHARE", Unit::Share, Some(3)),
    column("faults", "#GP", Unit::Count, Some(1)),
    column("armed", "ARMED", Unit::Count, None),
    column("rearmed", "RE-ARMED", Unit::Count, None),
    column("cancelled", "CANCELLED", Unit::Count, None),
    column("past", "PAST", Unit::Count, None),
    column("ahead_unknown", "AHEAD UNKNOWN", Unit::Count, None),
    column("ahead_p50_ns", "AHEAD p50", Unit::Nanoseconds, None),
    column("ahead_p99_ns", "AHEAD p99", Unit::Nanoseconds, None),
    column("ahead_buckets", "AHEAD", Unit::Text, None).role(Role::Derived),
    column("slow", "SLOW", Unit::Count, Some(1)),
    column("common", "COMMON", Unit::Count, Some(4)),
    column("host", "HOST", Unit::Count, Some(2)),
    column("fast_share", "FAST", Unit::Share, Some(1)),
];

/// The first columns of all.
const fn columns(all: &[Column; 19]) -> &[Column; 15] {
    match all.first_chunk() {
        Some(first) => first,
        None => unreachable!(),
    }
}

fn is_event(key: RowKey) -> bool {
    key.kind() == KIND_ACCESS
}

/// Accesses to one register in one direction.
#[derive(Clone, Copy, Debug, Default)]
struct Accesses {
    count: u64,
    faults: u64,
    /// Writes that the vendor's function got from the guest: all but those of the fast paths.
    slow: u64,
    /// Of those, how many it passed on to the common one.
    common: u64,
    /// Writes that it got from the VMM; they are no accesses of the guest.
    host: u64,
}

fn rows(numbers: &Numbers<'_>) -> Vec<Row> {
    let mut registers: BTreeMap<(u64, bool), Accesses> = BTreeMap::new();
    for (key, stats) in &numbers.slice.rows {
        if key.kind() == KIND_ICR {
            continue;
        }
        let detail = key.detail();
        let of = registers.entry((key.a, detail & DETAIL_WRITE != 0)).or_default();
        match (key.kind(), detail & DETAIL_HOST != 0) {
            (KIND_ACCESS, _) => {
                of.count += stats.count;
                of.faults += if detail & DETAIL_FAULT != 0 { stats.count } else { 0 };
            }
            (KIND_VENDOR, false) => of.slow += stats.count,
            (KIND_VENDOR, true) => of.host += stats.count,
            (KIND_COMMON, false) => of.common += stats.count,
            _ => {}
        }
    }
    let mut rows: Vec<Row> =
        registers.iter().map(|((index, write), accesses)| row(numbers, *index, *write, *accesses)).collect();
    if numbers.slice.other > 0 {
        rows.push(other(numbers));
    }
    rows
}

fn row(numbers: &Numbers<'_>, index: u64, write: bool, accesses: Accesses) -> Row {
    let Accesses { count, faults, slow, common, host } = accesses;
    let timer = (write && index == IA32_TSC_DEADLINE).then(|| Deadlines::of(numbers.slice));
    let name = u32::try_from(index).ok().and_then(|index| decode::msr::name(index, numbers.isa));
    let hex = format!("{index:#x}");
    let number = |get: fn(&Deadlines) -> u64| timer.as_ref().map_or(Cell::Unknown, |t| Cell::Number(get(t)));
    let ns = |q: f64| timer.as_ref().and_then(|t| t.ahead.quantile_ns(q)).map_or(Cell::Unknown, Cell::Number);
    let write_only = |cell: Cell| if write { cell } else { Cell::Unknown };
    let fast =
        if count > 0 { Cell::Real(count.saturating_sub(slow) as f64 / count as f64) } else { Cell::Unknown };
    Row {
        cells: vec![
            Cell::Text(name.map_or_else(|| hex.clone(), Cow::into_owned)),
            Cell::Text(hex),
            Cell::Text(if write { "write" } else { "read" }.to_owned()),
            Cell::Number(count),
            numbers.rate(count),
            numbers.share(count),
            Cell::Number(faults),
            number(|t| t.armed),
            number(|t| t.rearmed),
            number(|t| t.cancelled),
            number(|t| t.past),
            number(|t| t.unknown),
            ns(0.5),
            ns(0.99),
            timer.as_ref().map_or(Cell::Unknown, |t| Cell::List(t.buckets())),
            write_only(Cell::Number(slow)),
            write_only(Cell::Number(common)),
            write_only(Cell::Number(host)),
            write_only(fast),
        ],
        detail: timer.and_then(|timer| timer.sentence()),
        ..Row::default()
    }
}

/// The row of accesses whose registers found no room in the kernel's tables.
fn other(numbers: &Numbers<'_>) -> Row {
    let count = numbers.slice.other;
    let mut cells = vec![
        Cell::Text("(other registers)".to_owned()),
        Cell::Unknown,
        Cell::Unknown,
        Cell::Number(count),
        numbers.rate(count),
        numbers.share(count),
    ];
    cells.resize(COLUMNS_WITH_PATHS.len(), Cell::Unknown);
    Row { cells, ..Row::default() }
}

/// How a guest arms its timer.
struct Deadlines {
    armed: u64,
    rearmed: u64,
    cancelled: u64,
    past: u64,
    unknown: u64,
    /// How far ahead.
    ahead: ExitStats,
}

impl Deadlines {
    fn of(slice: &Slice) -> Self {
        let first = histogram(deadline::AHEAD);
        let hist: Vec<(u16, u64)> = (0..kvm_utils_common::hist::BUCKETS)
            .map(|bucket| (bucket as u16, slice.counter(first + bucket)))
            .filter(|(_, count)| *count > 0)
            .collect();
        Self {
            armed: slice.counter(deadline::ARMED),
            rearmed: slice.counter(deadline::REARMED),
            cancelled: slice.counter(deadline::CANCELLED),
            past: slice.counter(deadline::PAST),
            unknown: slice.counter(deadline::UNKNOWN),
            ahead: ExitStats { hist, ..ExitStats::default() },
        }
    }

    /// The histogram, as `LOWER_BOUND_NS:COUNT`.
    fn buckets(&self) -> Vec<String> {
        let low = |bucket: u16| kvm_utils_common::hist::bounds(usize::from(bucket)).0;
        self.ahead.hist.iter().map(|(bucket, count)| format!("{}:{count}", low(*bucket))).collect()
    }

    /// For people.
    fn sentence(&self) -> Option<String> {
        let mut parts = Vec::new();
        let duration = |q: f64| Some(units::duration(self.ahead.quantile_ns(q)? as f64));
        if let (Some(p50), Some(p99)) = (duration(0.5), duration(0.99)) {
            parts.push(format!("armed {p50} ahead (p50), {p99} (p99)"));
        }
        let mut share = |count: u64, what: &str| {
            if count > 0 && self.armed > 0 {
                parts.push(format!("{} {what}", units::percent(count as f64 / self.armed as f64, " ")));
            }
        };
        share(self.rearmed, "re-armed before firing");
        share(self.past, "in the past when armed");
        share(self.unknown, "armed nobody knows how far ahead");
        if self.cancelled > 0 {
            parts.push(format!("{} cancelled before firing", units::count(self.cancelled)));
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

const _: () = assert!(deadline::UNKNOWN < COUNTERS);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{bpf::rows::RowStats, decode::Isa};
    use kvm_utils_common::rows::RowNoun;

    fn key(index: u64, detail: u64) -> RowKey {
        RowKey::new(RowNoun::Msr, KIND_ACCESS, detail, index)
    }

    fn slice(counts: &[(RowKey, u64)]) -> Slice {
        let rows = counts.iter().map(|(key, n)| (*key, RowStats { count: *n, ..RowStats::default() }));
        Slice { rows: rows.collect(), ..Slice::default() }
    }

    fn numbers(slice: &Slice) -> Numbers<'_> {
        Numbers {
            slice,
            events: MSR.build.unwrap().events(slice),
            interval: Duration::from_secs(2),
            wall_ns: 2_000_000_000,
            isa: Some(Isa::Svm),
            vcpus: &[0],
            vcpu: Some(0),
            aids: &crate::drilldown::noun::NO_AIDS,
        }
    }

    fn cell<'a>(row: &'a Row, id: &str) -> &'a Cell {
        &row.cells[COLUMNS.iter().position(|column| column.id == id).unwrap()]
    }

    #[test]
    fn faults_are_accesses_and_a_number_of_their_own() {
        let slice =
            slice(&[(key(0x6e0, 1), 1009), (key(0x6e0, 3), 7), (key(0x6e0, 0), 11), (key(0x10, 0), 3)]);
        let rows = rows(&numbers(&slice));
        let write = rows.iter().find(|row| cell(row, "access") == &Cell::Text("write".to_owned())).unwrap();
        assert_eq!(cell(write, "count"), &Cell::Number(1016));
        assert_eq!(cell(write, "rate"), &Cell::Real(508.0));
        assert_eq!(cell(write, "faults"), &Cell::Number(7));
        assert_eq!(rows.len(), 3);
        assert!(rows.iter().all(|row| row.cells.len() == COLUMNS_WITH_PATHS.len()));
    }

    #[test]
    fn what_found_no_room_is_a_row() {
        let slice = Slice { other: 5, ..Slice::default() };
        let numbers = numbers(&slice);
        assert_eq!(numbers.events, 5);
        assert_eq!(cell(&rows(&numbers)[0], "count"), &Cell::Number(5));
    }

    #[test]
    fn a_storm_of_deadlines_is_told() {
        let mut slice = slice(&[(key(0x6e0, 1), 1000)]);
        slice.counters = vec![0; histogram(1)];
        slice.counters[deadline::ARMED] = 1000;
        slice.counters[deadline::REARMED] = 910;
        slice.counters[histogram(0) + kvm_utils_common::hist::bucket(38_000)] = 1000;
        let rows = rows(&numbers(&slice));
        let detail = rows[0].detail.as_deref().unwrap();
        assert!(detail.contains("armed 38us ahead (p50)") && detail.contains("91.0 % re-armed"), "{detail}");
        let Cell::Number(p50) = cell(&rows[0], "ahead_p50_ns") else { panic!() };
        assert!((36_800..39_200).contains(p50), "{p50}");
    }
}
