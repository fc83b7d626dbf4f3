//! `kvm-utils bench`: the payload measures on this kernel's KVM, and the tracer beside it counts exactly the exits that are
//! stated for what the payload says it did.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::program::dies_with_us;
use crate::registry::{Context, Test, Verdict};
use crate::tracer::Source;

tracer_tests! {
    "host-bench-attribute", 300, attribute;
}

/// Without the tracer.
pub const TESTS: &[Test] =
    &[Test { name: "host-bench-qemu", needs_idle_kvm: false, timeout_s: 300, run: under_qemu }];

/// Tests on a lab with two CPUs.
pub const TWO_CPUS: &[Test] =
    &[Test { name: "host-bench-two-vcpus", needs_idle_kvm: false, timeout_s: 300, run: two_vcpus }];

/// A known number of each operation: a prime.
const SAMPLES: u64 = 1009;

/// Runs the command and gives its document.
fn bench(context: &Context, options: &[&str]) -> Result<Value> {
    let program = context.kvm_utils.as_ref().context("--kvm-utils is not given")?;
    let mut command = Command::new(program);
    command.args(["bench", "-o", "json", "-t", "60s"]).args(options);
    dies_with_us(&mut command);
    let output = command.output().context("cannot run kvm-utils")?;
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {message}", output.status);
    let document: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(document["schema"] == "kvm-bench/v1", "{document}");
    Ok(document)
}

fn results(document: &Value) -> Result<&Vec<Value>> {
    document["results"].as_array().context("no results")
}

/// What each operation came to: all that ran are as they should be, and those that must run here did.
fn ran<'a>(document: &'a Value, must: &[&str]) -> Result<Vec<&'a Value>> {
    let mut ran = Vec::new();
    for one in results(document)? {
        match one["status"].as_str() {
            Some("ok") => ran.push(one),
            Some("skipped") => eprintln!("  skipped {}: {}", one["op"], one["reason"]),
            _ => bail!("{} {}: {}", one["op"], one["status"], one["reason"]),
        }
    }
    for op in must {
        ensure!(ran.iter().any(|one| one["op"] == *op), "{op} was not measured");
    }
    Ok(ran)
}

fn attribute(context: &Context, source: Source) -> Result<()> {
    let samples = SAMPLES.to_string();
    let document = bench(
        context,
        &[
            "--attribute",
            "--source",
            source.option(),
            "--vcpus",
            "1",
            "--rounds",
            "1",
            "--samples",
            &samples,
            "--ops",
            "cpuid,hypercall,pio,mmio,timer:arm",
        ],
    )?;
    let must =
        ["cpuid", "hypercall", "pio:kernel-in", "pio:user-in", "pio:user-out", "mmio:ioapic", "timer:arm"];
    for one in ran(&document, &must)? {
        exact(one).with_context(|| format!("{}", one["op"]))?;
        adds_up(&one["budget"]["split"]).with_context(|| format!("{}", one["op"]))?;
    }
    let (counted, kvm) =
        (&document["attribution"]["proof"]["counted"], &document["attribution"]["proof"]["kvm_stat"]);
    let counted = counted.as_u64().context("no count")?;
    // 5.10 keeps another statistic with AMD; then there is nothing to compare.
    if let (Some(least), Some(most)) = (kvm[0].as_u64(), kvm[1].as_u64()) {
        eprintln!("  counted {counted}, KVM {least} to {most}");
    }
    ensure!(counted > must.len() as u64 * SAMPLES, "{document}");
    Ok(())
}

/// The tracer counted what the payload's samples and the list of operations imply, and nothing else but the host's own.
fn exact(one: &Value) -> Result<()> {
    let counted = &one["budget"]["counted"];
    ensure!(counted["operations"] == SAMPLES, "{counted}");
    let Some(each) = counted["stated"]["each"].as_u64() else {
        eprintln!("  {} states nothing: {}", one["op"], counted["exits"]);
        return Ok(());
    };
    let exits = counted["exits"].as_array().context("no exits")?;
    let sum: u64 = exits.iter().filter_map(|reason| reason["count"].as_u64()).sum();
    eprintln!("  {} {} of {}", one["op"], sum, SAMPLES * each);
    ensure!(sum == SAMPLES * each && counted["agrees"] == true && counted["unexplained"] == 0, "{counted}");
    Ok(())
}

/// The parts of a round trip make up the whole.
fn adds_up(split: &Value) -> Result<()> {
    let cycles = |name: &str| split[name].as_f64().with_context(|| format!("no {name}: {split}"));
    let parts = ["guest_and_switch", "kvm", "vmm", "poll", "idle", "steal", "other"];
    let sum: f64 = parts.iter().map(|part| cycles(part)).sum::<Result<f64>>()?;
    let whole = cycles("round_trip")?;
    ensure!((sum - whole).abs() <= 1e-6 * whole.abs().max(1.0), "{sum} is not {whole}: {split}");
    ensure!(split["operations"] == SAMPLES, "{split}");
    for part in &parts[1..] {
        ensure!(cycles(part)? >= 0.0, "{split}");
    }
    ensure!(cycles("kvm")? > 0.0, "an exit without KVM: {split}");
    Ok(())
}

/// What two vCPUs do to each other, and the evidence that it happened.
fn two_vcpus(context: &Context) -> Result<Verdict> {
    let document =
        bench(context, &["--vcpus", "2", "--samples", "101", "--rounds", "2", "--ops", "ipi,eoi,hlt"])?;
    ensure!(document["environment"]["vcpus"] == 2, "{document}");
    for one in ran(&document, &["ipi:self", "ipi:single"])? {
        let evidence = &one["evidence"];
        ensure!(evidence["handled"] == evidence["sent"], "{one}");
    }
    Ok(Verdict::Ok)
}

fn under_qemu(context: &Context) -> Result<Verdict> {
    const QEMU: &str = "qemu-system-x86_64";
    if Command::new(QEMU).arg("--version").output().is_err() {
        return Ok(Verdict::Skipped(format!("there is no {QEMU}")));
    }
    let document = bench(context, &["--qemu", "--samples", "101", "--rounds", "1", "--ops", "cpuid,pio"])?;
    ran(&document, &["cpuid", "pio:kernel-in", "pio:user-in", "pio:pmtimer"])?;
    Ok(Verdict::Ok)
}
