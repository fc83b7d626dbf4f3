//! fault: nested page faults, by guest-physical page, what was done, and whether there is memory.

use std::collections::{BTreeMap, BTreeSet};

use kvm_utils_common::{
    fault::{KIND_FAULT, KIND_MMIO, PAGE_SHIFT, code},
    rows::RowKey,
};

use super::{
    exits::rows::Code,
    noun::{Build, Noun, Numbers, column},
};
use crate::{
    bpf::{event, hook::Hook},
    decode::{
        Isa, gpa,
        page_fault::{Access, Encoding, PageFault, Stage},
    },
    model::{Cell, Column, Role, Row, Unit},
    view::units,
};

/// The noun.
pub static NOUN: Noun = Noun {
    name: "fault",
    counting: ("page fault", "page faults"),
    hooks: &[Hook::Event(&event::PAGE_FAULT), Hook::Event(&event::FAULT_MMIO), Hook::VcpuDestroy],
    maps: &[],
    columns: &COLUMNS,
    sort: "count",
    mode: 0,
    row_bits: 12,
    counters: 0,
    build: Some(Build { is_event, rows, notes: Some(notes), ..Build::PLAIN }),
};

/// The columns, in the order of [`row`]'s cells.
pub static COLUMNS: [Column; 10] = [
    column("page", "PAGE", Unit::Text, Some(0)),
    column("access", "ACCESS", Unit::Text, Some(0)),
    column("memory", "MEMORY", Unit::Text, Some(1)),
    column("count", "COUNT", Unit::Count, Some(0)),
    column("rate", "/s", Unit::PerSecond, Some(0)),
    column("share", "SHARE", Unit::Share, Some(2)),
    column("device", "DEVICE", Unit::Text, Some(3)),
    column("pages", "PAGES", Unit::Count, None).role(Role::Derived),
    column("protected", "PROTECTED", Unit::Count, None),
    column("walks", "WALKS", Unit::Count, None),
];

/// What stands for all pages of a kind of access, in the place of an address.
const ALL: &str = "all";

fn is_event(key: RowKey) -> bool {
    key.kind() == KIND_FAULT
}

/// What there is at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Memory {
    Ram,
    Mmio,
}

/// Faults of one kind on one page, or on all.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    count: u64,
    /// The page was there, but not for this.
    protected: u64,
    /// It is known whether the guest's page tables were being looked up, or what they lead to.
    staged: u64,
    /// They were.
    walks: u64,
}

impl Faults {
    fn add(&mut self, more: Self) {
        self.count += more.count;
        self.protected += more.protected;
        self.staged += more.staged;
        self.walks += more.walks;
    }
}

fn rows(numbers: &Numbers<'_>) -> Vec<Row> {
    // A page can be memory for reads and a device for writes (flash).
    let devices: BTreeSet<(u64, bool)> =
        numbers.kind(KIND_MMIO).map(|(key, _)| (key.a, key.detail() & 1 != 0)).collect();
    let encoding = numbers.isa.map(|isa| Encoding::of(isa, true));
    let mut pages: BTreeMap<(u64, Option<Access>, Memory), Faults> = BTreeMap::new();
    for (key, stats) in numbers.kind(KIND_FAULT) {
        let said = encoding.map(|encoding| PageFault::new(encoding, code(key.detail())));
        let access = said.map(PageFault::access);
        let device = match access {
            Some(access) => devices.contains(&(key.a, access == Access::Write)),
            None => [true, false].iter().any(|write| devices.contains(&(key.a, *write))),
        };
        let mmio = device || said.is_some_and(PageFault::is_mmio);
        let stage = said.and_then(PageFault::stage);
        let count = |counts: bool| if counts { stats.count } else { 0 };
        pages.entry((key.a, access, if mmio { Memory::Mmio } else { Memory::Ram })).or_default().add(
            Faults {
                count: stats.count,
                // KVM's mark for a device makes it look as if a page were there.
                protected: count(!mmio && said.is_some_and(PageFault::is_present)),
                staged: count(stage.is_some()),
                walks: count(stage == Some(Stage::GuestTable)),
            },
        );
    }
    let mut sums: BTreeMap<(Option<Access>, Memory), (u64, Faults)> = BTreeMap::new();
    for ((_, access, memory), faults) in &pages {
        let (pages, sum) = sums.entry((*access, *memory)).or_default();
        *pages += 1;
        sum.add(*faults);
    }
    let mut rows: Vec<Row> = sums
        .iter()
        .map(|((access, memory), (pages, sum))| row(numbers, None, *access, *memory, *sum, *pages))
        .collect();
    rows.extend(
        pages
            .iter()
            .map(|((page, access, memory), faults)| row(numbers, Some(*page), *access, *memory, *faults, 1)),
    );
    if numbers.slice.other > 0 {
        let count = numbers.slice.other;
        let mut cells = vec![Cell::Text("(other pages)".to_owned()), Cell::Unknown, Cell::Unknown];
        cells.extend([Cell::Number(count), numbers.rate(count), numbers.share(count)]);
        cells.resize(COLUMNS.len(), Cell::Unknown);
        rows.push(Row { cells, ..Row::default() });
    }
    rows
}

/// The row of a page, or of all pages.
fn row(
    numbers: &Numbers<'_>,
    page: Option<u64>,
    access: Option<Access>,
    memory: Memory,
    faults: Faults,
    pages: u64,
) -> Row {
    let text = |text: &str| Cell::Text(text.to_owned());
    let address = page.map(|page| page << PAGE_SHIFT);
    let device = address.filter(|_| memory == Memory::Mmio).and_then(gpa::region_of);
    Row {
        cells: vec![
            address.map_or_else(|| text(ALL), |address| Cell::Text(format!("{address:#x}"))),
            access.map_or(Cell::Unknown, |access| Cell::Text(access.to_string())),
            text(match memory {
                Memory::Ram => "RAM",
                Memory::Mmio => "MMIO",
            }),
            Cell::Number(faults.count),
            numbers.rate(faults.count),
            numbers.share(faults.count),
            device.map_or(Cell::Unknown, text),
            Cell::Number(pages),
            Cell::Number(faults.protected),
            if faults.staged > 0 { Cell::Number(faults.walks) } else { Cell::Unknown },
        ],
        detail: page.is_none().then(|| sentence(faults, pages)),
        of_others: page.is_none(),
        ..Row::default()
    }
}

/// What more there is to say of all faults of a kind.
fn sentence(faults: Faults, pages: u64) -> String {
    let mut parts = vec![units::counted(pages, "page", "pages")];
    let mut share = |count: u64, what: &str| {
        if count > 0 && faults.count > 0 {
            parts.push(format!("{} {what}", units::percent(count as f64 / faults.count as f64, " ")));
        }
    };
    share(faults.protected, "on pages that are there but protected");
    share(faults.walks, "on the guest's page tables");
    parts.join(", ")
}

fn notes(numbers: &Numbers<'_>, _: &[(Code, u64)]) -> Vec<String> {
    let devices: u64 = numbers.kind(KIND_MMIO).map(|(_, stats)| stats.count).sum();
    if numbers.isa != Some(Isa::Vmx) || devices == 0 {
        return Vec::new();
    }
    vec![
        "accesses to devices' memory are EPT misconfigurations on this processor and no faults, but for the first one of \
         each page; `kvm-utils io` counts them"
            .to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kvm_utils_common::{fault::detail, rows::RowNoun};

    use super::*;
    use crate::bpf::rows::{RowStats, Slice};

    fn fault(page: u64, code: u64) -> RowKey {
        RowKey::new(RowNoun::Fault, KIND_FAULT, detail(code), page)
    }

    fn mmio(page: u64, write: bool) -> RowKey {
        RowKey::new(RowNoun::Fault, KIND_MMIO, u64::from(write), page)
    }

    /// Page, access, memory and count of each row, those of all pages first.
    fn shown(counts: &[(RowKey, u64)], isa: Option<Isa>) -> Vec<(String, String, String, u64)> {
        let rows = counts.iter().map(|(key, n)| (*key, RowStats { count: *n, ..RowStats::default() }));
        let slice = Slice { rows: rows.collect(), ..Slice::default() };
        let events = NOUN.build.unwrap().events(&slice);
        let numbers = Numbers {
            slice: &slice,
            events,
            interval: Duration::from_secs(1),
            wall_ns: 1_000_000_000,
            isa,
            vcpus: &[0],
            vcpu: Some(0),
            aids: &crate::drilldown::noun::NO_AIDS,
        };
        let text = |cell: &Cell| match cell {
            Cell::Text(text) => text.clone(),
            _ => "-".to_owned(),
        };
        let rows = super::rows(&numbers);
        let all: u64 =
            rows.iter().filter(|r| r.detail.is_none()).filter_map(|r| r.cells[3].number()).sum::<f64>()
                as u64;
        assert_eq!(all, events);
        rows.iter()
            .map(|row| {
                let Cell::Number(count) = row.cells[3] else { panic!() };
                (text(&row.cells[0]), text(&row.cells[1]), text(&row.cells[2]), count)
            })
            .collect()
    }

    fn line(page: &str, access: &str, memory: &str, count: u64) -> (String, String, String, u64) {
        (page.to_owned(), access.to_owned(), memory.to_owned(), count)
    }

    #[test]
    fn svm_tells_devices_by_the_reserved_bit_and_else_by_what_kvm_emulated() {
        let counts = [
            (fault(0x100, 0x1_0000_0006), 7),
            (fault(0x100, 0x1_0000_0007), 3),
            (fault(0x101, 0x2_0000_0014), 2),
            // The first access of a device's page, the others, and a write to flash.
            (fault(0xfee00, 0x1_0000_0004), 1),
            (fault(0xfee00, 0x1_0000_000d), 101),
            (mmio(0xfee00, false), 102),
            (fault(0xffc00, 0x1_0000_0007), 5),
            (fault(0xffc00, 0x1_0000_0004), 4),
            (mmio(0xffc00, true), 5),
        ];
        let rows = shown(&counts, Some(Isa::Svm));
        assert_eq!(
            rows,
            [
                line("all", "read", "RAM", 4),
                line("all", "read", "MMIO", 102),
                line("all", "write", "RAM", 10),
                line("all", "write", "MMIO", 5),
                line("all", "fetch", "RAM", 2),
                line("0x100000", "write", "RAM", 10),
                line("0x101000", "fetch", "RAM", 2),
                line("0xfee00000", "read", "MMIO", 102),
                line("0xffc00000", "read", "RAM", 4),
                line("0xffc00000", "write", "MMIO", 5),
            ]
        );
    }

    #[test]
    fn vmx_has_bits_of_its_own() {
        let counts = [
            (fault(1, 0x181), 2),
            (fault(2, 0x182), 3),
            (fault(2, 0x18a), 4),
            (fault(3, 0x184), 5),
            (fault(4, 0x82), 6),
        ];
        let rows = shown(&counts, Some(Isa::Vmx));
        assert_eq!(
            rows[..3],
            [line("all", "read", "RAM", 2), line("all", "write", "RAM", 13), line("all", "fetch", "RAM", 5)]
        );
        assert_eq!(shown(&counts, None)[0], line("all", "-", "RAM", 20));
    }

    #[test]
    fn a_sum_says_what_its_faults_were() {
        let faults = Faults { count: 8, protected: 2, staged: 8, walks: 1 };
        assert_eq!(
            sentence(faults, 1003),
            "1,003 pages, 25.0 % on pages that are there but protected, 12.5 % on the guest's page tables"
        );
    }
}
