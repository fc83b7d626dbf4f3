//! Reads back what Prometheus is told: of each VM, and of each vCPU.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use kvm_utils::model::{Cell, Report, Role, Row, Unit};
use kvm_utils::view::prometheus::{Exposition, Family, Format, Kind, Limits, Names, own, text as exposition};
use kvm_utils::view::text;

use super::{Number, Of, Shown, Where, cell, rows, with_durations};

/// Names and values.
type Labels = BTreeMap<String, String>;

/// Every sum that is a whole number, and how many durations there are.
pub fn shows(report: &Report, place: &Where) -> bool {
    match place {
        Where::Counted => true,
        Where::Cell(of @ (Of::Vm(_) | Of::Vcpu(..)), row, id) => {
            let row = &rows(report, *of)[*row];
            let column = report.columns.iter().find(|column| column.id == *id);
            // A sum of other columns, which are all there.
            let said_by_others = (report.noun, *id) == ("time", "wall_ns");
            column.is_some_and(|column| column.role == Role::Sum)
                && matches!(cell(report, row, id), Some(Cell::Number(_)))
                && !said_by_others
                && !row.of_others
        }
        Where::Timed(of @ (Of::Vm(_) | Of::Vcpu(..)), row) => !rows(report, *of)[*row].of_others,
        _ => false,
    }
}

pub fn read(report: &Report) -> Vec<(Where, Shown)> {
    let durations = with_durations(report.noun).is_some();
    let names = Names::of(report.noun, report.columns, report.one_row, durations);
    let mut shown = Vec::new();
    for per_vcpu in [false, true] {
        let keep = Duration::from_secs(300);
        let mut all = Exposition::new(Limits { max_series: usize::MAX, per_vcpu, created: false, keep });
        all.update(std::slice::from_ref(report), Instant::now());
        let text = exposition::render(&all.families("1.2.3"), Format::Prometheus);
        samples(report, &names, &text, &groups(report, &names, per_vcpu), &mut shown);
    }
    shown
}

/// The rows that have the same labels, and whose they are.
fn groups(report: &Report, names: &Names, per_vcpu: bool) -> BTreeMap<Labels, (Of, Vec<usize>)> {
    let mut groups: BTreeMap<Labels, (Of, Vec<usize>)> = BTreeMap::new();
    let mut add = |of: Of, labels: &[(&str, String)], rows: &[Row]| {
        for (i, row) in rows.iter().enumerate().filter(|(_, row)| !row.of_others) {
            let own = labels.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
            let all = own.chain(words(report, names, row)).collect();
            groups.entry(all).or_insert_with(|| (of, Vec::new())).1.push(i);
        }
    };
    for (i, vm) in report.vms.iter().enumerate() {
        let of_vm = [("vm", vm.name.clone()), ("pid", vm.pid.to_string())];
        if !per_vcpu {
            add(Of::Vm(i), &of_vm, &vm.rows);
            continue;
        }
        for (j, vcpu) in vm.vcpus.iter().enumerate() {
            let [vm, pid] = of_vm.clone();
            let id = ("vcpu", vcpu.vcpu.expect("an id").to_string());
            add(Of::Vcpu(i, j), &[vm, pid, id], &vcpu.rows);
        }
    }
    groups
}

/// The labels that a row has by its words.
fn words(report: &Report, names: &Names, row: &Row) -> Vec<(String, String)> {
    let keys = report.columns.iter().zip(&row.cells).enumerate().filter(|(_, (column, _))| {
        // Whose it is is said already of a row that is a vCPU's only one; rows that differ in flags only are one series.
        let left_out = column.id == "flags" || report.one_row && column.id == "vcpu";
        column.unit == Unit::Text && column.role == Role::Key && !left_out
    });
    let mut words = Vec::new();
    for (index, (column, cell)) in keys {
        let value = match cell {
            Cell::Text(text) => text.clone(),
            Cell::List(texts) => texts.join(","),
            Cell::Number(number) => number.to_string(),
            Cell::Real(number) => number.to_string(),
            Cell::Unknown => String::new(),
        };
        let value = text::cut(&text::safe(&value, true), 200, true);
        let (_, name) = names.labels.iter().find(|(of, _)| *of == index).expect(column.id);
        // To Prometheus an empty label is none.
        if !value.is_empty() {
            words.push((name.clone(), value));
        }
    }
    words
}

fn samples(
    report: &Report,
    names: &Names,
    text: &str,
    groups: &BTreeMap<Labels, (Of, Vec<usize>)>,
    shown: &mut Vec<(Where, Shown)>,
) {
    let ours: BTreeSet<String> = own::all().iter().flat_map(Family::samples).collect();
    let histogram = names.families.last().filter(|family| family.kind == Kind::Histogram);
    let histogram = histogram.map_or("", |family| family.name.as_str());
    let mut seen = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (sample, value) = line.rsplit_once(' ').expect("a value");
        let (name, mut labels) = parse(sample);
        assert!(seen.insert((name.to_owned(), labels.clone())), "twice: {sample}");
        if name == "kvm_utils_counted_total" {
            shown.push((Where::Counted, Shown::Exact(Number::parse(value))));
            continue;
        }
        if ours.contains(name) {
            continue;
        }
        let counter = names.counters.iter().find(|counter| {
            let of_label =
                counter.label.is_none_or(|(name, value)| labels.get(name).is_some_and(|of| of == value));
            name.strip_suffix("_total") == Some(names.families[counter.family].name.as_str()) && of_label
        });
        let counted = counter.map(|counter| report.columns[counter.column].id);
        if let Some((label, _)) = counter.and_then(|counter| counter.label) {
            labels.remove(label);
        }
        let (of, rows) = groups.get(&labels).cloned().unwrap_or((Of::Totals, Vec::new()));
        let seconds = counter.is_some_and(|counter| counter.is_time) || name.ends_with("_sum");
        let number = if seconds { nanoseconds(value) } else { Number::parse(value) };
        let place = match (counted, name.strip_prefix(histogram)) {
            (Some(id), _) => Where::Sum(of, rows, id),
            (None, Some("_bucket")) => continue,
            (None, Some("_count")) => Where::SumOfTimed(of, rows),
            (None, Some("_sum")) => Where::Sum(of, rows, with_durations(report.noun).expect("a column")),
            (None, _) => unreachable!("what is {sample}?"),
        };
        shown.push((place, Shown::Exact(number)));
    }
}

/// Seconds with all their digits as nanoseconds.
fn nanoseconds(seconds: &str) -> Option<Number> {
    let (whole, fraction) = seconds.split_once('.')?;
    format!("{whole}{fraction:0<9}").parse().ok().map(Number::Whole)
}

/// The name of a sample and its labels.
fn parse(sample: &str) -> (&str, Labels) {
    let (name, rest) = sample.split_once('{').unwrap_or((sample, "}"));
    let mut labels = Labels::new();
    let mut rest = rest.strip_suffix('}').expect("an end");
    while let Some((label, quoted)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        let end = loop {
            match chars.next().expect("a quote") {
                (end, '"') => break end,
                (_, '\\') => value.push(chars.next().expect("what is escaped").1),
                (_, c) => value.push(c),
            }
        };
        assert!(labels.insert(label.to_owned(), value).is_none(), "a label twice: {sample}");
        rest = &quoted[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    assert_eq!(rest, "", "{sample}");
    (name, labels)
}
