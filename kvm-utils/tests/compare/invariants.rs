//! What must hold whatever was recorded.

use std::{collections::BTreeMap, time::Duration};

use kvm_utils::{
    compare::{
        Comparison, Outcome, Per, Question, Recorded, compare,
        finding::{Finding, Verdict},
        table::What,
        view::{
            json, junit, markdown,
            table::{self, Shown},
        },
    },
    drilldown::exits::rows::COLUMNS,
    model::{Cell, Durations, Row},
    view::{By, Style},
};
use proptest::prelude::*;

use crate::{
    simulated::Random,
    world::{self, IO, World},
};

/// Each figure by its name.
fn by_name(comparison: &Comparison) -> BTreeMap<String, &Finding> {
    comparison
        .findings
        .iter()
        .map(|one| (format!("{:?} {:?} {}", one.scope, one.what, one.figure), one))
        .collect()
}

/// A guest that is like the usual one but for some of its exits, and for how long it was recorded.
fn guests() -> impl Strategy<Value = (World, World, u64)> {
    let change = prop_oneof![Just(1.0), 0.3_f64..3.0, Just(0.0)];
    (prop::collection::vec(change, 9), 20_usize..40, 20_usize..40, any::<u64>()).prop_map(
        |(changes, one, two, seed)| {
            let base = World { intervals: one, ..World::usual() };
            let mut new = World { intervals: two, ..World::usual() };
            for ((rate, _), change) in new.exits.values_mut().zip(changes) {
                *rate *= change;
            }
            (base, new, seed)
        },
    )
}

fn several(world: &World, random: &mut Random, files: usize) -> Vec<Recorded> {
    (0..files).map(|_| world.record(random, "x")).collect()
}

/// Two powers of two of the histogram's buckets.
const TIMES: u64 = 4;
const BUCKETS: u16 = 32;

/// The same with all times four times as long: of intervals, and of exits.
fn slower(recording: &Recorded) -> Recorded {
    let row = |row: &mut Row| {
        if let Some(durations) = &mut row.durations {
            durations.total_ns *= TIMES;
            durations.buckets.iter_mut().for_each(|(bucket, _)| *bucket += BUCKETS);
        }
        for (cell, column) in row.cells.iter_mut().zip(&COLUMNS) {
            if let (Cell::Number(ns), true) = (cell, column.id.ends_with("_ns")) {
                *ns *= TIMES;
            }
        }
    };
    let mut slow = recording.clone();
    for history in &mut slow.histories {
        for report in history.intervals.iter_mut().chain([&mut history.whole]) {
            report.interval *= TIMES as u32;
            report.totals.iter_mut().for_each(row);
        }
    }
    slow
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn exchanging_the_sides_mirrors_every_verdict((base, new, seed) in guests(), files in prop_oneof![Just(1), Just(5)]) {
        let mut random = Random::new(seed);
        let (one, two) = (several(&base, &mut random, files), several(&new, &mut random, files));
        let question = Question::default();
        let (there, back) = (compare(&one, &two, &question), compare(&two, &one, &question));
        let (there, back) = (by_name(&there), by_name(&back));
        prop_assert_eq!(there.len(), back.len());
        for (name, finding) in there {
            let mirrored = back[&name];
            prop_assert_eq!(finding.verdict, mirrored.verdict.mirrored(), "{} {:?} {:?}", name, finding, mirrored);
            prop_assert_eq!((finding.base, finding.new), (mirrored.new, mirrored.base));
        }
    }

    #[test]
    fn a_slower_clock_changes_no_verdict((base, new, seed) in guests()) {
        let mut random = Random::new(seed);
        let (one, two) = (base.record(&mut random, "a"), new.record(&mut random, "b"));
        let question = Question::default();
        let fast = compare(std::slice::from_ref(&one), std::slice::from_ref(&two), &question);
        let slow = compare(&[slower(&one)], &[slower(&two)], &question);
        let (fast, slow) = (by_name(&fast), by_name(&slow));
        for (name, finding) in fast {
            prop_assert_eq!(finding.verdict, slow[&name].verdict, "{}", name);
            if finding.figure == "rate" {
                prop_assert!((finding.base.unwrap() - 4.0 * slow[&name].base.unwrap()).abs() < 1e-9);
            }
            if finding.figure == "mean_ns" {
                prop_assert_eq!(finding.base.map(|ns| ns * 4.0), slow[&name].base);
            }
        }
    }

    #[test]
    fn every_view_shows_the_same_numbers((base, new, seed) in guests()) {
        let mut random = Random::new(seed);
        let (base, new) = ([base.record(&mut random, "a")], [new.record(&mut random, "b")]);
        let comparison = compare(&base, &new, &Question::default());
        let style = Style { width: Some(200), unicode: true, ..Style::default() };
        let (text, marks) = (table::render(&comparison, &style, Shown::All), markdown::render(&comparison));
        let document = json::document(&comparison);
        let xml = junit::render(&comparison);
        prop_assert_eq!(xml.matches("<testcase ").count(), comparison.findings.len());
        prop_assert_eq!(xml.matches("<failure ").count(), comparison.breaches.len());
        for (index, finding) in comparison.findings.iter().enumerate() {
            prop_assert_eq!(document["results"][index]["base"].as_f64(), finding.base);
            prop_assert_eq!(document["results"][index]["verdict"].as_str(), Some(finding.verdict.name()));
            let shown = kvm_utils::compare::words::number(finding, finding.new, Per::Second);
            let marked = shown.replace('<', "&lt;");
            prop_assert!(text.contains(&shown) && marks.contains(&marked), "{}", shown);
        }
        // The counts are those of the recording itself.
        for (name, finding) in by_name(&comparison) {
            let What::Row { label, .. } = &finding.what else { continue };
            let row = new[0].histories[0].whole.totals.iter().find(|row| row.cells[0] == Cell::Text(label.clone()));
            let cell = |index: usize| row.and_then(|row| row.cells[index].number());
            if finding.figure == "rate" && row.is_some() {
                prop_assert_eq!(finding.new, cell(6), "{}", name);
            }
            if finding.figure == "p99_ns" && finding.new.is_some() {
                prop_assert_eq!(finding.new, cell(14), "{}", name);
            }
        }
    }
}

/// A row with whatever numbers.
fn any_row() -> impl Strategy<Value = Row> {
    let count = || prop_oneof![Just(0), 0_u64..50, Just(u64::MAX), any::<u64>()];
    let cell = prop_oneof![
        Just(Cell::Unknown),
        count().prop_map(Cell::Number),
        prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(-1.0), any::<f64>()].prop_map(Cell::Real),
        "\\PC{0,3}".prop_map(Cell::Text),
        Just(Cell::List(vec!["\u{1b}[31m|<b>".to_owned()])),
    ];
    let durations = (count(), count(), prop::collection::vec((0_u16..700, count()), 0..4), count())
        .prop_map(|(timed, total_ns, buckets, unbinned)| Durations { timed, total_ns, buckets, unbinned });
    (prop::collection::vec(cell, 0..17), any::<bool>(), any::<bool>(), prop::option::of(durations)).prop_map(
        |(cells, waiting, of_others, durations)| Row { cells, waiting, of_others, durations, detail: None },
    )
}

fn any_recording() -> impl Strategy<Value = Recorded> {
    let interval = prop_oneof![Just(0), Just(1), 1_u64..3_000_000_000, Just(u64::MAX / 1_000_000_000)];
    let report = move || {
        (prop::collection::vec(any_row(), 0..4), interval.clone())
            .prop_map(|(rows, ns)| world::report_of(rows, 7, Duration::from_nanos(ns)))
    };
    (prop::collection::vec(report(), 0..30), report())
        .prop_map(|(intervals, whole)| world::history("\u{1b}]0;x\u{7}|`", intervals, whole))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_panics_and_nothing_reaches_the_terminal(
        base in prop::collection::vec(any_recording(), 0..7),
        new in prop::collection::vec(any_recording(), 0..7),
        per in prop_oneof![Just(Per::Second), Just(Per::Run("boot")), Just(Per::Units([0.5, 1e300]))],
        by in prop_oneof![Just(By::Reason), Just(By::Vm), Just(By::Vcpu)],
        width in 1_usize..100,
    ) {
        let question = Question { per, by, ..Question::default() };
        let comparison = compare(&base, &new, &question);
        let style = Style { width: Some(width), unicode: false, ..Style::default() };
        let text = table::render(&comparison, &style, Shown::All);
        prop_assert!(text.lines().all(|line| line.chars().count() <= width), "{}", text);
        for text in [text, markdown::render(&comparison), junit::render(&comparison), json::line(&comparison).unwrap()] {
            prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{:?}", text);
        }
    }
}

#[test]
fn nothing_is_comparable_to_nothing() {
    let question = Question::default();
    assert_eq!(compare(&[], &[], &question).outcome(), Outcome::NotComparable);
    let mut random = Random::new(1);
    let one = World { intervals: 20, ..World::usual() }.record(&mut random, "a");
    assert_eq!(compare(std::slice::from_ref(&one), &[], &question).outcome(), Outcome::NotComparable);
    let silent = World { exits: BTreeMap::new(), ..World::usual() }.record(&mut random, "b");
    assert_eq!(
        compare(std::slice::from_ref(&silent), std::slice::from_ref(&silent), &question).outcome(),
        Outcome::NotComparable
    );
    let gone = compare(&[one], &[silent], &question);
    assert!(gone.findings.iter().all(|finding| !finding.verdict.is_regression()));
    assert!(gone.findings.iter().any(|finding| finding.verdict == Verdict::Gone));
}

#[test]
fn other_machines_are_refused_unless_forced() {
    let mut random = Random::new(1);
    let world = World { intervals: 20, ..World::usual() };
    let (base, mut new) =
        (world.record(&mut random, "a"), world.with(IO, 900.0, 61e3).record(&mut random, "b"));
    new.histories[0].fingerprint.facts.insert("kernel".to_owned(), "6.13".to_owned());
    let refused = compare(std::slice::from_ref(&base), std::slice::from_ref(&new), &Question::default());
    assert_eq!(refused.outcome(), Outcome::NotComparable);
    assert_eq!(refused.differ[0].fact, "kernel");
    let forced = compare(&[base], &[new], &Question { force: true, ..Question::default() });
    assert_eq!((forced.outcome(), forced.differ.len()), (Outcome::Failed, 1));
}
