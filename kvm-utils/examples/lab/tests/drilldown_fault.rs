//! fault says which pages of the guest's memory faulted, how often, and whether a device was there.

use anyhow::{Result, ensure};
use kvm_utils::decode::{Class, Isa};
use kvm_utils::selftest::{Config, Operation, Phase, Plan};
use serde_json::json;

use super::tracer_linux::boot;
use crate::check;
use crate::reference::EventCounter;
use crate::registry::Context;
use crate::tracer::{Source, Tracer};

tracer_tests! {
    "fault-known-numbers", 60, known_numbers;
    "fault-linux-guest", 300, linux_guest;
}

/// No memory of the selftest's guest, so that accesses go to user space.
const DEVICE: u32 = 0xd000_0000;
/// More than a vCPU's own table has room for.
const FRESH: u64 = 5003;

fn known_numbers(context: &Context, source: Source) -> Result<()> {
    let phases = [
        (Operation::TouchFresh, FRESH),
        (Operation::MmioRead { address: DEVICE }, 127),
        (Operation::MmioWrite { address: DEVICE + 0x2000, value: 1 }, 131),
    ];
    let phases =
        phases.map(|(operation, count)| Phase::new(format!("{operation:?}"), Class::Ept, operation, count));
    let plan = Plan { phases: phases.to_vec(), skipped: Vec::new() };
    let mut session = check::start(&plan, Config::default(), check::options())?;
    let counter = EventCounter::new("kvm_page_fault", &["error_code & 2"])?;
    let tracer = Tracer::start_noun(context, "fault", source, &["-i", "300ms"])?;
    let before = counter.read()?;
    while session.run_phase()?.is_some() {}
    let summary = tracer.stop_noun()?;
    let (all, writes) = (counter.read()?[0] - before[0], counter.read()?[1] - before[1]);
    ensure!(summary.count() == all, "{} of {all}", summary.count());
    let sum = |column: &str, page: &str, access: &str, memory: &str| {
        let keys = [("page", json!(page)), ("access", json!(access)), ("memory", json!(memory))];
        summary.sum(column, &keys)
    };
    let written = sum("count", "all", "write", "RAM") + sum("count", "all", "write", "MMIO");
    ensure!(written == writes, "{written} of {writes} writes: {}", summary.value());
    // The fresh pages, each once; the guest writes to a few pages of its own as well.
    let fresh = sum("pages", "all", "write", "RAM");
    ensure!((FRESH..FRESH + 16).contains(&fresh), "{fresh} pages: {}", summary.value());
    let rows = summary.totals().into_iter().filter(|row| row["page"] != "all");
    let listed: u64 = rows.filter_map(|row| row["count"].as_u64()).sum();
    ensure!(listed == all, "pages have {listed} of {all}: {}", summary.value());
    // On VMX only the first access of a page faults, the others are EPT misconfigurations.
    let (reads, writes) = if check::host()?.isa == Isa::Vmx { (1, 1) } else { (127, 131) };
    let device = [
        sum("count", "0xd0000000", "read", "MMIO"),
        sum("count", "0xd0002000", "write", "MMIO"),
        sum("count", "all", "read", "MMIO"),
        sum("count", "all", "write", "MMIO"),
    ];
    ensure!(device[..2] == [reads, writes], "{device:?}: {}", summary.value());
    ensure!(device[2] >= reads && device[3] >= writes, "{device:?}: {}", summary.value());
    let vm = summary.vm_of(std::process::id())?;
    ensure!(vm["vcpus"][0]["vcpu"] == 0 && vm["count"] == summary.count(), "{vm}");
    Ok(())
}

/// A Linux guest: what perf counts.
fn linux_guest(context: &Context, source: Source) -> Result<()> {
    let host = check::host()?;
    let fetch = if host.isa == Isa::Vmx { "error_code & 4" } else { "error_code & 16" };
    let counter = EventCounter::new("kvm_page_fault", &["error_code & 2", fetch])?;
    let tracer = Tracer::start_noun(context, "fault", source, &[])?;
    let before = counter.read()?;
    let pid = boot(context, "lab-fault", &[], "work=boot")?;
    let summary = tracer.stop_noun()?;
    let counts: Vec<u64> = counter.read()?.iter().zip(before).map(|(now, before)| now - before).collect();
    let all = |access: &str| summary.sum("count", &[("page", json!("all")), ("access", json!(access))]);
    let ours = [summary.count(), all("write"), all("fetch")];
    eprintln!("  counted {ours:?}, perf {counts:?}");
    ensure!(ours == counts[..], "counted {ours:?}, perf {counts:?}");
    ensure!(ours.iter().all(|count| *count > 0), "{ours:?}");
    let vm = summary.vm_of(pid)?;
    ensure!(vm["name"] == "lab-fault" && vm["ended"] == true, "{vm}");
    Ok(())
}
