//! Ctrl-C ends a run early, with what was measured; nothing is left running.

#![allow(clippy::unwrap_used)]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn start(arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-bench"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// How many processes have this parent.
fn children(parent: u32) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let stat = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("stat")).ok();
    let parent_of =
        |stat: String| stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse::<u32>().ok();
    processes.filter_map(stat).filter_map(parent_of).filter(|one| *one == parent).count()
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn interrupt_while_measuring(signal: Signal) -> (Value, Duration) {
    // A minute for each operation, in rounds of 60 ms, if nobody interrupts.
    let run = start(&[
        "all",
        "null",
        "syscall",
        "cpuid",
        "-o",
        "json",
        "-t",
        "60s",
        "--rounds",
        "1000",
        "--samples",
        "1000000000",
    ]);
    let pid = Pid::from_child(&run);
    // Not before the handler is set: the workers come after it.
    wait_until("three workers", || children(run.id()) == 3);
    std::thread::sleep(Duration::from_millis(2500));
    kill_process(pid, signal).unwrap();
    let sent = Instant::now();
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    (serde_json::from_slice(&output.stdout).unwrap(), sent.elapsed())
}

#[test]
fn an_interrupt_prints_what_was_measured() {
    for signal in [Signal::INT, Signal::TERM] {
        let (report, took) = interrupt_while_measuring(signal);
        assert!(took < Duration::from_secs(10), "{took:?}");
        assert_eq!(report["interrupted"], true);
        let results = report["results"].as_array().unwrap();
        assert_eq!(results.len(), 3);
        let measured =
            results.iter().filter(|result| result["status"] == "ok" && result["n"].as_u64() > Some(0));
        assert!(measured.count() >= 1, "{report}");
        for result in results {
            assert!(["ok", "skipped"].contains(&result["status"].as_str().unwrap()), "{result}");
            let rounds = result["rounds_p50"].as_array().map_or(0, Vec::len);
            assert!(rounds < 1000, "{rounds}");
        }
    }
}

#[test]
fn an_interrupt_before_the_first_round_is_no_failure() {
    let run = start(&["all", "-o", "json"]);
    wait_until("a worker", || children(run.id()) >= 1);
    kill_process(Pid::from_child(&run), Signal::INT).unwrap();
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["interrupted"], true);
}
