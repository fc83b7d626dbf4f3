//! Operations between CPUs, on this machine's kernel: the program is run as a user would, and its JSON is read.
//!
//! Other work may take the CPUs meanwhile. Then interrupts are missing for good reasons, the program says so, and these
//! tests ask only that it did: [`measured`].

#![allow(clippy::unwrap_used, clippy::panic)] // Clippy sees the helpers of tests as no tests.

use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;

/// Few samples: what is proven here does not depend on their number.
const SAMPLES: u64 = 300;

fn kvm_bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kvm-bench")).args(arguments).output().unwrap()
}

/// A run's report, when it says that it went well as a whole.
fn report(arguments: &[&str]) -> Value {
    let samples = SAMPLES.to_string();
    let common = ["-o", "json", "--samples", &samples, "--rounds", "3", "--time", "5s"];
    let output = kvm_bench(&[arguments, &common].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn results(arguments: &[&str]) -> Vec<Value> {
    report(arguments)["results"].as_array().unwrap().clone()
}

/// One at a time: they would take each other's CPUs.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    // What another test panicked at is its own.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The CPUs of this process; None, and a word about it, when there are not two.
fn two() -> Option<(usize, usize)> {
    let set = sched_getaffinity(None).unwrap();
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect();
    if cpus.len() < 2 {
        eprintln!("skipped: this machine has one CPU");
        return None;
    }
    Some((cpus[0], cpus[1]))
}

/// How many samples were taken: as many as were asked for, unless other work took the time.
fn n(result: &Value) -> u64 {
    result["all"]["n"].as_u64().unwrap_or(0)
}

/// The sum of what was counted under names that begin so.
fn counted(result: &Value, kind: &str) -> u64 {
    let evidence = result["evidence"].as_object().unwrap();
    let of_kind = evidence.iter().filter(|(name, _)| name.starts_with(&format!("{kind} on CPU")));
    of_kind.map(|(_, count)| count.as_u64().unwrap()).sum()
}

/// It was measured, and either the interrupts came or the report says that they did not.
fn measured(result: &Value, kind: &str, expected: u64) {
    let status = result["status"].as_str().unwrap();
    if status == "skipped" {
        // No perf event for this user, and no membarrier.
        eprintln!("skipped {}: {}", result["op"], result["reason"]);
        return;
    }
    let moved = counted(result, kind);
    assert!(result["p50"].as_f64().unwrap() > 0.0, "{result}");
    match status {
        "ok" => assert!(moved as f64 >= expected as f64 * 0.98, "{moved} of {expected}: {result}"),
        "suspect" => {
            assert!(result["reason"].as_str().unwrap().contains("CPU"), "{result}");
            assert!(moved as f64 >= expected as f64 * 0.5, "{moved} of {expected}: {result}");
        }
        other => panic!("{other}: {result}"),
    }
}

fn named<'a>(results: &'a [Value], op: &str) -> &'a Value {
    results.iter().find(|result| result["op"] == op).unwrap_or_else(|| panic!("no {op}"))
}

#[test]
fn interrupts_are_counted_where_they_arrive() {
    let _alone = alone();
    let Some((src, dst)) = two() else { return };
    let (src, dst) = (src.to_string(), dst.to_string());
    for arguments in [&["ipi", "single"][..], &["ipi", "single", "--via", "membarrier"]] {
        let results = results(&[arguments, &["--src", &src, "--dst", &dst]].concat());
        assert_eq!(results[0]["args"]["src"].to_string(), src);
        measured(&results[0], "CAL", n(&results[0]));
        assert!(results[0]["notes"]["via"].is_string() || results[0]["status"] == "skipped");
        // Of what happens one after the other the first is not the longer.
        let p50 = |name: &str| results[0]["series"][name]["p50"].as_f64();
        if let (Some(one_way), Some(handled)) = (p50("one_way"), p50("handled")) {
            assert!(0.0 < one_way && one_way < handled, "{}", results[0]);
            let whole = results[0]["raw"]["p50"].as_f64().unwrap();
            assert!(one_way < whole, "{}", results[0]);
        }
    }
    for arguments in [["ipi", "single", "--no-wait"], ["ipi", "broadcast", "--lock"]] {
        let results = results(&arguments);
        measured(&results[0], "RES", n(&results[0]));
    }
}

#[test]
fn a_membarrier_that_interrupts_nobody_is_suspect() {
    let _alone = alone();
    let Some(_) = two() else { return };
    // No thread of the program runs on the target: the call returns at once, and well.
    let result = &results(&["ipi", "single", "--halted", "--via", "membarrier", "--sleep", "10us"])[0];
    if result["status"] == "skipped" {
        return;
    }
    assert_eq!(result["status"], "suspect", "{result}");
    let reason = result["reason"].as_str().unwrap();
    assert!(reason.contains("interrupts (CAL in /proc/interrupts) for "), "{reason}");
    assert!(counted(result, "CAL") < n(result), "{result}");
    let honest = &results(&["ipi", "single", "--via", "membarrier"])[0];
    assert!(result["p50"].as_f64() < honest["p50"].as_f64(), "{result} is no faster than {honest}");
}

#[test]
fn combined_modes_give_what_modes_alone_give() {
    let _alone = alone();
    let Some(_) = two() else { return };
    let together = results(&["ipi", "self", "single", "mesh", "broadcast"]);
    assert_eq!(together.len(), 4);
    for shape in ["self", "single", "mesh", "broadcast"] {
        let one = named(&together, &format!("ipi:{shape}")).clone();
        let alone = &results(&["ipi", shape])[0];
        for result in [&one, alone] {
            if shape == "self" {
                assert_eq!(result["status"], "ok", "{result}");
                assert_eq!(counted(result, "CAL"), 0);
            } else {
                measured(result, "CAL", n(result));
            }
        }
        // The middle half of what one saw has something in common with that of the other, on a loaded machine too.
        let (one, alone) = (one["p50"].as_f64(), alone["p50"].as_f64());
        if let (Some(one), Some(alone)) = (one, alone) {
            let ratio = one / alone;
            assert!((0.2..5.0).contains(&ratio), "ipi:{shape}: {one} together, {alone} alone");
        }
    }
}

#[test]
fn a_matrix_has_every_pair_and_no_other() {
    let _alone = alone();
    let Some((one, other)) = two() else { return };
    let report = report(&["ipi", "matrix"]);
    if report["results"][0]["status"] == "skipped" {
        return;
    }
    let cpus: Vec<usize> = report["matrix"]["cpus"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cpu| cpu.as_u64().unwrap() as usize)
        .collect();
    assert!(cpus.contains(&one) && cpus.contains(&other));
    for (row, values) in report["matrix"]["p50"].as_array().unwrap().iter().enumerate() {
        for (column, value) in values.as_array().unwrap().iter().enumerate() {
            assert_eq!(value.is_null(), row == column, "{row} {column}");
        }
    }
    let table = kvm_bench(&["ipi", "matrix", "--samples", "50", "--rounds", "1"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("median from each vCPU") && !table.contains('\x1b'), "{table}");
}

#[test]
fn throughput_agrees_with_an_independent_clock() {
    let _alone = alone();
    let Some(_) = two() else { return };
    let report = report(&["ipi", "mesh", "--pairs", "1"]);
    let result = &report["results"][0];
    if result["status"] == "skipped" {
        return;
    }
    let elapsed_s = result["totals"]["elapsed_ns"].as_f64().unwrap() / 1e9;
    let sent = result["totals"]["interrupts"].as_f64().unwrap();
    assert_eq!(sent, result["all"]["n"].as_f64().unwrap());
    let rate = result["interrupts_per_s"].as_f64().unwrap();
    assert!((rate * elapsed_s / sent - 1.0).abs() < 1e-6);
    // One after the other: in cycles of the counter they take no longer together than the clock says in all.
    let cycles_s =
        result["all"]["mean"].as_f64().unwrap() * sent / report["environment"]["tsc"]["hz"].as_f64().unwrap();
    assert!(cycles_s <= elapsed_s * 1.01, "{cycles_s} s of samples within {elapsed_s} s");
}

#[test]
fn shootdowns_interrupt_those_that_have_the_page() {
    let _alone = alone();
    let Some(_) = two() else { return };
    let results = results(&["tlb", "--threads", "1"]);
    assert_eq!(results.len(), 3);
    for result in &results {
        // Loop after loop, munmap too; not always as many within the time.
        let n = n(result);
        assert!(n > 3, "{result}");
        measured(result, "TLB", n);
    }
}

#[test]
fn sleepers_are_woken_once_for_each_sample() {
    let _alone = alone();
    let Some(_) = two() else { return };
    for arguments in
        [&["wake", "--sleep", "0", "--sleep", "50us"][..], &["wake", "--round-trip", "--sleep", "0"]]
    {
        for result in results(arguments) {
            let n = n(&result);
            assert!(n > 3 && counted(&result, "sleeps") as f64 >= n as f64 * 0.99, "{result}");
            assert!(matches!(result["status"].as_str(), Some("ok" | "suspect")), "{result}");
            if result["args"]["sleep_us"] == 0 {
                assert_eq!(result["status"], "ok", "{result}");
            }
        }
    }
}

#[test]
fn helpers_of_a_real_time_thread_come_to_run() {
    let _alone = alone();
    let Some(_) = two() else { return };
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-bench"));
    command.args(["ipi", "single", "broadcast", "--samples", "100", "--rounds", "1", "-o", "json"]);
    // SAFETY: between fork and exec it makes one system call.
    unsafe {
        command.pre_exec(|| {
            let priority = libc::sched_param { sched_priority: 10 };
            match libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let output = match command.output() {
        Err(error) => {
            eprintln!("skipped: no real-time priority for this user: {error}");
            return;
        }
        Ok(output) => output,
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for result in report["results"].as_array().unwrap() {
        measured(result, "CAL", n(result));
    }
}

#[test]
fn one_cpu_is_skipped_in_words() {
    let _alone = alone();
    // This thread's children inherit it.
    let all = sched_getaffinity(None).unwrap();
    let cpu = (0..CpuSet::MAX_CPU).find(|&cpu| all.is_set(cpu)).unwrap();
    let mut one = CpuSet::new();
    one.set(cpu);
    sched_setaffinity(None, &one).unwrap();
    let mut results = Vec::new();
    for arguments in [
        &["ipi", "single", "mesh", "broadcast", "matrix"][..],
        &["ipi", "single", "--halted"],
        &["tlb"],
        &["wake"],
    ] {
        results.extend(self::results(arguments));
    }
    sched_setaffinity(None, &all).unwrap();
    assert!(results.len() > 10);
    for result in results {
        assert_eq!(result["status"], "skipped", "{result}");
        assert_eq!(result["reason"], format!("it takes two CPUs, and only [{cpu}] may be used"));
        assert!(result["hint"].as_str().unwrap().contains("vCPU"));
    }
}

#[test]
fn what_cannot_be_asked_for_is_an_error_in_words() {
    let _alone = alone();
    let Some((one, other)) = two() else { return };
    let (one, other) = (one.to_string(), other.to_string());
    for (arguments, words) in [
        (&["ipi", "single", "--src", &one, "--dst", &one][..], "both source and target"),
        (&["ipi", "single", "--cpu", &one, "--dst", &one], "both source and target"),
        (&["ipi", "single", "--dst", "1000"], "CPU is offline or outside of this cpuset"),
        (&["ipi", "single", "--src", "1000", "--dst", &other], "CPU is offline or outside of this cpuset"),
        (&["wake", "futex", "--src", "99999"], "CPU is offline or outside of this cpuset"),
        (&["ipi", "mesh", "--pairs", "600"], "pairs at most"),
        (&["ipi", "broadcast", "--senders", "6000"], "CPUs"),
        (&["ipi", "self", "--pairs", "1"], "--pairs is for `kvm-bench ipi mesh`"),
        (&["tlb", "--threads", "6000"], "other CPUs"),
    ] {
        let output = kvm_bench(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(words) && output.stdout.is_empty(), "{arguments:?}: {error}");
    }
}
