use insta::assert_snapshot;
use kvm_utils::model::Report;
use kvm_utils::view::table::{By, Style, render};

use crate::fixture;

const TERMINAL: Style = Style { width: Some(80), height: None, color: false, unicode: true, by: By::Vm };

fn narrow(report: &Report) -> String {
    render(report, &TERMINAL)
}

fn by(report: &Report, by: By) -> String {
    render(report, &Style { by, ..TERMINAL })
}

#[test]
fn one_vm_on_a_terminal_of_80_columns() {
    assert_snapshot!(narrow(&fixture::one_vm()));
}

#[test]
fn a_wide_terminal_shows_more_columns() {
    assert_snapshot!(render(&fixture::one_vm(), &Style { width: Some(140), ..TERMINAL }));
}

#[test]
fn a_pipe_gets_120_columns() {
    assert_snapshot!(render(&fixture::one_vm(), &Style::default()));
}

#[test]
fn two_vms_one_ended_with_unknown_statistic_and_percentiles() {
    assert_snapshot!(narrow(&fixture::two_vms()));
}

#[test]
fn flags_have_a_column_where_there_is_room() {
    assert_snapshot!(render(&fixture::two_vms(), &Style { width: Some(140), ..TERMINAL }));
}

#[test]
fn what_else_tells_a_vm_from_others_gets_a_line_where_lines_are_not_counted() {
    assert_snapshot!("in_a_pod_80_columns", narrow(&fixture::in_a_pod()));
    assert_snapshot!("in_a_pod_120_columns", render(&fixture::in_a_pod(), &Style::default()));
    assert_snapshot!("many_managers", narrow(&fixture::many_managers()));
}

#[test]
fn on_a_screen_it_takes_what_room_is_left() {
    let screen = |width| Style { width: Some(width), height: Some(60), ..TERMINAL };
    assert_snapshot!("in_a_pod_screen_100_columns", render(&fixture::in_a_pod(), &screen(100)));
    let (mut shown, mut left_out) = (0, 0);
    for with in [fixture::in_a_pod(), fixture::many_managers()] {
        let mut without = with.clone();
        for vm in &mut without.vms {
            (vm.uuid, vm.id, vm.within) = (None, None, Vec::new());
        }
        for width in 1..200 {
            let [with, without] = [&with, &without].map(|report| render(report, &screen(width)));
            assert_eq!(with.lines().count(), without.lines().count(), "{width}");
            *(if with == without { &mut left_out } else { &mut shown }) += 1;
        }
    }
    assert!(shown > 0 && left_out > 0);
}

#[test]
fn by_vcpu() {
    assert_snapshot!(by(&fixture::one_vm(), By::Vcpu));
}

#[test]
fn by_vcpu_of_two_vms() {
    assert_snapshot!(by(&fixture::two_vms(), By::Vcpu));
}

#[test]
fn by_reason() {
    assert_snapshot!(by(&fixture::two_vms(), By::Reason));
}

#[test]
fn every_doubt_is_told() {
    assert_snapshot!(narrow(&fixture::doubtful()));
}

#[test]
fn nothing_ran() {
    assert_snapshot!(narrow(&fixture::empty()));
}

#[test]
fn a_vm_without_exits() {
    let mut report = fixture::one_vm();
    report.vms[0].rows.clear();
    report.vms[0].events = 0;
    report.vms[0].vcpus[0].rows.clear();
    report.vms[0].vcpus[0].events = 0;
    report.vms[0].vcpus.truncate(1);
    assert_snapshot!("a_vm_without_exits", narrow(&report));
    assert_snapshot!("a_vcpu_without_exits", by(&report, By::Vcpu));
}

#[test]
fn nothing_hostile_reaches_the_terminal() {
    for style in [By::Vm, By::Vcpu, By::Reason].map(|by| Style { by, ..TERMINAL }) {
        let text = render(&fixture::hostile(), &style);
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    }
    assert_snapshot!("hostile", narrow(&fixture::hostile()));
    assert_snapshot!(
        "hostile_by_vcpu_in_ascii",
        render(&fixture::hostile(), &Style { by: By::Vcpu, unicode: false, width: Some(140), ..TERMINAL })
    );
}

#[test]
fn colours_only_where_wanted_and_nothing_else_changes() {
    for report in [fixture::one_vm(), fixture::two_vms(), fixture::doubtful()] {
        let coloured = render(&report, &Style { color: true, ..TERMINAL });
        let plain = render(&report, &TERMINAL);
        assert!(!plain.contains('\u{1b}'));
        let mut stripped = coloured.clone();
        for sgr in ["\u{1b}[1m", "\u{1b}[2m", "\u{1b}[31m", "\u{1b}[33m", "\u{1b}[0m"] {
            stripped = stripped.replace(sgr, "");
        }
        assert_eq!(stripped, plain);
    }
    let visible = |report: &Report| render(report, &Style { color: true, ..TERMINAL }).replace('\u{1b}', "␛");
    assert_snapshot!("colours", visible(&fixture::one_vm()));
    assert_snapshot!("colours_of_doubt", visible(&fixture::doubtful()));
    assert_snapshot!("colours_of_an_unknown_statistic", visible(&fixture::two_vms()));
}

#[test]
fn a_low_terminal_shows_the_first_rows_and_the_proof() {
    assert_snapshot!("low_one_vm", render(&fixture::one_vm(), &Style { height: Some(9), ..TERMINAL }));
    assert_snapshot!("low_two_vms", render(&fixture::two_vms(), &Style { height: Some(18), ..TERMINAL }));
    assert_snapshot!(
        "low_one_of_two_vms",
        render(&fixture::two_vms(), &Style { height: Some(14), ..TERMINAL })
    );
    assert_snapshot!(
        "low_and_doubtful",
        render(&fixture::doubtful(), &Style { height: Some(12), ..TERMINAL })
    );
    assert_snapshot!(
        "low_by_vcpu",
        render(&fixture::one_vm(), &Style { height: Some(12), by: By::Vcpu, unicode: false, ..TERMINAL })
    );
}

#[test]
fn no_height_is_exceeded_and_none_wasted() {
    for report in [fixture::one_vm(), fixture::two_vms(), fixture::doubtful(), fixture::empty()] {
        for by in [By::Vm, By::Vcpu, By::Reason] {
            let style = Style { by, ..TERMINAL };
            let whole = render(&report, &style);
            let mut before = 0;
            for height in 1..60 {
                let text = render(&report, &Style { height: Some(height), ..style });
                let lines = text.lines().count();
                assert!(lines <= height, "{lines} lines on {height}:\n{text}");
                if whole.lines().count() <= height {
                    assert_eq!(text, whole, "{height}");
                }
                before = before.max(lines);
            }
            assert_eq!(before, whole.lines().count());
        }
    }
}

#[test]
fn what_is_beyond_the_screen_is_counted() {
    let mut report = fixture::one_vm();
    let vcpu = report.vms[0].vcpus[1].clone();
    report.vms[0].vcpus.resize(4096, vcpu);
    let text = render(&report, &Style { height: Some(24), by: By::Vcpu, ..TERMINAL });
    assert_eq!(text.lines().count(), 24);
    let shown = text.lines().filter(|line| line.starts_with("vcpu ")).count();
    assert!(text.contains(&format!("… {} more vCPUs", 4096 - shown)), "{text}");
}
