//! derived: what a KVM that never fires kvm_exit (out-of-tree PVM, for one) shows all the same: the events of what it did for
//! its guests. They are fewer than exits, which end for other reasons too, and they have no durations.

use std::collections::BTreeMap;

use kvm_utils_common::{
    config::mode,
    derived::DETAIL_ERROR,
    io::{KIND_MMIO_ASKED, KIND_MMIO_FAST, KIND_MMIO_READ, KIND_MMIO_WRITE},
    msr::{DETAIL_WRITE, KIND_ACCESS},
    rows::{RowKey, RowNoun},
};

use super::noun::{Build, Noun, Numbers, column};
use crate::{
    bpf::{event, hook::Hook},
    decode::user_exit,
    model::{Cell, Column, Role, Row, Unit},
};

/// The drill-down.
pub static NOUN: Noun = Noun {
    name: "derived",
    counting: ("event that comes of an exit", "events that come of exits"),
    hooks: &[
        Hook::Event(&event::PIO),
        Hook::Event(&event::MMIO),
        Hook::Event(&event::FAST_MMIO),
        Hook::Event(&event::MSR),
        Hook::Event(&event::CPUID),
        Hook::Event(&event::HYPERCALL),
        Hook::Event(&event::HV_HYPERCALL),
        Hook::Event(&event::XEN_HYPERCALL),
        Hook::Event(&event::USERSPACE_EXIT),
        Hook::VcpuDestroy,
    ],
    maps: &[],
    columns: &COLUMNS,
    sort: "count",
    mode: mode::USER_EXITS,
    row_bits: 10,
    counters: 0,
    build: Some(Build { is_event, rows, notes: Some(notes), ..Build::PLAIN }),
};

/// The columns.
pub static COLUMNS: [Column; 6] = [
    column("class", "CLASS (derived)", Unit::Text, Some(0)),
    column("event", "EVENT", Unit::Text, Some(1)),
    column("count", "COUNT", Unit::Count, Some(0)),
    column("rate", "/s", Unit::PerSecond, Some(0)),
    column("share", "SHARE", Unit::Share, Some(2)),
    column("keys", "DIFFERENT", Unit::Count, Some(3)).role(Role::Derived),
];

const IO: u8 = RowNoun::Io as u8;
const MSR: u8 = RowNoun::Msr as u8;
const CPUID: u8 = RowNoun::Cpuid as u8;
const HYPERCALL: u8 = RowNoun::Hypercall as u8;
const USER: u8 = RowNoun::User as u8;

/// Returns to user space come of exits that other events tell of as well.
fn is_event(key: RowKey) -> bool {
    key.noun() != USER && !(key.noun() == IO && key.kind() == KIND_MMIO_ASKED)
}

/// Class as of exits, and the event's name, of a row; `None` for rows that say more of others.
fn class(key: RowKey) -> Option<(String, &'static str)> {
    let (class, event) = match (key.noun(), key.kind()) {
        (IO, KIND_MMIO_ASKED) => return None,
        (IO, KIND_MMIO_READ | KIND_MMIO_WRITE) => ("mmio", "kvm_mmio"),
        (IO, KIND_MMIO_FAST) => ("mmio", "kvm_fast_mmio"),
        (IO, _) => ("io", "kvm_pio"),
        (MSR, KIND_ACCESS) if key.detail() & DETAIL_WRITE != 0 => ("msr-write", "kvm_msr"),
        (MSR, KIND_ACCESS) => ("msr-read", "kvm_msr"),
        (CPUID, _) => ("cpuid", "kvm_cpuid"),
        (HYPERCALL, _) => ("hypercall", "kvm_hypercall"),
        (USER, _) => return Some((to_user(key), "kvm_userspace_exit")),
        _ => ("other", ""),
    };
    Some((class.to_owned(), event))
}

/// What a return to user space was for.
fn to_user(key: RowKey) -> String {
    let number = u32::try_from(key.a).unwrap_or(u32::MAX);
    let (reason, errno) =
        if key.detail() & DETAIL_ERROR != 0 { (0, number.cast_signed()) } else { (number, 0) };
    format!("to the VMM: {}", user_exit::outcome(reason, errno))
}

fn rows(numbers: &Numbers<'_>) -> Vec<Row> {
    let mut classes: BTreeMap<(String, &str), (u64, u64)> = BTreeMap::new();
    for (key, stats) in &numbers.slice.rows {
        let Some(class) = class(*key) else { continue };
        let of = classes.entry(class).or_default();
        of.0 += stats.count;
        of.1 += 1;
    }
    if numbers.slice.other > 0 {
        classes.insert(("(others)".to_owned(), ""), (numbers.slice.other, 0));
    }
    let row = |((class, event), (count, keys)): ((String, &str), (u64, u64))| {
        let part = event != "kvm_userspace_exit";
        Row {
            cells: vec![
                Cell::Text(class),
                Cell::Text(event.to_owned()),
                Cell::Number(count),
                numbers.rate(count),
                if part { numbers.share(count) } else { Cell::Unknown },
                Cell::Number(keys),
            ],
            of_others: !part,
            ..Row::default()
        }
    };
    classes.into_iter().map(row).collect()
}

fn notes(_: &Numbers<'_>, _: &[(super::exits::rows::Code, u64)]) -> Vec<String> {
    vec![
        "derived: this KVM fires no kvm_exit, so these are the events of what it did for its guests. Exits for other \
         reasons are not among them, and nothing is timed; kvm-utils io, msr, cpuid and hypercall tell more"
            .to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bpf::rows::{RowStats, Slice};

    #[test]
    fn returns_to_the_vmm_are_shown_and_not_counted_twice() {
        let rows = [
            (RowKey::new(RowNoun::Io, 0, 1, 0x1234), 227),
            (RowKey::new(RowNoun::Cpuid, 0, 1, 0), 1009),
            (RowKey::new(RowNoun::Cpuid, 0, 1, 7), 3),
            (RowKey::new(RowNoun::User, 0, 0, 2), 227),
            (RowKey::new(RowNoun::User, 0, DETAIL_ERROR, 0xffff_fffc), 5),
        ];
        let rows = rows.map(|(key, count)| (key, RowStats { count, ..RowStats::default() }));
        let slice = Slice { rows: rows.into(), ..Slice::default() };
        let events = NOUN.build.unwrap().events(&slice);
        assert_eq!(events, 227 + 1009 + 3);
        let numbers = Numbers {
            aids: &crate::drilldown::noun::NO_AIDS,
            slice: &slice,
            events,
            interval: Duration::from_secs(1),
            wall_ns: 1,
            isa: None,
            vcpus: &[],
            vcpu: None,
        };
        let lines: Vec<String> = super::rows(&numbers)
            .iter()
            .map(|row| match (&row.cells[0], &row.cells[2], &row.cells[5]) {
                (Cell::Text(class), Cell::Number(count), Cell::Number(keys)) => {
                    format!("{class} {count} {keys}")
                }
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(lines, ["cpuid 1012 2", "io 227 1", "to the VMM: io 227 1", "to the VMM: restart 5 1"]);
    }
}
