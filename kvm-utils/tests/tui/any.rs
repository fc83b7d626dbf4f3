//! No keys and no reports, in whatever order, upset the screen.

use kvm_utils::model::{Cell, KvmStat, Report, Row, Running, Unit, Vcpu, Vm};
use kvm_utils::view::text;
use kvm_utils::view::tui::{Key, Look};
use proptest::prelude::*;

use crate::{
    fleet::{Fleet, noun},
    screen::{NOUNS, Screen, offers},
};

#[derive(Clone, Debug)]
enum Step {
    Key(Key),
    Report(u64, Vec<usize>),
    Vms(Vec<(u32, u32)>),
    Size(u16, u16),
    Offers(Vec<bool>, bool),
    Hostile(String, u64, f64),
    Nothing,
}

fn key() -> impl Strategy<Value = Key> {
    use Key::*;
    prop_oneof![
        4 => prop::sample::select(vec![
            Enter, Esc, Backspace, Tab, BackTab, Up, Down, Left, Right, PageUp, PageDown, Home, End, Help, Suspend, Redraw,
        ]),
        4 => prop::sample::select("jklhgGs<>r/p?iaq0123456789 ".chars().collect::<Vec<_>>()).prop_map(Char),
        1 => any::<char>().prop_filter("a control character is a key of its own", |c| !c.is_control()).prop_map(Char),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => key().prop_map(Step::Key),
        4 => (any::<u64>(), prop::collection::vec(0..NOUNS.len(), 0..6)).prop_map(|(seed, nouns)| Step::Report(seed, nouns)),
        2 => prop::collection::vec((1u32..5, 0u32..4), 0..5).prop_map(Step::Vms),
        1 => (0u16..150, 0u16..60).prop_map(|(width, height)| Step::Size(width, height)),
        1 => (prop::collection::vec(any::<bool>(), NOUNS.len()), any::<bool>()).prop_map(|(runs, start)| Step::Offers(runs, start)),
        1 => (any::<String>(), any::<u64>(), any::<f64>()).prop_map(|(text, number, real)| Step::Hostile(text, number, real)),
        1 => Just(Step::Nothing),
    ]
}

/// A report that no host would make.
fn hostile(fleet: &mut Fleet, name: &str, number: u64, real: f64) -> Vec<Report> {
    let mut reports = fleet.reports(&["exits", "time", "fault"]);
    for report in &mut reports {
        let cell = |unit| match unit {
            Unit::Text => Cell::Text(name.to_owned()),
            Unit::Count | Unit::Nanoseconds => Cell::Number(number),
            _ => Cell::Real(real),
        };
        let row = Row {
            cells: report.columns.iter().map(|column| cell(column.unit)).collect(),
            detail: Some(name.to_owned()),
            ..Row::default()
        };
        let rows = vec![row.clone(), row, Row { waiting: true, ..Row::default() }];
        let vcpu = Vcpu {
            vcpu: None,
            tid: 0,
            others: number.is_multiple_of(2),
            events: number,
            running: Some(Running { reason: name.to_owned(), for_ns: number }),
            rows: rows.clone(),
        };
        let vm = Vm {
            name: name.to_owned(),
            vmm: name.to_owned(),
            rows,
            events: number,
            busy_share: Some(real),
            vcpus: vec![vcpu.clone(), vcpu],
            ..fleet_vm()
        };
        report.vms = vec![vm.clone(), vm];
        report.interval = std::time::Duration::ZERO;
        report.notes = vec![name.to_owned()];
        report.proof.counted = number;
        report.proof.missed = Some(number);
        report.proof.kvm_stat = KvmStat::Unknown(name.to_owned());
        report.proof.own_cost = Some(real);
    }
    reports
}

fn fleet_vm() -> Vm {
    Fleet::new(1).reports(&["exits"]).remove(0).vms.remove(0)
}

fn run(screen: &mut Screen, step: &Step) {
    match step {
        Step::Key(key) => drop(screen.state.key(*key)),
        Step::Report(seed, nouns) => {
            let mut nouns: Vec<&str> = nouns.iter().map(|noun| NOUNS[*noun]).collect();
            nouns.dedup();
            screen.fleet.seed = *seed;
            screen.state.update(screen.fleet.reports(&nouns));
        }
        Step::Vms(vms) => {
            screen.fleet.guests = vms
                .iter()
                .zip(Fleet::new(0).guests.into_iter().cycle())
                .map(|((pid, vcpus), guest)| crate::fleet::Guest { pid: *pid, vcpus: *vcpus, ..guest })
                .collect();
        }
        Step::Size(width, height) => screen.size = (*width, *height),
        Step::Offers(runs, start) => {
            let running: Vec<&str> =
                NOUNS.iter().zip(runs).filter(|(_, runs)| **runs).map(|(noun, _)| *noun).collect();
            screen.state.offer(offers(&running, *start));
        }
        Step::Hostile(text, number, real) => {
            let reports = hostile(&mut screen.fleet, text, *number, *real);
            screen.state.update(reports);
        }
        Step::Nothing => screen.state.update(Vec::new()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_happens_the_selection_is_there_and_the_screen_is_clean(
        steps in prop::collection::vec(step(), 1..60), unicode in any::<bool>(), color in any::<bool>()
    ) {
        let mut screen = Screen::new((80, 24), &["exits", "time", "io"], 1);
        screen.look = Look { color, unicode };
        for step in &steps {
            let before = screen.state.listing().selected().map(|item| item.key.clone());
            let table = screen.state.place().clone();
            run(&mut screen, step);
            let listing = screen.state.listing();
            prop_assert!(listing.items.is_empty() || listing.selected < listing.items.len());
            // Reports do not change what is selected.
            let reported = matches!(step, Step::Report(..) | Step::Nothing);
            if let Some(before) = before.filter(|_| reported && table == *screen.state.place()) {
                let now = listing.selected().map(|item| item.key.clone());
                let other_columns = listing.columns.is_empty() || now.is_none();
                prop_assert!(other_columns || now == Some(before), "{:?}", step);
            }
            for item in &listing.items {
                prop_assert!(item.gone || item.row.cells.len() <= listing.columns.len());
            }
            let buffer = screen.draw();
            for cell in buffer.content() {
                let symbol = cell.symbol();
                prop_assert!(unicode || symbol.is_ascii(), "{symbol:?}");
                prop_assert!(!symbol.chars().any(char::is_control), "{symbol:?}");
                prop_assert_eq!(text::safe(symbol, unicode), symbol);
            }
        }
    }
}

#[test]
fn a_large_host_is_drawn_in_time() {
    let mut screen = Screen::new((200, 60), &["exits", "time"], 0);
    screen.fleet = Fleet::many(5, 100, 8);
    let reports = screen.fleet.reports(&["exits", "time", "io"]);
    let began = std::time::Instant::now();
    screen.update(reports.clone());
    screen.types("jjjj");
    eprintln!("100 VMs of 8 vCPUs: an interval and four keys {:?}", began.elapsed());
    assert_eq!(screen.state.listing().items.len(), 100);
    assert_eq!(noun("exits").columns.len(), reports[0].columns.len());
}
