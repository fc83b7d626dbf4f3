//! On this machine, whatever it can do.

use std::{process::Command, time::Duration};

use kvm_utils::{
    bpf::caps::{Caps, Verdict},
    host::SysRoot,
};

fn caps(arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_kvm-utils")).arg("caps").args(arguments).output().expect("runs")
}

#[test]
fn gathering_never_fails_and_agrees_with_itself() {
    let mut caps = Caps::gather(&SysRoot::default());
    caps.watch(Duration::from_millis(20));
    match caps.exits() {
        Verdict::Runs { source } => assert_eq!(caps.sources().first(), Some(&source)),
        Verdict::Blocked(blockers) => assert!(!blockers.is_empty()),
    }
}

#[test]
fn the_document_and_the_exit_code_agree() {
    let output = caps(&["-o", "json", "--watch", "20ms"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(document["schema"], "kvm-utils/caps/v1");
    let can_run = document["exits"]["can_run"].as_bool().expect("verdict");
    assert_eq!(output.status.code(), Some(if can_run { 0 } else { 3 }));
    assert_eq!(can_run, document["exits"]["blockers"].as_array().expect("blockers").is_empty());
    for item in document["items"].as_array().expect("items") {
        let state = item["state"].as_str().expect("state");
        assert!(["full", "degraded", "no", "unknown", "unneeded"].contains(&state), "{item}");
        assert_eq!(item["why"].is_null(), state == "full", "{item}");
    }
}

#[test]
fn the_table_fits_80_columns_and_has_no_colours_in_a_pipe() {
    let output = caps(&["--watch", "20ms"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(!text.contains('\u{1b}'));
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
        assert_eq!(line, line.trim_end());
    }
    assert!(text.contains("\nkvm-utils exits can run here: "), "{text}");
}
