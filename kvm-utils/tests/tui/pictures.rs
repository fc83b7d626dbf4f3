use insta::assert_snapshot;
use kvm_utils::model::KvmStat;
use kvm_utils::view::tui::Look;

use crate::screen::{Screen, UNICODE, offers};

const USUAL: [&str; 2] = ["exits", "time"];
const MORE: [&str; 5] = ["exits", "time", "io", "msr", "irq"];
const SMALL: (u16, u16) = (60, 15);
const USUAL_SIZE: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (120, 40);

#[test]
fn all_vms() {
    for (name, size) in [("60x15", SMALL), ("80x24", USUAL_SIZE), ("120x40", LARGE)] {
        assert_snapshot!(format!("vms_{name}"), Screen::new(size, &USUAL, 70).text());
    }
}

#[test]
fn the_vcpus_of_one() {
    for (name, size) in [("60x15", SMALL), ("80x24", USUAL_SIZE), ("120x40", LARGE)] {
        let mut screen = Screen::new(size, &MORE, 70);
        screen.types("jl");
        assert_snapshot!(format!("vcpus_{name}"), screen.text());
    }
}

#[test]
fn the_reasons_of_a_vcpu() {
    for (name, size) in [("60x15", SMALL), ("80x24", USUAL_SIZE), ("120x40", LARGE)] {
        let mut screen = Screen::new(size, &MORE, 70);
        screen.types("jljl");
        assert_snapshot!(format!("reasons_{name}"), screen.text());
    }
}

#[test]
fn a_drilldown_of_a_reason() {
    let mut screen = Screen::new(USUAL_SIZE, &MORE, 70);
    screen.types("jl\r\r");
    assert_snapshot!("io_80x24", screen.text());
    screen.types("4");
    assert_snapshot!("msr_80x24", screen.text());
    screen.size = LARGE;
    screen.types("2");
    assert_snapshot!("time_120x40", screen.text());
}

#[test]
fn without_unicode_and_without_the_ledger() {
    let mut screen = Screen::new(USUAL_SIZE, &USUAL, 70);
    screen.look = Look { unicode: false, ..UNICODE };
    assert_snapshot!("vms_ascii", screen.text());
    screen.types("lll");
    assert_snapshot!("reasons_ascii", screen.text());
    assert!(screen.text().is_ascii());
    assert_snapshot!("vms_without_ledger", Screen::new(USUAL_SIZE, &["exits"], 70).text());
}

#[test]
fn help_and_notes() {
    let mut screen = Screen::new(USUAL_SIZE, &MORE, 3);
    screen.types("?");
    assert_snapshot!("help", screen.text());
    screen.types("G");
    assert_snapshot!("help_end", screen.text());
    let mut reports = screen.fleet.reports(&MORE);
    reports[0].proof.kvm_stat = KvmStat::Between { least: 1, most: 2 };
    reports[0].hints = vec!["54 % of these exits are io: port I/O by the guest".to_owned()];
    reports[2].proof.missed = Some(531);
    reports[2].notes = vec!["QEMU was not asked for the names of devices".to_owned()];
    screen.update(reports);
    screen.types("\u{1b}");
    assert_snapshot!("doubts", screen.text());
    screen.types("i");
    assert_snapshot!("notes", screen.text());
}

#[test]
fn nothing_to_show() {
    let mut screen = Screen::new(USUAL_SIZE, &USUAL, 0);
    assert_snapshot!("no_numbers_yet", screen.text());
    screen.fleet.guests.clear();
    let mut reports = screen.fleet.reports(&USUAL);
    reports[0].notes = vec!["no exit of the VM that runs was seen: an idle guest".to_owned()];
    screen.update(reports);
    assert_snapshot!("no_vms", screen.text());

    let mut screen = Screen::new(USUAL_SIZE, &USUAL, 2);
    screen.types("3");
    assert_snapshot!("not_running", screen.text());
    screen.state.offer(offers(&USUAL, true));
    assert_snapshot!("can_be_started", screen.text());
    screen.types("\u{1b}\u{1b}\u{1b}/nobody");
    assert_snapshot!("filter_finds_nothing", screen.text());
}

#[test]
fn paused_and_filtered() {
    let mut screen = Screen::new(USUAL_SIZE, &USUAL, 20);
    screen.types("p/b\r");
    screen.intervals(12);
    assert_snapshot!("paused", screen.text());
}

#[test]
fn a_small_terminal_is_told_so() {
    let mut screen = Screen::new((40, 10), &USUAL, 2);
    assert_snapshot!("too_small", screen.text());
    for size in [(1, 1), (0, 0), (59, 15), (60, 14), (200, 3)] {
        screen.size = size;
        screen.draw();
    }
}
