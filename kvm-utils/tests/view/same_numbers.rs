//! Every view of the same snapshot shows the same numbers: what a view writes is read back and held against the model,
//! digit for digit where a program reads it, as `view::units` rounds it where a person does.
//!
//! A new view is a line in [`VIEWS`] and a function that reads its numbers back. That the full screen has the table's
//! numbers is shown in `tests/tui/numbers.rs`.

use std::collections::BTreeMap;

use kvm_utils::drilldown::registry::REGISTRY;
use kvm_utils::model::{Cell, Column, Fingerprint, History, Proof, Report, Row, Unit, Vcpu, Vm};
use kvm_utils::view::prometheus::{Exposition, Format, Labels, Limits, Names};
use kvm_utils::view::table::{By, Style};
use kvm_utils::view::{csv, html, json, prometheus, table, text, units};
use proptest::prelude::*;
use serde_json::Value;

use crate::{fixture, width};

/// A view, and how its numbers are read back.
struct View {
    name: &'static str,
    read: fn(&Report) -> Vec<(Where, Shown)>,
    /// Which numbers it has to show.
    shows: fn(&Report, &Where) -> bool,
}

const VIEWS: &[View] = &[
    View { name: "table", read: read_table, shows: in_tables },
    View { name: "html", read: read_html, shows: in_pages },
    View { name: "json", read: read_json, shows: |_, _| true },
    View { name: "csv", read: read_csv, shows: |_, place| matches!(place, Where::Cell(Of::Vcpu(..), ..)) },
    View { name: "prometheus", read: read_prometheus, shows: in_series },
];

/// Whose rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Of {
    Totals,
    Vm(usize),
    Vcpu(usize, usize),
}

/// Which number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Where {
    /// The cell in this row and the column of this id.
    Cell(Of, usize, &'static str),
    /// The exits that the proof is about.
    Counted,
}

/// A number as a view shows it.
#[derive(Clone, Debug, PartialEq)]
enum Shown {
    /// With all its digits; `None` = not known.
    Exact(Option<Number>),
    /// For people.
    Rounded(String),
}

#[derive(Clone, Copy, Debug)]
enum Number {
    Whole(u64),
    Real(f64),
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => a == b,
            // serde_json reads the last digit wrong now and then, and very small numbers by more; they are written
            // right.
            (Self::Real(a), Self::Real(b)) => {
                (a - b).abs() <= a.abs() * 2.0 * f64::EPSILON + f64::MIN_POSITIVE
            }
            // A program that reads `1.0` where `1` was meant has the same number.
            (Self::Whole(a), Self::Real(b)) | (Self::Real(b), Self::Whole(a)) => *a as f64 == *b,
        }
    }
}

impl Number {
    fn parse(text: &str) -> Option<Self> {
        match text.parse() {
            Ok(n) => Some(Self::Whole(n)),
            Err(_) => text.parse().ok().map(Self::Real),
        }
    }
}

/// All numbers of a report.
fn all(report: &Report) -> BTreeMap<Where, (Cell, Unit, bool)> {
    let mut all = BTreeMap::new();
    let mut rows = |of: Of, rows: &[Row]| {
        for (i, row) in rows.iter().enumerate() {
            for (column, cell) in report.columns.iter().zip(&row.cells).filter(|(c, _)| c.unit != Unit::Text)
            {
                all.insert(Where::Cell(of, i, column.id), (cell.clone(), column.unit, row.waiting));
            }
        }
    };
    rows(Of::Totals, &report.totals);
    for (i, vm) in report.vms.iter().enumerate() {
        rows(Of::Vm(i), &vm.rows);
        for (j, vcpu) in vm.vcpus.iter().enumerate() {
            rows(Of::Vcpu(i, j), &vcpu.rows);
        }
    }
    all.insert(Where::Counted, (Cell::Number(report.proof.counted), Unit::Count, false));
    all
}

/// What a view has to show for a number.
fn is_right(shown: &Shown, cell: &Cell, unit: Unit, waiting: bool) -> bool {
    match shown {
        Shown::Rounded(text) if waiting && unit == Unit::TimeShare => text == units::UNKNOWN,
        Shown::Rounded(text) => *text == units::cell(cell, unit),
        Shown::Exact(number) => match cell {
            Cell::Number(n) => *number == Some(Number::Whole(*n)),
            Cell::Real(r) if r.is_finite() => *number == Some(Number::Real(*r)),
            _ => number.is_none(),
        },
    }
}

/// The rows that people see of a VM: those of its vCPUs first where each has only one.
fn seen(report: &Report, vm: usize) -> Vec<(Of, usize)> {
    let rows = |of: Of, rows: &[Row]| (0..rows.len()).map(move |row| (of, row)).collect::<Vec<_>>();
    let VmRows { each, sum } = vm_rows(report, vm);
    let mut seen: Vec<(Of, usize)> =
        each.iter().enumerate().flat_map(|(i, vcpu)| rows(Of::Vcpu(vm, i), &vcpu.rows)).collect();
    seen.extend(rows(Of::Vm(vm), sum));
    seen
}

struct VmRows<'a> {
    each: &'a [Vcpu],
    sum: &'a [Row],
}

fn vm_rows(report: &Report, vm: usize) -> VmRows<'_> {
    let vm = &report.vms[vm];
    let each = if report.one_row { vm.vcpus.as_slice() } else { &[] };
    VmRows { each, sum: if each.len() == 1 { &[] } else { &vm.rows } }
}

fn columns(report: &Report) -> impl Iterator<Item = &'static Column> {
    report.columns.iter().filter(|column| column.unit != Unit::Text && column.importance.is_some())
}

fn is_seen(report: &Report, of: Of, row: usize, id: &str) -> bool {
    let vm = match of {
        Of::Totals => return false,
        Of::Vm(vm) | Of::Vcpu(vm, _) => vm,
    };
    columns(report).any(|column| column.id == id) && seen(report, vm).contains(&(of, row))
}

fn in_tables(report: &Report, place: &Where) -> bool {
    match place {
        Where::Counted => true,
        Where::Cell(Of::Totals, _, id) => {
            report.vms.is_empty() && columns(report).any(|column| column.id == *id)
        }
        Where::Cell(of, row, id) => is_seen(report, *of, *row, id),
    }
}

fn in_pages(report: &Report, place: &Where) -> bool {
    match place {
        Where::Counted => true,
        // With one VM they are the same as the VM's.
        Where::Cell(Of::Totals, _, id) => {
            report.vms.len() != 1 && columns(report).any(|column| column.id == *id)
        }
        Where::Cell(of, row, id) => is_seen(report, *of, *row, id),
    }
}

fn read_table(report: &Report) -> Vec<(Where, Shown)> {
    let style = Style { width: Some(4000), height: None, color: false, unicode: true, by: By::Vm };
    let table = table::render(report, &style);
    let mut lines = table.lines();
    let mut shown = Vec::new();
    let blocks: Vec<Vec<(Of, usize)>> = match report.vms.len() {
        0 => vec![(0..report.totals.len()).map(|row| (Of::Totals, row)).collect()],
        vms => (0..vms).map(|vm| seen(report, vm)).collect(),
    };
    for block in blocks.iter().filter(|block| !block.is_empty()) {
        let edges = lines.by_ref().find_map(|line| edges(line, report)).expect("titles");
        for ((of, row), line) in block.iter().zip(lines.by_ref()) {
            for (column, edge) in columns(report).zip(&edges) {
                let cell = text::prefix(line, *edge).rsplit(' ').next().unwrap_or_default();
                shown.push((Where::Cell(*of, *row, column.id), Shown::Rounded(cell.to_owned())));
            }
        }
    }
    let proof = table.lines().find_map(|line| line.strip_prefix("proof  counted ")).expect("a proof");
    let counted = proof.split([' ']).next().unwrap_or_default();
    shown.push((Where::Counted, Shown::Rounded(counted.trim_end_matches(',').to_owned())));
    shown
}

/// Where the columns of numbers end, if this is the line with the titles.
fn edges(line: &str, report: &Report) -> Option<Vec<usize>> {
    let mut edges = Vec::new();
    let mut from = 0;
    for column in columns(report) {
        let at = line[from..].find(&format!(" {}", column.title)).map(|at| from + at + 1)?;
        from = at + column.title.len();
        if !line[from..].is_empty() && !line[from..].starts_with(' ') {
            return None;
        }
        edges.push(text::width(&line[..from]));
    }
    Some(edges)
}

fn read_html(report: &Report) -> Vec<(Where, Shown)> {
    let whole = Report { summary: true, ..report.clone() };
    let history = History { fingerprint: Fingerprint::default(), intervals: vec![report.clone()], whole };
    let page = html::page(&[history]).expect("a page");
    let mut shown = Vec::new();
    let section = page.split("<section class=\"noun\"").nth(1).expect("a section");
    let counted = section.split("<span>counted ").nth(1).expect("a proof");
    let counted = counted.split(['<', ' ']).next().unwrap_or_default().trim_end_matches(',');
    shown.push((Where::Counted, Shown::Rounded(counted.to_owned())));
    for (scope, part) in section.split(" data-scope=\"").skip(1).enumerate() {
        let rows: Vec<(Of, usize)> = match (scope, report.vms.len()) {
            (0, 1) => seen(report, 0),
            (0, _) => (0..report.totals.len()).map(|row| (Of::Totals, row)).collect(),
            (scope, _) => seen(report, scope - 1),
        };
        let Some(table) = part.split("<table class=\"rows\">").nth(1) else { continue };
        let table = table.split("</table>").next().unwrap_or_default();
        for ((of, row), body) in rows.iter().zip(table.split("<tbody").skip(1)) {
            let cells: Vec<&str> = body.split(" data-v=\"").skip(1).collect();
            assert_eq!(cells.len(), columns(report).count());
            for (column, cell) in columns(report).zip(cells) {
                let (exact, rest) = cell.split_once('"').expect("a value");
                let text = rest.split_once('>').and_then(|(_, text)| text.split_once('<')).expect("a text").0;
                let place = Where::Cell(*of, *row, column.id);
                shown.push((place.clone(), Shown::Exact(Number::parse(exact))));
                shown.push((place, Shown::Rounded(text.replace("&lt;", "<"))));
            }
        }
    }
    shown
}

fn read_json(report: &Report) -> Vec<(Where, Shown)> {
    let json: Value = serde_json::from_str(&json::line(report).expect("a line")).expect("JSON");
    let mut shown = Vec::new();
    let mut rows = |of: Of, rows: &Value| {
        for (i, row) in rows.as_array().expect("rows").iter().enumerate() {
            for column in report.columns.iter().filter(|column| column.unit != Unit::Text) {
                let number = match &row[column.id] {
                    Value::Null => None,
                    value => Some(Number::parse(&value.to_string()).expect("a number")),
                };
                shown.push((Where::Cell(of, i, column.id), Shown::Exact(number)));
            }
        }
    };
    rows(Of::Totals, &json["totals"]);
    for (i, vm) in json["vms"].as_array().expect("VMs").iter().enumerate() {
        rows(Of::Vm(i), &vm["totals"]);
        for (j, vcpu) in vm["vcpus"].as_array().expect("vCPUs").iter().enumerate() {
            rows(Of::Vcpu(i, j), &vcpu[report.noun]);
        }
    }
    let counted = json["proof"]["counted"].as_u64().map(Number::Whole);
    shown.push((Where::Counted, Shown::Exact(counted)));
    shown
}

fn read_csv(report: &Report) -> Vec<(Where, Shown)> {
    let mut written = Vec::new();
    csv::header(&mut written, report.columns).expect("a header");
    csv::rows(&mut written, report).expect("rows");
    let mut reader = ::csv::Reader::from_reader(written.as_slice());
    let titles = reader.headers().expect("a header").clone();
    let vcpus = report.vms.iter().enumerate().flat_map(|(i, vm)| {
        vm.vcpus
            .iter()
            .enumerate()
            .flat_map(move |(j, vcpu)| (0..vcpu.rows.len()).map(move |row| (Of::Vcpu(i, j), row)))
    });
    let mut shown = Vec::new();
    for ((of, row), record) in vcpus.zip(reader.records()) {
        let record = record.expect("a record");
        // The first columns say whose row it is, one of them by the name of a drill-down's own column (`vcpu`).
        let own = titles.len() - report.columns.len();
        for (column, field) in report.columns.iter().zip(record.iter().skip(own)) {
            if column.unit != Unit::Text {
                shown.push((Where::Cell(of, row, column.id), Shown::Exact(Number::parse(field))));
            }
        }
    }
    shown
}

/// The series of a VM's sums: which number each is of, its name and its labels. Rows whose labels are the same are one series and
/// left out here.
fn series(report: &Report) -> Vec<(Where, bool, String)> {
    let names = Names::of(report.noun, report.columns, report.one_row, false);
    let mut all = Vec::new();
    for (i, vm) in report.vms.iter().enumerate() {
        let of_vm = Labels::of("vm", &vm.name).and("pid", &vm.pid.to_string());
        let labels: Vec<Labels> = vm.rows.iter().map(|row| names.row(&row.cells)).collect();
        for (j, own) in labels.iter().enumerate() {
            if labels.iter().filter(|other| *other == own).count() > 1 {
                continue;
            }
            for counter in &names.counters {
                let labels = of_vm.clone().join(own);
                let labels = match counter.label {
                    Some((name, value)) => labels.and(name, value),
                    None => labels,
                };
                let place = Where::Cell(Of::Vm(i), j, report.columns[counter.column].id);
                let name = format!("{}_total{{{}}}", names.families[counter.family].name, labels.as_str());
                all.push((place, counter.is_time, name));
            }
        }
    }
    all
}

/// Sums that are known are series.
fn in_series(report: &Report, place: &Where) -> bool {
    let known = |place: &Where| match place {
        Where::Cell(Of::Vm(vm), row, id) => {
            let index = report.columns.iter().position(|column| column.id == *id).expect("a column");
            matches!(report.vms[*vm].rows[*row].cells[index], Cell::Number(_))
        }
        _ => false,
    };
    *place == Where::Counted || known(place) && series(report).iter().any(|(of, ..)| of == place)
}

/// Seconds with up to nine decimals.
fn nanoseconds(text: &str) -> Option<u64> {
    let (whole, rest) = text.split_once('.')?;
    format!("{whole}{rest:0<9}").parse().ok()
}

fn read_prometheus(report: &Report) -> Vec<(Where, Shown)> {
    let keep = std::time::Duration::from_secs(60);
    let limits = Limits { max_series: usize::MAX, per_vcpu: false, created: false, keep };
    let mut exposition = Exposition::new(limits);
    exposition.update(std::slice::from_ref(report), std::time::Instant::now());
    let text = prometheus::text::render(&exposition.families("0"), Format::OpenMetrics);
    let samples: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.rsplit_once(' ')).collect();
    let mut shown = Vec::new();
    for (place, is_time, name) in series(report) {
        let Some(value) = samples.get(name.as_str()) else { continue };
        let number = if is_time { nanoseconds(value) } else { value.parse().ok() };
        shown.push((place, Shown::Exact(number.map(Number::Whole))));
    }
    let counted = samples[format!("kvm_utils_counted_total{{noun=\"{}\"}}", report.noun).as_str()];
    shown.push((Where::Counted, Shown::Exact(Number::parse(counted))));
    shown
}

fn row(columns: &'static [Column]) -> impl Strategy<Value = Row> {
    let cells: Vec<_> = columns.iter().map(|column| width::cell(column.unit)).collect();
    (cells, any::<bool>()).prop_map(|(cells, waiting)| Row { cells, waiting, ..Row::default() })
}

fn report() -> impl Strategy<Value = Report> {
    let noun = (0..REGISTRY.len(), any::<bool>());
    noun.prop_flat_map(|(noun, one_row)| {
        let noun = REGISTRY[noun];
        let rows = move || prop::collection::vec(row(noun.columns), 0..5);
        let vcpus = prop::collection::vec(rows(), 0..4);
        let vms = prop::collection::vec((rows(), vcpus), 0..4);
        (Just((noun, one_row)), rows(), vms, width::proof(), 1_u64..100_000)
    })
    .prop_map(|((noun, one_row), totals, vms, proof, ms)| {
        let vcpu = |(id, rows): (u32, Vec<Row>)| Vcpu {
            vcpu: Some(id),
            tid: 100 + id,
            others: false,
            events: 7,
            running: None,
            rows,
        };
        let vm = |(i, (rows, vcpus)): (u32, (Vec<Row>, Vec<Vec<Row>>))| Vm {
            rows,
            vcpus: (0..).zip(vcpus).map(vcpu).collect(),
            ..fixture::vm(4711 + i, "web", &[], 0)
        };
        Report {
            noun: noun.name,
            counting: noun.counting,
            columns: noun.columns,
            one_row,
            interval: std::time::Duration::from_millis(ms),
            proof: Proof { source: "tracepoint", ..proof },
            vms: (0..).zip(vms).map(vm).collect(),
            totals,
            ..fixture::one_vm()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_view_shows_the_same_numbers(report in report()) {
        let all = all(&report);
        for view in VIEWS {
            let shown = (view.read)(&report);
            for (place, shown) in &shown {
                let Some((cell, unit, waiting)) = all.get(place) else {
                    return Err(TestCaseError::fail(format!("{}: {place:?} is nowhere in the model", view.name)));
                };
                prop_assert!(
                    is_right(shown, cell, *unit, *waiting),
                    "{} shows {:?} for {:?} at {:?}", view.name, shown, cell, place
                );
            }
            for place in all.keys().filter(|place| (view.shows)(&report, place)) {
                prop_assert!(shown.iter().any(|(at, _)| at == place), "{} does not show {:?}", view.name, place);
            }
        }
    }
}
