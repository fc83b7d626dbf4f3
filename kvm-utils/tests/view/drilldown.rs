//! Every drill-down of the registry, from what the kernel may have counted to the screen.

use std::{collections::BTreeMap, time::Duration};

use insta::assert_snapshot;
use kvm_utils::bpf::rows::{RowStats, Slice};
use kvm_utils::decode::Isa;
use kvm_utils::drilldown::msr::WRMSR;
use kvm_utils::drilldown::noun::{Build, NO_AIDS, Noun, Numbers};
use kvm_utils::drilldown::registry::REGISTRY;
use kvm_utils::model::{KvmStat, Proof, Report, Vcpu, Vm, arrange};
use kvm_utils::view::table::{By, Style, render};
use kvm_utils::view::{csv, json, text};
use kvm_utils_common::numbers::deadline;
use kvm_utils_common::rows::{RowKey, RowNoun};
use proptest::prelude::*;

use crate::fixture;

/// A VM of one vCPU and of other threads, each with these numbers.
fn report(noun: &'static Noun, build: Build, slice: &Slice, isa: Option<Isa>) -> Report {
    let rows = |vcpu: Option<u32>| {
        let numbers = Numbers {
            slice,
            events: build.events(slice),
            interval: Duration::from_secs(10),
            wall_ns: 10_000_000_000,
            isa,
            vcpus: &[0],
            vcpu,
            aids: &NO_AIDS,
        };
        let mut rows = (build.rows)(&numbers);
        arrange(&mut rows, noun.columns, noun.sort, None);
        rows
    };
    let events = build.events(slice);
    let vcpu = |vcpu: Option<u32>| Vcpu {
        vcpu,
        tid: 4715,
        others: vcpu.is_none(),
        events,
        running: None,
        rows: rows(vcpu),
    };
    let vm = Vm {
        events,
        busy_share: None,
        waiting_share: None,
        rows: rows(None),
        vcpus: vec![vcpu(Some(0)), vcpu(None)],
        ..fixture::vm(4711, "web-1", &[], 0)
    };
    Report {
        noun: noun.name,
        counting: noun.counting,
        columns: noun.columns,
        proof: Proof { kvm_stat: KvmStat::NotKept, own_cost: Some(0.01), ..fixture::proof(events) },
        totals: vm.rows.clone(),
        vms: vec![vm],
        events,
        hints: Vec::new(),
        ..fixture::one_vm()
    }
}

fn style(width: usize, by: By) -> Style {
    Style { width: Some(width), height: None, color: false, unicode: true, by }
}

#[test]
fn a_storm_of_timers() {
    let msr = |kind, detail, index| RowKey::new(RowNoun::Msr, kind, detail, index);
    let counts = [(msr(0, 1, 0x6e0), 1_204_511), (msr(0, 1, 0x830), 88_120), (msr(0, 3, 0x1234), 7)];
    let rows = counts.map(|(key, count)| (key, RowStats { count, ..RowStats::default() }));
    let mut slice =
        Slice { rows: BTreeMap::from(rows), counters: vec![0; WRMSR.counters], ..Slice::default() };
    slice.counters[deadline::ARMED] = 1_204_511;
    slice.counters[deadline::REARMED] = 1_096_105;
    let bucket = kvm_utils_common::hist::bucket(38_000);
    slice.counters[kvm_utils_common::numbers::histogram(deadline::AHEAD) + bucket] = 1_204_511;
    let report = report(&WRMSR, WRMSR.build.unwrap(), &slice, Some(Isa::Vmx));
    assert_snapshot!("wrmsr", render(&report, &style(80, By::Vm)));
    assert_snapshot!("wrmsr_by_vcpu", render(&report, &style(120, By::Vcpu)));
    assert_snapshot!("wrmsr_json", json::line(&report).unwrap());
}

fn slices() -> impl Strategy<Value = Slice> {
    let number = || prop_oneof![0u64..5, any::<u32>().prop_map(u64::from), 0..(1u64 << 50)];
    let a = prop_oneof![
        0u64..20,
        any::<u16>().prop_map(u64::from),
        any::<u32>().prop_map(u64::from),
        any::<u64>()
    ];
    let key = (0u8..8, prop_oneof![0u64..16, any::<u64>()], a);
    let stats =
        (1u64..(1 << 40), number(), number(), number()).prop_map(|(count, extra, timed, total_ns)| {
            RowStats {
                count,
                extra,
                timed,
                user: timed.min(count),
                total_ns,
                max_ns: (timed > 0).then_some(total_ns),
            }
        });
    let rows = prop::collection::vec((key, stats), 0..12);
    (rows, prop::collection::vec(number(), 48), any::<u8>()).prop_map(|(rows, counters, other)| {
        let keys = |((kind, detail, a), stats)| (RowKey::new(RowNoun::Msr, kind, detail, a), stats);
        Slice {
            rows: rows.into_iter().map(keys).collect(),
            counters,
            other: u64::from(other),
            ..Slice::default()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_counted_is_shown_within_80_columns(slice in slices(), raw in 0u32..4) {
        let isa = (raw > 0).then(|| Isa::from_raw(raw));
        for noun in REGISTRY {
            let Some(build) = noun.build else { continue };
            let report = report(noun, build, &slice, isa);
            for row in &report.totals {
                prop_assert!(row.cells.len() >= noun.columns.len(), "{}: {:?}", noun.name, row);
            }
            for by in [By::Vm, By::Vcpu, By::Reason] {
                let table = render(&report, &style(80, by));
                for line in table.lines() {
                    prop_assert!(text::width(line) <= 80, "{}: {}", noun.name, line);
                    prop_assert!(!line.chars().any(char::is_control), "{}: {:?}", noun.name, line);
                }
            }
            let line = json::line(&report)?;
            prop_assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
            let mut rows = Vec::new();
            csv::header(&mut rows, noun.columns)?;
            csv::rows(&mut rows, &report)?;
        }
    }
}
