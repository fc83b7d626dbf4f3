//! Runs end when they should, and say what was seen.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::Output,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{
    harness::{Outcome, Test},
    needs,
    tool::{Ran, Tool, tool},
    vm::Vm,
};

pub const TESTS: &[Test] = &[
    ("runs::a_number_of_reports_ends_with_the_summary", count),
    ("runs::a_duration_ends_with_the_summary", duration),
    ("runs::every_moment_is_in_some_interval", whole),
    ("runs::a_signal_ends_with_the_summary", signal),
    ("runs::a_vm_that_makes_no_exits_is_told", silence),
];

fn reports(ran: &Ran) -> Vec<Value> {
    ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Each report of the table has one such line.
fn proofs(ran: &Ran) -> usize {
    ran.stdout.lines().filter(|line| line.starts_with("proof ")).count()
}

fn count() -> Outcome {
    needs::runs()?;
    let ran = tool("exits -n 3 -i 20ms").with_tracefs().run().exits_with(0);
    assert_eq!(proofs(&ran), 4, "{}", ran.picture());
    let ran = tool("exits -n 3 -i 20ms -o json --summary").with_tracefs().run().exits_with(0);
    let summaries: Vec<bool> = reports(&ran).iter().map(|report| report["summary"] == true).collect();
    assert_eq!(summaries, [false, false, false, true]);
    Ok(())
}

fn duration() -> Outcome {
    needs::runs()?;
    let ran = tool("exits -d 50ms").with_tracefs().run().exits_with(0);
    assert_eq!(proofs(&ran), 1, "{}", ran.picture());
    let ran = tool("exits -d 50ms --summary -o csv").with_tracefs().run().exits_with(0);
    assert!(ran.stdout.starts_with("time,interval_s,pid,"), "{}", ran.picture());
    Ok(())
}

fn whole() -> Outcome {
    needs::runs()?;
    for call in ["exits -d 200ms -i 100ms -o json --summary", "exits -d 150ms -i 1s -o json --summary"] {
        let ran = tool(call).with_tracefs().run().exits_with(0);
        let reports = reports(&ran);
        let seconds = |report: &Value| report["interval_s"].as_f64().expect("a number");
        let (run, intervals) = reports.split_last().expect("a summary");
        assert!(run["summary"] == true && !intervals.is_empty(), "{}", ran.picture());
        let sum: f64 = intervals.iter().map(seconds).sum();
        // The summary is made after the last interval; on a loaded machine that takes a while.
        assert!(sum >= 0.15 && sum <= seconds(run) && seconds(run) - sum < 0.1, "{sum}: {}", ran.picture());
    }
    Ok(())
}

/// Runs until it is attached, sends the signal, and returns all that was written.
fn interrupted(tool: &Tool, signal: Signal) -> Ran {
    let mut child = tool.command().spawn().expect("it starts");
    let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut said = String::new();
    while !said.contains("attached (") {
        assert!(stderr.read_line(&mut said).expect("text") > 0, "ended early: {said}");
    }
    kill_process(Pid::from_child(&child), signal).expect("it runs");
    let (mut stdout, mut rest) = (Vec::new(), String::new());
    child.stdout.take().expect("a pipe").read_to_end(&mut stdout).expect("output");
    stderr.read_to_string(&mut rest).expect("text");
    let status = child.wait().expect("its end");
    tool.ran(&Output { status, stdout, stderr: (said + &rest).into_bytes() })
}

fn signal() -> Outcome {
    needs::runs()?;
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let ran = interrupted(&tool("exits -i 1m").with_tracefs(), signal).exits_with(0);
        assert_eq!(proofs(&ran), 1, "{}", ran.picture());
    }
    let ran = interrupted(&tool("exits -i 1m -o json").with_tracefs(), Signal::INT).exits_with(0);
    assert_eq!(reports(&ran).len(), 1, "{}", ran.picture());
    Ok(())
}

fn silence() -> Outcome {
    needs::runs()?;
    needs::device()?;
    let vm = Vm::start("cli-silent");
    let note = "no exit of the VM that runs was seen: idle guests, or a KVM that never fires kvm_exit; `kvm-utils \
                selftest` tells which";
    for select in [format!("-p {}", vm.pid()), "--vm cli-silent".to_owned(), "--vm cli-sil*".to_owned()] {
        let ran = tool(&format!("exits {select} -n 2 -i 20ms -o json")).with_tracefs().run().exits_with(0);
        let reports = reports(&ran);
        // An interval says little; the last one must not look like an idle host's.
        assert_eq!(reports[0]["notes"], serde_json::json!([]), "{}", ran.picture());
        assert_eq!(reports[1]["notes"], serde_json::json!([note]), "{}", ran.picture());
    }
    let ran = tool(&format!("exits -p {} -n 1 -i 20ms -o csv", vm.pid())).with_tracefs().run().exits_with(0);
    assert!(ran.stderr.contains(note), "{}", ran.picture());
    Ok(())
}
