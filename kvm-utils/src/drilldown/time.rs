//! time: where each vCPU's time goes, all of it.

use kvm_utils_common::{
    config::mode,
    ledger::{BUCKET_COUNT, Bucket},
    numbers::ledger::{BUCKETS, EXITS},
    rows::RowKey,
};

use super::noun::{Build, Noun, Numbers, column};
use crate::{
    bpf::{event, hook::Hook, rows::Slice},
    model::{Cell, Column, Role, Row, Unit},
};

/// The ledger.
pub static TIME: Noun = Noun {
    name: "time",
    counting: ("exit", "exits"),
    hooks: &[
        Hook::KvmExit,
        Hook::KvmEntry,
        Hook::VcpuDestroy,
        Hook::VcpuRun,
        Hook::Event(&event::USERSPACE_EXIT),
        Hook::Event(&event::VCPU_WAKEUP),
        Hook::Event(&event::SCHED_SWITCH),
        Hook::Event(&event::SCHED_WAKEUP),
    ],
    maps: &["TASKS"],
    columns: &COLUMNS,
    sort: "vcpu",
    mode: mode::LEDGER,
    row_bits: 0,
    counters: EXITS + 1,
    build: Some(Build {
        is_event,
        event_counters: &[EXITS],
        rows,
        settle: Some(settle),
        one_row: true,
        ..Build::PLAIN
    }),
};

/// The columns: who, shares in the order of [`Bucket`], then the same in ns.
pub static COLUMNS: [Column; 17] = [
    column("vcpu", "VCPU", Unit::Text, Some(0)),
    column("guest_share", "GUEST", Unit::Share, Some(0)),
    column("kvm_share", "KVM", Unit::Share, Some(0)),
    column("vmm_share", "VMM", Unit::Share, Some(0)),
    column("poll_share", "POLL", Unit::Share, Some(0)),
    column("idle_share", "IDLE", Unit::Share, Some(0)),
    column("steal_share", "STEAL", Unit::Share, Some(0)),
    column("other_share", "OTHER", Unit::Share, Some(0)),
    column("wall_ns", "TOTAL", Unit::Nanoseconds, Some(1)).role(Role::Sum),
    column("exits", "EXITS", Unit::Count, Some(2)),
    column("guest_ns", "GUEST", Unit::Nanoseconds, None).role(Role::Sum),
    column("kvm_ns", "KVM", Unit::Nanoseconds, None).role(Role::Sum),
    column("vmm_ns", "VMM", Unit::Nanoseconds, None).role(Role::Sum),
    column("poll_ns", "POLL", Unit::Nanoseconds, None).role(Role::Sum),
    column("idle_ns", "IDLE", Unit::Nanoseconds, None).role(Role::Sum),
    column("steal_ns", "STEAL", Unit::Nanoseconds, None).role(Role::Sum),
    column("other_ns", "OTHER", Unit::Nanoseconds, None).role(Role::Sum),
];

fn is_event(_: RowKey) -> bool {
    false
}

/// Time in each bucket, ns.
fn buckets(slice: &Slice) -> [u64; BUCKET_COUNT] {
    std::array::from_fn(|bucket| slice.counter(BUCKETS + bucket))
}

fn rows(numbers: &Numbers<'_>) -> Vec<Row> {
    let buckets = buckets(numbers.slice);
    let wall: u64 = buckets.iter().sum();
    if wall == 0 {
        return Vec::new();
    }
    let who = numbers.vcpu.map_or_else(|| "all".to_owned(), |id| id.to_string());
    let share = |ns: &u64| Cell::Real(*ns as f64 / wall as f64);
    let cells = [Cell::Text(who)]
        .into_iter()
        .chain(buckets.iter().map(share))
        .chain([Cell::Number(wall), Cell::Number(numbers.slice.counter(EXITS))])
        .chain(buckets.iter().copied().map(Cell::Number));
    vec![Row { cells: cells.collect(), ..Row::default() }]
}

/// Polling is told when it is over, and was KVM's time until then. What an earlier copy has as KVM's stays so, at the
/// expense of polling.
fn settle(now: &mut Slice, before: &Slice) {
    let (kvm, poll) = (BUCKETS + Bucket::Kvm as usize, BUCKETS + Bucket::Poll as usize);
    let less = before.counter(kvm).saturating_sub(now.counter(kvm));
    if less > 0 && poll < now.counters.len() {
        let moved = less.min(now.counters[poll]);
        now.counters[kvm] += moved;
        now.counters[poll] -= moved;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::drilldown::noun::NO_AIDS;

    fn slice(buckets: [u64; BUCKET_COUNT], exits: u64) -> Slice {
        let mut slice = Slice { counters: vec![0; TIME.counters], ..Slice::default() };
        slice.counters[BUCKETS..BUCKETS + BUCKET_COUNT].copy_from_slice(&buckets);
        slice.counters[EXITS] = exits;
        slice
    }

    fn rows_of(slice: &Slice, vcpu: Option<u32>) -> Vec<Row> {
        let events = TIME.build.unwrap().events(slice);
        let interval = Duration::from_secs(1);
        rows(&Numbers {
            slice,
            events,
            interval,
            wall_ns: 1,
            isa: None,
            vcpus: &[0, 1],
            vcpu,
            aids: &NO_AIDS,
        })
    }

    fn cell<'a>(row: &'a Row, id: &str) -> &'a Cell {
        &row.cells[COLUMNS.iter().position(|column| column.id == id).unwrap()]
    }

    #[test]
    fn shares_are_of_all_the_time_there_was() {
        let slice = slice([500, 100, 50, 25, 300, 20, 5], 1009);
        let rows = rows_of(&slice, Some(3));
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].cells.len(), COLUMNS.len());
        assert_eq!(cell(&rows[0], "vcpu"), &Cell::Text("3".to_owned()));
        assert_eq!(
            (cell(&rows[0], "wall_ns"), cell(&rows[0], "exits")),
            (&Cell::Number(1000), &Cell::Number(1009))
        );
        let of = |id: &str| {
            (cell(&rows[0], &format!("{id}_share")).clone(), cell(&rows[0], &format!("{id}_ns")).clone())
        };
        for (id, ns) in [
            ("guest", 500),
            ("kvm", 100),
            ("vmm", 50),
            ("poll", 25),
            ("idle", 300),
            ("steal", 20),
            ("other", 5),
        ] {
            assert_eq!(of(id), (Cell::Real(ns as f64 / 1000.0), Cell::Number(ns)), "{id}");
        }
        assert_eq!(TIME.build.unwrap().events(&slice), 1009);
        assert_eq!(cell(&rows_of(&slice, None)[0], "vcpu"), &Cell::Text("all".to_owned()));
    }

    #[test]
    fn a_vcpu_that_was_not_there_has_no_row() {
        assert!(rows_of(&slice([0; BUCKET_COUNT], 0), Some(0)).is_empty());
    }

    #[test]
    fn what_was_told_as_kvms_stays_so_and_no_time_is_lost() {
        // 60 ns of KVM's time turned out to be polling; 40 of them have been told.
        let before = slice([10, 100, 0, 0, 0, 0, 0], 1);
        let mut now = slice([10, 60, 0, 60, 500, 0, 0], 2);
        settle(&mut now, &before);
        assert_eq!(buckets(&now), [10, 100, 0, 20, 500, 0, 0]);
        assert!(buckets(&now.since(&before)).iter().sum::<u64>() == 520);
        // Later it has caught up.
        let mut later = slice([10, 130, 0, 60, 500, 0, 0], 2);
        settle(&mut later, &now);
        assert_eq!(buckets(&later)[1], 130);
    }
}
