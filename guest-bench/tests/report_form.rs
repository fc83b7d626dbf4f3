//! The form of JSON reports: names, types and units may be relied on, so a change has to show here.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use serde_json::{Value, json};

fn run(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_kvm-bench")).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What is there, without what it says; null may be anything on another machine.
fn form(value: &Value) -> Value {
    match value {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("boolean"),
        Value::Number(number) if number.is_f64() => json!("number"),
        Value::Number(_) => json!("integer"),
        Value::String(_) => json!("string"),
        Value::Array(all) => json!(all.first().map(|first| vec![form(first)]).unwrap_or_default()),
        Value::Object(all) => all.iter().map(|(name, value)| (name.clone(), form(value))).collect(),
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

#[test]
fn a_measured_operation_has_this_form() {
    let report = run(&["syscall", "-o", "json", "--samples", "60000", "-t", "20s", "--rounds", "5"]);
    assert_eq!(report["schema"], "kvm-bench/v1");
    let result = &report["results"][0];
    let mut form = form(result);
    // What disturbs is different each time.
    form["rejected"] = json!({"<cause>": "integer"});
    insta::assert_snapshot!("syscall", pretty(&form));
    assert_eq!((&result["unit"], &result["op"]), (&json!("cycles"), &json!("syscall")));
}

#[test]
fn an_environment_has_this_form() {
    let report = run(&["all", "null", "-o", "json", "--samples", "100"]);
    let names: Vec<&String> = report["environment"].as_object().unwrap().keys().collect();
    insta::assert_debug_snapshot!("environment", names);
    let names: Vec<&String> = report["environment"]["tsc"].as_object().unwrap().keys().collect();
    insta::assert_debug_snapshot!("tsc", names);
    let names: Vec<&String> = report.as_object().unwrap().keys().collect();
    insta::assert_debug_snapshot!("report", names);
}

#[test]
fn histograms_hold_what_the_figures_say() {
    let report = run(&["syscall", "-o", "json", "--samples", "20000"]);
    let result = &report["results"][0];
    let read = |name: &str| {
        let bytes = STANDARD.decode(result[name].as_str().unwrap()).unwrap();
        let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
        histogram
    };
    let (clean, all) = (read("hdr"), read("hdr_all"));
    assert_eq!(Some(clean.len()), result["n"].as_u64());
    assert_eq!(Some(all.len()), result["all"]["n"].as_u64());
    let (overhead, repeat) = (result["overhead"].as_f64().unwrap(), result["repeat"].as_f64().unwrap());
    for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
        let net = (clean.value_at_quantile(share) as f64 - overhead).max(0.0) / repeat;
        let told = result[name].as_f64().unwrap();
        // Three digits are kept.
        assert!((net - told).abs() <= told * 0.001 + 1e-9, "{name}: {net} and {told}");
    }
}

#[test]
fn a_diagnosis_has_this_form() {
    let report = run(&["doctor", "-o", "json", "--interval", "50ms"]);
    assert_eq!(report["schema"], "kvm-bench/doctor/v1");
    let subjects: Vec<&String> = report["facts"].as_object().unwrap().keys().collect();
    insta::assert_debug_snapshot!("doctor", subjects);
    for finding in report["findings"].as_array().unwrap() {
        for name in ["subject", "severity", "certainty", "what", "evidence", "costs", "remedy"] {
            assert!(finding[name].as_str().is_some_and(|text| !text.is_empty()), "{name}: {finding}");
        }
    }
    for unknown in report["unknown"].as_array().unwrap() {
        assert!(unknown["why"].as_str().is_some_and(|text| !text.is_empty()), "{unknown}");
    }
}

#[test]
fn help_tells_the_exit_codes() {
    for arguments in [&["--help"][..], &["compare", "--help"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_kvm-bench")).args(arguments).output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        for code in ["  0  ", "  1  ", "  2  ", "  3  "] {
            assert!(help.contains(code), "{code}: {help}");
        }
    }
}
