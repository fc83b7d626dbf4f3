//! Turns copies of the kernel's counters into exits per VM, vCPU and reason, over an interval and over the run.
//!
//! The kernel's counters only grow, and are never reset while a vCPU lives; an interval is the difference of two copies.
//! When a vCPU is gone its last numbers are taken over and its record goes back to the kernel.

use std::collections::{BTreeMap, HashMap};

use kvm_utils_common::{
    hist::BUCKETS,
    vcpu::{OVERFLOW_SLOT, STATE_DEAD},
};

use super::{
    rows::{ByCode, Code},
    stats::{ExitStats, Sparse},
};
use crate::{
    bpf::snapshot::{CellCopy, Head, Snapshot},
    drilldown::sample::Scope,
};

/// Reads one histogram of the kernel by record and index; `None` where there is none.
pub type ReadHist<'a> = &'a dyn Fn(u32, u32) -> Option<Box<[u32; BUCKETS]>>;

/// One (vCPU, reason).
pub struct CellState {
    /// Why.
    pub code: Code,
    last: CellCopy,
    last_hist: Option<Box<[u32; BUCKETS]>>,
    /// The kernel's extremes at the beginning of the interval: (timed, min, max).
    began: (u64, u64, u64),
    /// Since the beginning of the interval.
    pub interval: ExitStats,
    /// Since the beginning of the run, without the interval.
    before: ExitStats,
}

impl CellState {
    /// Since the beginning of the run.
    #[must_use]
    pub fn run(&self) -> ExitStats {
        let mut run = self.before.clone();
        run.add(&self.interval);
        run
    }
}

/// One vCPU.
pub struct VcpuState {
    /// As last copied.
    pub head: Head,
    /// It will never run again.
    pub ended: bool,
    /// When it was last seen alive, monotonic ns.
    pub until_ns: u64,
    /// Per cell of the record.
    pub cells: BTreeMap<u32, CellState>,
    /// The exit that was going on when the interval began: since when, and its cell.
    began_pending: Option<(u64, u32)>,
    /// `unpaired_exits` and `unpaired_entries` when the interval began.
    began_unpaired: (u64, u64),
}

impl VcpuState {
    fn new(head: Head) -> Self {
        Self {
            head,
            ended: false,
            until_ns: head.since,
            cells: BTreeMap::new(),
            began_pending: None,
            began_unpaired: (0, 0),
        }
    }

    /// Exits without duration and entries without exit, in the interval.
    #[must_use]
    pub fn unpaired_in_interval(&self) -> (u64, u64) {
        (self.head.unpaired_exits - self.began_unpaired.0, self.head.unpaired_entries - self.began_unpaired.1)
    }

    /// Its exits by reason.
    #[must_use]
    pub fn by_code(&self, scope: Scope) -> ByCode {
        let mut sums = ByCode::new();
        for cell in self.cells.values() {
            let stats = match scope {
                Scope::Interval => cell.interval.clone(),
                Scope::Run => cell.run(),
            };
            // A reason that only waits (an idle vCPU in HLT) has no exit in this interval, but time.
            if stats.count > 0 || stats.timed > 0 || stats.within_ns > 0 {
                sums.entry(cell.code).or_default().add(&stats);
            }
        }
        sums
    }

    /// The exit now going on: since when, and its cell. Not for a vCPU that ended: its last exit never ends.
    #[must_use]
    pub fn pending(&self) -> Option<(u64, &CellState)> {
        if self.ended || self.head.pending_since == 0 {
            return None;
        }
        Some((self.head.pending_since, self.cells.get(&self.head.pending_cell)?))
    }
}

/// What tells one vCPU from all others, also from later ones in the same record.
pub type VcpuKey = (u32, u64);

/// All vCPUs seen.
#[derive(Default)]
pub struct Collection {
    /// Every vCPU seen in this run, also those that ended.
    pub vcpus: HashMap<VcpuKey, VcpuState>,
    /// Which vCPU holds a record now.
    holders: HashMap<u32, VcpuKey>,
    /// Exits of the run whose vCPUs are forgotten.
    pub folded: ByCode,
    /// Beginning of the interval, monotonic ns.
    pub began_ns: u64,
    /// Time of the last copy, monotonic ns.
    pub now_ns: u64,
}

impl Collection {
    /// A collection whose first interval begins at `now_ns`.
    #[must_use]
    pub fn new(now_ns: u64) -> Self {
        Self { began_ns: now_ns, now_ns, ..Self::default() }
    }

    /// Who holds record `slot`.
    #[must_use]
    pub fn holder(&self, slot: u32) -> Option<VcpuKey> {
        self.holders.get(&slot).copied()
    }

    /// vCPUs in `snapshot` that were not known before.
    #[must_use]
    pub fn newcomers(&self, snapshot: &Snapshot) -> Vec<Head> {
        snapshot
            .vcpus
            .iter()
            .filter(|head| self.holder(head.slot) != Some((head.slot, head.since)))
            .copied()
            .collect()
    }

    /// A vCPU never seen before has this record from now on.
    pub fn welcome(&mut self, head: &Head) {
        let key = (head.slot, head.since);
        self.holders.insert(head.slot, key);
        self.vcpus.entry(key).or_insert_with(|| VcpuState::new(*head));
    }

    /// Takes over what changed since the last copy, for all vCPUs or, with `only_dead`, for those that ended.
    pub fn absorb(&mut self, snapshot: &Snapshot, hists: ReadHist<'_>, only_dead: bool) {
        for head in &snapshot.vcpus {
            if only_dead && head.state != STATE_DEAD {
                continue;
            }
            let key = (head.slot, head.since);
            self.holders.insert(head.slot, key);
            let vcpu = self.vcpus.entry(key).or_insert_with(|| VcpuState::new(*head));
            vcpu.head = *head;
            vcpu.until_ns = snapshot.time_ns;
            for cell in snapshot.cells_of(head) {
                absorb_cell(vcpu, cell, hists);
            }
            if head.state == STATE_DEAD {
                vcpu.ended = true;
            }
        }
        self.now_ns = self.now_ns.max(snapshot.time_ns);
    }

    /// The vCPU of record `slot` is gone: its numbers are final, the record may be given to another.
    pub fn release(&mut self, slot: u32) {
        if let Some(key) = self.holders.remove(&slot)
            && let Some(vcpu) = self.vcpus.get_mut(&key)
        {
            vcpu.ended = true;
            for cell in vcpu.cells.values_mut() {
                cell.last_hist = None;
            }
        }
    }

    /// Forgets a vCPU altogether.
    pub fn discard(&mut self, slot: u32) {
        if let Some(key) = self.holders.remove(&slot) {
            self.vcpus.remove(&key);
        }
    }

    /// Forgets a vCPU that ended before the interval began; its numbers stay in the run's.
    pub fn fold(&mut self, key: VcpuKey) {
        for cell in self.vcpus.remove(&key).into_iter().flat_map(|vcpu| vcpu.cells.into_values()) {
            self.folded.entry(cell.code).or_default().add(&cell.run());
        }
    }

    /// Works out what needs the interval's end: time within it, and extremes. Call it once after the last
    /// [`Collection::absorb`] of an interval, before the numbers are looked at.
    pub fn close_interval(&mut self) {
        let (began, now) = (self.began_ns, self.now_ns);
        for vcpu in self.vcpus.values_mut() {
            for cell in vcpu.cells.values_mut() {
                cell.interval.within_ns = cell.interval.total_ns;
                set_extremes(cell);
            }
            let pending = vcpu.pending().map(|(since, _)| (since, vcpu.head.pending_cell));
            if let Some((since, index)) = vcpu.began_pending
                && pending != Some((since, index))
                && let Some(cell) = vcpu.cells.get_mut(&index)
            {
                // It ended within the interval and counts in full in total_ns, but began before.
                let before = began.saturating_sub(since);
                cell.interval.within_ns = cell.interval.within_ns.saturating_sub(before);
            }
            if let Some((since, index)) = pending
                && let Some(cell) = vcpu.cells.get_mut(&index)
            {
                cell.interval.within_ns += now.saturating_sub(since.max(began));
            }
        }
    }

    /// Begins the next interval where the last ended.
    pub fn next_interval(&mut self) {
        self.began_ns = self.now_ns;
        for vcpu in self.vcpus.values_mut() {
            vcpu.began_pending = vcpu.pending().map(|(since, _)| (since, vcpu.head.pending_cell));
            vcpu.began_unpaired = (vcpu.head.unpaired_exits, vcpu.head.unpaired_entries);
            for cell in vcpu.cells.values_mut() {
                let interval = std::mem::take(&mut cell.interval);
                cell.before.add(&interval);
                cell.began = (cell.last.timed, cell.last.min_ns, cell.last.max_ns);
            }
        }
    }
}

fn absorb_cell(vcpu: &mut VcpuState, copy: &CellCopy, hists: ReadHist<'_>) {
    let state = vcpu.cells.entry(copy.index).or_insert_with(|| CellState {
        code: Code { isa: vcpu.head.isa, code: copy.code },
        last: CellCopy { count: 0, timed: 0, total_ns: 0, ..*copy },
        last_hist: None,
        began: (0, 0, 0),
        interval: ExitStats::default(),
        before: ExitStats::default(),
    });
    // Two copies race with the vCPU in the same way, so a difference can only be late, never negative.
    let timed = copy.timed.saturating_sub(state.last.timed);
    state.interval.count += copy.count.saturating_sub(state.last.count);
    state.interval.timed += timed;
    state.interval.total_ns += copy.total_ns.saturating_sub(state.last.total_ns);
    if timed > 0 {
        match hists(vcpu.head.slot, copy.hist) {
            Some(hist) => {
                let delta = difference(&hist, state.last_hist.as_deref());
                let more = ExitStats { hist: delta, ..ExitStats::default() };
                state.interval.add(&more);
                state.last_hist = Some(hist);
            }
            None => state.interval.unbinned += timed,
        }
    }
    state.last = *copy;
}

/// What came to each bucket since `last`. The kernel's buckets wrap at 2^32.
fn difference(now: &[u32; BUCKETS], last: Option<&[u32; BUCKETS]>) -> Sparse {
    now.iter()
        .enumerate()
        .filter_map(|(bucket, now)| {
            let more = now.wrapping_sub(last.map_or(0, |last| last[bucket]));
            (more > 0).then_some((bucket as u16, u64::from(more)))
        })
        .collect()
}

/// The kernel keeps extremes since the beginning. They are the interval's too if they changed within it.
fn set_extremes(cell: &mut CellState) {
    let stats = &mut cell.interval;
    if stats.timed == 0 {
        return;
    }
    let (timed, min, max) = cell.began;
    let first = timed == 0;
    stats.min_ns = (first || cell.last.min_ns < min).then_some(cell.last.min_ns);
    stats.max_ns = (first || cell.last.max_ns > max).then_some(cell.last.max_ns);
    stats.estimate_extremes();
    // An estimate may not go beyond what the kernel knows.
    let clamp = |ns: u64| ns.max(cell.last.min_ns).min(cell.last.max_ns);
    stats.min_ns = stats.min_ns.map(clamp);
    stats.max_ns = stats.max_ns.map(clamp);
}

/// Whether a record is the one shared by vCPUs that found no other.
#[must_use]
pub fn is_overflow(head: &Head) -> bool {
    head.slot == OVERFLOW_SLOT
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_utils_common::{hist::bucket, vcpu::STATE_LIVE};

    fn head(pending_since: u64, state: u32) -> Head {
        Head {
            slot: 1,
            state,
            since: 5,
            isa: 2,
            pending_since,
            pending_cell: 120,
            cells: (0, 1),
            ..Head::default()
        }
    }

    fn snapshot(time_ns: u64, head: Head, count: u64, durations: &[u64]) -> Snapshot {
        Snapshot {
            time_ns,
            vcpus: vec![head],
            cells: vec![CellCopy {
                index: 120,
                hist: 1,
                code: 0x78,
                count,
                timed: durations.len() as u64,
                total_ns: durations.iter().sum(),
                min_ns: durations.iter().min().copied().unwrap_or(u64::MAX),
                max_ns: durations.iter().max().copied().unwrap_or(0),
            }],
        }
    }

    fn hist(durations: &[u64]) -> Box<[u32; BUCKETS]> {
        let mut buckets = Box::new([0; BUCKETS]);
        for d in durations {
            buckets[bucket(*d)] += 1;
        }
        buckets
    }

    fn only(collection: &Collection) -> &CellState {
        &collection.vcpus[&(1, 5)].cells[&120]
    }

    #[test]
    fn a_sleep_across_intervals_is_spread_over_them() {
        let mut c = Collection::new(1000);
        // HLT since 1200, still asleep at 2000.
        c.absorb(&snapshot(2000, head(1200, STATE_LIVE), 1, &[]), &|_, _| Some(hist(&[])), false);
        c.close_interval();
        assert_eq!((only(&c).interval.count, only(&c).interval.within_ns), (1, 800));
        c.next_interval();
        // Asleep during the whole of the next.
        c.absorb(&snapshot(3000, head(1200, STATE_LIVE), 1, &[]), &|_, _| Some(hist(&[])), false);
        c.close_interval();
        assert_eq!((only(&c).interval.count, only(&c).interval.within_ns), (0, 1000));
        c.next_interval();
        // It woke at 3300.
        let took = [2100];
        c.absorb(&snapshot(4000, head(0, STATE_LIVE), 1, &took), &|_, _| Some(hist(&took)), false);
        c.close_interval();
        let cell = only(&c);
        assert_eq!((cell.interval.timed, cell.interval.total_ns, cell.interval.within_ns), (1, 2100, 300));
        let run = cell.run();
        assert_eq!((run.count, run.timed, run.within_ns, run.max_ns), (1, 1, 2100, Some(2100)));
    }

    #[test]
    fn extremes_of_an_interval_are_exact_when_they_are_new_and_estimated_when_not() {
        let mut c = Collection::new(0);
        let first = [100, 5000];
        c.absorb(&snapshot(10, head(0, STATE_LIVE), 2, &first), &|_, _| Some(hist(&first)), false);
        c.close_interval();
        assert_eq!((only(&c).interval.min_ns, only(&c).interval.max_ns), (Some(100), Some(5000)));
        c.next_interval();
        let both = [100, 5000, 1000, 9001];
        c.absorb(&snapshot(20, head(0, STATE_LIVE), 4, &both), &|_, _| Some(hist(&both)), false);
        c.close_interval();
        let (min, max) = (only(&c).interval.min_ns.unwrap(), only(&c).interval.max_ns.unwrap());
        assert_eq!(max, 9001);
        assert!((969..=1031).contains(&min), "{min}");
        let run = only(&c).run();
        assert_eq!((run.min_ns, run.max_ns, run.timed), (Some(100), Some(9001), 4));
    }

    #[test]
    fn an_idle_interval_shows_nothing_stale() {
        let mut c = Collection::new(0);
        let s = [100];
        c.absorb(&snapshot(10, head(0, STATE_LIVE), 1, &s), &|_, _| Some(hist(&s)), false);
        c.close_interval();
        c.next_interval();
        c.absorb(&snapshot(20, head(0, STATE_LIVE), 1, &s), &|_, _| Some(hist(&s)), false);
        c.close_interval();
        assert_eq!(only(&c).interval, ExitStats::default());
    }

    #[test]
    fn a_dead_vcpu_keeps_its_numbers_and_its_record_can_go_to_another() {
        let mut c = Collection::new(0);
        let s = [100];
        c.absorb(&snapshot(10, head(3, STATE_DEAD), 2, &s), &|_, _| Some(hist(&s)), true);
        c.release(1);
        let mut next = snapshot(20, head(0, STATE_LIVE), 1, &s);
        next.vcpus[0].since = 15;
        assert_eq!(c.newcomers(&next).len(), 1);
        c.absorb(&next, &|_, _| Some(hist(&s)), false);
        c.close_interval();
        assert_eq!(c.vcpus.len(), 2);
        assert!(c.vcpus[&(1, 5)].ended && !c.vcpus[&(1, 15)].ended);
        assert_eq!(only(&c).interval.count, 2);
        // The exit that never ends is not taken for one that goes on.
        assert_eq!(only(&c).interval.within_ns, 100);
    }

    #[test]
    fn a_forgotten_vcpu_stays_in_the_run() {
        let mut c = Collection::new(0);
        let s = [100];
        c.absorb(&snapshot(10, head(3, STATE_DEAD), 2, &s), &|_, _| Some(hist(&s)), true);
        c.release(1);
        c.close_interval();
        c.next_interval();
        c.fold((1, 5));
        assert!(c.vcpus.is_empty());
        let folded = &c.folded[&Code { isa: 2, code: 0x78 }];
        assert_eq!((folded.count, folded.timed, folded.total_ns), (2, 1, 100));
    }

    #[test]
    fn buckets_wrap_without_losing_counts() {
        let mut before = [0; BUCKETS];
        before[7] = u32::MAX - 1;
        let mut after = before;
        after[7] = 3;
        assert_eq!(difference(&after, Some(&before)), vec![(7, 5)]);
    }
}
