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
    model::{Cell, Column, Row, Unit},
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
    column("wall_ns", "TOTAL", Unit::Nanoseconds, Some(1)),
    column("exits", "EXITS", Unit::Count, Some(2)),
    column("guest_ns", "GUEST", Unit::Nanoseconds, None),
    column("kvm_ns", "KVM", Unit::Nanoseconds, None),
    column("vmm_ns", "VMM", Unit::Nanoseconds, None),
    column("poll_ns", "POLL", Unit::Nanoseconds, None),
    column("idle_ns", "IDLE", Unit::Nanoseconds, None),
    column("steal_ns", "STEAL", Unit::Nanoseconds, None),
    column("other_ns", "OTHER", Unit::Nanoseconds, None),
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
    vec![Row { cells: cells.collect(), waiting: false, detail: None }]
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
