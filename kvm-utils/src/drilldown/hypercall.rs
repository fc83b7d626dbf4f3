//! hypercall: what guests call, by interface and number.

use std::collections::BTreeMap;

use kvm_utils_common::{
    hypercall::{DETAIL_FAST, KIND_HYPERV, KIND_KVM, KIND_XEN, SEND_IPI},
    rows::RowKey,
};

use super::noun::{Build, Noun, Numbers, column};
use crate::{
    bpf::{event, hook::Hook},
    decode::{self, hypercall::Flavour},
    model::{Cell, Column, Row, Unit},
    view::units,
};

/// The noun.
pub static NOUN: Noun = Noun {
    name: "hypercall",
    counting: ("hypercall", "hypercalls"),
    hooks: &[
        Hook::Event(&event::HYPERCALL),
        Hook::Event(&event::HV_HYPERCALL),
        Hook::Event(&event::XEN_HYPERCALL),
        Hook::VcpuDestroy,
    ],
    maps: &[],
    columns: &COLUMNS,
    sort: "count",
    mode: 0,
    row_bits: 8,
    counters: 0,
    build: Some(Build { is_event, rows, ..Build::PLAIN }),
};

/// The columns, in the order of [`row`]'s cells.
pub static COLUMNS: [Column; 9] = [
    column("name", "HYPERCALL", Unit::Text, Some(0)),
    column("interface", "INTERFACE", Unit::Text, Some(1)),
    column("nr", "NUMBER", Unit::Text, Some(0)),
    column("count", "COUNT", Unit::Count, Some(0)),
    column("rate", "/s", Unit::PerSecond, Some(0)),
    column("share", "SHARE", Unit::Share, Some(2)),
    column("fast", "FAST", Unit::Count, None),
    column("reps", "REPS", Unit::Count, None),
    column("targets", "TARGETS", Unit::Count, None),
];

fn is_event(_: RowKey) -> bool {
    true
}

/// Calls of one number of one interface.
#[derive(Clone, Copy, Debug, Default)]
struct Calls {
    count: u64,
    /// With their input in registers.
    fast: u64,
    /// Sum of the calls' second number, whatever that is.
    extra: u64,
}

fn rows(numbers: &Numbers<'_>) -> Vec<Row> {
    let mut all: BTreeMap<(u8, u64), Calls> = BTreeMap::new();
    for (key, stats) in &numbers.slice.rows {
        let calls = all.entry((key.kind(), key.a)).or_default();
        calls.count += stats.count;
        calls.extra += stats.extra;
        if key.detail() & DETAIL_FAST != 0 {
            calls.fast += stats.count;
        }
    }
    let mut rows: Vec<Row> =
        all.iter().map(|((kind, number), calls)| row(numbers, *kind, *number, *calls)).collect();
    if numbers.slice.other > 0 {
        let count = numbers.slice.other;
        let mut cells = vec![Cell::Text("(other hypercalls)".to_owned()), Cell::Unknown, Cell::Unknown];
        cells.extend([Cell::Number(count), numbers.rate(count), numbers.share(count)]);
        cells.resize(COLUMNS.len(), Cell::Unknown);
        rows.push(Row { cells, ..Row::default() });
    }
    rows
}

fn row(numbers: &Numbers<'_>, kind: u8, number: u64, calls: Calls) -> Row {
    let hyperv = kind == KIND_HYPERV;
    let ipi = kind == KIND_KVM && number == SEND_IPI;
    let if_known = |known: bool, number: u64| if known { Cell::Number(number) } else { Cell::Unknown };
    let hex = format!("{number:#x}");
    Row {
        cells: vec![
            Cell::Text(name(kind, number).map_or_else(|| hex.clone(), str::to_owned)),
            Cell::Text(
                match kind {
                    KIND_KVM => "kvm",
                    KIND_HYPERV => "hyper-v",
                    KIND_XEN => "xen",
                    _ => "unknown",
                }
                .to_owned(),
            ),
            Cell::Text(hex),
            Cell::Number(calls.count),
            numbers.rate(calls.count),
            numbers.share(calls.count),
            if_known(hyperv, calls.fast),
            if_known(hyperv, calls.extra),
            if_known(ipi, calls.extra),
        ],
        detail: match (hyperv, ipi) {
            (true, _) if calls.extra > 0 => Some(units::counted(calls.extra, "repetition", "repetitions")),
            (_, true) if calls.count > 0 => {
                Some(format!("to {:.1} vCPUs a call", calls.extra as f64 / calls.count as f64))
            }
            _ => None,
        },
        ..Row::default()
    }
}

fn name(kind: u8, number: u64) -> Option<&'static str> {
    let flavour = match kind {
        KIND_KVM => Flavour::Kvm,
        KIND_HYPERV => Flavour::HyperV,
        KIND_XEN => Flavour::Xen,
        _ => return None,
    };
    decode::hypercall::name(flavour, number)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kvm_utils_common::rows::RowNoun;

    use super::*;
    use crate::bpf::rows::{RowStats, Slice};

    fn key(kind: u8, detail: u64, number: u64) -> RowKey {
        RowKey::new(RowNoun::Hypercall, kind, detail, number)
    }

    #[test]
    fn interfaces_are_told_apart_and_fast_calls_are_calls() {
        let counts = [
            (key(KIND_KVM, 0, 10), 101, 303),
            (key(KIND_XEN, 0, 10), 7, 0),
            (key(KIND_HYPERV, 0, 3), 11, 22),
            (key(KIND_HYPERV, DETAIL_FAST, 3), 13, 0),
        ];
        let rows = counts
            .iter()
            .map(|(key, count, extra)| {
                (*key, RowStats { count: *count, extra: *extra, ..RowStats::default() })
            })
            .collect();
        let slice = Slice { rows, other: 5, ..Slice::default() };
        let events = NOUN.build.unwrap().events(&slice);
        assert_eq!(events, 137);
        let rows = super::rows(&Numbers {
            slice: &slice,
            events,
            interval: Duration::from_secs(1),
            wall_ns: 1_000_000_000,
            isa: None,
            vcpus: &[0],
            vcpu: Some(0),
            aids: &crate::drilldown::noun::NO_AIDS,
        });
        let find = |interface: &str| {
            rows.iter().find(|row| row.cells[1] == Cell::Text(interface.to_owned())).unwrap()
        };
        assert_eq!((rows.len(), &rows[3].cells[3]), (4, &Cell::Number(5)));
        assert_eq!(find("xen").cells[3], Cell::Number(7));
        let hyperv = find("hyper-v");
        assert_eq!(
            (&hyperv.cells[3], &hyperv.cells[6], &hyperv.cells[7]),
            (&Cell::Number(24), &Cell::Number(13), &Cell::Number(22))
        );
        assert_eq!(find("kvm").detail.as_deref(), Some("to 3.0 vCPUs a call"));
        assert!(rows.iter().all(|row| row.cells.len() == COLUMNS.len()));
    }
}
