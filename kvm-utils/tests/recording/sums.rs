//! Intervals add up to the run.

use std::time::{Duration, Instant};

use kvm_utils::{
    bpf::{
        rows::Slice,
        snapshot::{CellCopy, Head, Snapshot},
    },
    drilldown::{
        exits::{collect::Collection, rows::ByCode},
        sample::{Sample, Scope, VcpuSample, VmSample, add},
    },
    model::Vm,
};
use kvm_utils_common::{
    hist::{BUCKETS, bucket},
    vcpu::STATE_LIVE,
};
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};

use crate::sample::sample;

/// Durations that came in each interval; whether an exit goes on at its end.
type Intervals = Vec<(Vec<u64>, bool)>;

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
            let head = Head {
                slot: 1,
                state: STATE_LIVE,
                since: 1,
                isa: 2,
                pending_since: if *goes_on { now - 500 } else { 0 },
                pending_cell: 120,
                cells: (0, 1),
                ..Head::default()
            };
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

/// VMs of these numbers, each with one vCPU, which was there for so many nanoseconds.
fn vms(serials: impl Iterator<Item = u64>) -> Vec<VmSample> {
    let vcpu = |serial: u64| VcpuSample {
        key: (serial as u32, serial),
        id: Some(0),
        tid: serial as u32,
        ended: false,
        isa: 2,
        wall_ns: serial,
        exits: ByCode::new(),
        slice: Slice::default(),
        unpaired: (0, 0),
        running: None,
    };
    let vm = |serial| VmSample {
        serial,
        tgid: serial as u32,
        who: Vm::default(),
        settled: false,
        vcpus: vec![vcpu(serial)],
    };
    serials.map(vm).collect()
}

/// Half of them end, others come in their place. Were each looked for among all, this would take half a minute.
#[test]
fn each_of_many_vms_follows_itself_and_soon() {
    const VMS: u64 = 50_000;
    let any = sample().new_tree(&mut TestRunner::deterministic()).unwrap().current();
    let mut run = Sample { vms: vms(0..VMS), ..any.clone() };
    let later = Sample { vms: vms((VMS / 2..VMS / 2 * 3).rev()), ..any };
    let began = Instant::now();
    run.follow(&later);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    let serials = run.vms.iter().map(|vm| vm.serial);
    assert!(serials.eq((0..VMS).chain((VMS..VMS / 2 * 3).rev())));
    for vm in &run.vms {
        let [vcpu] = vm.vcpus.as_slice() else { panic!("{vm:?}") };
        let times = if (VMS / 2..VMS).contains(&vm.serial) { 2 } else { 1 };
        assert_eq!(vcpu.wall_ns, vm.serial * times);
        assert_eq!([vm.settled, vm.who.ended, vcpu.ended], [vm.serial < VMS / 2; 3], "{}", vm.serial);
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
