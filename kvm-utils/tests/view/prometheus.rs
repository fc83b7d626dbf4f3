//! Prometheus: the picture of a report, what stays and what goes, what is too much, and that the numbers are those of the
//! other views.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use kvm_utils::{
    drilldown::registry::REGISTRY,
    model::{Cell, Durations, KvmStat, NO_VM, Place, Report, Role, Row, Unit, Vcpu, Vm},
    view::{
        json,
        prometheus::{Exposition, Format, Limits, text},
    },
};
use kvm_utils_common::hist;
use proptest::prelude::*;

use super::fixture;

const LIMITS: Limits =
    Limits { max_series: 50_000, per_vcpu: false, created: false, keep: Duration::from_secs(300) };

/// A row of a drill-down: its first text columns from `keys`, its sums the same number, other cells unknown.
fn row(noun: &str, keys: &[&str], number: u64) -> Row {
    let columns = REGISTRY.iter().find(|of| of.name == noun).unwrap().columns;
    let mut keys = keys.iter();
    let cells = columns.iter().map(|column| match (column.role, column.unit) {
        (Role::Key, Unit::Text) => keys.next().map_or(Cell::Unknown, |key| Cell::Text((*key).to_owned())),
        (Role::Sum, _) => Cell::Number(number),
        _ => Cell::Unknown,
    });
    Row { cells: cells.collect(), ..Row::default() }
}

/// An exit's row, all of whose exits took as long.
fn exit(reason: &str, class: &str, count: u64, each_ns: u64) -> Row {
    let durations = Durations {
        timed: count,
        total_ns: count * each_ns,
        buckets: vec![(hist::bucket(each_ns) as u16, count)],
        unbinned: 0,
    };
    Row { durations: Some(durations), ..row("exits", &[reason, "", "svm", class], count) }
}

/// A VM whose vCPU 0 has all rows but those of its other threads.
fn vm(pid: u32, name: &str, rows: Vec<Row>) -> Vm {
    let vcpu =
        Vcpu { vcpu: Some(0), tid: pid + 1, others: false, events: 0, running: None, rows: rows.clone() };
    Vm { rows, vcpus: vec![vcpu], ..fixture::vm(pid, name, &[], 0) }
}

/// A summary of these VMs.
fn report(noun: &'static str, vms: Vec<Vm>) -> Report {
    let of = REGISTRY.iter().find(|of| of.name == noun).unwrap();
    let totals = vms.iter().flat_map(|vm| vm.rows.clone()).collect();
    Report {
        noun,
        columns: of.columns,
        one_row: of.build.is_some_and(|build| build.one_row),
        summary: true,
        vms,
        totals,
        ..fixture::one_vm()
    }
}

fn shown(exposition: &Exposition, format: Format) -> String {
    text::render(&exposition.families("1.2.3"), format)
}

/// Samples by name with labels.
fn samples(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs: Vec<_> = lines.map(|line| line.rsplit_once(' ').unwrap()).collect();
    let map: BTreeMap<_, _> =
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(map.len(), pairs.len(), "a sample twice:\n{text}");
    map
}

/// The samples after reports, one after the other.
fn after(exposition: &mut Exposition, reports: &[Report], now: Instant) -> BTreeMap<String, String> {
    exposition.update(reports, now);
    samples(&shown(exposition, Format::Prometheus))
}

/// Two VMs of the same name, exits with durations, the ledger, halts.
fn host() -> Vec<Report> {
    let hostile = "web\"1\\\n\u{1b}[2J";
    let web = |pid, n| {
        let mut vm = vm(pid, hostile, vec![exit("io", "io", n, 61_200), exit("hlt", "hlt", 107, 81_300_000)]);
        vm.uuid = Some("5c6fa8f7-c3f6-4b3f-b596-d16ea3912302".to_owned());
        vm.within = vec![Place { kind: "unit", name: "web.service".to_owned() }];
        vm
    };
    let mut exits = report("exits", vec![web(4711, 10_007), web(4712, 13)]);
    exits.proof.kvm_stat = KvmStat::Between { least: 22_480, most: 22_482 };
    let mut all = Row { of_others: true, ..row("fault", &["all", "write", "MMIO"], 10) };
    all.detail = Some("2 pages".to_owned());
    let fault = vec![all, row("fault", &["0xfec00000", "write", "MMIO", "IOAPIC"], 10)];
    let mut halt = row("halt", &["all"], 1_500_000_007);
    halt.durations = Some(Durations { timed: 3, total_ns: 7_000, buckets: vec![(60, 1)], unbinned: 2 });
    let mut others = vm(9, "vhost-4711", vec![row("irq", &["msi", "0x23", "to 0"], 5)]);
    others.vmm = NO_VM.to_owned();
    vec![
        exits,
        report("time", vec![vm(4711, hostile, vec![row("time", &["all"], 2_500_000_000)])]),
        report("halt", vec![vm(4711, hostile, vec![halt])]),
        report("fault", vec![vm(4711, hostile, fault)]),
        report("irq", vec![others]),
    ]
}

#[test]
fn picture() {
    let mut exposition = Exposition::new(LIMITS);
    exposition.update(&host(), Instant::now());
    insta::assert_snapshot!("prometheus", shown(&exposition, Format::Prometheus));
}

#[test]
fn picture_of_open_metrics_with_creation_times() {
    let mut exposition = Exposition::new(Limits { created: true, ..LIMITS });
    exposition.update(&host()[..2], Instant::now());
    insta::assert_snapshot!("openmetrics", shown(&exposition, Format::OpenMetrics));
}

#[test]
fn a_series_that_comes_later_was_created_at_the_last_look() {
    let mut exposition = Exposition::new(Limits { created: true, ..LIMITS });
    let now = Instant::now();
    let first = report("exits", vec![vm(1, "a", vec![exit("io", "io", 1, 100)])]);
    exposition.update(std::slice::from_ref(&first), now);
    let mut second =
        report("exits", vec![vm(1, "a", vec![exit("io", "io", 1, 100), exit("npf", "ept", 1, 100)])]);
    second.time += Duration::from_secs(10);
    exposition.update(&[second], now);
    let text = shown(&exposition, Format::OpenMetrics);
    let created = |reason: &str| {
        let line =
            text.lines().find(|line| line.starts_with("kvm_exits_created") && line.contains(reason)).unwrap();
        line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    let at = |time: std::time::SystemTime| time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((created("npf") - at(first.time)).abs() < 0.002, "{text}");
    assert!((created("io") - at(first.time - first.interval)).abs() < 0.002, "{text}");
}

#[test]
fn vcpus_are_told_apart_on_request() {
    let mut exposition = Exposition::new(Limits { per_vcpu: true, ..LIMITS });
    let mut web = vm(7, "web", vec![exit("io", "io", 31, 1000)]);
    let other = |vcpu, others, n| Vcpu {
        vcpu,
        others,
        rows: vec![exit("io", "io", n, 1000)],
        ..web.vcpus[0].clone()
    };
    let more = [other(Some(1), false, 37), other(None, false, 41), other(None, true, 43)];
    web.vcpus.extend(more);
    let samples = after(&mut exposition, &[report("exits", vec![web])], Instant::now());
    for (vcpu, n) in [("0", "31"), ("1", "37"), ("unknown", "41"), ("other threads", "43")] {
        let name = format!(
            "kvm_exits_total{{vm=\"web\",pid=\"7\",vcpu=\"{vcpu}\",reason=\"io\",isa=\"svm\",class=\"io\"}}"
        );
        assert_eq!(samples.get(&name).map(String::as_str), Some(n), "{samples:?}");
    }
}

/// A VM that ends is shown a while longer, one that starts in its process goes on counting where it was.
#[test]
fn vms_end_and_no_counter_goes_back() {
    let mut exposition = Exposition::new(LIMITS);
    let now = Instant::now();
    let second = Duration::from_secs(1);
    let live = |n| vm(7, "web", vec![exit("io", "io", n, 1000)]);
    let ended = |n| Vm { ended: true, ..live(n) };
    let of = |vms| [report("exits", vms)];
    const NAME: &str = "kvm_exits_total{vm=\"web\",pid=\"7\",reason=\"io\",isa=\"svm\",class=\"io\"}";
    const VCPUS: &str = "kvm_vm_vcpus{vm=\"web\",pid=\"7\"}";
    let mut value =
        |vms, at| after(&mut exposition, &of(vms), at).get(NAME).map(|n| n.parse::<u64>().unwrap());
    assert_eq!(value(vec![live(1009)], now), Some(1009));
    // Its end, and a second one in the same process, as when it reboots.
    assert_eq!(value(vec![ended(1013), live(7)], now + second), Some(1020));
    // The first is not listed any more: what the second counted goes on from there, but for one interval.
    assert_eq!(value(vec![live(9)], now + second), Some(1020));
    assert_eq!(value(vec![live(12)], now + second), Some(1023));
    assert_eq!(value(vec![ended(12)], now + 2 * second), Some(1023));
    assert_eq!(value(vec![ended(12)], now + 301 * second), Some(1023));
    assert_eq!(value(vec![ended(12)], now + 302 * second), None);
    assert_eq!(value(vec![], now + 303 * second), None);
    // Even if it is not listed, its last numbers are shown for as long.
    assert_eq!(value(vec![live(1)], now + 304 * second), Some(1));
    assert_eq!(value(vec![], now + 305 * second), Some(1));
    let samples = after(&mut exposition, &of(vec![live(2)]), now + 306 * second);
    assert_eq!((samples[NAME].as_str(), samples[VCPUS].as_str()), ("2", "1"));
    let samples = after(&mut exposition, &of(vec![]), now + 307 * second);
    assert_eq!((samples[NAME].as_str(), samples[VCPUS].as_str()), ("2", "0"));
    assert!(!after(&mut exposition, &of(vec![]), now + 607 * second).contains_key(VCPUS));
}

/// Sum of a counter over all series.
fn sum(samples: &BTreeMap<String, String>, name: &str) -> u64 {
    let of = |sample: &str| sample.split('{').next() == Some(name);
    samples.iter().filter(|(sample, _)| of(sample)).map(|(_, value)| value.parse::<u64>().unwrap()).sum()
}

#[test]
fn what_is_too_much_is_folded_and_stays_so() {
    // A row of wrmsr is 7 counters.
    let mut exposition = Exposition::new(Limits { max_series: 7 * 3, ..LIMITS });
    let msr = |index: &str, n| row("wrmsr", &[index, index, "write"], n);
    let web = |rows| vm(7, "web", rows);
    let mut look = |rows, db| {
        let vms = vec![web(rows), vm(8, "db", vec![msr("0x10", db)])];
        after(&mut exposition, &[report("wrmsr", vms)], Instant::now())
    };
    const FOLDED: &str = "kvm_wrmsr_total{vm=\"web\",pid=\"7\",msr=\"(folded)\"}";
    const ROWS: &str = "kvm_utils_folded_rows{noun=\"wrmsr\"}";
    let first = look(vec![msr("0x1", 5), msr("0x2", 100), msr("0x3", 7), msr("0x4", 50)], 6);
    // Those that count most: 0x2, 0x4, 0x3.
    assert_eq!((first[FOLDED].as_str(), first[ROWS].as_str()), ("5", "2"), "{first:?}");
    assert_eq!(first["kvm_wrmsr_total{vm=\"db\",pid=\"8\",msr=\"(folded)\"}"], "6");
    assert_eq!(sum(&first, "kvm_wrmsr_total"), 168);
    // One that overtakes the others stays where it is, and so do they.
    let second =
        look(vec![msr("0x1", 5000), msr("0x2", 100), msr("0x3", 7), msr("0x4", 50), msr("0x5", 1)], 6);
    assert_eq!((second[FOLDED].as_str(), second[ROWS].as_str()), ("5001", "3"));
    assert_eq!(
        second["kvm_wrmsr_total{vm=\"web\",pid=\"7\",msr=\"0x3\",index=\"0x3\",access=\"write\"}"],
        "7"
    );
    assert_eq!(sum(&second, "kvm_wrmsr_total"), 5158 + 6);
    assert!(first.keys().filter(|name| !name.starts_with("kvm_utils")).all(|name| second.contains_key(name)));
}

/// A VM: its pid, its name, and rows of a reason, a count and a time.
type AnyVm = (u32, String, Vec<(u8, u64, u64)>);

fn reports() -> impl Strategy<Value = Vec<AnyVm>> {
    let row = (0u8..6, 0u64..1 << 40, 0u64..1 << 42);
    let vm = (1u32..5, "\\PC{0,3}", proptest::collection::vec(row, 0..8));
    proptest::collection::vec(vm, 0..6)
}

/// Any, and those around the bounds.
fn duration() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..1 << 41, (1u32..41, 0u64..3).prop_map(|(bits, more)| (1 << bits) - 1 + more)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is folded, merged and escaped: the sum over all series is what JSON says, and a histogram counts what it
    /// has. Labels of a noun with bounded series are bounded.
    #[test]
    fn the_numbers_are_those_of_the_json(vms in reports(), per_vcpu: bool, max_series in 1usize..200) {
        let vms: Vec<Vm> = vms
            .into_iter()
            .map(|(pid, name, rows)| {
                let rows = rows.into_iter().map(|(reason, n, ns)| exit(&format!("r{reason}"), "x", n % 1000, ns));
                vm(pid, &name, rows.collect())
            })
            .collect();
        let report = report("exits", vms);
        let document: serde_json::Value = serde_json::from_str(&json::line(&report).unwrap()).unwrap();
        let total = |key: &str| -> u64 {
            let rows = document["vms"].as_array().unwrap().iter().flat_map(|vm| vm["totals"].as_array().unwrap());
            rows.map(|row| row[key].as_u64().unwrap()).sum()
        };
        let mut exposition = Exposition::new(Limits { max_series, per_vcpu, ..LIMITS });
        let samples = after(&mut exposition, std::slice::from_ref(&report), Instant::now());
        prop_assert_eq!(sum(&samples, "kvm_exits_total"), total("count"));
        prop_assert_eq!(sum(&samples, "kvm_exit_duration_seconds_count"), total("count"));
        // Every number is there again.
        let again = after(&mut exposition, &[report], Instant::now());
        prop_assert_eq!(&samples, &again);
        let rows = samples.keys().filter(|name| name.starts_with("kvm_exits_total")).count();
        let vms = samples.keys().filter(|name| name.starts_with("kvm_vm_vcpus")).count();
        prop_assert!(rows <= (max_series / 20).max(1) + vms, "{} rows, {} VMs", rows, vms);
    }

    #[test]
    fn buckets_grow_and_hold_exactly_what_is_no_longer_than_their_bound(
        durations in proptest::collection::vec((duration(), 1u64..100), 1..20)
    ) {
        let mut buckets = BTreeMap::<u16, u64>::new();
        for (ns, n) in &durations {
            *buckets.entry(hist::bucket(*ns) as u16).or_default() += n;
        }
        let total_ns = durations.iter().map(|(ns, n)| ns * n).sum();
        let timed = durations.iter().map(|(_, n)| n).sum();
        let mut row = exit("io", "io", timed, 1);
        row.durations = Some(Durations { timed, total_ns, buckets: buckets.into_iter().collect(), unbinned: 0 });
        let mut exposition = Exposition::new(LIMITS);
        exposition.update(&[report("exits", vec![vm(1, "a", vec![row])])], Instant::now());
        let text = shown(&exposition, Format::OpenMetrics);
        let mut bounds = 0;
        for line in text.lines().filter(|line| line.starts_with("kvm_exit_duration_seconds_bucket")) {
            let (sample, count) = line.rsplit_once(' ').unwrap();
            let le = sample.split("le=\"").nth(1).unwrap().trim_end_matches("\"}");
            let at_most = if le == "+Inf" { f64::INFINITY } else { (le.parse::<f64>().unwrap() * 1e9).round() };
            let expected: u64 = durations.iter().filter(|(ns, _)| *ns as f64 <= at_most).map(|(_, n)| n).sum();
            prop_assert_eq!(count.parse::<u64>().unwrap(), expected, "{}", line);
            bounds += 1;
        }
        prop_assert_eq!(bounds, 17);
    }
}
