//! Comparing reports: what was recorded on one machine is the same, a shift is found, and all that can be wrong with reports is said.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use kvm_bench::compare::document::Document;
use kvm_bench::compare::verdicts::{Judged, Outcome, Quantile, judge};
use serde_json::{Value, json};

/// Reports of `kvm-bench all` that were recorded one after the other on a busy machine.
fn recorded() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/compare/same-machine.jsonl");
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn document(value: &Value) -> Document {
    serde_json::from_value(value.clone()).unwrap()
}

/// The operations that were measured, with the rounds of all reports.
fn rounds() -> Vec<(String, Vec<f64>)> {
    let reports = recorded();
    let ops = reports[0]["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["op"].as_str().unwrap().to_owned());
    let of = |op: String| {
        let results = reports.iter().flat_map(|report| report["results"].as_array().unwrap());
        let values = results.filter(|result| result["op"] == op.as_str());
        let values = values.flat_map(|result| {
            result["rounds_p50"].as_array().unwrap().iter().map(|one| one.as_f64().unwrap())
        });
        (op.clone(), values.collect())
    };
    ops.map(of).collect()
}

/// A report with the figures of one operation.
fn report(op: &str, like: &Value, rounds: &[f64]) -> Document {
    let mut result =
        like["results"].as_array().unwrap().iter().find(|result| result["op"] == op).unwrap().clone();
    result["rounds_p50"] = json!(rounds);
    document(&json!({"schema": "kvm-bench/v1", "environment": like["environment"], "results": [result]}))
}

fn outcome(base: &Document, new: &Document) -> Outcome {
    judge(std::slice::from_ref(base), std::slice::from_ref(new), Quantile::P50)[0].outcome
}

const TRIALS: usize = 100;

/// What came of trials with so many rounds a side, drawn from all that were recorded, none on both.
fn trials(count: usize, shift: f64) -> Vec<(String, Vec<Outcome>)> {
    let like = &recorded()[0];
    let mut random = fastrand::Rng::with_seed(7);
    let mut found = Vec::new();
    for (op, mut rounds) in rounds().into_iter().filter(|(op, _)| op != "null") {
        let mut trial = || {
            random.shuffle(&mut rounds);
            let shifted: Vec<f64> = rounds[count..2 * count].iter().map(|value| value * shift).collect();
            outcome(&report(&op, like, &rounds[..count]), &report(&op, like, &shifted))
        };
        let outcomes = (0..TRIALS).map(|_| trial()).collect();
        found.push((op, outcomes));
    }
    assert_eq!(found.len(), 3);
    found
}

fn assert_share(trials: Vec<(String, Vec<Outcome>)>, percent: usize, is_wanted: impl Fn(Outcome) -> bool) {
    for (op, outcomes) in trials {
        let hits = outcomes.iter().filter(|outcome| is_wanted(**outcome)).count();
        assert!(hits * 100 >= outcomes.len() * percent, "{op}: {hits} of {}", outcomes.len());
    }
}

/// What `kvm-bench` measures by default.
const ROUNDS: usize = 10;

#[test]
fn what_was_drawn_from_the_same_rounds_is_the_same_in_99_of_100_trials() {
    assert_share(trials(ROUNDS, 1.0), 99, |outcome| outcome == Outcome::Same);
    // With half of them it may be too little to tell, but it is no change.
    assert_share(trials(ROUNDS / 2, 1.0), 99, |outcome| {
        matches!(outcome, Outcome::Same | Outcome::Inconclusive)
    });
}

#[test]
fn a_shift_of_a_tenth_is_found_in_95_of_100_trials() {
    assert_share(trials(ROUNDS, 1.1), 95, |outcome| outcome == Outcome::Worse);
    assert_share(trials(ROUNDS, 1.0 / 1.1), 95, |outcome| outcome == Outcome::Better);
}

/// Every sample of a round drawn from what one of the reports recorded, so that what differs from report to report stays.
#[test]
fn samples_drawn_from_the_recorded_histograms_say_the_same() {
    let reports = recorded();
    let mut random = fastrand::Rng::with_seed(11);
    for op in ["cpuid", "hypercall", "syscall"] {
        let results: Vec<&Value> = reports
            .iter()
            .map(|report| {
                report["results"].as_array().unwrap().iter().find(|result| result["op"] == op).unwrap()
            })
            .collect();
        let histograms: Vec<Vec<u64>> = results.iter().map(|result| samples(result)).collect();
        let round = |random: &mut fastrand::Rng, shift: f64| {
            let which = random.usize(..results.len());
            let (overhead, repeat) =
                (results[which]["overhead"].as_f64().unwrap(), results[which]["repeat"].as_f64().unwrap());
            let all = &histograms[which];
            let mut drawn: Vec<u64> = (0..401).map(|_| all[random.usize(..all.len())]).collect();
            drawn.sort_unstable();
            (drawn[200] as f64 - overhead) / repeat * shift
        };
        let (mut same, mut found) = (0, 0);
        for _ in 0..100 {
            let mut side = |shift| {
                report(op, &reports[0], &(0..ROUNDS).map(|_| round(&mut random, shift)).collect::<Vec<_>>())
            };
            let (base, equal, shifted) = (side(1.0), side(1.0), side(1.1));
            same += usize::from(outcome(&base, &equal) == Outcome::Same);
            found += usize::from(outcome(&base, &shifted) == Outcome::Worse);
        }
        assert!(same >= 99 && found >= 95, "{op}: same in {same}, found in {found} of 100");
    }
}

/// A thousand samples as they lie in a report's histogram.
fn samples(result: &Value) -> Vec<u64> {
    let bytes = STANDARD.decode(result["hdr"].as_str().unwrap()).unwrap();
    let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
    (0..1000).map(|i| histogram.value_at_quantile((f64::from(i) + 0.5) / 1000.0)).collect()
}

#[test]
fn reports_that_were_recorded_one_after_the_other_are_the_same() {
    let reports: Vec<Document> = recorded().iter().map(document).collect();
    let (mut pairs, mut other) = (0, Vec::new());
    for (i, base) in reports.iter().enumerate() {
        for (j, new) in reports.iter().enumerate().skip(i + 1) {
            for judged in judge(std::slice::from_ref(base), std::slice::from_ref(new), Quantile::P50) {
                pairs += 1;
                if judged.outcome != Outcome::Same {
                    other.push((i, j, judged.op, judged.outcome));
                }
            }
        }
    }
    // System calls took up to 5 % more in some runs than in others, so that a few pairs do not tell; none tells a change.
    assert!(other.iter().all(|(.., outcome)| *outcome == Outcome::Inconclusive), "{other:?}");
    assert!(other.len() * 100 <= pairs * 5, "{} of {pairs}: {other:?}", other.len());
    // Report by report, taken in turn.
    let (odd, even): (Vec<_>, Vec<_>) = reports.into_iter().enumerate().partition(|(i, _)| i % 2 == 1);
    let side =
        |side: Vec<(usize, Document)>| side.into_iter().map(|(_, document)| document).collect::<Vec<_>>();
    let (odd, even) = (side(odd), side(even));
    for judged in judge(&odd, &even, Quantile::P50) {
        assert_eq!(
            (judged.outcome, judged.figures),
            (Outcome::Same, [odd.len(), even.len()]),
            "{}",
            judged.op
        );
    }
}

#[test]
fn exchanged_sides_give_mirrored_verdicts() {
    let reports = recorded();
    let (base, mut new) = (document(&reports[0]), document(&reports[1]));
    new.results[1].rounds_p50.iter_mut().for_each(|value| *value *= 1.3);
    new.results[2].rounds_p50.iter_mut().for_each(|value| *value /= 1.3);
    new.results[3].status = "suspect".into();
    let one = judge(std::slice::from_ref(&base), std::slice::from_ref(&new), Quantile::P50);
    let two = judge(&[new], &[base], Quantile::P50);
    let outcomes = |all: &[Judged]| all.iter().map(|judged| judged.outcome).collect::<Vec<_>>();
    assert_eq!(outcomes(&one), [Outcome::Same, Outcome::Worse, Outcome::Better, Outcome::Broken]);
    assert_eq!(outcomes(&two), [Outcome::Same, Outcome::Better, Outcome::Worse, Outcome::NotCompared]);
}

#[test]
fn reports_of_one_side_that_differ_as_much_as_the_sides_show_nothing() {
    let like = &recorded()[0];
    let one =
        |value: f64| report("cpuid", like, &[value, value * 1.001, value * 0.999, value * 1.002, value]);
    let judged = judge(&[one(9_000.0), one(11_000.0)], &[one(10_500.0), one(11_500.0)], Quantile::P50);
    assert_eq!(judged[0].outcome, Outcome::Inconclusive);
    let judged = judge(&[one(9_000.0), one(9_100.0)], &[one(10_500.0), one(11_500.0)], Quantile::P50);
    assert_eq!(judged[0].outcome, Outcome::Worse);
}

#[test]
fn a_busy_machine_is_no_change() {
    let like = &recorded()[0];
    let base = report("cpuid", like, &[10_000.0; 10]);
    let mut busy = report("cpuid", like, &[13_000.0; 10]);
    assert_eq!(outcome(&base, &busy), Outcome::Worse);
    busy.results[0].rejected = [("preempted".to_owned(), busy.results[0].n / 20)].into();
    assert_eq!(outcome(&base, &busy), Outcome::Inconclusive);
    assert_eq!(outcome(&busy, &base), Outcome::Inconclusive);
    // Interrupts come on a quiet machine as well.
    busy.results[0].rejected = [("interrupted".to_owned(), busy.results[0].n / 20)].into();
    assert_eq!(outcome(&base, &busy), Outcome::Worse);
}

#[test]
fn clocks_of_different_speed_are_compared_in_time() {
    let like = &recorded()[0];
    let mut slower = like.clone();
    slower["environment"]["tsc"]["hz"] = json!(like["environment"]["tsc"]["hz"].as_f64().unwrap() / 2.0);
    let base = report("cpuid", like, &[10_000.0; 5]);
    let new = report("cpuid", &slower, &[5_000.0; 5]);
    assert_eq!(outcome(&base, &new), Outcome::Same);
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn compare(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_kvm-bench")).arg("compare").args(arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn other_machines_are_refused_by_name_unless_forced() {
    let files = Files::new();
    let mut other = recorded()[1].clone();
    other["environment"]["kernel"] = "5.10.0-30-amd64".into();
    let (base, new) = (files.write("a", &recorded()[0].to_string()), files.write("b", &other.to_string()));
    let (code, out, _) = compare(&[&base, &new]);
    assert_eq!(code, Some(3));
    assert!(out.contains("kernel: ") && out.contains("5.10.0-30-amd64") && out.contains("--force"), "{out}");
    assert!(!out.contains("cpuid"), "{out}");
    let (code, out, _) = compare(&[&base, &new, "--force"]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("cpuid") && out.contains("kernel: "), "{out}");
    let (code, out, _) = compare(&[&base, &new, "-o", "json"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &json["comparable"], &json["differ"][0]["field"]),
        (Some(3), &json!(false), &json!("kernel"))
    );
}

#[test]
fn a_regression_fails_only_when_asked() {
    let files = Files::new();
    let mut worse = recorded()[1].clone();
    for figure in worse["results"][1]["rounds_p50"].as_array_mut().unwrap() {
        *figure = json!(figure.as_f64().unwrap() * 1.2);
    }
    let (base, new) = (files.write("a", &recorded()[0].to_string()), files.write("b", &worse.to_string()));
    assert_eq!(compare(&[&base, &new]).0, Some(0));
    assert_eq!(compare(&[&base, &new, "--fail-above", "10%"]).0, Some(1));
    assert_eq!(compare(&[&base, &new, "--fail-above", "50"]).0, Some(0));
    assert_eq!(compare(&[&base, &new, "--fail-above", "much"]).0, Some(2));
    assert_eq!(compare(&["--base", &base, &base, "--new", &new, &new, "--fail-above", "10%"]).0, Some(1));
    assert_eq!(compare(&[&base]).0, Some(2));
    assert_eq!(compare(&[]).0, Some(2));
    // It no longer works at all.
    worse["results"][1]["status"] = "failed".into();
    worse["results"][1]["reason"] = "the instruction is not there (SIGILL)".into();
    let broken = files.write("c", &worse.to_string());
    let (code, out, _) = compare(&[&base, &broken, "--fail-above", "10%"]);
    assert_eq!(code, Some(1));
    assert!(out.contains("BROKEN") && out.contains("SIGILL"), "{out}");
}

#[test]
fn what_one_side_skipped_is_said() {
    let files = Files::new();
    let mut other = recorded()[1].clone();
    other["results"][2] =
        json!({"op": "hypercall", "args": {}, "status": "skipped", "reason": "no hypervisor"});
    other["results"][3] = json!({"op": "later", "status": "ok", "rounds_p50": [1, 2, 3], "more": {}});
    let (base, new) = (files.write("a", &recorded()[0].to_string()), files.write("b", &other.to_string()));
    let (code, out, _) = compare(&[&base, &new]);
    assert_eq!(code, Some(0));
    assert!(out.contains("not compared  hypercall: ok in base, skipped in new: no hypervisor"), "{out}");
    assert!(out.contains("not compared  syscall: ok in base, missing in new"), "{out}");
    assert!(out.contains("not compared  later: missing in base"), "{out}");
}

#[test]
fn files_that_are_no_reports_have_a_cause_and_a_remedy() {
    let files = Files::new();
    let text = recorded()[0].to_string();
    let good = files.write("good", &text);
    for (name, text, cause) in [
        ("cut", &text[..text.len() / 2], "is cut off"),
        ("empty", "", "is cut off"),
        ("words", "p50 9,906", "is no report"),
        ("other", "{\"schema\":\"kvm-utils/exits/v1\",\"results\":[]}", "kvm-utils/exits/v1"),
        ("later", "{\"schema\":\"kvm-bench/v9\"}", "kvm-bench/v9"),
        ("array", "[1,2]", "is no report"),
        ("wrong", "{\"schema\":\"kvm-bench/v1\",\"results\":[{\"op\":5}]}", "is no report"),
    ] {
        let (code, out, error) = compare(&[&good, &files.write(name, text)]);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{name}");
        assert!(
            error.contains(cause) && error.contains("kvm-bench") && !error.contains("panicked"),
            "{name}: {error}"
        );
    }
    let (code, _, error) = compare(&[&good, "/nowhere/at-all"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("No such file"), "{error}");
    // Reports of which nothing is left to compare.
    let none = files.write("none", "{\"schema\":\"kvm-bench/v1\",\"results\":[]}");
    assert_eq!(compare(&[&none, &none]).0, Some(3));
}
