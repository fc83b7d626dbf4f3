//! The real program on this machine, whatever it is: everything is measured, or skipped for a reason that is said.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_kvm-bench");

/// `nobody` on most systems.
const NOBODY: u32 = 65_534;

fn run(program: &Path, arguments: &str) -> Output {
    Command::new(program).args(arguments.split(' ')).output().unwrap()
}

/// What it printed, without a panic.
fn report(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!errors.contains("panicked"), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn results(report: &Value) -> &[Value] {
    report["results"].as_array().unwrap()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Every operation is measured or has a reason and a remedy.
fn assert_told(report: &Value) {
    assert!(!results(report).is_empty());
    for one in results(report) {
        let said = |name: &str| one[name].as_str().is_some_and(|text| text.len() > 5);
        match one["status"].as_str().unwrap() {
            "ok" if one["op"] == "jitter" => assert!(one["totals"]["watched_ns"].as_u64() > Some(0), "{one}"),
            "ok" => assert!(one["n"].as_u64() > Some(0) && one["p50"].as_f64() >= Some(0.0), "{one}"),
            "skipped" => assert!(said("reason") && said("hint"), "{one}"),
            "suspect" => assert!(said("reason"), "{one}"),
            other => panic!("{other}: {one}"),
        }
    }
}

/// What needs one CPU. The others need a second one that has time for them, and have tests of their own.
const ALONE: &str = "null cpuid hypercall pio mmio msr syscall clock timer fault jitter";

#[test]
fn all_has_everything_that_is_usual() {
    let output = run(Path::new(PROGRAM), "all -o json -t 50ms --rounds 3");
    assert!(results(&report(&output)).len() > 40);
}

#[test]
fn all_is_measured_or_skipped() {
    let output = run(Path::new(PROGRAM), &format!("all {ALONE} -o json -t 200ms"));
    assert_eq!(output.status.code(), Some(0));
    let report = report(&output);
    assert_told(&report);
    // Nothing is asked of the machine for these.
    for op in ["null", "syscall", "clock:gettime", "timer:timerfd", "fault:4k", "jitter"] {
        let one = results(&report).iter().find(|one| one["op"] == op).unwrap();
        assert_eq!(one["status"], "ok", "{one}");
    }
    // How it was done is said, where there are several ways.
    for one in results(&report).iter().filter(|one| one["status"] == "ok") {
        let noun = one["op"].as_str().unwrap().split(':').next().unwrap();
        if ["pio", "mmio", "msr", "clock"].contains(&noun) {
            assert!(one["notes"]["via"].as_str().is_some_and(|via| !via.is_empty()), "{one}");
        }
    }
}

#[test]
fn without_rights_it_measures_what_it_can() {
    if !is_root() {
        return; // The test above was one without rights.
    }
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = directory.path().join("kvm-bench");
    fs::copy(PROGRAM, &program).unwrap();
    let mut command = Command::new(&program);
    command
        .args(["all", "-o", "json", "-t", "20ms"])
        .args(ALONE.split(' '))
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir("/");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = report(&output);
    assert_told(&report);
    for one in results(&report) {
        let op = one["op"].as_str().unwrap();
        if op.starts_with("pio:") || op.starts_with("msr:") {
            assert_eq!(one["status"], "skipped", "{one}");
        }
    }
    // What changes the machine is refused in words, not tried.
    let mut command = Command::new(&program);
    command.args(["clock", "--each-source", "-o", "json", "-t", "20ms"]).uid(NOBODY).gid(NOBODY);
    let output = command.output().unwrap();
    for one in results(&self::report(&output)) {
        assert_eq!(one["status"], "skipped", "{one}");
    }
}

/// A cpuset with a hole in front of it: the numbers of CPUs are names, not positions.
#[test]
fn the_cpus_it_may_use_need_not_begin_with_the_first() {
    let may = sched_getaffinity(None).unwrap();
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| may.is_set(cpu)).collect();
    let [first, .., last] = allowed[..] else { return };
    let within = |arguments: &str| {
        let mut command = Command::new(PROGRAM);
        command.args(arguments.split(' '));
        // SAFETY: one system call, with memory of its own.
        unsafe {
            command.pre_exec(move || {
                let mut set = CpuSet::new();
                set.set(last);
                Ok(sched_setaffinity(None, &set)?)
            });
        }
        command.output().unwrap()
    };
    let output = within("all null syscall jitter -o json -t 50ms");
    assert_eq!(output.status.code(), Some(0));
    assert_told(&report(&output));
    let output = within(&format!("all null --cpu {first}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors.contains(&format!("there are [{last}]")), "{errors}");
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    for arguments in [
        "pio --size 3",
        "pio --size 8",
        "pio --port 0x10000",
        "pio --port 0x60 --write",
        "mmio --bar 1",
        "mmio --pci 00:01.0",
        "mmio --pci 00:01.0 --bar 6",
        "mmio --addr here",
        "msr --index nonsense",
        "clock --clock moon",
        "timer --delay 2s",
        "timer --delay 10",
        "jitter --threshold 0us",
        "all nonsense",
    ] {
        let output = run(Path::new(PROGRAM), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {output:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{arguments}: {output:?}");
    }
}

/// Children of a process, from the fourth field of `/proc/PID/stat`.
fn children(parent: u32) -> Vec<i32> {
    let of = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok()
    };
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let processes = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    processes.filter(|pid| of(pid) == Some(parent)).collect()
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Starts three operations and sends a signal to the worker of one, when all three are there.
fn with_signal(signal: libc::c_int) -> (Value, i32) {
    let mut command = Command::new(PROGRAM);
    command.args("all null cpuid syscall -o json -t 1s --rounds 5 --samples 1000000000".split(' '));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let workers = wait_for("three workers", || Some(children(child.id())).filter(|all| all.len() == 3));
    // SAFETY: it is a process that was started here.
    assert_eq!(unsafe { libc::kill(workers[1], signal) }, 0);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    (report(&output), workers[1])
}

/// One has failed as is said, the other two have all their rounds.
fn assert_one_failed(report: &Value, reason: &str) {
    assert_told_but_one(report);
    let failed: Vec<_> = results(report).iter().filter(|one| one["status"] == "failed").collect();
    assert_eq!(failed.len(), 1, "{report}");
    assert!(failed[0]["reason"].as_str().unwrap().contains(reason), "{}", failed[0]);
}

fn assert_told_but_one(report: &Value) {
    let ok = results(report).iter().filter(|one| one["status"] == "ok");
    assert_eq!(ok.clone().count(), 2, "{report}");
    ok.for_each(|one| assert_eq!(one["rounds_p50"].as_array().map(Vec::len), Some(5), "{one}"));
}

#[test]
fn a_worker_that_crashes_costs_its_own_operation() {
    let (report, _) = with_signal(libc::SIGKILL);
    assert_one_failed(&report, "SIGKILL");
}

#[test]
fn a_worker_that_hangs_is_ended_by_the_watchdog() {
    let start = Instant::now();
    let (report, worker) = with_signal(libc::SIGSTOP);
    assert_one_failed(&report, "it hung");
    assert!(start.elapsed() < Duration::from_secs(40), "{:?}", start.elapsed());
    assert!(!Path::new(&format!("/proc/{worker}")).exists(), "it is still there");
}

/// The other vendor's hypercall is an instruction that this processor refuses, by whatever signal.
#[test]
fn an_instruction_that_is_not_there_costs_its_own_operation() {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap();
    let is_guest = cpuinfo.lines().any(|line| line.starts_with("flags") && line.contains(" hypervisor"));
    let other = if cpuinfo.contains("GenuineIntel") { "amd" } else { "intel" };
    let output = run(Path::new(PROGRAM), &format!("hypercall --vendor {other} -o json -t 20ms"));
    let report = report(&output);
    let one = &results(&report)[0];
    let reason = one["reason"].as_str().unwrap_or_default();
    if is_guest {
        assert!(reason.contains("SIGILL") || reason.contains("SIGSEGV"), "{one}");
    } else {
        assert_eq!(one["status"], "skipped", "{one}");
    }
}

/// A lateness is a time on another clock: so many waits take their delays and what they were late.
#[test]
fn lateness_is_reported_in_true_units() {
    let start = Instant::now();
    let output = run(Path::new(PROGRAM), "timer --delay 20ms --samples 10 --rounds 1 -t 10s -o json");
    let real = start.elapsed().as_secs_f64();
    let report = report(&output);
    assert_told(&report);
    let hz = report["environment"]["tsc"]["hz"].as_f64().unwrap();
    for one in results(&report).iter().filter(|one| one["args"]["delay"] == "20ms") {
        let late = one["all"]["mean"].as_f64().unwrap() / hz;
        // Ten waits and some to warm up; a wrong unit would be off by a factor of 2.6 or a thousand.
        assert!(late > 1e-7 && 10.0 * (0.02 + late) < real, "{one} in {real} s");
        assert_eq!(one["evidence"]["fired"], 10);
        assert_eq!(one["evidence"]["early"], 0);
    }
}
