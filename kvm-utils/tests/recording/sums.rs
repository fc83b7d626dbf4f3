//! Intervals add up to the run.

use kvm_utils::{
    bpf::snapshot::{CellCopy, Head, Snapshot},
    drilldown::{
        exits::collect::Collection,
        sample::{Sample, Scope, add},
    },
};
use kvm_utils_common::{
    hist::{BUCKETS, bucket},
    vcpu::STATE_LIVE,
};
use proptest::prelude::*;

use crate::sample::sample;

/// Durations that came in each interval; whether an exit goes on at its end.
type Intervals = Vec<(Vec<u64>, bool)>;

fn head(pending_since: u64) -> Head {
    Head {
        slot: 1,
        state: STATE_LIVE,
        key: 1 << 40,
        kvm: 9,
        since: 1,
        until: 0,
        kvm_exits_first: 0,
        kvm_exits_last: u64::MAX,
        taken_at_exit: false,
        vcpu_id: 0,
        isa: 2,
        tgid: 10,
        tid: 11,
        ns_tgid: 10,
        ns_tid: 11,
        comm: [0; 16],
        pending_since,
        pending_cell: 120,
        unpaired_exits: 0,
        unpaired_entries: 0,
        cells: (0, 1),
    }
}

proptest! {
    /// What a recording gives for a time is what a live run over that time gives.
    #[test]
    fn exits_of_the_intervals_are_those_of_the_run(
        intervals in prop::collection::vec((prop::collection::vec(1u64..1 << 36, 0..6), any::<bool>()), 1..6)
    ) {
        let intervals: Intervals = intervals;
        let mut collection = Collection::new(1000);
        let mut all = Vec::new();
        let mut buckets = Box::new([0_u32; BUCKETS]);
        let mut sum = Default::default();
        let mut run = Default::default();
        for (nth, (durations, goes_on)) in intervals.iter().enumerate() {
            for ns in durations {
                buckets[bucket(*ns)] += 1;
            }
            all.extend(durations.iter().copied());
            let now = 1000 + (nth as u64 + 1) * 1_000_000;
            let cell = CellCopy {
                index: 120,
                hist: 1,
                code: 0x78,
                count: all.len() as u64 + u64::from(*goes_on),
                timed: all.len() as u64,
                total_ns: all.iter().sum(),
                min_ns: all.iter().min().copied().unwrap_or(u64::MAX),
                max_ns: all.iter().max().copied().unwrap_or(0),
            };
            let head = head(if *goes_on { now - 500 } else { 0 });
            let snapshot = Snapshot { time_ns: now, vcpus: vec![head], cells: vec![cell] };
            collection.absorb(&snapshot, &|_, _| Some(buckets.clone()), false);
            collection.close_interval();
            let vcpu = collection.vcpus.values().next().unwrap();
            add(&mut sum, &vcpu.by_code(Scope::Interval));
            run = vcpu.by_code(Scope::Run);
            collection.next_interval();
        }
        prop_assert_eq!(sum, run);
    }

    #[test]
    fn it_does_not_matter_in_which_steps_intervals_are_put_together(a in sample(), b in sample(), c in sample()) {
        let (b, c) = (with_noun(b, &a), with_noun(c, &a));
        let mut left = a.clone();
        left.follow(&b);
        left.follow(&c);
        prop_assert_eq!(left.interval, a.interval + b.interval + c.interval);
        let mut right = b;
        right.follow(&c);
        let mut whole = a;
        whole.follow(&right);
        prop_assert_eq!(numbers(whole), numbers(left));
    }
}

fn with_noun(sample: Sample, of: &Sample) -> Sample {
    Sample { noun: of.noun, ..sample }
}

/// All but what became of VMs: none of a real run comes back after an interval without it, as these may.
fn numbers(mut sample: Sample) -> String {
    for vm in &mut sample.vms {
        (vm.settled, vm.who.ended) = (false, false);
        for vcpu in &mut vm.vcpus {
            (vcpu.ended, vcpu.running) = (false, None);
        }
        vm.vcpus.sort_by_key(|vcpu| vcpu.key);
    }
    sample.vms.sort_by_key(|vm| vm.serial);
    format!("{sample:?}")
}
