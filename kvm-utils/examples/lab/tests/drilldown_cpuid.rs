//! cpuid says which leaves guests asked for, how often, and whether they got an answer.

use anyhow::{Result, ensure};
use kvm_utils::decode::Class;
use kvm_utils::selftest::{Config, Operation, Phase, Plan};
use serde_json::json;

use super::tracer_linux::boot;
use crate::check;
use crate::reference::EventCounter;
use crate::registry::Context;
use crate::tracer::{Source, Tracer};

tracer_tests! {
    "cpuid-known-numbers", 60, known_numbers;
    "cpuid-linux-guest", 300, linux_guest;
}

/// A leaf each, the last with no answer on any processor.
const LEAVES: [(u32, u64); 5] =
    [(0, 1009), (1, 503), (0x8000_0008, 211), (0x4000_0001, 307), (0x5a5a_0000, 101)];

fn known_numbers(context: &Context, source: Source) -> Result<()> {
    let phase =
        |(leaf, count)| Phase::new(format!("{leaf:#x}"), Class::Cpuid, Operation::Cpuid { leaf }, count);
    let plan = Plan { phases: LEAVES.map(phase).to_vec(), skipped: Vec::new() };
    let mut session = check::start(&plan, Config::default(), check::options())?;
    let counter = EventCounter::new("kvm_cpuid", &["found == 1"])?;
    let tracer = Tracer::start_noun(context, "cpuid", source, &["-i", "300ms"])?;
    let before = counter.read()?;
    while session.run_phase()?.is_some() {}
    let summary = tracer.stop_noun()?;
    let (all, found) = (counter.read()?[0] - before[0], counter.read()?[1] - before[1]);
    ensure!(summary.count() == all, "{} of {all}", summary.count());
    ensure!(summary.sum("count", &[("answer", json!("found"))]) == found, "{found}: {}", summary.value());
    for (leaf, count) in LEAVES {
        let of = summary.sum("count", &[("leaf", json!(format!("{leaf:#x}")))]);
        ensure!(of == count, "leaf {leaf:#x}: {of} of {count}: {}", summary.value());
    }
    let unanswered = summary.totals().into_iter().find(|row| row["leaf"] == "0x5a5a0000");
    ensure!(unanswered.is_some_and(|row| row["answer"] != "found"), "{}", summary.value());
    let vm = summary.vm_of(std::process::id())?;
    ensure!(vm["vcpus"][0]["vcpu"] == 0 && vm["count"] == summary.count(), "{vm}");
    Ok(())
}

/// A Linux guest: what perf counts. It looks for a hypervisor at more places than the vCPU's own table has room for.
fn linux_guest(context: &Context, source: Source) -> Result<()> {
    let filters = ["found == 1", "used_max_basic == 1", "function == 1", "function == 0xb"];
    let counter = EventCounter::new("kvm_cpuid", &filters)?;
    let tracer = Tracer::start_noun(context, "cpuid", source, &[])?;
    let before = counter.read()?;
    let pid = boot(context, "lab-cpuid", &[], "work=boot")?;
    let summary = tracer.stop_noun()?;
    let counts: Vec<u64> = counter.read()?.iter().zip(before).map(|(now, before)| now - before).collect();
    let sum = |key: &str, value: &str| summary.sum("count", &[(key, json!(value))]);
    let ours = [
        summary.count(),
        sum("answer", "found"),
        sum("answer", "highest"),
        sum("leaf", "0x1"),
        sum("leaf", "0xb"),
    ];
    eprintln!("  counted {ours:?}, perf {counts:?}");
    ensure!(ours == counts[..], "counted {ours:?}, perf {counts:?}");
    ensure!(ours[3] > 0, "a Linux guest that never asked for leaf 1: {ours:?}");
    let vm = summary.vm_of(pid)?;
    ensure!(vm["name"] == "lab-cpuid" && vm["ended"] == true, "{vm}");
    Ok(())
}
