//! What keys do.

use kvm_utils::view::tui::state::{ItemKey, Scope, Table};
use kvm_utils::view::tui::{Action, Key};

use crate::screen::{Screen, offers};

const USUAL: [&str; 4] = ["exits", "time", "io", "msr"];

fn screen() -> Screen {
    Screen::new((80, 24), &USUAL, 5)
}

#[test]
fn down_to_a_drilldown_and_back() {
    let mut screen = screen();
    screen.types("/web\r\r");
    assert_eq!(screen.state.place().table(), Table::Vcpus);
    screen.types("\u{1b}[B\u{1b}[C");
    assert_eq!(screen.state.place().table(), Table::Rows("exits"));
    assert_eq!(screen.selected_name(), "io");
    screen.types("\r");
    assert_eq!(screen.state.place().table(), Table::Rows("io"));
    assert!(screen.text().contains("ACPI PM timer"));
    // A drill-down's rows lead nowhere.
    screen.types("\r");
    assert_eq!(screen.state.place().table(), Table::Rows("io"));
    screen.types("\u{1b}[D");
    assert_eq!((screen.state.place().table(), screen.selected_name().as_str()), (Table::Rows("exits"), "io"));
    screen.types("\x7f");
    assert_eq!(screen.selected_name(), "0");
    screen.types("\u{1b}");
    // The filter is still there.
    assert_eq!((screen.state.place().table(), screen.selected_name().as_str()), (Table::Vms, "web-1"));
    assert_eq!(screen.state.listing().items.len(), 1);
    screen.types("\u{1b}");
    assert_eq!(screen.state.listing().items.len(), 3);
    screen.types("\u{1b}");
    assert_eq!(screen.state.place().table(), Table::Vms);
}

#[test]
fn what_fits_the_reason_is_shown_or_said_to_be_missing() {
    let mut screen = screen();
    screen.types("/web\r\r\r/npf\r\r");
    assert_eq!(screen.state.place().table(), Table::Rows("io"), "on AMD these include device registers");
    screen.types("h\u{1b}/hlt\r\r");
    assert_eq!(screen.state.place().table(), Table::Rows("halt"));
    assert!(screen.text().contains("kvm-utils top --with halt"));
    assert_eq!(screen.types("\r"), None);
    screen.state.offer(offers(&USUAL, true));
    assert_eq!(screen.types("\r"), Some(Action::Start("halt")));
    assert_eq!(screen.types("a"), Some(Action::Start("halt")));
    screen.types("h\u{1b}/write_cr4\r\r");
    assert_eq!(screen.state.place().table(), Table::Rows("exits"));
    assert!(screen.lines()[23].contains("no drill-down is about cr exits"));
    screen.types("j");
    assert!(!screen.lines()[23].contains("no drill-down"));
}

#[test]
fn numbers_and_tab_turn_the_drilldowns() {
    let mut screen = screen();
    screen.types("/db\r4");
    assert_eq!(screen.state.place().table(), Table::Rows("msr"));
    assert_eq!(screen.state.place().scope, Some(Scope::All));
    assert!(screen.text().contains("VMs › db › all vCPUs › reasons › msr"));
    screen.types("\t");
    assert_eq!(screen.state.place().table(), Table::Rows("exits"));
    screen.types("\u{1b}[Z");
    assert_eq!(screen.state.place().table(), Table::Rows("msr"));
    screen.types("1");
    assert_eq!(screen.state.place().table(), Table::Rows("exits"));
    screen.types("\t\t\t\t");
    assert_eq!(screen.state.place().table(), Table::Rows("exits"));
}

#[test]
fn order_by_any_column() {
    let mut screen = screen();
    let names = |screen: &mut Screen| -> Vec<String> {
        let items = &screen.state.listing().items;
        items.iter().map(|item| format!("{:?}", item.row.cells[0])).collect()
    };
    let by_rate = names(&mut screen);
    screen.types("r");
    let reversed: Vec<_> = by_rate.iter().rev().cloned().collect();
    assert_eq!(names(&mut screen), reversed);
    // To the left of the rate: vCPUs, pid, VMM, name.
    screen.types("r<<<<");
    assert_eq!(screen.state.listing().sort, Some("name"));
    assert!(screen.text().contains("VM▲"));
    let mut sorted = by_rate.clone();
    sorted.sort();
    assert_eq!(names(&mut screen), sorted);
    for _ in 0..screen.state.listing().columns.len() {
        screen.types("s");
    }
    assert_eq!(screen.state.listing().sort, Some("name"));
}

#[test]
fn vcpus_are_in_the_order_of_their_numbers() {
    let mut screen = screen();
    screen.fleet.guests[0].vcpus = 12;
    screen.intervals(1);
    screen.types("/web\r\r");
    let keys: Vec<_> = screen.state.listing().items.iter().map(|item| item.key.clone()).collect();
    assert_eq!(keys.len(), 13);
    assert_eq!(keys[0], ItemKey::Scope(Scope::All));
    let ids: Vec<_> = keys[1..]
        .iter()
        .map(|key| match key {
            ItemKey::Scope(Scope::Vcpu(vcpu)) => vcpu.id.unwrap(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids, (0..12).collect::<Vec<_>>());
}

#[test]
fn what_is_selected_stays_selected() {
    let mut screen = screen();
    screen.types("G");
    let name = screen.selected_name();
    // The idle VM becomes the busiest.
    let guest = screen.fleet.guests.iter_mut().find(|guest| guest.name == name).unwrap();
    for exit in &mut guest.exits {
        exit.3 *= 100_000.0;
    }
    screen.intervals(2);
    assert_eq!(screen.selected_name(), name);
    assert_eq!(screen.state.listing().selected, 0);
    // It is gone for an interval, and comes back.
    let gone = screen.fleet.guests.remove(2);
    screen.intervals(1);
    let line = screen.selected().unwrap();
    assert!(line.starts_with(&format!("> {name}")), "{line}");
    assert!(screen.text().contains("nothing of it in this interval"));
    screen.fleet.guests.push(gone);
    screen.intervals(1);
    assert_eq!(screen.selected_name(), name);
    assert_eq!(screen.state.listing().items.len(), 3);
    // Gone for good: it goes with the selection.
    screen.fleet.guests.pop();
    screen.intervals(1);
    assert_eq!(screen.state.listing().items.len(), 3);
    screen.types("j");
    assert_eq!(screen.state.listing().items.len(), 2);
    assert_ne!(screen.selected_name(), name);
}

#[test]
fn a_vm_that_went_while_one_looked_at_it() {
    let mut screen = screen();
    screen.types("/web\r\r\r");
    screen.fleet.guests.retain(|guest| guest.name != "web-1");
    screen.intervals(1);
    assert!(screen.text().contains("web-1 is not there any more"));
    screen.types("2");
    assert!(screen.text().contains("web-1 is not there any more, or did nothing for 1.0 s"));
    screen.types("hhh");
    assert_eq!(screen.state.place().table(), Table::Vms);
}

#[test]
fn filters_are_typed_live_and_find_what_is_not_shown() {
    let mut screen = screen();
    screen.types("/wEb");
    assert_eq!(screen.state.listing().items.len(), 1);
    assert!(screen.lines()[23].starts_with("/wEb_"));
    // Letters are no keys now; arrows are.
    screen.types("q\x7f\u{1b}[B");
    assert_eq!(screen.selected_name(), "web-1");
    screen.types("\x7f\x7f\x7f");
    assert_eq!(screen.state.listing().items.len(), 3);
    screen.types("\x7f");
    assert!(!screen.state.is_typing());
    for found in ["4711", "000000004711", "web-1.service"] {
        screen.types(&format!("/{found}\r"));
        assert_eq!(screen.state.listing().items.len(), 1, "{found}");
        screen.types("\u{1b}");
    }
}

#[test]
fn a_pause_holds_the_numbers_but_not_the_keys() {
    let mut screen = screen();
    screen.types(" ");
    let before = screen.selected();
    screen.intervals(9);
    assert_eq!(screen.selected(), before);
    assert!(screen.lines()[0].contains("PAUSED, 9.0s old"), "{}", screen.lines()[0]);
    screen.types("lll");
    assert_eq!(screen.state.place().table(), Table::Rows("msr"));
    screen.types("hhhp");
    assert_ne!(screen.selected(), before);
    assert!(!screen.lines()[0].contains("PAUSED"));
}

#[test]
fn keys_that_act_from_everywhere() {
    let mut screen = screen();
    for typed in ["", "/x", "?", "i", "\r\r"] {
        screen.types(typed);
        assert_eq!(screen.state.key(Key::Interrupt), Some(Action::Quit), "{typed}");
        assert_eq!(screen.state.key(Key::Suspend), Some(Action::Suspend), "{typed}");
        assert_eq!(screen.state.key(Key::Redraw), Some(Action::Redraw), "{typed}");
        screen.types("\u{1b}");
    }
    assert_eq!(screen.types("q"), Some(Action::Quit));
    // It closes what lies over the table first.
    assert_eq!(screen.types("?q"), None);
    assert_eq!(screen.types("iq"), None);
}

#[test]
fn long_tables_scroll_no_more_than_needed() {
    let mut screen = Screen::new((80, 24), &["exits", "time"], 0);
    screen.fleet = crate::fleet::Fleet::many(3, 60, 1);
    screen.intervals(2);
    screen.types("<<<<g");
    let shown = |screen: &mut Screen| -> usize {
        screen.lines().iter().filter(|line| line.starts_with("  vm-") || line.starts_with("> vm-")).count()
    };
    let lines = shown(&mut screen);
    assert!((8..16).contains(&lines), "{lines}");
    let first = screen.lines();
    for _ in 1..lines {
        screen.types("j");
        assert_eq!(screen.lines()[3][2..], first[3][2..]);
    }
    screen.types("j");
    assert_ne!(screen.lines()[3][2..], first[3][2..]);
    screen.types("G");
    assert_eq!(screen.state.listing().selected, screen.state.listing().items.len() - 1);
    assert_eq!(shown(&mut screen), lines);
    screen.types("\u{1b}[5~");
    assert_eq!(screen.state.listing().selected, screen.state.listing().items.len() - 1 - lines);
    screen.types("g");
    assert_eq!(screen.lines()[3][2..], first[3][2..]);
}
