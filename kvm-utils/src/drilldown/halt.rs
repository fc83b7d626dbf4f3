//! halt: how vCPUs halt, how long they are blocked, and what KVM spends on polling before it blocks them.

use kvm_utils_common::{
    halt::{DETAIL_VALID, DETAIL_WAITED, KIND_HALT, KIND_RESIZE},
    hist,
    numbers::{
        halt::{BLOCKED, BLOCKED_NS, FAIL_NS, POLLS, POLLS_SUCCESSFUL, SUCCESS_NS, UNKNOWN},
        histogram,
    },
    rows::RowKey,
};

use super::{
    exits::stats::{ExitStats, Sparse},
    noun::{Build, Noun, Numbers, column},
};
use crate::{
    bpf::{event, hook::Hook},
    model::{Cell, Column, Role, Row, Unit},
};

/// The noun.
pub static NOUN: Noun = Noun {
    name: "halt",
    counting: ("halt", "halts"),
    hooks: &[Hook::Event(&event::VCPU_WAKEUP), Hook::Event(&event::HALT_POLL), Hook::VcpuDestroy],
    maps: &[],
    columns: &COLUMNS,
    sort: "vcpu",
    mode: 0,
    row_bits: 3,
    counters: histogram(BLOCKED + 1),
    build: Some(Build { is_event, rows, one_row: true, ..Build::PLAIN }),
};

/// The columns, in the order of [`rows`]'s cells.
pub static COLUMNS: [Column; 19] = [
    column("vcpu", "VCPU", Unit::Text, Some(0)),
    column("count", "HALTS", Unit::Count, Some(0)),
    column("rate", "/s", Unit::PerSecond, Some(2)),
    column("invalid", "FALSE", Unit::Count, Some(4)),
    column("blocked_p50_ns", "p50", Unit::Nanoseconds, Some(0)),
    column("blocked_p99_ns", "p99", Unit::Nanoseconds, Some(1)),
    column("polls", "POLLS", Unit::Count, Some(2)),
    column("poll_success_share", "HIT", Unit::Share, Some(0)),
    column("poll_success_ns", "USEFUL", Unit::Nanoseconds, Some(1)).role(Role::Sum),
    column("poll_fail_ns", "WASTED", Unit::Nanoseconds, Some(0)).role(Role::Sum),
    column("window_ns", "WINDOW", Unit::Nanoseconds, Some(1)),
    column("grown", "GROWN", Unit::Count, Some(5)),
    column("shrunk", "SHRUNK", Unit::Count, Some(5)),
    column("valid", "VALID", Unit::Count, None),
    column("waited", "BLOCKED", Unit::Count, None),
    column("polls_successful", "HITS", Unit::Count, None),
    column("poll_unknown", "UNKNOWN", Unit::Count, None),
    column("halted_ns", "HALTED", Unit::Nanoseconds, None).role(Role::Sum),
    column("blocked_ns", "BLOCKED", Unit::Nanoseconds, None).role(Role::Sum),
];

fn is_event(key: RowKey) -> bool {
    key.kind() == KIND_HALT
}

fn rows(numbers: &Numbers<'_>) -> Vec<Row> {
    if numbers.events == 0 {
        return Vec::new();
    }
    let slice = numbers.slice;
    let halts = |detail: u64| -> u64 {
        let with = numbers.kind(KIND_HALT).filter(|(key, _)| key.detail() & detail == detail);
        with.map(|(_, stats)| stats.count).sum()
    };
    let resized = |grow: u64| -> u64 {
        let with = numbers.kind(KIND_RESIZE).filter(|(key, _)| key.detail() == grow);
        with.map(|(_, stats)| stats.count).sum()
    };
    let halted: u64 = numbers.kind(KIND_HALT).map(|(_, stats)| stats.extra).sum();
    let blocked = blocked(numbers);
    let quantile = |q: f64| match blocked.quantile_ns(q) {
        Some(ns) if halts(DETAIL_WAITED) > 0 => Cell::Number(ns),
        _ => Cell::Unknown,
    };
    let (polls, hits) = (slice.counter(POLLS), slice.counter(POLLS_SUCCESSFUL));
    let who = match numbers.vcpu {
        Some(id) => id.to_string(),
        None if numbers.wall_ns == 0 => "other threads".to_owned(),
        None => "all".to_owned(),
    };
    let cells = vec![
        Cell::Text(who),
        Cell::Number(numbers.events),
        numbers.rate(numbers.events),
        Cell::Number(numbers.events - halts(DETAIL_VALID).min(numbers.events)),
        quantile(0.5),
        quantile(0.99),
        Cell::Number(polls),
        if polls > 0 { Cell::Real(hits as f64 / polls as f64) } else { Cell::Unknown },
        Cell::Number(slice.counter(SUCCESS_NS)),
        Cell::Number(slice.counter(FAIL_NS)),
        slice.gauge.map_or(Cell::Unknown, Cell::Number),
        Cell::Number(resized(1)),
        Cell::Number(resized(0)),
        Cell::Number(halts(DETAIL_VALID)),
        Cell::Number(halts(DETAIL_WAITED)),
        Cell::Number(hits),
        Cell::Number(slice.counter(UNKNOWN)),
        Cell::Number(halted),
        Cell::Number(slice.counter(BLOCKED_NS)),
    ];
    let durations = Some(blocked.durations());
    vec![Row { cells, durations, ..Row::default() }]
}

/// How long threads were blocked.
fn blocked(numbers: &Numbers<'_>) -> ExitStats {
    let first = histogram(BLOCKED);
    let hist: Sparse = (0..hist::BUCKETS)
        .map(|bucket| (bucket as u16, numbers.slice.counter(first + bucket)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let timed = hist.iter().map(|(_, count)| count).sum();
    ExitStats { timed, total_ns: numbers.slice.counter(BLOCKED_NS), hist, ..ExitStats::default() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bpf::rows::{RowStats, Slice};
    use kvm_utils_common::rows::RowNoun;

    #[test]
    fn halts_are_told_by_how_they_ended() {
        let row = |detail, count, extra| {
            let key = RowKey::new(RowNoun::Halt, KIND_HALT, detail, 0);
            (key, RowStats { count, extra, ..RowStats::default() })
        };
        let mut slice = Slice {
            rows: [
                row(DETAIL_WAITED | DETAIL_VALID, 90, 90_000),
                row(DETAIL_VALID, 7, 70),
                row(DETAIL_WAITED, 3, 9),
            ]
            .into(),
            counters: vec![0; NOUN.counters],
            gauge: Some(10_000),
            ..Slice::default()
        };
        slice.counters[POLLS] = 40;
        slice.counters[POLLS_SUCCESSFUL] = 10;
        slice.counters[histogram(BLOCKED) + hist::bucket(1000)] = 93;
        let build = NOUN.build.unwrap();
        let numbers = Numbers {
            aids: &crate::drilldown::noun::NO_AIDS,
            slice: &slice,
            events: build.events(&slice),
            interval: Duration::from_secs(2),
            wall_ns: 1,
            isa: None,
            vcpus: &[0],
            vcpu: Some(0),
        };
        let rows = rows(&numbers);
        let cell = |id: &str| &rows[0].cells[COLUMNS.iter().position(|column| column.id == id).unwrap()];
        assert_eq!(rows[0].cells.len(), COLUMNS.len());
        assert_eq!((cell("count"), cell("rate")), (&Cell::Number(100), &Cell::Real(50.0)));
        assert_eq!(
            (cell("valid"), cell("invalid"), cell("waited")),
            (&Cell::Number(97), &Cell::Number(3), &Cell::Number(93))
        );
        assert_eq!(
            (cell("halted_ns"), cell("poll_success_share")),
            (&Cell::Number(90_079), &Cell::Real(0.25))
        );
        assert_eq!(cell("window_ns"), &Cell::Number(10_000));
        let Cell::Number(p50) = cell("blocked_p50_ns") else { panic!() };
        assert!((960..=1040).contains(p50), "{p50}");
    }
}
