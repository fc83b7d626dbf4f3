//! Another thread on the same CPU: samples that it stretched are in `all`, are counted, and hardly move `clean`.

#![allow(clippy::unwrap_used)]

use std::process::{Child, Command};

use rustix::thread::{CpuSet, sched_getaffinity};
use serde_json::Value;

/// A program that computes on one CPU until it is dropped.
struct Competitor(Child);

impl Competitor {
    fn on(cpu: usize) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do :; done"]);
        let mut set = CpuSet::new();
        set.set(cpu);
        let child = command.spawn().unwrap();
        rustix::thread::sched_setaffinity(Some(rustix::process::Pid::from_child(&child)), &set).unwrap();
        Self(child)
    }
}

impl Drop for Competitor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn measure(cpu: usize) -> Value {
    let cpu = cpu.to_string();
    let arguments =
        ["syscall", "-o", "json", "--cpu", &cpu, "--samples", "2000000", "-t", "2s", "--rounds", "5"];
    let output = Command::new(env!("CARGO_BIN_EXE_kvm-bench")).args(arguments).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let result = report["results"][0].clone();
    assert_eq!(result["status"], "ok", "{result}");
    result
}

#[test]
fn what_a_competitor_stretches_is_counted_and_left_out() {
    let allowed = sched_getaffinity(None).unwrap();
    let cpu = (0..CpuSet::MAX_CPU).rfind(|cpu| allowed.is_set(*cpu)).unwrap();
    let (quiet, disturbed) = {
        let quiet = measure(cpu);
        let _competitor = Competitor::on(cpu);
        (quiet, measure(cpu))
    };
    let number = |value: &Value| value.as_f64().unwrap();
    // Two programs on a CPU take turns some hundred times a second.
    assert!(disturbed["rejected"]["preempted"].as_u64() > Some(20), "{disturbed}");
    // One sample holds a whole turn of the competitor: far more than any system call takes.
    assert!(number(&disturbed["all"]["max"]) > 1e6, "{disturbed}");
    // How far the long ones pull the mean from the median. The machine may be busy in the first run too, so only its median is used.
    let pull = |part: &Value| (number(&part["mean"]) / number(&part["p50"]) - 1.0).abs();
    let (clean, all) = (pull(&disturbed), pull(&disturbed["all"]));
    assert!(clean * 5.0 < all, "clean is pulled by {clean}, all by {all}");
    let median = number(&disturbed["p50"]) / number(&quiet["p50"]);
    assert!((0.7..1.4).contains(&median), "{quiet} {disturbed}");
    let left: u64 = disturbed["rejected"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert_eq!(disturbed["all"]["n"].as_u64().unwrap() - disturbed["n"].as_u64().unwrap(), left);
}
