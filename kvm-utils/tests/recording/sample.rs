//! Samples of any content.

use std::{
    collections::BTreeMap,
    time::{Duration, UNIX_EPOCH},
};

use kvm_utils::{
    bpf::{
        rows::{RowStats, Slice},
        tracer::Source,
    },
    decode::Isa,
    drilldown::{
        exits::{
            self,
            rows::{ByCode, Code},
            stats::ExitStats,
        },
        io,
        noun::Noun,
        sample::{
            Bounds, CostSample, Crowd, Machine, Notes, Owner, Sample, Scope, Troubles, Unlisted, VcpuSample,
            VmSample,
        },
    },
    host::Posted,
    model::{KvmStat, Place, Vm},
};
use kvm_utils_common::{hist, rows::RowKey};
use proptest::prelude::*;

/// So large that sums of a few do not overflow.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..100, any::<u32>().prop_map(u64::from), 0u64..1 << 56]
}

prop_compose! {
    fn stats()(count in number(), within_ns in number(), unbinned in 0u64..9,
               hist in prop::collection::btree_map(0u16..hist::BUCKETS as u16, 1u64..1_000_000, 0..9)) -> ExitStats {
        let hist: Vec<(u16, u64)> = hist.into_iter().collect();
        let timed = hist.iter().map(|(_, n)| n).sum::<u64>() + unbinned;
        let of = |pair: Option<&(u16, u64)>| pair.map(|(bucket, _)| hist::bounds(usize::from(*bucket)).0);
        let (min_ns, max_ns) = (of(hist.first()), of(hist.last()));
        ExitStats { count, timed, total_ns: within_ns / 2, within_ns, min_ns, max_ns, hist, unbinned }
    }
}

fn by_code() -> impl Strategy<Value = ByCode> {
    let code = (1u32..4, prop_oneof![0u64..0x100, any::<u64>()]).prop_map(|(isa, code)| Code { isa, code });
    prop::collection::btree_map(code, stats(), 0..5)
}

fn slice() -> impl Strategy<Value = Slice> {
    let key = (any::<u64>(), any::<u64>()).prop_map(|(a, b)| RowKey { a, b: b | 1 });
    let stats = (number(), number(), number(), number(), prop::option::of(number()), number()).prop_map(
        |(count, extra, timed, total_ns, max_ns, user)| RowStats {
            count,
            extra,
            timed,
            total_ns,
            max_ns,
            user,
        },
    );
    let counters = prop::collection::vec(prop_oneof![3 => Just(0), 1 => number()], 0..40);
    (prop::collection::btree_map(key, stats, 0..6), counters, number(), prop::option::of(number()))
        .prop_map(|(rows, counters, other, gauge)| Slice { rows, counters, other, gauge })
}

fn bounds() -> impl Strategy<Value = Result<Bounds, String>> {
    prop_oneof![
        (number(), number()).prop_map(|(least, more)| Ok(Bounds { least, most: least + more })),
        "[a-z ]{1,9}".prop_map(Err),
    ]
}

fn who() -> impl Strategy<Value = Vm> {
    let place = (prop_oneof![Just("pod"), Just("unit"), Just("cgroup")], any::<String>());
    let place = place.prop_map(|(kind, name)| Place { kind, name });
    (any::<u32>(), any::<String>(), prop::option::of("[a-f0-9-]{36}"), prop::collection::vec(place, 0..3))
        .prop_map(|(pid, name, uuid, within)| Vm {
            pid,
            name,
            vmm: "qemu".to_owned(),
            uuid,
            within,
            ..Vm::default()
        })
}

prop_compose! {
    fn vcpu()(id in prop::option::of(0u32..9), tid in any::<u32>(), ended in any::<bool>(), isa in 0u32..4, wall_ns in number(),
              exits in by_code(), slice in slice(), unpaired in (number(), number()),
              running in prop::option::of((1u32..4, any::<u64>(), number()))) -> VcpuSample {
        let running = running.map(|(isa, code, ns)| (Code { isa, code }, ns));
        VcpuSample { key: (0, 0), id, tid, ended, isa, wall_ns, exits, slice, unpaired, running }
    }
}

fn vms() -> impl Strategy<Value = Vec<VmSample>> {
    let vm = (any::<u32>(), who(), prop::collection::vec(vcpu(), 0..4));
    prop::collection::vec(vm, 0..4).prop_map(|vms| {
        let numbered = vms.into_iter().enumerate().map(|(serial, (tgid, who, mut vcpus))| {
            for (slot, vcpu) in vcpus.iter_mut().enumerate() {
                vcpu.key = ((serial * 10 + slot) as u32, serial as u64);
            }
            VmSample { serial: serial as u64, tgid, who, settled: false, vcpus }
        });
        numbered.collect()
    })
}

fn crowds() -> impl Strategy<Value = BTreeMap<u32, Crowd>> {
    let owner = prop_oneof![
        any::<u32>().prop_map(Owner::Vm),
        any::<String>().prop_map(Owner::Nobody),
        Just(Owner::Unwanted),
        Just(Owner::Unknown),
    ];
    let crowd = (owner, slice()).prop_map(|(owner, slice)| Crowd { owner, slice });
    prop::collection::btree_map(any::<u32>(), crowd, 0..3)
}

fn noun() -> impl Strategy<Value = &'static Noun> {
    prop_oneof![Just(&exits::NOUN), Just(&io::IO)]
}

fn kvm_stat() -> impl Strategy<Value = KvmStat> {
    prop_oneof![
        (number(), number()).prop_map(|(least, more)| KvmStat::Between { least, most: least + more }),
        any::<String>().prop_map(KvmStat::Unknown),
    ]
}

prop_compose! {
    /// An interval of one drill-down.
    pub fn sample()(noun in noun(), time in number(), interval in number(), kvm_stat in kvm_stat(), bounds in [bounds(), bounds()],
                    missed in prop::option::of(number()), trouble in [number(), number(), number()],
                    cost in prop::option::of(0.0..1e9), vms in vms(), crowds in crowds(), overflow in by_code(),
                    posted in prop::option::of([number(), number(), number()]), flags in any::<(bool, bool)>(),
                    isa in 0u32..4, notes in prop::collection::vec(any::<String>(), 0..3)) -> Sample {
        let exits = noun.build.is_none();
        let unknown = || Err("it is not recorded".to_owned());
        Sample {
            noun,
            scope: Scope::Interval,
            time: UNIX_EPOCH + Duration::from_nanos(time),
            interval: Duration::from_nanos(interval),
            host: Machine { kernel: "6.1".to_owned(), cpus: 2, cpu: "a cpu".to_owned(), isa: (isa > 0).then(|| Isa::from_raw(isa)) },
            source: if flags.0 { Source::Raw } else { Source::Tracepoint },
            kvm_stat: if exits { kvm_stat } else { KvmStat::NotKept },
            bounds: if exits { bounds } else { [unknown(), unknown()] },
            missed,
            trouble: Troubles { histograms_full: trouble[0], unreadable: trouble[1], rows_full: trouble[2] },
            cost: CostSample { mean_ns: cost, share: cost.map(|cost| cost / 1e9) },
            vms,
            crowds,
            overflow,
            unlisted: Unlisted::default(),
            posted: posted.map(|[notifications, nested, wakeups]| Posted { notifications, nested, wakeups }),
            blind_to_interrupts: flags.0,
            ambiguous: flags.1,
            notes: Notes { devices: notes.clone(), lacks: notes },
        }
    }
}
