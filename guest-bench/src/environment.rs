//! The machine on which figures were measured: without it they cannot be compared.

use std::fs;

use serde_json::{Value, json};

use crate::cpu;

/// Everything that may change what an exit costs, as far as a guest can see it.
pub fn fingerprint() -> Value {
    let read = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.split('\t').next() == Some(name))?;
        line.split_once(": ").map(|(_, value)| value.to_owned())
    };
    json!({
        "hypervisor": cpu::hypervisor(),
        "cpu": field("model name"),
        "microcode": field("microcode"),
        "cpus": cpu::allowed().map(|cpus| cpus.len()).unwrap_or(0),
        "kernel": read("/proc/sys/kernel/osrelease"),
        "cmdline": read("/proc/cmdline"),
        "clocksource": read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
    })
}
