//! Copies of what drill-downs counted: rows by key and numbers at fixed places.

use std::{collections::BTreeMap, ops::Range, sync::atomic::Ordering};

use kvm_utils_common::{
    ledger::BUCKET_COUNT,
    numbers::{NUMBERS, STATES, VcpuNumbers, ledger},
    rows::{RowCell, RowKey},
};

use super::{clock::monotonic_ns, mapped::Mapped};

/// Numbers of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowStats {
    /// Events.
    pub count: u64,
    /// A second number, whose meaning is the noun's.
    pub extra: u64,
    /// Events whose exit's duration is known.
    pub timed: u64,
    /// Sum of those durations, ns.
    pub total_ns: u64,
    /// The longest; `None` if it is not known for the interval.
    pub max_ns: Option<u64>,
    /// Of those exits, how many went to user space.
    pub user: u64,
}

impl RowStats {
    /// Adds those of another vCPU, or of a key that is shown as the same.
    pub fn add(&mut self, more: &Self) {
        self.count += more.count;
        self.extra += more.extra;
        self.timed += more.timed;
        self.total_ns += more.total_ns;
        self.max_ns = self.max_ns.max(more.max_ns);
        self.user += more.user;
    }

    /// What came since `before`. The longest is kept since the beginning: it is known only if it is new.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            count: self.count.saturating_sub(before.count),
            extra: self.extra.saturating_sub(before.extra),
            timed: self.timed.saturating_sub(before.timed),
            total_ns: self.total_ns.saturating_sub(before.total_ns),
            max_ns: self.max_ns.filter(|max| before.max_ns.is_none_or(|old| *max > old)),
            user: self.user.saturating_sub(before.user),
        }
    }

    /// Mean duration, ns.
    #[must_use]
    pub fn mean_ns(&self) -> Option<u64> {
        self.total_ns.checked_div(self.timed)
    }
}

/// All that was counted for one vCPU, or for several together, since some moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// By key.
    pub rows: BTreeMap<RowKey, RowStats>,
    /// Counters at fixed places (`kvm_utils_common::numbers`), as many as the noun has; empty if it has none.
    pub counters: Vec<u64>,
    /// Events whose keys found no place.
    pub other: u64,
    /// A value of the noun's at the time of the copy; of several vCPUs the greatest.
    pub gauge: Option<u64>,
}

impl Slice {
    /// Adds another's.
    pub fn add(&mut self, more: &Self) {
        for (key, stats) in &more.rows {
            self.rows.entry(*key).or_default().add(stats);
        }
        if self.counters.len() < more.counters.len() {
            self.counters.resize(more.counters.len(), 0);
        }
        for (sum, more) in self.counters.iter_mut().zip(&more.counters) {
            *sum += more;
        }
        self.other += more.other;
        self.gauge = self.gauge.max(more.gauge);
    }

    /// Adds what came later to the same.
    pub fn follow(&mut self, later: &Self) {
        let gauge = later.gauge.or(self.gauge);
        self.add(later);
        self.gauge = gauge;
    }

    /// What came since `before`, an earlier copy of the same.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let row = |(key, stats): (&RowKey, &RowStats)| {
            let more = before.rows.get(key).map_or(*stats, |old| stats.since(old));
            (more != RowStats::default()).then_some((*key, more))
        };
        let old = before.counters.iter().chain(std::iter::repeat(&0));
        Self {
            rows: self.rows.iter().filter_map(row).collect(),
            counters: self.counters.iter().zip(old).map(|(now, old)| now.saturating_sub(*old)).collect(),
            other: self.other.saturating_sub(before.other),
            gauge: self.gauge,
        }
    }

    /// A counter, 0 where there is none.
    #[must_use]
    pub fn counter(&self, index: usize) -> u64 {
        self.counters.get(index).copied().unwrap_or(0)
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.other == 0 && self.counters.iter().all(|n| *n == 0)
    }
}

/// Rows of the table of record `slot`, of `1 << bits` rows.
pub fn read_rows(rows: &Mapped<RowCell>, slot: u32, bits: u32, into: &mut BTreeMap<RowKey, RowStats>) {
    for index in table(slot, bits) {
        let Some(row) = rows.get(index) else { return };
        macro_rules! get {
            ($($field:tt)+) => {
                // SAFETY: `row` is valid while the map is; the kernel writes whole aligned words.
                unsafe { (&raw const (*row).$($field)+).read_volatile() }
            };
        }
        // The noun is written last.
        let b = get!(key.b);
        if b == 0 {
            continue;
        }
        let timed = get!(timed);
        let stats = RowStats {
            count: get!(count),
            extra: get!(extra),
            timed,
            total_ns: get!(total_ns),
            max_ns: (timed > 0).then_some(get!(max_ns)),
            user: get!(user),
        };
        if stats.count > 0 {
            into.insert(RowKey { a: get!(key.a), b }, stats);
        }
    }
}

/// The first `count` counters of record `slot`.
#[must_use]
pub fn read_numbers(numbers: &Mapped<VcpuNumbers>, slot: u32, count: usize) -> Vec<u64> {
    let Some(numbers) = numbers.get(slot) else { return Vec::new() };
    // SAFETY: within the element, which is valid while the map is; the kernel writes whole aligned words.
    let read = |i: usize| unsafe { (&raw const (*numbers).counters).cast::<u64>().add(i).read_volatile() };
    (0..count.min(NUMBERS)).map(read).collect()
}

/// A word of the nouns' memory of record `slot`; 0 where there is none.
#[must_use]
pub fn read_state(numbers: &Mapped<VcpuNumbers>, slot: u32, place: usize) -> u64 {
    let Some(numbers) = numbers.get(slot).filter(|_| place < STATES) else { return 0 };
    // SAFETY: within the element, which is valid while the map is; the kernel writes whole aligned words.
    unsafe { (&raw const (*numbers).state).cast::<u64>().add(place).read_volatile() }
}

/// Reads after which a copy that never was complete is taken as it is: a vCPU does not change its state that often.
const MOST_READS: usize = 1000;

/// As [`read_numbers`], for the noun time: with the time since the last event, up to `until` or, if that is 0, to now.
#[must_use]
pub fn read_ledger(numbers: &Mapped<VcpuNumbers>, slot: u32, count: usize, until: u64) -> Vec<u64> {
    let state = |place| read_state(numbers, slot, place);
    let mut copy = (Vec::new(), 0, 0);
    for _ in 0..MOST_READS {
        let before = state(ledger::STATE_SEQUENCE);
        std::sync::atomic::fence(Ordering::SeqCst);
        copy = (read_numbers(numbers, slot, count), state(ledger::STATE_BUCKET), state(ledger::STATE_SINCE));
        std::sync::atomic::fence(Ordering::SeqCst);
        if before % 2 == 0 && before == state(ledger::STATE_SEQUENCE) {
            break;
        }
        std::hint::spin_loop();
    }
    let (mut counters, bucket, since) = copy;
    let until = if until == 0 { monotonic_ns() } else { until };
    let bucket = usize::try_from(bucket).ok().filter(|bucket| *bucket < BUCKET_COUNT && since != 0);
    if let Some(counter) = bucket.and_then(|bucket| counters.get_mut(ledger::BUCKETS + bucket)) {
        *counter += until.saturating_sub(since);
    }
    counters
}

/// Forgets what was counted for record `slot`, whose vCPU cannot run any more.
pub fn clear(rows: &Mapped<RowCell>, bits: u32, numbers: &Mapped<VcpuNumbers>, slot: u32) {
    for row in table(slot, bits).filter_map(|index| rows.get(index)) {
        // SAFETY: a whole element of a live mapping that no program writes to.
        unsafe { row.write_bytes(0, 1) };
    }
    if let Some(numbers) = numbers.get(slot) {
        // SAFETY: as above.
        unsafe { numbers.write_bytes(0, 1) };
    }
}

fn table(slot: u32, bits: u32) -> Range<u32> {
    let first = slot.saturating_mul(1 << bits);
    first..first.saturating_add(1 << bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_utils_common::rows::RowNoun;
    use proptest::prelude::*;

    fn slice(counts: &[(u64, u64)], other: u64) -> Slice {
        let rows = counts.iter().map(|(a, count)| {
            (RowKey::new(RowNoun::Msr, 0, 0, *a), RowStats { count: *count, ..RowStats::default() })
        });
        Slice { rows: rows.collect(), counters: vec![other, 1], other, gauge: None }
    }

    #[test]
    fn rows_are_read_from_their_own_table_and_cleared_there_only() {
        let rows = Mapped::<RowCell>::anonymous(12).unwrap();
        let numbers = Mapped::<VcpuNumbers>::anonymous(3).unwrap();
        let key = RowKey::new(RowNoun::Msr, 0, 1, 0x6e0);
        for (index, count) in [(4, 1009), (7, 0), (8, 5)] {
            let row = rows.get(index).unwrap();
            // SAFETY: nobody else knows this memory.
            unsafe { ((*row).key, (*row).count) = (key, count) };
        }
        let read = |slot| {
            let mut into = BTreeMap::new();
            read_rows(&rows, slot, 2, &mut into);
            into.values().map(|stats| stats.count).collect::<Vec<_>>()
        };
        assert_eq!((read(0), read(1), read(2)), (vec![], vec![1009], vec![5]));
        clear(&rows, 2, &numbers, 1);
        assert_eq!((read(1), read(2)), (vec![], vec![5]));
    }

    #[test]
    fn the_longest_is_the_intervals_only_if_it_is_new() {
        let at = |max_ns| RowStats { count: 1, timed: 1, max_ns: Some(max_ns), ..RowStats::default() };
        assert_eq!(at(7).since(&at(7)).max_ns, None);
        assert_eq!(at(9).since(&at(7)).max_ns, Some(9));
    }

    #[test]
    fn a_ledger_is_read_with_the_time_that_goes_on() {
        let numbers = Mapped::<VcpuNumbers>::anonymous(2).unwrap();
        let vcpu = numbers.get(1).unwrap();
        let now = monotonic_ns();
        // SAFETY: nobody else knows this memory.
        unsafe {
            (*vcpu).counters[ledger::BUCKETS + 4] = 100;
            (*vcpu).state[ledger::STATE_BUCKET] = 4;
            (*vcpu).state[ledger::STATE_SINCE] = now - 50;
        }
        let idle = |until| read_ledger(&numbers, 1, ledger::EXITS, until)[ledger::BUCKETS + 4];
        assert_eq!(idle(now), 150);
        assert!(idle(0) >= 150);
        // SAFETY: as above.
        unsafe { (*vcpu).state[ledger::STATE_BUCKET] = kvm_utils_common::ledger::ENDED };
        assert_eq!(idle(now), 100);
    }

    proptest! {
        #[test]
        fn what_came_since_added_to_what_was_is_what_is(
            a in prop::collection::vec((0u64..9, 1u64..99), 0..9),
            b in prop::collection::vec((0u64..9, 1u64..99), 0..9),
            (x, y) in (0u64..9, 0u64..9),
        ) {
            let before = slice(&a, x);
            let mut now = before.clone();
            now.add(&slice(&b, y));
            let mut sum = before.clone();
            sum.add(&now.since(&before));
            prop_assert_eq!(sum, now);
        }
    }
}
