//! Boots of a Linux guest that were recorded in the lab: 20 of the same guest, 10 with the ACPI PM timer for a clock, 10 without
//! kvm-clock. What the machine did meanwhile was other things each time, as on any machine that builds.

use std::path::Path;

use kvm_utils::{
    compare::{
        Outcome, Per, Question, Recorded, compare,
        finding::{Finding, Verdict},
        limits::Limits,
        measure::Measure,
        table::What,
        view::markdown,
        words,
    },
    recording::Recording,
};

use crate::simulated::Random;

fn boots(name: &str, count: usize) -> Vec<Recorded> {
    let read = |number: usize| {
        let name = format!("{name}-{number:02}.kvmrec");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/boots").join(&name);
        let recording = Recording::open(&path).unwrap();
        assert!(recording.notes.is_empty());
        Recorded { name, histories: recording.histories(), notes: Vec::new() }
    };
    (1..=count).map(read).collect()
}

fn question() -> Question {
    Question { per: Per::Run("boot"), ..Question::default() }
}

/// Two sides of so many boots each, none on both.
fn drawn(boots: &[Recorded], count: usize, random: &mut Random) -> (Vec<Recorded>, Vec<Recorded>) {
    let mut boots = boots.to_vec();
    for index in 0..2 * count {
        let other = index + (random.unit() * (boots.len() - index) as f64) as usize;
        boots.swap(index, other);
    }
    let new = boots.drain(count..2 * count).collect();
    boots.truncate(count);
    (boots, new)
}

#[test]
fn the_same_guest_shows_no_regression_however_its_boots_are_paired() {
    let boots = boots("boot", 20);
    let mut random = Random::new(20);
    for (count, pairings) in [(10, 100), (5, 200)] {
        let mut alarms = Vec::new();
        for _ in 0..pairings {
            let (base, new) = drawn(&boots, count, &mut random);
            let comparison = compare(&base, &new, &question());
            assert_ne!(comparison.outcome(), Outcome::NotComparable, "{:?}", comparison.differ);
            if comparison.outcome() == Outcome::Failed {
                alarms.push(words::summary(&comparison));
            }
        }
        println!("{} of {pairings} pairings of {count} and {count}", alarms.len());
        assert!(alarms.len() * 100 <= pairings, "{} of {pairings}: {alarms:#?}", alarms.len());
    }
}

/// The worst row by its rate.
fn worst(findings: &[Finding]) -> (&str, Option<&str>, Verdict) {
    let is_row = |finding: &&Finding| finding.measure == Some(Measure::Rate);
    let finding = findings.iter().find(is_row).unwrap();
    let What::Row { label, .. } = &finding.what else { panic!("{:?}", finding.what) };
    (label, finding.class(), finding.verdict)
}

/// Boots of a guest with a clock that exits fail, five and ten a side, whichever they are held against, and the sentence says
/// which row it was, of which class, and the first digit of how many there were.
fn always_fails(planted: &str, seed: u64, (row, class): (&str, &str), digit: char) {
    let (plain, planted) = (boots("boot", 20), boots(planted, 10));
    let mut random = Random::new(seed);
    for count in [5, 10] {
        for _ in 0..10 {
            let (base, _) = drawn(&plain, 10, &mut random);
            let comparison = compare(&base[..count], &planted[..count], &question());
            assert_eq!(comparison.outcome(), Outcome::Failed);
            assert_eq!(worst(&comparison.findings), (row, Some(class), Verdict::Worse));
            let sentence = format!("Regression: {row} (class {class}): more exits, {digit},");
            let said = words::summary(&comparison);
            assert!(said.starts_with(&sentence), "{said}");
            assert!(markdown::render(&comparison).starts_with(&format!("❌ **{sentence}")));
        }
    }
}

#[test]
fn a_guest_that_reads_the_pm_timer_fails_however_its_boots_are_paired() {
    always_fails("acpi-pm", 21, ("io", "io"), '2');
}

#[test]
fn a_guest_without_kvm_clock_fails_however_its_boots_are_paired() {
    // Its clock is the HPET then, in memory that only faults reach.
    always_fails("no-kvmclock", 22, ("npf", "ept"), '1');
}

#[test]
fn a_budget_of_exits_holds_for_a_boot() {
    let (plain, timer) = (boots("boot", 20), boots("acpi-pm", 10));
    let budget = "[exits]\nmax_rate = 16000\n[exits.class.io]\nmax_rate = 3500\nmax_increase = \"25%\"\n";
    let limits = Limits::parse(budget, "boot.toml").unwrap();
    let question = Question { limits, ..question() };
    assert_eq!(compare(&plain[..10], &plain[10..], &question).outcome(), Outcome::Passed);
    let over = compare(&plain[..10], &timer, &question);
    let limits: Vec<&str> = over.breaches.iter().map(|breach| breach.limit.as_str()).collect();
    assert_eq!(
        limits,
        ["exits.class.io max_increase 25%", "exits.class.io max_rate 3,500", "exits max_rate 16,000"]
    );
    // A budget needs no five boots, not even a base that differs.
    let one = compare(&plain[..1], &timer[..1], &question);
    assert_eq!(one.outcome(), Outcome::Failed);
}
