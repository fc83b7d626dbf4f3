//! Every view of the same snapshot shows the same numbers: what a view writes is read back and held against the model,
//! digit for digit where a program reads it, as `view::units` rounds it where a person does.
//!
//! A new view is a line in [`VIEWS`] and a function that reads its numbers back.

mod prometheus;
mod top;

use std::collections::BTreeMap;

use kvm_utils::drilldown::{noun::Noun, registry::REGISTRY};
use kvm_utils::model::{Cell, Column, Durations, Fingerprint, History, Proof, Report, Row, Unit, Vcpu, Vm};
use kvm_utils::view::table::{By, Style};
use kvm_utils::view::{csv, html, json, table, text, units};
use kvm_utils_common::hist;
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
    View { name: "json", read: read_json, shows: in_json },
    View { name: "csv", read: read_csv, shows: in_csv },
    View { name: "prometheus", read: prometheus::read, shows: prometheus::shows },
    View { name: "top", read: top::read, shows: top::shows },
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
    /// The sum of the column of this id over these rows.
    Sum(Of, Vec<usize>, &'static str),
    /// How many events of this row have a duration.
    Timed(Of, usize),
    /// The same over these rows.
    SumOfTimed(Of, Vec<usize>),
    /// What is said of a VM or a vCPU as a whole.
    Whole(Of, Whole),
    /// The exits that the proof is about.
    Counted,
}

impl Where {
    /// Whether the number there is, or is a part of, the one here.
    fn covers(&self, place: &Self) -> bool {
        match (self, place) {
            (Self::Sum(of, rows, id), Self::Cell(of_cell, row, id_of_cell)) => {
                of == of_cell && id == id_of_cell && rows.contains(row)
            }
            (Self::SumOfTimed(of, rows), Self::Timed(of_row, row)) => of == of_row && rows.contains(row),
            _ => self == place,
        }
    }
}

/// What is said of a VM or a vCPU as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Whole {
    /// Events of any kind.
    Events,
    /// Exits, where they are what is counted.
    Exits,
    ExitRate,
    Busy,
    Waiting,
    /// Percentiles of all exits but waiting ones.
    P50,
    P99,
    /// Shares of all time, where that is what is counted.
    Guest,
    Steal,
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

/// What the model has for a number: the unit, and whether it is of a waiting row.
type Known = (Cell, Unit, bool);

/// All numbers of a report.
fn all(report: &Report) -> BTreeMap<Where, Known> {
    let mut all = BTreeMap::new();
    let mut rows = |of: Of, rows: &[Row]| {
        for (i, row) in rows.iter().enumerate() {
            for (column, cell) in report.columns.iter().zip(&row.cells).filter(|(c, _)| c.unit != Unit::Text)
            {
                all.insert(Where::Cell(of, i, column.id), (cell.clone(), column.unit, row.waiting));
            }
            if let Some(durations) = &row.durations {
                all.insert(Where::Timed(of, i), (Cell::Number(durations.timed), Unit::Count, false));
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
    for (i, vm) in report.vms.iter().enumerate() {
        let mut whole = |of: Of, events: u64, rows: &[Row], shares: [Cell; 2]| {
            for (what, cell, unit) in whole(report, events, rows, shares) {
                all.insert(Where::Whole(of, what), (cell, unit, false));
            }
        };
        let shares = [vm.busy_share, vm.waiting_share];
        whole(Of::Vm(i), vm.events, &vm.rows, shares.map(|share| share.map_or(Cell::Unknown, Cell::Real)));
        for (j, vcpu) in vm.vcpus.iter().enumerate() {
            whole(Of::Vcpu(i, j), vcpu.events, &vcpu.rows, time_shares(report, &vcpu.rows));
        }
    }
    all.insert(Where::Counted, (Cell::Number(report.proof.counted), Unit::Count, false));
    all
}

/// What is to be said of a VM or a vCPU as a whole, by its rows; `shares` is its time in exits and waiting.
fn whole(report: &Report, events: u64, rows: &[Row], shares: [Cell; 2]) -> Vec<(Whole, Cell, Unit)> {
    let of_exits = |cell| if report.noun == "exits" { cell } else { Cell::Unknown };
    let [busy, waiting] = shares;
    let mut durations = Durations::default();
    let work = || rows.iter().filter(|row| !row.waiting && !row.of_others && row.durations.is_some());
    work().flat_map(|row| &row.durations).for_each(|more| durations.add(more));
    let known = |id| {
        let cells = work().filter_map(move |row| cell(report, row, id));
        cells.filter_map(|cell| if let Cell::Number(ns) = cell { Some(*ns) } else { None })
    };
    let percentile = |q| match durations.quantile_ns(q) {
        // The extremes are exact, histograms are not.
        Some(ns) => {
            let (least, most) = (known("min_ns").min(), known("max_ns").max());
            of_exits(Cell::Number(ns.max(least.unwrap_or(0)).min(most.unwrap_or(u64::MAX))))
        }
        None => Cell::Unknown,
    };
    // Of a ledger with a hole nothing is known: its shares are of one whole.
    let share = |id: &str| {
        let shares = ["guest", "kvm", "vmm", "poll", "idle", "steal", "other"].map(|bucket| {
            let share = cell(report, rows.first()?, &format!("{bucket}_share"))?.number()?;
            (share.is_finite() && share >= 0.0).then_some((bucket, share))
        });
        let all: Option<Vec<_>> = shares.into_iter().collect();
        let share = all.and_then(|all| all.into_iter().find(|(bucket, _)| *bucket == id));
        share.map_or(Cell::Unknown, |(_, share)| Cell::Real(share))
    };
    vec![
        (Whole::Events, Cell::Number(events), Unit::Count),
        (Whole::Exits, of_exits(Cell::Number(events)), Unit::Count),
        (
            Whole::ExitRate,
            of_exits(Cell::Real(events as f64 / report.interval.as_secs_f64())),
            Unit::PerSecond,
        ),
        (Whole::Busy, busy, Unit::TimeShare),
        (Whole::Waiting, waiting, Unit::Share),
        (Whole::P50, percentile(0.5), Unit::Nanoseconds),
        (Whole::P99, percentile(0.99), Unit::Nanoseconds),
        (Whole::Guest, share("guest"), Unit::Share),
        (Whole::Steal, share("steal"), Unit::Share),
    ]
}

/// Of exits the shares of time in rows, working and waiting.
fn time_shares(report: &Report, rows: &[Row]) -> [Cell; 2] {
    [false, true].map(|waiting| {
        let of = rows.iter().filter(|row| row.waiting == waiting && !row.of_others);
        let shares: Option<f64> = of.map(|row| cell(report, row, "time_share")?.number()).sum();
        match shares {
            Some(sum) if report.noun == "exits" && !rows.is_empty() => Cell::Real(sum),
            _ => Cell::Unknown,
        }
    })
}

fn cell<'a>(report: &Report, row: &'a Row, id: &str) -> Option<&'a Cell> {
    row.cells.get(report.columns.iter().position(|column| column.id == id)?)
}

/// Whose rows these are.
fn rows(report: &Report, of: Of) -> &[Row] {
    match of {
        Of::Totals => &report.totals,
        Of::Vm(vm) => &report.vms[vm].rows,
        Of::Vcpu(vm, vcpu) => &report.vms[vm].vcpus[vcpu].rows,
    }
}

/// What the model has in a place; `None` = there is no such place.
fn known(all: &BTreeMap<Where, Known>, place: &Where) -> Option<Known> {
    let parts: Vec<Where> = match place {
        Where::Sum(of, rows, id) => rows.iter().map(|row| Where::Cell(*of, *row, id)).collect(),
        Where::SumOfTimed(of, rows) => rows.iter().map(|row| Where::Timed(*of, *row)).collect(),
        place => return all.get(place).cloned(),
    };
    let parts: Vec<&Known> = parts.iter().map(|part| all.get(part)).collect::<Option<_>>()?;
    let (_, unit, _) = parts.first()?;
    let numbers =
        parts.iter().filter_map(|(cell, ..)| if let Cell::Number(n) = cell { Some(*n) } else { None });
    let sum = numbers.reduce(u64::saturating_add).map_or(Cell::Unknown, Cell::Number);
    Some((sum, *unit, false))
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
        _ => false,
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
        _ => false,
    }
}

fn in_json(_: &Report, place: &Where) -> bool {
    match place {
        Where::Whole(of, what) => {
            *what == Whole::Events || matches!(of, Of::Vm(_)) && [Whole::Busy, Whole::Waiting].contains(what)
        }
        Where::Cell(..) | Where::Counted => true,
        _ => false,
    }
}

fn in_csv(_: &Report, place: &Where) -> bool {
    matches!(place, Where::Cell(Of::Vcpu(..), ..))
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
    let titles: Vec<&str> = columns(report).map(|column| column.title).collect();
    edges_of(line, &titles)
}

/// The same of columns with these titles. Behind one there may be the mark of the column by which rows are sorted.
fn edges_of(line: &str, titles: &[&str]) -> Option<Vec<usize>> {
    let mut edges = Vec::new();
    let mut from = 0;
    for title in titles {
        let at = line[from..].find(&format!(" {title}")).map(|at| from + at + 1)?;
        from = at + title.len();
        from += line[from..].chars().next().filter(|c| "▲▼".contains(*c)).map_or(0, char::len_utf8);
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
    let number = |value: &Value| match value {
        Value::Null => None,
        value => Some(Number::parse(&value.to_string()).expect("a number")),
    };
    let mut rows = |of: Of, rows: &Value| {
        for (i, row) in rows.as_array().expect("rows").iter().enumerate() {
            for column in report.columns.iter().filter(|column| column.unit != Unit::Text) {
                shown.push((Where::Cell(of, i, column.id), Shown::Exact(number(&row[column.id]))));
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
    for (i, vm) in json["vms"].as_array().expect("VMs").iter().enumerate() {
        let mut whole = |of, what, value| shown.push((Where::Whole(of, what), Shown::Exact(number(value))));
        whole(Of::Vm(i), Whole::Events, &vm["count"]);
        whole(Of::Vm(i), Whole::Busy, &vm["busy_share"]);
        whole(Of::Vm(i), Whole::Waiting, &vm["waiting_share"]);
        for (j, vcpu) in vm["vcpus"].as_array().expect("vCPUs").iter().enumerate() {
            whole(Of::Vcpu(i, j), Whole::Events, &vcpu["count"]);
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

/// Drill-downs that keep durations, with the column that has their sum.
const WITH_DURATIONS: [(&str, &str); 2] = [("exits", "total_ns"), ("halt", "blocked_ns")];

fn with_durations(noun: &str) -> Option<&'static str> {
    WITH_DURATIONS.iter().find(|(of, _)| *of == noun).map(|(_, column)| *column)
}

fn durations() -> impl Strategy<Value = Durations> {
    let buckets = prop::collection::btree_map(0..hist::BUCKETS as u16, 1_u64..1_000_000, 0..4);
    let unbinned = prop_oneof![3 => Just(0_u64), 1 => 1_u64..1000];
    (buckets, unbinned, 0_u64..1 << 42).prop_map(|(buckets, unbinned, total_ns)| Durations {
        timed: buckets.values().sum::<u64>() + unbinned,
        total_ns,
        buckets: buckets.into_iter().collect(),
        unbinned,
    })
}

/// Any row; some have the same words as others, some are sums of others.
fn row(noun: &'static Noun) -> impl Strategy<Value = Row> {
    let cells: Vec<_> = noun.columns.iter().map(|column| width::cell(column.unit)).collect();
    let alike = prop::bool::weighted(0.3);
    let of_others = prop::bool::weighted(0.1);
    (cells, any::<bool>(), of_others, alike, durations()).prop_map(
        move |(mut cells, waiting, of_others, alike, durations)| {
            let column = with_durations(noun.name);
            for (of, cell) in noun.columns.iter().zip(&mut cells) {
                if alike && of.unit == Unit::Text {
                    *cell = Cell::Text("alike".to_owned());
                }
                if Some(of.id) == column {
                    *cell = Cell::Number(durations.total_ns);
                }
            }
            Row { cells, waiting, of_others, durations: column.map(|_| durations), ..Row::default() }
        },
    )
}

fn share() -> impl Strategy<Value = Option<f64>> {
    prop::option::of(prop_oneof![4 => 0.0..1.0, 1 => any::<f64>()])
}

/// A vCPU's events and rows.
type AnyVcpu = (u64, Vec<Row>);

fn report() -> impl Strategy<Value = Report> {
    let noun = (0..REGISTRY.len(), any::<bool>());
    noun.prop_flat_map(|(noun, one_row)| {
        let noun = REGISTRY[noun];
        let rows = move || prop::collection::vec(row(noun), 0..5);
        let vcpus = prop::collection::vec((width::number(), rows()), 0..4);
        let vms = prop::collection::vec((width::number(), [share(), share()], rows(), vcpus), 0..4);
        (Just((noun, one_row)), rows(), vms, width::proof(), 1_u64..100_000)
    })
    .prop_map(|((noun, one_row), totals, vms, proof, ms)| {
        let vcpu = |(id, (events, rows)): (u32, AnyVcpu)| Vcpu {
            vcpu: Some(id),
            tid: 100 + id,
            others: false,
            events,
            running: None,
            rows,
        };
        let vms = (0..).zip(vms).map(|(i, (events, [busy_share, waiting_share], rows, vcpus))| Vm {
            events,
            busy_share,
            waiting_share,
            rows,
            vcpus: (0..).zip(vcpus).map(vcpu).collect(),
            ..fixture::vm(4711 + i, "web", &[], 0)
        });
        Report {
            noun: noun.name,
            counting: noun.counting,
            columns: noun.columns,
            one_row,
            interval: std::time::Duration::from_millis(ms),
            proof: Proof { source: "tracepoint", ..proof },
            vms: vms.collect(),
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
                let Some((cell, unit, waiting)) = known(&all, place) else {
                    return Err(TestCaseError::fail(format!("{}: {place:?} is nowhere in the model", view.name)));
                };
                prop_assert!(
                    is_right(shown, &cell, unit, waiting),
                    "{} shows {:?} for {:?} at {:?}", view.name, shown, cell, place
                );
            }
            for place in all.keys().filter(|place| (view.shows)(&report, place)) {
                prop_assert!(shown.iter().any(|(at, _)| at.covers(place)), "{} does not show {:?}", view.name, place);
            }
        }
    }
}
