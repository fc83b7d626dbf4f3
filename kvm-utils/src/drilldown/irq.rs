//! irq: what interrupts go through, from the device or vCPU that raises them to their end, by vector, message or line.

use kvm_utils_common::{
    irq::{
        ACCEPTED_LEVEL, INJECT_AGAIN, INJECT_SOFT, KIND_ACCEPTED, KIND_ACK, KIND_EOI, KIND_EXCEPTION,
        KIND_GSI, KIND_INJECTED, KIND_IOAPIC, KIND_IOAPIC_AGAIN, KIND_IPI, KIND_MSI, KIND_PIC, KIND_POSTED,
        KIND_PV_EOI, KIND_ROUTE, KIND_SMM, LINE_COALESCED, LINE_MASKED, ROUTE_SET,
    },
    rows::RowKey,
};

use super::{
    exits::rows::Code,
    noun::{Build, Noun, Numbers, column},
};
use crate::{
    bpf::{event::irq, hook::Hook, rows::RowStats},
    decode::apic::{DeliveryMode, Icr, Msi, Shorthand, Trigger},
    host::{SysRoot, virtual_apic},
    model::{Cell, Column, Role, Row, Unit},
};

/// The noun.
pub static NOUN: Noun = Noun {
    name: "irq",
    counting: ("interrupt event", "interrupt events"),
    hooks: HOOKS,
    maps: &[],
    columns: &COLUMNS,
    sort: "count",
    mode: 0,
    row_bits: 8,
    counters: 0,
    build: Some(Build { is_event, rows, notes: Some(notes), ..Build::PLAIN }),
};

const HOOKS: &[Hook] = &[
    Hook::Event(&irq::INJECTED),
    Hook::Event(&irq::EXCEPTION),
    Hook::Event(&irq::EOI),
    Hook::Event(&irq::PV_EOI),
    Hook::Event(&irq::IPI),
    Hook::Event(&irq::ACCEPTED),
    Hook::Event(&irq::POSTED),
    Hook::Event(&irq::MSI),
    Hook::Event(&irq::IOAPIC),
    Hook::Event(&irq::IOAPIC_AGAIN),
    Hook::Event(&irq::PIC),
    Hook::Event(&irq::GSI),
    Hook::Event(&irq::ACK),
    Hook::Event(&irq::SMM),
    Hook::Event(&irq::ENTER_SMM),
    Hook::Event(&irq::ROUTE),
    Hook::VcpuDestroy,
];

/// The columns, in the order of [`row`]'s cells.
pub static COLUMNS: [Column; 13] = [
    column("event", "EVENT", Unit::Text, Some(0)),
    column("vector", "VECTOR", Unit::Text, Some(0)),
    column("what", "WHAT", Unit::Text, Some(1)),
    column("count", "COUNT", Unit::Count, Some(0)),
    column("rate", "/s", Unit::PerSecond, Some(0)),
    column("share", "SHARE", Unit::Share, Some(4)),
    column("elsewhere", "ELSEWHERE", Unit::Count, Some(2)),
    column("delivery", "DELIVERY", Unit::Text, None),
    column("trigger", "TRIGGER", Unit::Text, None),
    column("destination", "DESTINATION", Unit::Count, None).role(Role::Key),
    column("destination_mode", "DESTINATION MODE", Unit::Text, None),
    column("line", "LINE", Unit::Count, None).role(Role::Key),
    column("flags", "FLAGS", Unit::Text, None),
];

fn is_event(_: RowKey) -> bool {
    true
}

fn rows(numbers: &Numbers<'_>) -> Vec<Row> {
    let mut rows: Vec<Row> =
        numbers.slice.rows.iter().map(|(key, stats)| row(numbers, &Event::of(*key), stats)).collect();
    if numbers.slice.other > 0 {
        let other = Event { name: "(others)", ..Event::default() };
        let stats = RowStats { count: numbers.slice.other, ..RowStats::default() };
        let mut row = row(numbers, &other, &stats);
        // Where they came is not kept of these.
        row.cells[ELSEWHERE] = Cell::Unknown;
        rows.push(row);
    }
    rows
}

/// Position of the column `elsewhere`.
const ELSEWHERE: usize = 6;

fn row(numbers: &Numbers<'_>, event: &Event, stats: &RowStats) -> Row {
    let text = |text: Option<&str>| text.map_or(Cell::Unknown, |text| Cell::Text(text.to_owned()));
    let number = |number: Option<u64>| number.map_or(Cell::Unknown, Cell::Number);
    let what = event.what();
    Row {
        cells: vec![
            Cell::Text(event.name.to_owned()),
            event.vector.map_or(Cell::Unknown, |vector| Cell::Text(format!("{vector:#04x}"))),
            text(Some(what.as_str()).filter(|what| !what.is_empty())),
            Cell::Number(stats.count),
            numbers.rate(stats.count),
            numbers.share(stats.count),
            Cell::Number(stats.extra),
            text(event.delivery.map(DeliveryMode::name)),
            event.trigger.map_or(Cell::Unknown, |trigger| Cell::Text(trigger.to_string())),
            number(event.destination.map(|to| to.id.into())),
            text(event.destination.map(Destination::mode)),
            number(event.line),
            Cell::List(event.flags.iter().map(|flag| (*flag).to_owned()).collect()),
        ],
        ..Row::default()
    }
}

/// A row's key in words.
#[derive(Debug, Default, PartialEq, Eq)]
struct Event {
    name: &'static str,
    vector: Option<u64>,
    /// What it is besides, or instead of, a vector.
    subject: Option<String>,
    delivery: Option<DeliveryMode>,
    trigger: Option<Trigger>,
    destination: Option<Destination>,
    line: Option<u64>,
    flags: Vec<&'static str>,
}

impl Event {
    fn of(key: RowKey) -> Self {
        let (a, detail) = (key.a, key.detail());
        let vector = Some(a & 0xff);
        let inject = [(INJECT_SOFT, "soft"), (INJECT_AGAIN, "again")];
        let line = [(LINE_COALESCED, "coalesced"), (LINE_MASKED, "masked")];
        let event = |name| Self { name, ..Self::default() };
        match key.kind() {
            KIND_INJECTED => Self { vector, flags: flags(detail, &inject), ..event("injected") },
            KIND_EXCEPTION => Self {
                vector,
                subject: exception(a & 0xff).map(str::to_owned),
                flags: flags(detail, &inject),
                ..event("exception")
            },
            KIND_EOI => Self { vector, ..event("eoi") },
            KIND_PV_EOI => Self { vector, ..event("pv-eoi") },
            KIND_IPI => {
                let [low, high] = halves(a);
                let icr = Icr::from_parts(low, high);
                let named = match icr.shorthand {
                    Shorthand::None => None,
                    Shorthand::Myself => Some("to itself"),
                    Shorthand::All => Some("to all"),
                    Shorthand::AllButSelf => Some("to all others"),
                };
                let to = Destination { id: icr.destination, logical: icr.logical };
                let deassert = icr.trigger == Trigger::Level && !icr.assert;
                Self {
                    subject: named.map(str::to_owned),
                    trigger: Some(icr.trigger),
                    destination: named.is_none().then_some(to),
                    flags: if deassert { vec!["de-assert"] } else { Vec::new() },
                    ..event("ipi")
                }
                .delivered(icr.mode, icr.vector)
            }
            kind @ (KIND_ACCEPTED | KIND_POSTED) => {
                let named = if kind == KIND_ACCEPTED { event("accepted") } else { event("posted") };
                let [low, high] = halves(a);
                let mode = DeliveryMode::from_bits(low >> 8);
                let taken = Self {
                    trigger: Some(if a & ACCEPTED_LEVEL != 0 { Trigger::Level } else { Trigger::Edge }),
                    destination: Some(Destination { id: high, logical: false }),
                    ..named
                };
                if mode == DeliveryMode::Reserved {
                    // KVM uses the mode itself, for KVM_HC_KICK_CPU (kvm_pv_kick_cpu_op, arch/x86/kvm/x86.c).
                    Self { subject: Some("kick by hypercall".to_owned()), ..taken }
                } else {
                    taken.delivered(mode, low as u8)
                }
            }
            KIND_MSI => {
                let msi = Msi::new(a, detail);
                Self {
                    trigger: Some(msi.trigger),
                    destination: Some(Destination { id: msi.destination, logical: msi.logical }),
                    ..event("msi")
                }
                .delivered(msi.mode, msi.vector)
            }
            kind @ (KIND_IOAPIC | KIND_IOAPIC_AGAIN) => {
                let named = if kind == KIND_IOAPIC { event("ioapic") } else { event("ioapic-late") };
                // The low half of an entry is laid out as that of an ICR (82093AA data sheet, 3.2.4).
                let entry = Icr::from_parts(a as u32, (a >> 56) as u32);
                let pin = (kind == KIND_IOAPIC).then_some(detail & 0xff);
                let mut flags = flags(detail, &line);
                if a >> 16 & 1 != 0 {
                    flags.push("masked");
                }
                Self {
                    subject: pin.map(|pin| format!("pin {pin}")),
                    line: pin,
                    trigger: Some(entry.trigger),
                    destination: Some(Destination { id: entry.destination, logical: entry.logical }),
                    flags,
                    ..named
                }
                .delivered(entry.mode, entry.vector)
            }
            KIND_PIC => Self {
                subject: Some(format!("IRQ {a}")),
                line: Some(a),
                flags: flags(detail, &line),
                ..event("pic")
            },
            KIND_GSI => Self {
                subject: Some(format!(
                    "GSI {a} {}{}",
                    if detail & 1 != 0 { "up" } else { "down" },
                    source(detail >> 8)
                )),
                line: Some(a),
                flags: vec![if detail & 1 != 0 { "up" } else { "down" }],
                ..event("gsi")
            },
            KIND_ACK => Self {
                subject: Some(match detail {
                    0 => format!("PIC IRQ {a}"),
                    1 => format!("PIC IRQ {}", a + 8),
                    2 => format!("I/O APIC pin {a}"),
                    other => format!("controller {other} pin {a}"),
                }),
                line: Some(if detail == 1 { a + 8 } else { a }),
                ..event("ack")
            },
            KIND_SMM => Self {
                subject: Some(if a != 0 { "enters SMM" } else { "leaves SMM" }.to_owned()),
                ..event("smm")
            },
            KIND_ROUTE => Self {
                vector: Some(detail & 0xff),
                subject: Some(format!("host IRQ {} as GSI {}", a >> 32, a & 0xffff_ffff)),
                line: Some(a & 0xffff_ffff),
                flags: vec![if detail & ROUTE_SET != 0 { "posted" } else { "not posted" }],
                ..event("route")
            },
            _ => Self { name: "unknown", subject: Some(format!("{:#x}:{a:#x}", key.b)), ..Self::default() },
        }
    }

    /// With the delivery mode and, where that has one, the vector.
    fn delivered(self, mode: DeliveryMode, vector: u8) -> Self {
        // A start-up IPI has the page where the processor begins.
        let has_vector = !matches!(
            mode,
            DeliveryMode::Smi | DeliveryMode::Nmi | DeliveryMode::Init | DeliveryMode::ExtInt
        );
        Self { delivery: Some(mode), vector: has_vector.then_some(vector.into()), ..self }
    }

    /// For people: what is unusual, and where it goes.
    fn what(&self) -> String {
        let mut parts: Vec<String> = self.subject.iter().cloned().collect();
        parts.extend(
            self.delivery.filter(|mode| *mode != DeliveryMode::Fixed).map(|mode| mode.name().to_owned()),
        );
        parts.extend(
            self.trigger.filter(|trigger| *trigger == Trigger::Level).map(|trigger| trigger.to_string()),
        );
        parts.extend(
            self.destination.map(|to| {
                if to.logical { format!("to logical {:#x}", to.id) } else { format!("to {}", to.id) }
            }),
        );
        parts.extend(
            self.flags.iter().filter(|flag| !matches!(**flag, "up" | "down")).map(|flag| (*flag).to_owned()),
        );
        parts.join(", ")
    }
}

/// Whom an interrupt goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Destination {
    id: u32,
    logical: bool,
}

impl Destination {
    fn mode(self) -> &'static str {
        if self.logical { "logical" } else { "physical" }
    }
}

/// The lower and the upper 32 bits.
fn halves(a: u64) -> [u32; 2] {
    [a as u32, (a >> 32) as u32]
}

/// Who drives a line, where it is not the VMM or an eventfd of its (include/linux/kvm_host.h).
fn source(id: u64) -> String {
    match id {
        0 => String::new(),
        1 => " (resampled)".to_owned(),
        2 => " (PIT)".to_owned(),
        other => format!(" (source {other})"),
    }
}

/// Exceptions by vector, Intel SDM volume 3, table 7-1; AMD APM volume 2, table 8-1.
fn exception(vector: u64) -> Option<&'static str> {
    const NAMES: [&str; 32] = [
        "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "", "#TS", "#NP", "#SS", "#GP", "#PF",
        "", "#MF", "#AC", "#MC", "#XF", "#VE", "#CP", "", "", "", "", "", "", "#HV", "#VC", "#SX", "",
    ];
    NAMES.get(usize::try_from(vector).ok()?).copied().filter(|name| !name.is_empty())
}

fn flags(detail: u64, names: &[(u64, &'static str)]) -> Vec<&'static str> {
    names.iter().filter(|(bit, _)| detail & bit != 0).map(|(_, name)| *name).collect()
}

/// What this host's processor does with interrupts without KVM.
fn notes(_: &Numbers<'_>, _: &[(Code, u64)]) -> Vec<String> {
    let hidden = virtual_apic::hidden(&SysRoot::default());
    let sentence = |hidden: &virtual_apic::Hidden| {
        format!("{} ({}) is on: no event tells of {}", hidden.feature, hidden.parameter, hidden.what)
    };
    hidden.iter().map(sentence).collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use kvm_utils_common::{
        irq::{accepted, gsi},
        rows::RowNoun,
    };

    use super::*;
    use crate::bpf::rows::Slice;

    fn event(kind: u8, detail: u64, a: u64) -> Event {
        Event::of(RowKey::new(RowNoun::Irq, kind, detail, a))
    }

    #[test]
    fn messages_say_where_they_go() {
        // Fixed, edge, physical, from a lab run.
        let ipi = event(KIND_IPI, 0, 1 << 32 | 1 << 14 | 0xfd);
        assert_eq!((ipi.vector, ipi.what()), (Some(0xfd), "to 1".to_owned()));
        let all = event(KIND_IPI, 0, 0xff << 32 | 3 << 18 | 0xfb);
        assert_eq!((all.destination, all.what()), (None, "to all others".to_owned()));
        let nmi = event(KIND_IPI, 0, 2 << 32 | 4 << 8);
        assert_eq!((nmi.vector, nmi.what()), (None, "NMI, to 2".to_owned()));
        let start = event(KIND_IPI, 0, 1 << 32 | 6 << 8 | 0x9a);
        assert_eq!((start.vector, start.what()), (Some(0x9a), "SIPI, to 1".to_owned()));

        let msi = event(KIND_MSI, 0x41, 0xfee0_1000);
        assert_eq!((msi.vector, msi.what()), (Some(0x41), "to 1".to_owned()));
        assert_eq!((msi.delivery, msi.trigger), (Some(DeliveryMode::Fixed), Some(Trigger::Edge)));
        let kick = event(KIND_ACCEPTED, 0, accepted(1, 0x300, 0, 0));
        assert_eq!((kick.vector, kick.what()), (None, "kick by hypercall, to 1".to_owned()));
        let init = event(KIND_IPI, 0, 1 << 32 | 0x8500);
        assert_eq!(init.what(), "INIT, level, to 1, de-assert");
        let far = event(KIND_MSI, 0x123, 0x0000_0100_feef_f004);
        assert_eq!((far.vector, far.what()), (Some(0x23), "LowPrio, to logical 0x1ff".to_owned()));

        let ioapic = event(KIND_IOAPIC, 4, 1 << 56 | 1 << 15 | 1 << 16 | 0x24);
        assert_eq!((ioapic.line, ioapic.what()), (Some(4), "pin 4, level, to 1, masked".to_owned()));
        let taken = event(KIND_ACCEPTED, 0, accepted(3, 0, 1, 0xec));
        assert_eq!((taken.vector, taken.what()), (Some(0xec), "level, to 3".to_owned()));
    }

    #[test]
    fn lines_say_which_and_how() {
        assert_eq!(event(KIND_GSI, gsi(1, 0), 4).what(), "GSI 4 up");
        assert_eq!(event(KIND_GSI, gsi(0, 2), 0).what(), "GSI 0 down (PIT)");
        assert_eq!(event(KIND_PIC, LINE_MASKED, 12).what(), "IRQ 12, masked");
        assert_eq!(event(KIND_ACK, 1, 3).what(), "PIC IRQ 11");
        assert_eq!(event(KIND_ACK, 2, 16).what(), "I/O APIC pin 16");
        assert_eq!(
            event(KIND_ROUTE, ROUTE_SET | 0x31, 77 << 32 | 24).what(),
            "host IRQ 77 as GSI 24, posted"
        );
        let fault = event(KIND_EXCEPTION, INJECT_AGAIN, 14);
        assert_eq!((fault.vector, fault.what()), (Some(14), "#PF, again".to_owned()));
        // What is not known is shown as it is.
        assert_eq!(event(200, 0, 0x77).what(), "0x7c8000000000000:0x77");
    }

    #[test]
    fn rows_have_a_cell_for_each_column_and_say_how_many_came_elsewhere() {
        let key = RowKey::new(RowNoun::Irq, KIND_MSI, 0x41, 0xfee0_0000);
        let stats = RowStats { count: 1009, extra: 1000, ..RowStats::default() };
        let slice = Slice { rows: BTreeMap::from([(key, stats)]), other: 3, ..Slice::default() };
        let events = NOUN.build.unwrap().events(&slice);
        let numbers = Numbers {
            aids: &crate::drilldown::noun::NO_AIDS,
            slice: &slice,
            events,
            interval: Duration::from_secs(2),
            wall_ns: 0,
            isa: None,
            vcpus: &[0],
            vcpu: None,
        };
        let rows = rows(&numbers);
        assert_eq!(events, 1012);
        assert!(rows.iter().all(|row| row.cells.len() == COLUMNS.len()));
        assert_eq!(COLUMNS[ELSEWHERE].id, "elsewhere");
        assert_eq!(
            (&rows[0].cells[3], &rows[0].cells[ELSEWHERE]),
            (&Cell::Number(1009), &Cell::Number(1000))
        );
        assert_eq!((&rows[1].cells[3], &rows[1].cells[ELSEWHERE]), (&Cell::Number(3), &Cell::Unknown));
    }
}
