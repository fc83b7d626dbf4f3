//! cpuid: what guests ask of the processor, by leaf and subleaf, and whether they got an answer.

use kvm_utils_common::{
    cpuid::{DETAIL_FOUND, DETAIL_MAX_BASIC, KIND_QUERY, has_no_subleaf},
    rows::RowKey,
};

use super::noun::{Build, Noun, Numbers, column};
use crate::{
    bpf::{event, hook::Hook},
    decode,
    model::{Cell, Column, Row, Unit},
};

/// The noun.
pub static NOUN: Noun = Noun {
    name: "cpuid",
    counting: ("CPUID", "CPUIDs"),
    hooks: &[Hook::Event(&event::CPUID), Hook::VcpuDestroy],
    maps: &[],
    columns: &COLUMNS,
    sort: "count",
    mode: 0,
    row_bits: 8,
    counters: 0,
    build: Some(Build { is_event, rows, ..Build::PLAIN }),
};

/// The columns, in the order of [`row`]'s cells.
pub static COLUMNS: [Column; 7] = [
    column("name", "NAME", Unit::Text, Some(0)),
    column("leaf", "LEAF", Unit::Text, Some(0)),
    column("subleaf", "SUB", Unit::Text, Some(0)),
    column("answer", "ANSWER", Unit::Text, Some(1)),
    column("count", "COUNT", Unit::Count, Some(0)),
    column("rate", "/s", Unit::PerSecond, Some(0)),
    column("share", "SHARE", Unit::Share, Some(2)),
];

fn is_event(key: RowKey) -> bool {
    key.kind() == KIND_QUERY
}

fn rows(numbers: &Numbers<'_>) -> Vec<Row> {
    let mut rows: Vec<Row> =
        numbers.kind(KIND_QUERY).map(|(key, stats)| row(numbers, key, stats.count)).collect();
    if numbers.slice.other > 0 {
        let name = Cell::Text("(other leaves)".to_owned());
        rows.push(cells(numbers, [name, Cell::Unknown, Cell::Unknown, Cell::Unknown], numbers.slice.other));
    }
    rows
}

fn row(numbers: &Numbers<'_>, key: RowKey, count: u64) -> Row {
    let (leaf, subleaf) = (key.a as u32, (key.a >> 32) as u32);
    let text = |text: &str| Cell::Text(text.to_owned());
    let answer = match key.detail() {
        detail if detail & DETAIL_FOUND != 0 => "found",
        detail if detail & DETAIL_MAX_BASIC != 0 => "highest",
        _ => "none",
    };
    let subleaf = if has_no_subleaf(leaf) { Cell::Unknown } else { Cell::Text(format!("{subleaf:#x}")) };
    let name = decode::cpuid::leaf(leaf).map_or(Cell::Unknown, text);
    cells(numbers, [name, Cell::Text(format!("{leaf:#x}")), subleaf, text(answer)], count)
}

fn cells(numbers: &Numbers<'_>, [name, leaf, subleaf, answer]: [Cell; 4], count: u64) -> Row {
    let cells =
        vec![name, leaf, subleaf, answer, Cell::Number(count), numbers.rate(count), numbers.share(count)];
    Row { cells, ..Row::default() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kvm_utils_common::cpuid;

    use super::*;
    use crate::bpf::rows::{RowStats, Slice};

    #[test]
    fn leaves_with_and_without_an_answer_are_told_apart() {
        let counts = [
            (cpuid::key(0, 0, true, false), 1009),
            (cpuid::key(4, 3, false, false), 11),
            (cpuid::key(0x77, 0, false, true), 7),
        ];
        let rows = counts.iter().map(|(key, n)| (*key, RowStats { count: *n, ..RowStats::default() }));
        let slice = Slice { rows: rows.collect(), other: 3, ..Slice::default() };
        let events = NOUN.build.unwrap().events(&slice);
        assert_eq!(events, 1030);
        let rows = super::rows(&Numbers {
            slice: &slice,
            events,
            interval: Duration::from_secs(1),
            wall_ns: 1_000_000_000,
            isa: None,
            vcpus: &[0],
            vcpu: None,
            aids: &crate::drilldown::noun::NO_AIDS,
        });
        let shown = |at: usize| {
            let cells = rows[at].cells[1..5].iter();
            cells
                .map(|cell| match cell {
                    Cell::Text(text) => text.clone(),
                    Cell::Number(n) => n.to_string(),
                    _ => "-".to_owned(),
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(shown(0), ["0x0", "-", "found", "1009"]);
        assert_eq!(shown(1), ["0x77", "0x0", "highest", "7"]);
        assert_eq!(shown(2), ["0x4", "0x3", "none", "11"]);
        assert_eq!(shown(3), ["-", "-", "-", "3"]);
        assert!(rows.iter().all(|row| row.cells.len() == COLUMNS.len()));
    }
}
