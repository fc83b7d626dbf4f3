//! The rows of the table that is shown, in order.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
};

use super::{
    data::{Data, EXITS, Ledger, TIME},
    ident::{ItemKey, Scope, VcpuKey, VmKey, row_key},
    place::{Place, Table},
    series::SeriesKey,
};
use crate::model::{Cell, Column, Durations, Role, Row, Unit, Vcpu, Vm};

/// A line of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// What it is.
    pub key: ItemKey,
    /// A cell for each column.
    pub row: Row,
    /// It stands first, whatever the order.
    pub pinned: bool,
    /// Where its time goes.
    pub ledger: Option<Ledger>,
    /// Whose values of the last minutes belong to it.
    pub series: Option<SeriesKey>,
    /// What else it is found by.
    also: String,
    /// It is not in the newest report: its numbers are unknown.
    pub gone: bool,
}

impl Item {
    /// The same without numbers, for when the newest report does not have it. It was seen under the columns `before`,
    /// which need not be those of now.
    #[must_use]
    pub fn ghost(&self, before: &[Column], now: &[Column]) -> Self {
        let of_key = |column: &Column| {
            let index = before.iter().position(|old| old.id == column.id && column.role == Role::Key)?;
            self.row.cells.get(index).cloned()
        };
        let cells = now.iter().map(|column| of_key(column).unwrap_or(Cell::Unknown)).collect();
        let row = Row { cells, detail: None, ..self.row.clone() };
        Self { gone: true, ledger: None, row, ..self.clone() }
    }

    /// Whether a text is in what it shows or is found by; `text` is in lower case.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let has = |of: &str| of.to_lowercase().contains(text);
        has(&self.also)
            || self.row.cells.iter().any(|cell| match cell {
                Cell::Text(of) => has(of),
                Cell::List(all) => all.iter().any(|of| has(of)),
                Cell::Number(_) | Cell::Real(_) | Cell::Unknown => false,
            })
    }
}

/// What is there to show in a place, in no order, and under which columns.
#[must_use]
pub fn items(data: &Data, place: &Place) -> (&'static [Column], Vec<Item>) {
    match (place.table(), &place.vm, place.scope) {
        (Table::Rows(noun), Some((vm, _)), Some(scope)) => rows(data, noun, *vm, scope),
        (Table::Vcpus, Some((vm, _)), _) => (vcpu_columns(data), vcpus(data, *vm)),
        _ => (vm_columns(data), vms(data)),
    }
}

/// The column by which a table is sorted until somebody says otherwise, and whether it has such a column at all.
#[must_use]
pub fn usual_sort(columns: &[Column]) -> Option<&'static str> {
    const USUAL: [&str; 3] = ["vcpu", "count", "rate"];
    let has = |id: &&&str| columns.iter().any(|column| column.id == **id && column.importance.is_some());
    let first = || columns.iter().find(|column| column.importance.is_some()).map(|column| column.id);
    USUAL.iter().find(has).copied().or_else(first)
}

/// Sorts: what is pinned first, what waits last, numbers downwards and texts upwards unless it is reversed, what is
/// unknown behind what is known.
pub fn sort(items: &mut [Item], columns: &[Column], by: &str, reverse: bool) {
    let Some(index) = columns.iter().position(|column| column.id == by) else { return };
    let text = columns[index].unit == Unit::Text;
    items.sort_by(|a, b| {
        let (x, y) = (a.row.cells.get(index), b.row.cells.get(index));
        let order = compare(x.unwrap_or(&Cell::Unknown), y.unwrap_or(&Cell::Unknown), text, reverse);
        b.pinned
            .cmp(&a.pinned)
            .then(a.row.of_others.cmp(&b.row.of_others))
            .then(a.row.waiting.cmp(&b.row.waiting))
            .then(order)
            .then_with(|| a.key.cmp(&b.key))
    });
}

fn compare(x: &Cell, y: &Cell, text: bool, reverse: bool) -> Ordering {
    let (known_x, known_y) = (is_known(x), is_known(y));
    if !known_x || !known_y {
        return known_y.cmp(&known_x);
    }
    let order = match (number(x, text), number(y, text)) {
        (Some(x), Some(y)) if text => x.total_cmp(&y),
        (Some(x), Some(y)) => y.total_cmp(&x),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => texts(x).cmp(&texts(y)),
    };
    if reverse { order.reverse() } else { order }
}

fn is_known(cell: &Cell) -> bool {
    match cell {
        Cell::Unknown => false,
        Cell::Real(real) => !real.is_nan(),
        _ => true,
    }
}

/// The cell's number; also that of a text which is one, such as a vCPU's id or an address.
fn number(cell: &Cell, text: bool) -> Option<f64> {
    match cell {
        Cell::Text(of) if text => {
            let digits = of.strip_prefix("0x");
            digits
                .map_or_else(|| of.parse::<u64>().ok(), |hex| u64::from_str_radix(hex, 16).ok())
                .map(|n| n as f64)
        }
        cell => cell.number(),
    }
}

fn texts(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => text.clone(),
        Cell::List(all) => all.join(","),
        _ => String::new(),
    }
}

const fn column(id: &'static str, title: &'static str, unit: Unit, importance: u8) -> Column {
    Column::new(id, title, unit, Some(importance))
}

const STEAL: usize = 8;

static VMS: [Column; 11] = [
    column("name", "VM", Unit::Text, 0),
    column("vmm", "VMM", Unit::Text, 6),
    column("pid", "PID", Unit::Text, 4),
    column("vcpus", "VCPUS", Unit::Text, 5).role(Role::Derived),
    column("rate", "EXITS/s", Unit::PerSecond, 0),
    column("busy", "IN EXITS", Unit::TimeShare, 1),
    column("waiting", "WAITING", Unit::Share, 4),
    column("guest_share", "GUEST", Unit::Share, 6),
    column("steal_share", "STEAL", Unit::Share, 1),
    column("p50_ns", "p50", Unit::Nanoseconds, 5),
    column("p99_ns", "p99", Unit::Nanoseconds, 3),
];

static VCPUS: [Column; 11] = [
    column("vcpu", "VCPU", Unit::Text, 0),
    column("tid", "TID", Unit::Text, 6),
    column("now", "NOW", Unit::Text, 5).role(Role::Derived),
    column("exits", "EXITS", Unit::Count, 6),
    column("rate", "EXITS/s", Unit::PerSecond, 0),
    column("busy", "IN EXITS", Unit::TimeShare, 1),
    column("waiting", "WAITING", Unit::Share, 4),
    column("guest_share", "GUEST", Unit::Share, 6),
    column("steal_share", "STEAL", Unit::Share, 1),
    column("p50_ns", "p50", Unit::Nanoseconds, 5),
    column("p99_ns", "p99", Unit::Nanoseconds, 3),
];

/// The same where no ledger is kept.
const fn without_ledger(of: &[Column; 11]) -> [Column; 9] {
    [of[0], of[1], of[2], of[3], of[4], of[5], of[6], of[9], of[10]]
}
static VMS_PLAIN: [Column; 9] = without_ledger(&VMS);
static VCPUS_PLAIN: [Column; 9] = without_ledger(&VCPUS);

fn vm_columns(data: &Data) -> &'static [Column] {
    if data.report(TIME).is_some() { &VMS } else { &VMS_PLAIN }
}

fn vcpu_columns(data: &Data) -> &'static [Column] {
    if data.report(TIME).is_some() { &VCPUS } else { &VCPUS_PLAIN }
}

/// VMs of all reports; those without exits are processes that only other drill-downs saw.
fn vms(data: &Data) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut seen = HashSet::new();
    for report in data.reports() {
        let seconds = report.interval.as_secs_f64();
        for vm in &report.vms {
            let key = VmKey::of(vm);
            let of_exits = report.noun == EXITS;
            // The same one may have a different first vCPU elsewhere.
            let first = if of_exits { key } else { data.vm(key).map_or(key, VmKey::of) };
            if !seen.insert(first) {
                continue;
            }
            let vcpus = vm.vcpus.iter().filter(|vcpu| !vcpu.others).count() as u64;
            let who = vec![
                Cell::Text(vm.name.clone()),
                Cell::Text(vm.vmm.clone()),
                Cell::Number(u64::from(vm.pid)),
                Cell::Number(vcpus),
                if of_exits { Cell::Real(vm.events as f64 / seconds) } else { Cell::Unknown },
                share(vm.busy_share),
                share(vm.waiting_share),
            ];
            let rows = if of_exits { vm.rows.as_slice() } else { &[] };
            let mut item = item(data, ItemKey::Vm(key), key, Scope::All, who, (report.columns, rows));
            item.also = also(vm);
            items.push(item);
        }
    }
    items
}

/// What else a VM is found by.
fn also(vm: &Vm) -> String {
    let mut also = vm.pid.to_string();
    let places = vm.within.iter().map(|place| &place.name);
    for text in vm.uuid.iter().chain(&vm.id).chain(places) {
        also.push('\n');
        also.push_str(text);
    }
    also
}

/// All vCPUs as one, then each; last what stands for other threads, where a drill-down has it.
fn vcpus(data: &Data, key: VmKey) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    // In the reports before.
    let mut seen = HashSet::new();
    for report in data.reports() {
        let Some(vm) = key.find(report) else { continue };
        let of_exits = report.noun == EXITS;
        let seconds = report.interval.as_secs_f64();
        let numbers = |events: u64| {
            if of_exits {
                [Cell::Number(events), Cell::Real(events as f64 / seconds)]
            } else {
                [Cell::Unknown, Cell::Unknown]
            }
        };
        let rows = |rows| (report.columns, if of_exits { rows } else { &[][..] });
        if items.is_empty() {
            let mut cells = vec![Cell::Text("all".to_owned()), Cell::Unknown, Cell::Unknown];
            cells.extend(numbers(vm.events));
            cells.extend([share(vm.busy_share), share(vm.waiting_share)]);
            let all = ItemKey::Scope(Scope::All);
            let mut item = item(data, all, key, Scope::All, cells, rows(&vm.rows));
            item.pinned = true;
            items.push(item);
        }
        for vcpu in &vm.vcpus {
            let id = VcpuKey::of(vcpu);
            if seen.contains(&(id.others, id.id)) {
                continue;
            }
            let scope = Scope::Vcpu(id);
            let mut cells = vec![vcpu_name(vcpu), Cell::Number(u64::from(vcpu.tid)), now(vcpu)];
            cells.extend(numbers(vcpu.events));
            cells.extend(shares(rows(&vcpu.rows)));
            items.push(item(data, ItemKey::Scope(scope), key, scope, cells, rows(&vcpu.rows)));
        }
        seen.extend(vm.vcpus.iter().map(|vcpu| (vcpu.others, vcpu.vcpu)));
    }
    items
}

fn vcpu_name(vcpu: &Vcpu) -> Cell {
    match vcpu.vcpu {
        _ if vcpu.others => Cell::Text("other threads".to_owned()),
        Some(id) => Cell::Number(u64::from(id)),
        None => Cell::Text("?".to_owned()),
    }
}

/// What it is doing at the end of the interval.
fn now(vcpu: &Vcpu) -> Cell {
    vcpu.running.as_ref().map_or(Cell::Unknown, |running| {
        let since = crate::view::units::duration(running.for_ns as f64);
        Cell::Text(format!("{} {since}", running.reason))
    })
}

fn share(share: Option<f64>) -> Cell {
    share.map_or(Cell::Unknown, Cell::Real)
}

/// Shares of time in exits, working and waiting, from the rows of one vCPU.
fn shares((columns, rows): (&[Column], &[Row])) -> [Cell; 2] {
    let Some(index) = columns.iter().position(|column| column.unit == Unit::TimeShare) else {
        return [Cell::Unknown, Cell::Unknown];
    };
    let sum = |waiting: bool| -> Option<f64> {
        let of = rows.iter().filter(|row| row.waiting == waiting && !row.of_others);
        of.map(|row| row.cells.get(index).and_then(Cell::number)).sum()
    };
    [false, true].map(|waiting| if rows.is_empty() { Cell::Unknown } else { share(sum(waiting)) })
}

/// A VM or vCPU: what is said of it, then the ledger's columns, then percentiles of its exits but waiting ones.
fn item(
    data: &Data,
    key: ItemKey,
    vm: VmKey,
    scope: Scope,
    mut cells: Vec<Cell>,
    (columns, rows): (&[Column], &[Row]),
) -> Item {
    let ledger = data.ledger(vm, scope);
    if data.report(TIME).is_some() {
        let of = |bucket: usize| share(ledger.map(|Ledger(shares)| shares[bucket]));
        cells.extend([of(0), of(5)]);
        debug_assert_eq!(cells.len(), STEAL + 1);
    }
    cells.extend(percentiles(columns, rows));
    Item {
        key,
        row: Row { cells, ..Row::default() },
        pinned: false,
        ledger,
        series: Some(SeriesKey { vm, scope, row: None }),
        also: String::new(),
        gone: false,
    }
}

/// The median and the 99th percentile of what is work.
fn percentiles(columns: &[Column], rows: &[Row]) -> [Cell; 2] {
    let mut sum = Durations::default();
    let (mut least, mut most) = (None::<u64>, None::<u64>);
    let extreme = |row: &Row, id: &str| {
        let index = columns.iter().position(|column| column.id == id)?;
        match row.cells.get(index)? {
            Cell::Number(ns) => Some(*ns),
            _ => None,
        }
    };
    for row in rows.iter().filter(|row| !row.waiting && !row.of_others) {
        if let Some(durations) = &row.durations {
            sum.add(durations);
            least = least.into_iter().chain(extreme(row, "min_ns")).min();
            most = most.max(extreme(row, "max_ns"));
        }
    }
    [0.5, 0.99].map(|q| {
        let ns = sum.quantile_ns(q).map(|ns| ns.max(least.unwrap_or(0)).min(most.unwrap_or(u64::MAX)));
        ns.map_or(Cell::Unknown, Cell::Number)
    })
}

fn rows(data: &Data, noun: &'static str, vm: VmKey, scope: Scope) -> (&'static [Column], Vec<Item>) {
    let Some(report) = data.report(noun) else { return (&[], Vec::new()) };
    let vm = vm.find(report).map_or(vm, VmKey::of);
    let mut seen: HashMap<String, usize> = HashMap::new();
    let items = data.rows(noun, vm, scope).map(|(scope, row)| {
        let of_row = row_key(report.columns, row);
        // What nothing tells apart is told apart by its place.
        let nth = seen.entry(of_row.clone()).or_default();
        *nth += 1;
        let key = if *nth == 1 { of_row.clone() } else { format!("{of_row}{nth}") };
        Item {
            key: ItemKey::Row(key),
            row: Row { durations: None, ..row.clone() },
            pinned: false,
            ledger: Ledger::of(report.columns, row),
            series: Some(SeriesKey { vm, scope, row: Some((noun, of_row)) }),
            also: String::new(),
            gone: false,
        }
    });
    let items = items.collect();
    (report.columns, items)
}
