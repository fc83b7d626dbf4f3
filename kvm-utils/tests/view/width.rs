//! No line of a table is wider than the terminal, whatever the values.

use std::time::Duration;

use kvm_utils::model::{Cell, KvmStat, Place, Proof, Report, Row, Running, Unit, Vcpu, Vm};
use kvm_utils::view::live::Size;
use kvm_utils::view::table::{By, Style, render};
use kvm_utils::view::{Frame, json, text};
use proptest::prelude::*;

use crate::fixture::{self, COLUMNS};

pub fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..100, any::<u32>().prop_map(u64::from), any::<u64>(), Just(u64::MAX)]
}

fn real() -> impl Strategy<Value = f64> {
    prop_oneof![0.0..1.0, 0.0..1e6, any::<f64>()]
}

pub fn cell(unit: Unit) -> BoxedStrategy<Cell> {
    match unit {
        Unit::Text => prop_oneof![
            any::<String>().prop_map(Cell::Text),
            "[a-zA-Z_]{1,80}".prop_map(Cell::Text),
            prop::collection::vec("\\PC{0,9}", 0..4).prop_map(Cell::List),
            Just(Cell::Unknown),
        ]
        .boxed(),
        _ => prop_oneof![number().prop_map(Cell::Number), real().prop_map(Cell::Real), Just(Cell::Unknown)]
            .boxed(),
    }
}

fn row() -> impl Strategy<Value = Row> {
    let cells: Vec<_> = COLUMNS.iter().map(|column| cell(column.unit)).collect();
    let detail = prop::option::of("[a-z][ a-z0-9%,]{0,200}");
    (cells, any::<bool>(), detail).prop_map(|(cells, waiting, detail)| Row {
        cells,
        waiting,
        detail,
        ..Row::default()
    })
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec(row(), 0..6)
}

prop_compose! {
    fn vcpu()(vcpu in any::<Option<u32>>(), others in any::<bool>(), tid in any::<u32>(), events in number(), rows in rows(),
              running in prop::option::of((any::<String>(), number()))) -> Vcpu {
        let running = running.map(|(reason, for_ns)| Running { reason, for_ns });
        Vcpu { vcpu, tid, others, events, running, rows }
    }
}

fn places() -> impl Strategy<Value = Vec<Place>> {
    let kind = prop_oneof![Just("pod"), Just("container"), Just("machine"), Just("unit"), Just("cgroup")];
    let name = prop_oneof![any::<String>(), "[a-f0-9]{64}", "[a-f0-9-]{8,36}"];
    prop::collection::vec((kind, name).prop_map(|(kind, name)| Place { kind, name }), 0..3)
}

prop_compose! {
    fn vm()(uuid in prop::option::of("[a-f0-9-]{36}"), id in any::<Option<String>>(), within in places(),
            pid in any::<u32>(), name in any::<String>(), vmm in any::<String>(), ended in any::<bool>(),
            events in number(), busy_share in prop::option::of(real()), rows in rows(),
            vcpus in prop::collection::vec(vcpu(), 0..4)) -> Vm {
        Vm { pid, name, vmm, uuid, id, within, ended, events, busy_share, waiting_share: busy_share, rows, vcpus }
    }
}

prop_compose! {
    pub fn proof()(counted in number(), least in number(), most in number(), why in any::<Option<String>>(),
               missed in any::<Option<u64>>(), unpaired in number(), entries_without_exit in number(),
               in_progress in number(), vcpus_full in number(), histograms_full in number(),
               unreadable in number(), own_cost in prop::option::of(real())) -> Proof {
        let kvm_stat = why.map_or(KvmStat::Between { least: least.min(most), most: least.max(most) }, KvmStat::Unknown);
        Proof { source: "tracepoint", counted, kvm_stat, missed, unpaired, entries_without_exit, in_progress,
                vcpus_full, histograms_full, unreadable, rows_full: unreadable, own_cost }
    }
}

prop_compose! {
    fn report()(vms in prop::collection::vec(vm(), 0..4), totals in rows(), events in number(), proof in proof(),
                interval in any::<Duration>(), summary in any::<bool>(),
                hints in prop::collection::vec(any::<String>(), 0..3),
                notes in prop::collection::vec("[ a-z]{0,200}", 0..3)) -> Report {
        Report { noun: "exits", counting: ("exit", "exits"), columns: COLUMNS, one_row: false, time: fixture::time(), interval, summary, host: fixture::host("svm"),
                 proof, vms, totals, events, hints, notes }
    }
}

fn style() -> impl Strategy<Value = Style> {
    let width = prop_oneof![1usize..60, 60usize..250];
    let by = prop_oneof![Just(By::Vm), Just(By::Vcpu), Just(By::Reason)];
    (width, prop::option::of(1usize..70), any::<bool>(), by).prop_map(|(width, height, unicode, by)| Style {
        width: Some(width),
        height,
        color: false,
        unicode,
        by,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_line_is_wider_than_the_terminal(report in report(), style in style()) {
        let table = render(&report, &style);
        for line in table.lines() {
            prop_assert!(Some(text::width(line)) <= style.width, "{} columns: {:?}", text::width(line), line);
            prop_assert!(!line.chars().any(char::is_control), "{:?}", line);
        }
        prop_assert!(style.height.is_none_or(|height| table.lines().count() <= height));
        // Nothing is left for the frame to cut.
        let size = Size { columns: 1000, rows: 10_000 };
        let mut frame = Frame::new(Vec::new());
        frame.redraw(&table, size)?;
        prop_assert_eq!(String::from_utf8_lossy(&frame.into_inner()).matches("\r\n").count(), table.lines().count());
    }

    #[test]
    fn a_terminal_of_60_columns_shows_every_row_with_its_count(report in report(), unicode in any::<bool>()) {
        let style = Style { width: Some(60), unicode, by: By::Reason, ..Style::default() };
        let mut report = report;
        // Details stand between the rows.
        report.totals.iter_mut().for_each(|row| row.detail = None);
        let table = render(&report, &style);
        if report.totals.is_empty() {
            return Ok(());
        }
        let mut lines = table.lines().skip_while(|line| !line.starts_with("REASON"));
        prop_assert!(lines.next().is_some_and(|header| header.contains("COUNT")), "{}", table);
        for row in &report.totals {
            let count = kvm_utils::view::units::cell(&row.cells[5], Unit::Count);
            let line = lines.next().unwrap_or_default();
            prop_assert!(line.contains(&count), "no {} in {:?}", count, line);
        }
    }

    #[test]
    fn json_is_one_line_that_parses_back(report in report()) {
        let line = json::line(&report)?;
        prop_assert!(!line.chars().any(char::is_control), "{:?}", line);
        let parsed: serde_json::Value = serde_json::from_str(&line)?;
        prop_assert_eq!(parsed["vms"].as_array().map(Vec::len), Some(report.vms.len()));
        for (vm, parsed) in report.vms.iter().zip(parsed["vms"].as_array().into_iter().flatten()) {
            prop_assert_eq!(parsed["name"].as_str(), Some(vm.name.as_str()));
            prop_assert_eq!(parsed["count"].as_u64(), Some(vm.events));
        }
    }
}
