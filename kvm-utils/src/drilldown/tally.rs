//! What drill-downs counted, per vCPU and per process, over an interval and over the run.
//!
//! The kernel's counters only grow while a vCPU lives: an interval is the difference of two copies.

use std::collections::BTreeMap;

use super::{exits::collect::VcpuKey, sample::Scope};
use crate::bpf::rows::Slice;

#[derive(Debug, Default)]
struct Counted {
    /// When the run began.
    first: Slice,
    now: Slice,
    /// When the interval began.
    began: Slice,
}

impl Counted {
    fn slice(&self, scope: Scope) -> Slice {
        match scope {
            Scope::Interval => self.now.since(&self.began),
            Scope::Run => self.now.since(&self.first),
        }
    }
}

/// All that was counted.
#[derive(Debug, Default)]
pub struct Tally {
    vcpus: BTreeMap<VcpuKey, Counted>,
    /// Events on no vCPU's thread, by process in the initial pid namespace.
    crowds: BTreeMap<u32, Counted>,
    /// Of vCPUs that are forgotten.
    folded: Slice,
}

impl Tally {
    /// Takes over the last copy of what a vCPU's counters say, made to fit the one before by `settle`.
    pub fn absorb(&mut self, key: VcpuKey, mut slice: Slice, settle: Option<fn(&mut Slice, &Slice)>) {
        let counted = self.vcpus.entry(key).or_default();
        if let Some(settle) = settle {
            settle(&mut slice, &counted.now);
        }
        counted.now = slice;
    }

    /// Takes over the last copy of the counters of a process's other threads.
    pub fn absorb_crowd(&mut self, tgid: u32, slice: Slice) {
        self.crowds.entry(tgid).or_default().now = slice;
    }

    /// Begins the run: what was counted so far is not part of it.
    pub fn begin_run(&mut self) {
        self.next_interval();
        for counted in self.vcpus.values_mut().chain(self.crowds.values_mut()) {
            counted.first.clone_from(&counted.now);
        }
    }

    /// Begins the next interval.
    pub fn next_interval(&mut self) {
        for counted in self.vcpus.values_mut().chain(self.crowds.values_mut()) {
            counted.began.clone_from(&counted.now);
        }
    }

    /// Forgets a vCPU that ended before the interval began; its numbers stay in the run's.
    pub fn fold(&mut self, key: VcpuKey) {
        if let Some(counted) = self.vcpus.remove(&key) {
            self.folded.add(&counted.slice(Scope::Run));
        }
    }

    /// What was counted for a vCPU.
    #[must_use]
    pub fn of(&self, key: VcpuKey, scope: Scope) -> Slice {
        self.vcpus.get(&key).map(|counted| counted.slice(scope)).unwrap_or_default()
    }

    /// What was counted on no vCPU's thread, by process.
    pub fn crowds(&self, scope: Scope) -> impl Iterator<Item = (u32, Slice)> {
        self.crowds.iter().map(move |(tgid, counted)| (*tgid, counted.slice(scope)))
    }

    /// What was counted for vCPUs that are forgotten.
    #[must_use]
    pub fn folded(&self) -> &Slice {
        &self.folded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::rows::RowStats;
    use kvm_utils_common::rows::{RowKey, RowNoun};

    fn slice(count: u64) -> Slice {
        let key = RowKey::new(RowNoun::Msr, 0, 1, 0x6e0);
        let rows = BTreeMap::from([(key, RowStats { count, ..RowStats::default() })]);
        Slice { rows, ..Slice::default() }
    }

    fn count(slice: &Slice) -> u64 {
        slice.rows.values().map(|stats| stats.count).sum()
    }

    #[test]
    fn what_came_before_the_run_is_not_in_it() {
        let mut tally = Tally::default();
        let key = (1, 5);
        tally.absorb(key, slice(7), None);
        tally.absorb_crowd(9, slice(3));
        tally.begin_run();
        assert!(tally.of(key, Scope::Run).is_empty() && tally.of(key, Scope::Interval).is_empty());
        tally.absorb(key, slice(18), None);
        tally.absorb_crowd(9, slice(5));
        assert_eq!(count(&tally.of(key, Scope::Run)), 11);
        let crowds: Vec<_> = tally.crowds(Scope::Run).map(|(tgid, slice)| (tgid, count(&slice))).collect();
        assert_eq!(crowds, [(9, 2)]);
        tally.fold(key);
        assert_eq!(count(tally.folded()), 11);
    }

    #[test]
    fn intervals_make_up_the_run_and_an_idle_one_shows_nothing() {
        let mut tally = Tally::default();
        let key = (1, 5);
        tally.absorb(key, slice(7), None);
        assert_eq!(count(&tally.of(key, Scope::Interval)), 7);
        tally.next_interval();
        tally.absorb(key, slice(18), None);
        assert_eq!(count(&tally.of(key, Scope::Interval)), 11);
        tally.next_interval();
        tally.absorb(key, slice(18), None);
        assert!(tally.of(key, Scope::Interval).is_empty());
        assert_eq!(count(&tally.of(key, Scope::Run)), 18);
        tally.fold(key);
        assert_eq!((count(tally.folded()), count(&tally.of(key, Scope::Run))), (18, 0));
    }

    #[test]
    fn what_was_before_the_run_is_in_no_interval_and_not_in_the_run() {
        let mut tally = Tally::default();
        let key = (1, 5);
        tally.absorb(key, slice(7), None);
        tally.begin_run();
        assert!(tally.of(key, Scope::Run).is_empty() && tally.of(key, Scope::Interval).is_empty());
        tally.absorb(key, slice(18), None);
        assert_eq!((count(&tally.of(key, Scope::Interval)), count(&tally.of(key, Scope::Run))), (11, 11));
        tally.fold(key);
        assert_eq!(count(tally.folded()), 11);
    }
}
