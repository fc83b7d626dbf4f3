//! io: accesses to ports and to memory-mapped registers: by whom they are answered, and how long that takes.

use std::collections::BTreeMap;

use kvm_utils_common::{
    config::mode,
    io::{
        DETAIL_PAGE, DETAIL_SIZE, KIND_MMIO_ASKED, KIND_MMIO_FAST, KIND_MMIO_READ, KIND_PORT_IN,
        KIND_PORT_OUT,
    },
    rows::RowKey,
};

use super::{
    exits::rows::Code,
    noun::{Build, Noun, Numbers, column},
};
use crate::{
    bpf::{event, hook::Hook, rows::RowStats},
    decode::{Class, gpa, port},
    host::qmp::DeviceMap,
    model::{Cell, Column, Role, Row, Unit},
    view::units,
};

/// By address, with times.
pub static IO: Noun = noun(HOOKS, TIMES);
/// By address; costs no more than the events themselves.
pub static IO_UNTIMED: Noun = noun(UNTIMED_HOOKS, 0);
/// Memory by page, with times.
pub static IO_PAGES: Noun = noun(HOOKS, TIMES | mode::IO_PAGES);
/// Memory by page; costs no more than the events themselves.
pub static IO_PAGES_UNTIMED: Noun = noun(UNTIMED_HOOKS, mode::IO_PAGES);

const HOOKS: &[Hook] = &[
    Hook::Event(&event::PIO),
    Hook::Event(&event::MMIO),
    Hook::Event(&event::FAST_MMIO),
    Hook::Event(&event::USERSPACE_EXIT),
    Hook::KvmExit,
    Hook::KvmEntry,
    Hook::VcpuDestroy,
];
const UNTIMED_HOOKS: &[Hook] =
    &[Hook::Event(&event::PIO), Hook::Event(&event::MMIO), Hook::Event(&event::FAST_MMIO), Hook::VcpuDestroy];
/// The thread has to be known, because KVM_RUN returns when the vCPU is off it.
const TIMES: u32 = mode::IO_TIMES | mode::LEARN_THREADS;

const fn noun(hooks: &'static [Hook], mode: u32) -> Noun {
    Noun {
        name: "io",
        counting: ("I/O access", "I/O accesses"),
        hooks,
        maps: &[],
        columns: &COLUMNS,
        sort: "count",
        mode,
        row_bits: 10,
        counters: 0,
        build: Some(Build { is_event, rows, notes: Some(notes), ..Build::PLAIN }),
    }
}

/// The columns, in the order of [`row`]'s cells.
pub static COLUMNS: [Column; 16] = [
    column("device", "DEVICE", Unit::Text, Some(0)),
    column("address", "ADDRESS", Unit::Text, Some(0)),
    column("address_value", "ADDRESS", Unit::Count, None).role(Role::Key),
    column("dir", "DIR", Unit::Text, Some(1)),
    column("size", "SIZE", Unit::Text, Some(5)),
    column("count", "COUNT", Unit::Count, Some(0)),
    column("rate", "/s", Unit::PerSecond, Some(0)),
    column("share", "SHARE", Unit::Share, Some(4)),
    column("time_share", "TIME", Unit::TimeShare, Some(1)),
    column("vmm_share", "TO VMM", Unit::Share, Some(1)),
    column("mean_ns", "MEAN", Unit::Nanoseconds, Some(2)),
    column("max_ns", "MAX", Unit::Nanoseconds, Some(3)),
    column("total_ns", "TOTAL", Unit::Nanoseconds, Some(8)).role(Role::Sum),
    column("timed", "TIMED", Unit::Count, None),
    column("units", "UNITS", Unit::Count, Some(6)),
    column("events", "EVENTS", Unit::Count, None),
];

/// Where in [`COLUMNS`] these are.
const DEVICE: usize = 0;
const ADDRESS_VALUE: usize = 2;
const DIR: usize = 3;

fn is_event(key: RowKey) -> bool {
    key.kind() != KIND_MMIO_ASKED
}

/// What a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    kind: u8,
    detail: u64,
    address: u64,
}

impl Place {
    fn of(key: RowKey) -> Self {
        // The question belongs to its answer.
        let kind = if key.kind() == KIND_MMIO_ASKED { KIND_MMIO_READ } else { key.kind() };
        Self { kind, detail: key.detail(), address: key.a }
    }

    fn is_port(self) -> bool {
        matches!(self.kind, KIND_PORT_IN | KIND_PORT_OUT)
    }

    fn address(self) -> String {
        if self.detail & DETAIL_PAGE != 0 {
            format!("{:#x}xxx", self.address >> 12)
        } else {
            format!("{:#x}", self.address)
        }
    }

    fn dir(self) -> &'static str {
        match self.kind {
            KIND_PORT_IN => "in",
            KIND_PORT_OUT => "out",
            KIND_MMIO_READ => "read",
            _ => "write",
        }
    }

    fn size(self) -> Cell {
        match self.kind {
            // KVM does not look at it.
            KIND_MMIO_FAST => Cell::Unknown,
            _ => Cell::Number(self.detail & DETAIL_SIZE),
        }
    }

    fn device(self) -> Option<&'static str> {
        if self.is_port() {
            u16::try_from(self.address).ok().and_then(port::device)
        } else if self.detail & DETAIL_PAGE != 0 {
            gpa::region_of(self.address)
        } else {
            gpa::device(self.address)
        }
    }
}

/// Accesses to one place.
#[derive(Clone, Copy, Debug, Default)]
struct Accesses {
    stats: RowStats,
    /// Reads that KVM could not answer.
    asked: u64,
}

impl Accesses {
    /// How many of those that are known about went to the VMM, and of how many that is known.
    fn by_vmm(&self, kind: u8) -> Option<(u64, u64)> {
        match kind {
            KIND_MMIO_READ => Some((self.asked.min(self.stats.count), self.stats.count)),
            KIND_MMIO_FAST => Some((0, self.stats.count)),
            _ => Some((self.stats.user.min(self.stats.timed), self.stats.timed)),
        }
        .filter(|(_, of)| *of > 0)
    }
}

fn rows(numbers: &Numbers<'_>) -> Vec<Row> {
    let mut places: BTreeMap<Place, Accesses> = BTreeMap::new();
    for (key, stats) in &numbers.slice.rows {
        let accesses = places.entry(Place::of(*key)).or_default();
        if is_event(*key) {
            accesses.stats.add(stats);
        } else {
            accesses.asked += stats.count;
        }
    }
    let mut rows: Vec<Row> = places.iter().map(|(place, accesses)| row(numbers, *place, accesses)).collect();
    if numbers.slice.other > 0 {
        rows.push(other(numbers));
    }
    rows
}

fn row(numbers: &Numbers<'_>, place: Place, accesses: &Accesses) -> Row {
    let stats = &accesses.stats;
    let timed = |cell: Cell| if stats.timed > 0 { cell } else { Cell::Unknown };
    let share = |(part, whole): (u64, u64)| Cell::Real(part as f64 / whole as f64);
    let events = stats.count + accesses.asked;
    // A string instruction is one event or several, and units are what it moved.
    let strings = (stats.extra != stats.count).then(|| {
        let what = if stats.count == 1 { "access" } else { "accesses" };
        format!("string I/O: {} units in {} {what}", units::count(stats.extra), units::count(stats.count))
    });
    Row {
        cells: vec![
            place.device().map_or(Cell::Unknown, |name| Cell::Text(name.to_owned())),
            Cell::Text(place.address()),
            Cell::Number(place.address),
            Cell::Text(place.dir().to_owned()),
            place.size(),
            Cell::Number(stats.count),
            numbers.rate(stats.count),
            numbers.share(stats.count),
            timed(match numbers.wall_ns {
                0 => Cell::Unknown,
                wall => share((stats.total_ns, wall)),
            }),
            accesses.by_vmm(place.kind).map_or(Cell::Unknown, share),
            stats.mean_ns().map_or(Cell::Unknown, Cell::Number),
            stats.max_ns.map_or(Cell::Unknown, Cell::Number),
            timed(Cell::Number(stats.total_ns)),
            Cell::Number(stats.timed),
            Cell::Number(stats.extra),
            Cell::Number(events),
        ],
        detail: strings,
        ..Row::default()
    }
}

/// The row of accesses whose addresses found no room in the kernel's tables.
fn other(numbers: &Numbers<'_>) -> Row {
    let count = numbers.slice.other;
    let mut cells = vec![Cell::Unknown; COLUMNS.len()];
    let known = [
        ("device", Cell::Text("(other addresses)".to_owned())),
        ("count", Cell::Number(count)),
        ("rate", numbers.rate(count)),
        ("share", numbers.share(count)),
        ("events", Cell::Number(count)),
    ];
    for (id, value) in known {
        if let Some(index) = COLUMNS.iter().position(|column| column.id == id) {
            cells[index] = value;
        }
    }
    Row { cells, ..Row::default() }
}

/// Calls devices what their VMM calls them. Registers that are the same everywhere keep their names, which say more.
/// Whether the map has a device for every other row.
pub fn name_devices(rows: &mut [Row], map: &DeviceMap) -> bool {
    let mut complete = true;
    for row in rows {
        let (Cell::Number(address), Cell::Text(dir)) = (&row.cells[ADDRESS_VALUE], &row.cells[DIR]) else {
            continue;
        };
        let name = if matches!(dir.as_str(), "in" | "out") {
            u16::try_from(*address).ok().and_then(|port| map.port(port))
        } else if gpa::has_registers(*address) {
            continue;
        } else {
            map.gpa(*address).map(|(name, _)| name)
        };
        match name {
            Some(name) => row.cells[DEVICE] = Cell::Text(name.to_owned()),
            None => complete = false,
        }
    }
    complete
}

/// Accesses to ports and the exits they caused are usually as many; where they are not, that is said.
fn notes(numbers: &Numbers<'_>, exits: &[(Code, u64)]) -> Vec<String> {
    let of_class = |(code, _): &&(Code, u64)| code.reason().is_some_and(|reason| reason.class() == Class::Io);
    let exits: Option<u64> =
        (!exits.is_empty()).then(|| exits.iter().filter(of_class).map(|(_, count)| count).sum());
    let ports = numbers.slice.rows.iter().filter(|(key, _)| Place::of(**key).is_port());
    let ports: u64 = ports.map(|(_, stats)| stats.count).sum();
    // Both are read while the guests run, one after the other.
    exits
        .filter(|exits| exits.abs_diff(ports) > exits.max(&ports) / 50 + LEAST_DIFFERENCE)
        .map(|exits| {
            format!(
                "{} of class io and {} to ports: an exit can make several accesses (string instructions, \
                 emulation), and some exits make none",
                units::counted(exits, "exit", "exits"),
                units::counted(ports, "access", "accesses"),
            )
        })
        .into_iter()
        .collect()
}

/// Differences up to this come from reading the two numbers one after the other.
const LEAST_DIFFERENCE: u64 = 8;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kvm_utils_common::{io::KIND_MMIO_WRITE, rows::RowNoun};

    use super::*;
    use crate::{bpf::rows::Slice, decode::Isa};

    fn key(kind: u8, detail: u64, address: u64) -> RowKey {
        RowKey::new(RowNoun::Io, kind, detail, address)
    }

    fn plain(count: u64) -> RowStats {
        RowStats { count, extra: count, ..RowStats::default() }
    }

    fn slice(rows: &[(RowKey, RowStats)]) -> Slice {
        Slice { rows: rows.iter().copied().collect(), ..Slice::default() }
    }

    fn numbers(slice: &Slice) -> Numbers<'_> {
        Numbers {
            slice,
            events: IO.build.unwrap().events(slice),
            interval: Duration::from_secs(2),
            wall_ns: 2_000_000_000,
            isa: Some(Isa::Svm),
            vcpus: &[0],
            vcpu: Some(0),
            aids: &crate::drilldown::noun::NO_AIDS,
        }
    }

    fn cell<'a>(row: &'a Row, id: &str) -> &'a Cell {
        &row.cells[COLUMNS.iter().position(|column| column.id == id).unwrap()]
    }

    #[test]
    fn a_read_that_the_vmm_answers_is_one_access_and_two_events() {
        let slice = slice(&[
            (key(KIND_MMIO_READ, 4, 0xd000_0000), plain(127)),
            (key(KIND_MMIO_ASKED, 4, 0xd000_0000), plain(127)),
            (key(KIND_MMIO_READ, 4, 0xfee0_0390), plain(137)),
        ]);
        let numbers = numbers(&slice);
        assert_eq!(numbers.events, 127 + 137);
        let rows = rows(&numbers);
        assert_eq!(rows.len(), 2);
        assert!(rows.iter().all(|row| row.cells.len() == COLUMNS.len()));
        let of = |address: &str| {
            let row =
                rows.iter().find(|row| *cell(row, "address") == Cell::Text(address.to_owned())).unwrap();
            (cell(row, "count").clone(), cell(row, "events").clone(), cell(row, "vmm_share").clone())
        };
        assert_eq!(of("0xd0000000"), (Cell::Number(127), Cell::Number(254), Cell::Real(1.0)));
        assert_eq!(of("0xfee00390"), (Cell::Number(137), Cell::Number(137), Cell::Real(0.0)));
    }

    #[test]
    fn a_read_that_waits_for_its_answer_has_a_row() {
        let slice = slice(&[(key(KIND_MMIO_ASKED, 8, 0xd000_0000), plain(1))]);
        let rows = rows(&numbers(&slice));
        assert_eq!((cell(&rows[0], "count"), cell(&rows[0], "events")), (&Cell::Number(0), &Cell::Number(1)));
    }

    #[test]
    fn units_of_string_instructions_are_no_accesses_and_are_told() {
        let strings = RowStats { count: 16, extra: 4096, ..RowStats::default() };
        let slice = slice(&[(key(KIND_PORT_IN, 2, 0x1f0), strings), (key(KIND_PORT_OUT, 1, 0x70), plain(5))]);
        let numbers = numbers(&slice);
        assert_eq!(numbers.events, 21);
        let rows = rows(&numbers);
        assert_eq!(cell(&rows[0], "units"), &Cell::Number(4096));
        assert_eq!(rows[0].detail.as_deref(), Some("string I/O: 4,096 units in 16 accesses"));
        assert_eq!(rows[1].detail, None);
    }

    #[test]
    fn times_and_ways_out_are_unknown_where_nothing_was_timed() {
        let timed =
            RowStats { timed: 100, total_ns: 1_000_000, max_ns: Some(30_000), user: 75, ..plain(100) };
        let slice = slice(&[(key(KIND_PORT_IN, 4, 0x608), timed), (key(KIND_PORT_OUT, 1, 0x80), plain(5))]);
        let rows = rows(&numbers(&slice));
        assert_eq!(cell(&rows[0], "vmm_share"), &Cell::Real(0.75));
        assert_eq!(cell(&rows[0], "mean_ns"), &Cell::Number(10_000));
        assert_eq!(cell(&rows[0], "time_share"), &Cell::Real(0.000_5));
        for id in ["vmm_share", "mean_ns", "max_ns", "total_ns", "time_share"] {
            assert_eq!(cell(&rows[1], id), &Cell::Unknown, "{id}");
        }
    }

    #[test]
    fn devices_that_are_the_same_everywhere_have_names() {
        let named = |key| rows(&numbers(&slice(&[(key, plain(1))])))[0].cells[0].clone();
        assert_eq!(named(key(KIND_PORT_IN, 4, 0x608)), Cell::Text("ACPI PM timer".to_owned()));
        assert_eq!(named(key(KIND_MMIO_WRITE, 4, 0xfee0_00b0)), Cell::Text("LAPIC EOI".to_owned()));
        // Of a page no register.
        let page = key(KIND_MMIO_WRITE, 4 | DETAIL_PAGE, 0xfee0_0000);
        assert_eq!(named(page), Cell::Text("LAPIC".to_owned()));
        // An address is no port.
        assert_eq!(named(key(KIND_MMIO_READ, 4, 0x608)), Cell::Unknown);
        assert_eq!(named(key(KIND_PORT_IN, 1, 0xc050)), Cell::Unknown);
    }

    #[test]
    fn qemus_own_names_come_first_but_registers_keep_theirs() {
        let map = DeviceMap::parse(include_str!("../../tests/fixtures/mtree/10.0/pc.txt")).unwrap();
        let keys =
            [key(KIND_PORT_IN, 4, 0x608), key(KIND_MMIO_WRITE, 4, 0xfee0_00b0), key(KIND_PORT_OUT, 4, 0xcf8)];
        let known = slice(&keys.map(|key| (key, plain(1))));
        let mut rows = rows(&numbers(&known));
        assert!(name_devices(&mut rows, &map));
        let names: Vec<_> = rows.iter().map(|row| cell(row, "device").clone()).collect();
        for name in ["acpi-tmr", "LAPIC EOI", "pci-conf-idx"] {
            assert!(names.contains(&Cell::Text(name.to_owned())), "{names:?}");
        }
        // A serial port that this machine does not have.
        let slice = slice(&[(key(KIND_PORT_IN, 1, 0x2f9), plain(1))]);
        let mut rows = super::rows(&numbers(&slice));
        assert!(!name_devices(&mut rows, &map));
        assert_eq!(cell(&rows[0], "device"), &Cell::Text("serial COM2".to_owned()));
    }

    #[test]
    fn pages_are_told_from_addresses() {
        let slice = slice(&[(key(KIND_MMIO_WRITE, 4 | DETAIL_PAGE, 0xfee0_0000), plain(3))]);
        let rows = rows(&numbers(&slice));
        assert_eq!(cell(&rows[0], "address"), &Cell::Text("0xfee00xxx".to_owned()));
        assert_eq!(cell(&rows[0], "size"), &Cell::Number(4));
    }

    #[test]
    fn a_different_number_of_exits_is_told() {
        let slice = slice(&[(key(KIND_PORT_OUT, 1, 0xe9), plain(10_000))]);
        let io = Code { isa: 2, code: 0x7b };
        let told = |exits: u64| notes(&numbers(&slice), &[(io, exits), (Code { isa: 2, code: 0x78 }, 7)]);
        assert_eq!(told(10_000), [""; 0]);
        assert!(told(500)[0].starts_with("500 exits of class io and 10,000 accesses to ports"));
        // Exits are not counted.
        assert_eq!(notes(&numbers(&slice), &[]), [""; 0]);
    }

    #[test]
    fn what_found_no_room_is_a_row() {
        let slice = Slice { other: 5, ..Slice::default() };
        let rows = rows(&numbers(&slice));
        assert_eq!(cell(&rows[0], "count"), &Cell::Number(5));
    }
}
