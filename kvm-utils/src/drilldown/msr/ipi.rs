//! `--ipi`: commands written to x2APICs, as a matrix of senders and receivers.

use std::collections::BTreeMap;

use kvm_utils_common::{config::mode, msr::KIND_ICR, rows::RowKey};

use crate::{
    decode::apic::{Icr, Shorthand, Targets},
    drilldown::noun::{Build, Noun, Numbers, column},
    model::{Cell, Column, Role, Row, Unit},
};

/// The drill-down.
pub static IPI: Noun = Noun {
    name: "ipi",
    counting: ("IPI command", "IPI commands"),
    hooks: super::TRACEPOINT,
    maps: &[],
    columns: &COLUMNS,
    sort: "count",
    mode: mode::IPIS_ONLY,
    row_bits: 10,
    counters: 0,
    build: Some(Build { is_event, rows, ..Build::PLAIN }),
};

/// The columns.
pub static COLUMNS: [Column; 8] = [
    column("from", "FROM", Unit::Text, Some(0)),
    column("to", "TO", Unit::Text, Some(0)),
    column("what", "WHAT", Unit::Text, Some(0)),
    column("vector", "VECTOR", Unit::Count, None).role(Role::Key),
    column("mode", "MODE", Unit::Text, None),
    column("count", "COUNT", Unit::Count, Some(0)),
    column("rate", "/s", Unit::PerSecond, Some(0)),
    column("share", "SHARE", Unit::Share, Some(2)),
];

/// In x2APIC mode a cluster has 16 members (Intel SDM volume 3, 12.12.10.2).
const CLUSTER: u32 = 16;

fn is_event(key: RowKey) -> bool {
    key.kind() == KIND_ICR
}

/// From whom, to whom, what.
type Line = (Option<u32>, String, String, u8, &'static str);

fn rows(numbers: &Numbers<'_>) -> Vec<Row> {
    let mut lines: BTreeMap<Line, u64> = BTreeMap::new();
    for (key, stats) in numbers.kind(KIND_ICR) {
        let icr = Icr::from_x2apic(key.a);
        // 0 is a sender that is not known.
        let from = u32::try_from(key.detail()).ok().and_then(|id| id.checked_sub(1));
        let line = (from, receivers(icr), icr.to_string(), icr.vector, icr.mode.name());
        *lines.entry(line).or_default() += stats.count;
    }
    let row = |((from, to, what, vector, mode), count): (Line, u64)| Row {
        cells: vec![
            Cell::Text(from.map_or_else(|| "?".to_owned(), |id| id.to_string())),
            Cell::Text(to),
            Cell::Text(what),
            Cell::Number(u64::from(vector)),
            Cell::Text(mode.to_owned()),
            Cell::Number(count),
            numbers.rate(count),
            numbers.share(count),
        ],
        ..Row::default()
    };
    let mut rows: Vec<Row> = lines.into_iter().map(row).collect();
    if numbers.slice.other > 0 {
        let line = (None, "(others)".to_owned(), "(other commands)".to_owned(), 0, "");
        rows.push(row((line, numbers.slice.other)));
    }
    rows
}

/// To whom, in words. Not all of a VM's vCPUs need to be known here: the command's own ids tell.
fn receivers(icr: Icr) -> String {
    match icr.shorthand {
        Shorthand::Myself => return "self".to_owned(),
        Shorthand::All => return "all".to_owned(),
        Shorthand::AllButSelf => return "all but self".to_owned(),
        Shorthand::None if icr.destination == u32::MAX => return "all".to_owned(),
        Shorthand::None => {}
    }
    let candidates: Vec<u32> = if icr.logical {
        let first = (icr.destination >> 16) * CLUSTER;
        (first..first.saturating_add(CLUSTER)).collect()
    } else {
        vec![icr.destination]
    };
    match icr.targets(None, &candidates, true) {
        Targets::Each(ids) if ids.is_empty() => "nobody".to_owned(),
        Targets::Each(ids) => ranges(&ids),
        Targets::OneOf(ids) => format!("one of {}", ranges(&ids)),
        Targets::Unknown(_) => "?".to_owned(),
    }
}

/// Ascending ids as `0-3,6`.
fn ranges(ids: &[u32]) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for &id in ids {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(id) => *last = id,
            _ => runs.push((id, id)),
        }
    }
    let run =
        |(first, last): (u32, u32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    runs.into_iter().map(run).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bpf::rows::{RowStats, Slice};
    use kvm_utils_common::rows::RowNoun;

    #[test]
    fn commands_become_a_matrix() {
        // Fixed, vector 0xfd, logical: cluster 1, members 0 and 2; then physical to vCPU 5; then all but self.
        let commands =
            [(2, (0x0001_0005_u64 << 32) | 0x8fd, 11), (2, (5_u64 << 32) | 0xfd, 7), (0, 0xc_00fb, 3)];
        let key = |from: u64, command| RowKey::new(RowNoun::Msr, KIND_ICR, from, command);
        let rows = commands
            .map(|(from, command, count)| (key(from, command), RowStats { count, ..RowStats::default() }));
        let slice = Slice { rows: rows.into(), ..Slice::default() };
        let numbers = Numbers {
            slice: &slice,
            events: 21,
            interval: Duration::from_secs(1),
            wall_ns: 1,
            isa: None,
            vcpus: &[],
            vcpu: None,
            aids: &crate::drilldown::noun::NO_AIDS,
        };
        let text = |row: &Row, at: usize| match &row.cells[at] {
            Cell::Text(text) => text.clone(),
            other => format!("{other:?}"),
        };
        let mut lines: Vec<String> = super::rows(&numbers)
            .iter()
            .map(|row| format!("{} -> {} {} {}", text(row, 0), text(row, 1), text(row, 2), text(row, 5)))
            .collect();
        lines.sort();
        assert_eq!(
            lines,
            [
                "1 -> 16,18 fixed vector 0xfd Number(11)",
                "1 -> 5 fixed vector 0xfd Number(7)",
                "? -> all but self fixed vector 0xfb Number(3)"
            ]
        );
    }

    #[test]
    fn ids_are_written_as_ranges() {
        assert_eq!(ranges(&[0, 1, 2, 6, 8, 9]), "0-2,6,8-9");
        assert_eq!(ranges(&[]), "");
    }
}
