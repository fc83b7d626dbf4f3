//! rip says where in the guest exits happen.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use kvm_utils::decode::{Class, ExitReason, Isa};
use kvm_utils::selftest::{Config, Operation, Phase, Plan};
use serde_json::{Value, json};

use super::tracer_linux::boot;
use crate::check;
use crate::drilldown::sum;
use crate::reference::EventCounter;
use crate::registry::Context;
use crate::tracer::{Source, Tracer};

tracer_tests! {
    "rip-known-numbers", 60, known_numbers;
    "rip-linux-guest", 300, linux_guest;
}

/// The kernel's name for a reason of this class.
fn reason(isa: Isa, class: Class) -> Result<ExitReason> {
    ExitReason::all(isa).find(|reason| reason.class() == class).context("no such reason")
}

/// Each operation is an instruction in a loop, at an address of its own.
fn known_numbers(context: &Context, source: Source) -> Result<()> {
    let isa = check::host()?.isa;
    let phases = [
        (Operation::Cpuid { leaf: 0 }, Class::Cpuid, 1009),
        (Operation::Xsetbv, Class::Xsetbv, 211),
        (Operation::Hypercall { number: 0x4b56_4d55 }, Class::Hypercall, 307),
    ];
    let plan = phases.map(|(operation, class, count)| Phase::new(class.id(), class, operation, count));
    let plan = Plan { phases: plan.to_vec(), skipped: Vec::new() };
    let symbols = std::env::temp_dir().join(format!("lab-rip-{}", std::process::id()));
    let mut hot = Vec::new();
    for named in [false, true] {
        let mut session = check::start(&plan, Config::default(), check::options())?;
        let codes: Vec<String> = phases
            .iter()
            .map(|(_, class, _)| Ok(format!("exit_reason == {}", reason(isa, *class)?.code)))
            .collect::<Result<_>>()?;
        let counter = EventCounter::new("kvm_exit", &codes.iter().map(String::as_str).collect::<Vec<_>>())?;
        let path = symbols.to_string_lossy();
        let options = ["-i", "300ms", "--symbols", &*path, "--reason", "cpuid", "--reason", "hypercall"];
        let tracer =
            Tracer::start_noun(context, "rip", source, &options[..if named { options.len() } else { 2 }])?;
        let before = counter.read()?;
        while session.run_phase()?.is_some() {}
        let summary = tracer.stop_noun()?;
        let counts: Vec<u64> = counter.read()?.iter().zip(before).map(|(now, before)| now - before).collect();
        ensure!(summary.count() == counts[0], "{} of {}", summary.count(), counts[0]);
        let vm = summary.vm_of(std::process::id())?;
        ensure!(vm["vcpus"][0]["vcpu"] == 0 && vm["count"] == summary.count(), "{vm}");
        for ((_, class, count), all) in phases.iter().zip(&counts[1..]) {
            let name = json!(reason(isa, *class)?.name());
            let of = summary.sum("count", &[("rip", json!("all")), ("reason", name.clone())]);
            if named && *class == Class::Xsetbv {
                ensure!(of == 0, "--reason left it in: {}", summary.value());
                continue;
            }
            ensure!(of == *all, "{name}: {of} of {all}: {}", summary.value());
            let rows: Vec<&Value> = summary
                .totals()
                .into_iter()
                .filter(|row| row["reason"] == name && row["rip"] != "all" && row["count"] == *count)
                .collect();
            ensure!(rows.len() == 1, "{count} times {name} at {} addresses: {}", rows.len(), summary.value());
            let symbol = format!("{}_loop+0x2", class.id());
            ensure!(rows[0]["symbol"] == if named { json!(symbol) } else { Value::Null }, "{}", rows[0]);
            hot.push((rows[0]["rip"].clone(), *class));
        }
        if !named {
            let addresses = sum(summary.totals(), "addresses", &[("rip", json!("all"))]);
            ensure!(addresses as usize >= hot.len(), "{}", summary.value());
            let mut text = String::from("not a symbol\n");
            for (rip, class) in &hot {
                let rip = u64::from_str_radix(rip.as_str().unwrap_or_default().trim_start_matches("0x"), 16)?;
                text += &format!("{:016x} t {}_loop\n", rip - 2, class.id());
            }
            fs::write(&symbols, text)?;
        }
    }
    fs::remove_file(&symbols)?;
    Ok(())
}

/// A Linux guest: what perf counts, in all, in the kernel and below.
fn linux_guest(context: &Context, source: Source) -> Result<()> {
    let filters = ["guest_rip >= 0x8000000000000000", "guest_rip == 0"];
    let counter = EventCounter::new("kvm_exit", &filters)?;
    let tracer = Tracer::start_noun(context, "rip", source, &[])?;
    let before = counter.read()?;
    let pid = boot(context, "lab-rip", &[], "work=boot")?;
    let summary = tracer.stop_noun()?;
    let counts: Vec<u64> = counter.read()?.iter().zip(before).map(|(now, before)| now - before).collect();
    let ours = [
        summary.count(),
        summary.sum("count", &[("space", json!("kernel"))]),
        summary.sum("count", &[("rip", json!("0x0"))]),
    ];
    eprintln!("  counted {ours:?}, perf {counts:?}");
    ensure!(ours == counts[..], "counted {ours:?}, perf {counts:?}");
    let sums = summary.sum("count", &[("rip", json!("all"))]);
    ensure!(sums == ours[0] && ours[1] > 0, "sums of {sums}: {}", summary.value());
    let vm = summary.vm_of(pid)?;
    ensure!(vm["name"] == "lab-rip" && vm["ended"] == true, "{vm}");
    ensure!(vm["vcpus"].as_array().is_some_and(|vcpus| vcpus.len() == 2), "{vm}");
    Ok(())
}
