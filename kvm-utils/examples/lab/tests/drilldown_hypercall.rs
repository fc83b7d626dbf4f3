//! hypercall says which numbers guests called, and how often.

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
    "hypercall-known-numbers", 60, known_numbers;
    "hypercall-linux-guest", 300, linux_guest;
}

/// The first two are KVM_HC_VAPIC_POLL_IRQ and KVM_HC_SCHED_YIELD, include/uapi/linux/kvm_para.h; nobody knows the last.
const NUMBERS: [(u32, u64); 3] = [(1, 401), (11, 211), (0x4b56_4d55, 307)];

fn known_numbers(context: &Context, source: Source) -> Result<()> {
    let phase = |(number, count)| {
        Phase::new(format!("{number:#x}"), Class::Hypercall, Operation::Hypercall { number }, count)
    };
    let plan = Plan { phases: NUMBERS.map(phase).to_vec(), skipped: Vec::new() };
    let mut session = check::start(&plan, Config::default(), check::options())?;
    let counter = EventCounter::new("kvm_hypercall", &[])?;
    let tracer = Tracer::start_noun(context, "hypercall", source, &["-i", "300ms"])?;
    let before = counter.read()?;
    while session.run_phase()?.is_some() {}
    let summary = tracer.stop_noun()?;
    let all = counter.read()?[0] - before[0];
    ensure!(summary.count() == all, "{} of {all}", summary.count());
    for (number, count) in NUMBERS {
        let keys = [("nr", json!(format!("{number:#x}"))), ("interface", json!("kvm"))];
        let of = summary.sum("count", &keys);
        ensure!(of == count, "number {number:#x}: {of} of {count}: {}", summary.value());
    }
    let vm = summary.vm_of(std::process::id())?;
    ensure!(vm["vcpus"][0]["vcpu"] == 0 && vm["count"] == summary.count(), "{vm}");
    Ok(())
}

/// Linux detects KVM's interface before Hyper-V's, unless that is hidden.
const HYPERV: &str =
    "host,kvm=off,hv-relaxed,hv-vapic,hv-time,hv-vpindex,hv-runtime,hv-synic,hv-ipi,hv-tlbflush";

/// A Linux guest that uses KVM's interface, and one that uses Hyper-V's: what perf counts.
fn linux_guest(context: &Context, source: Source) -> Result<()> {
    for (name, cpu) in [("lab-kvm", "host"), ("lab-hyperv", HYPERV)] {
        let kvm = EventCounter::new("kvm_hypercall", &["nr == 5", "nr == 10"])?;
        let hyperv = EventCounter::new("kvm_hv_hypercall", &["fast == 1", "code == 0xb"])?;
        let tracer = Tracer::start_noun(context, "hypercall", source, &[])?;
        let before = [kvm.read()?, hyperv.read()?].concat();
        boot(context, name, &["-cpu", cpu], "work=boot")?;
        let summary = tracer.stop_noun()?;
        let now = [kvm.read()?, hyperv.read()?].concat();
        let counts: Vec<u64> = now.iter().zip(before).map(|(now, before)| now - before).collect();
        let of = |interface: &str, nr: &str| {
            let keys = [("interface", json!(interface)), ("nr", json!(nr))];
            summary.sum("count", &keys[..if nr.is_empty() { 1 } else { 2 }])
        };
        let ours = [
            of("kvm", ""),
            of("kvm", "0x5"),
            of("kvm", "0xa"),
            of("hyper-v", ""),
            summary.sum("fast", &[]),
            of("hyper-v", "0xb"),
        ];
        eprintln!("  {name}: counted {ours:?}, perf {counts:?}");
        ensure!(ours == counts[..], "counted {ours:?}, perf {counts:?}");
        ensure!(ours[0] + ours[3] == summary.count(), "{}", summary.value());
        // With KVM's interface two vCPUs call only to kick one that waits for a lock: often never.
        ensure!(cpu != HYPERV || ours[3] > 0, "no hypercall: {}", summary.value());
    }
    Ok(())
}
