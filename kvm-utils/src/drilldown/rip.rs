//! rip: where in the guests exits happen, by reason and instruction pointer.

use std::collections::BTreeMap;

use kvm_utils_common::{
    rip::{KIND_EXIT, isa_and_reason},
    rows::RowKey,
};

use super::{
    exits::rows::Code,
    noun::{Build, Noun, Numbers, column},
};
use crate::{
    bpf::{event, hook::Hook},
    model::{Cell, Column, Role, Row, Unit},
    view::units,
};

/// The noun.
pub static NOUN: Noun = Noun {
    name: "rip",
    counting: ("exit", "exits"),
    hooks: &[Hook::Event(&event::EXIT_RIP), Hook::VcpuDestroy],
    maps: &[],
    columns: &COLUMNS,
    sort: "count",
    mode: 0,
    row_bits: 12,
    counters: 0,
    build: Some(Build { is_event, rows, notes: Some(notes), ..Build::PLAIN }),
};

/// The columns, in the order of [`row`]'s cells.
pub static COLUMNS: [Column; 8] = [
    column("rip", "RIP", Unit::Text, Some(0)),
    column("reason", "REASON", Unit::Text, Some(0)),
    column("count", "COUNT", Unit::Count, Some(0)),
    column("rate", "/s", Unit::PerSecond, Some(0)),
    column("share", "SHARE", Unit::Share, Some(2)),
    column("space", "SPACE", Unit::Text, Some(3)),
    column("symbol", "SYMBOL", Unit::Text, Some(0)),
    column("addresses", "ADDRESSES", Unit::Count, None).role(Role::Derived),
];

/// What stands for all addresses of a reason, in the place of one.
const ALL: &str = "all";
/// Linux and Windows use the upper half of the address space for the kernel, the lower one for programs: up to 2^47, with
/// five levels of page tables up to 2^56 (Intel SDM volume 1, 3.3.7.1).
const KERNEL: u64 = 1 << 63;
const USER_END: u64 = 1 << 56;

fn is_event(key: RowKey) -> bool {
    key.kind() == KIND_EXIT
}

/// Whose address it is, as far as an address tells.
fn space(rip: u64) -> Option<&'static str> {
    match rip {
        0 => None,
        KERNEL.. => Some("kernel"),
        1..USER_END => Some("user"),
        _ => None,
    }
}

/// Exits of one reason, all addresses.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    count: u64,
    addresses: u64,
    user: u64,
}

fn rows(numbers: &Numbers<'_>) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut sums: BTreeMap<Code, Sum> = BTreeMap::new();
    for (key, stats) in numbers.kind(KIND_EXIT) {
        let (isa, reason) = isa_and_reason(key);
        let code = Code { isa, code: u64::from(reason) };
        let wanted = &numbers.aids.reasons;
        if !wanted.is_empty() && !code.reason().is_some_and(|reason| wanted.iter().any(|w| w.matches(reason)))
        {
            continue;
        }
        let sum = sums.entry(code).or_default();
        sum.count += stats.count;
        sum.addresses += 1;
        if space(key.a) == Some("user") {
            sum.user += stats.count;
        }
        rows.push(row(numbers, code, key.a, stats.count));
    }
    rows.extend(sums.iter().map(|(code, sum)| {
        let user = if sum.user > 0 && sum.count > 0 {
            format!(", {} in user space", units::percent(sum.user as f64 / sum.count as f64, " "))
        } else {
            String::new()
        };
        let addresses = units::counted(sum.addresses, "address", "addresses");
        let mut row = cells(numbers, [ALL, &code.name()].map(text), sum.count);
        row.cells.extend([Cell::Unknown, Cell::Unknown, Cell::Number(sum.addresses)]);
        Row { detail: Some(format!("{addresses}{user}")), of_others: true, ..row }
    }));
    if numbers.slice.other > 0 {
        let mut row = cells(numbers, [text("(other addresses)"), Cell::Unknown], numbers.slice.other);
        row.cells.resize(COLUMNS.len(), Cell::Unknown);
        rows.push(row);
    }
    rows
}

/// The exits of one reason at one address.
fn row(numbers: &Numbers<'_>, code: Code, rip: u64, count: u64) -> Row {
    let symbol = numbers.aids.symbols.as_ref().and_then(|symbols| symbols.find(rip));
    let mut row = cells(numbers, [Cell::Text(format!("{rip:#x}")), Cell::Text(code.name())], count);
    row.cells.extend([
        space(rip).map_or(Cell::Unknown, text),
        symbol.map_or(Cell::Unknown, |(name, into)| Cell::Text(format!("{name}+{into:#x}"))),
        Cell::Number(1),
    ]);
    row
}

/// A row with the cells that all rows have.
fn cells(numbers: &Numbers<'_>, [rip, reason]: [Cell; 2], count: u64) -> Row {
    let cells = vec![rip, reason, Cell::Number(count), numbers.rate(count), numbers.share(count)];
    Row { cells, ..Row::default() }
}

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

fn notes(numbers: &Numbers<'_>, _: &[(Code, u64)]) -> Vec<String> {
    let mut notes = Vec::new();
    let count = |wanted: &dyn Fn(u64) -> bool| -> u64 {
        numbers.kind(KIND_EXIT).filter(|(key, _)| wanted(key.a)).map(|(_, stats)| stats.count).sum()
    };
    // A few are of processors that start at address 0 of a segment.
    let hidden = count(&|rip| rip == 0);
    if hidden.saturating_mul(100) > numbers.events {
        notes.push(format!(
            "{} at address 0: KVM cannot read the registers of protected guests (SEV-ES, TDX)",
            units::counted(hidden, "exit is", "exits are")
        ));
    }
    let Some(symbols) = &numbers.aids.symbols else { return notes };
    let kernel = count(&|rip| rip >= KERNEL);
    let unknown = count(&|rip| rip >= KERNEL && symbols.find(rip).is_none());
    if unknown.saturating_mul(100) > kernel {
        notes.push(format!(
            "{} of the exits in the kernel are at addresses that no symbol has: another kernel's symbols, one that was \
             moved (KASLR), or modules that they lack",
            units::percent(unknown as f64 / kernel as f64, " ")
        ));
    }
    if kernel > 0 && symbols.are_unmoved() {
        notes.push(
            "the symbols are those of a kernel at the address it was linked to; they are wrong for a guest that moves its \
             kernel (KASLR, unless started with nokaslr): then give its /proc/kallsyms, or --symbols-offset"
                .to_owned(),
        );
    }
    notes
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kvm_utils_common::rip::key;

    use super::*;
    use crate::{
        bpf::rows::{RowStats, Slice},
        decode::{reason_filter::ReasonFilter, symbols::Symbols},
        drilldown::noun::{Aids, NO_AIDS},
    };

    const WRMSR: u64 = 0xffff_ffff_8100_0206;

    /// SVM's `msr`, `hlt` and `vmgexit`.
    fn slice() -> Slice {
        let counts = [
            (key(2, 0x7c, WRMSR), 1009),
            (key(2, 0x78, WRMSR + 0x1000), 101),
            (key(2, 0x7c, 0x7fff_1234_5678), 11),
            (key(2, 0x403, 0), 17),
        ];
        let rows = counts.iter().map(|(key, n)| (*key, RowStats { count: *n, ..RowStats::default() }));
        Slice { rows: rows.collect(), ..Slice::default() }
    }

    fn with<T>(aids: &Aids, look: impl Fn(&Numbers<'_>) -> T) -> T {
        let slice = slice();
        look(&Numbers {
            slice: &slice,
            events: NOUN.build.unwrap().events(&slice),
            interval: Duration::from_secs(1),
            wall_ns: 1_000_000_000,
            isa: None,
            vcpus: &[0],
            vcpu: Some(0),
            aids,
        })
    }

    fn words(row: &Row) -> Vec<String> {
        let cells = [0, 1, 2, 5, 6].map(|at| match &row.cells[at] {
            Cell::Text(text) => text.clone(),
            Cell::Number(n) => n.to_string(),
            _ => "-".to_owned(),
        });
        cells.to_vec()
    }

    #[test]
    fn addresses_are_told_apart_by_reason_and_by_whose_they_are() {
        let rows = with(&NO_AIDS, rows);
        assert_eq!(words(&rows[0]), ["0x0", "vmgexit", "17", "-", "-"]);
        assert_eq!(words(&rows[1]), ["0x7fff12345678", "msr", "11", "user", "-"]);
        assert_eq!(words(&rows[2]), ["0xffffffff81000206", "msr", "1009", "kernel", "-"]);
        let all = rows.iter().filter(|row| row.cells[0] == text(ALL)).map(words).collect::<Vec<_>>();
        assert_eq!(all.len(), 3);
        assert!(all.contains(&["all", "msr", "1020", "-", "-"].map(str::to_owned).to_vec()));
        let details: Vec<_> = rows.iter().filter_map(|row| row.detail.as_deref()).collect();
        assert!(details.contains(&"2 addresses, 1.1 % in user space"), "{details:?}");
        assert!(rows.iter().all(|row| row.cells.len() == COLUMNS.len()));
        assert_eq!(with(&NO_AIDS, |numbers| notes(numbers, &[])).len(), 1);
    }

    #[test]
    fn symbols_and_reasons_are_the_users() {
        let symbols = Symbols::parse(
            "ffffffff81000000 T _text\nffffffff81000200 t native_write_msr\n\
             ffffffff81000230 D data\n",
        )
        .unwrap();
        let aids = Aids {
            symbols: Some(symbols),
            reasons: vec![ReasonFilter::parse("msr").unwrap(), ReasonFilter::parse("io").unwrap()],
        };
        let rows = with(&aids, rows);
        assert_eq!(rows.len(), 3);
        assert_eq!(words(&rows[1])[4], "native_write_msr+0x6");
        assert_eq!(words(&rows[0])[4], "-");
        let notes = with(&aids, |numbers| notes(numbers, &[]));
        assert!(notes[1].starts_with("9.1 % of the exits in the kernel"), "{notes:?}");
        assert!(notes[2].contains("nokaslr"), "{notes:?}");
    }
}
