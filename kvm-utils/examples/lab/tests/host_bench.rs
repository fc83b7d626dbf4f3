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
    "host-bench-attribute-interrupts", 300, attribute_interrupts;
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
pub fn bench(context: &Context, options: &[&str]) -> Result<Value> {
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

/// With the tracer beside it: one round of so many samples each.
pub fn attributed(context: &Context, source: Source, vcpus: u32, samples: u64, ops: &str) -> Result<Value> {
    let (vcpus, samples) = (vcpus.to_string(), samples.to_string());
    let options = ["--attribute", "--source", source.option(), "--vcpus", &vcpus, "--rounds", "1"];
    bench(context, &[&options[..], &["--samples", &samples, "--ops", ops]].concat())
}

fn results(document: &Value) -> Result<&Vec<Value>> {
    document["results"].as_array().context("no results")
}

/// What each operation came to: all that ran are as they should be, and those that must run here did.
pub fn ran<'a>(document: &'a Value, must: &[&str]) -> Result<Vec<&'a Value>> {
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
    let document = attributed(context, source, 1, SAMPLES, "cpuid,hypercall,pio,mmio,timer:arm")?;
    let must = [
        "cpuid",
        "hypercall",
        "pio:kernel-in",
        "pio:user-in",
        "pio:notify",
        "mmio:ioapic",
        "mmio:notify",
        "timer:arm",
    ];
    for one in ran(&document, &must)? {
        exact(one).with_context(|| format!("{}", one["op"]))?;
        adds_up(one).with_context(|| format!("{}", one["op"]))?;
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

/// The parts of a round trip make up the whole, and some of it is KVM's.
fn adds_up(one: &Value) -> Result<()> {
    ensure!(one["budget"]["not_split"].is_null(), "{}", one["budget"]);
    adds_up_to("samples", SAMPLES, &one["budget"]["split"])
}

/// A split of so many samples, or of the whole round: its columns make up what the guest's counter says, and of a whole round
/// the host's clock says the same (else the operation were suspect).
pub fn adds_up_to(of: &str, operations: u64, split: &Value) -> Result<()> {
    let cycles = |name: &str| split[name].as_f64().with_context(|| format!("no {name}: {split}"));
    let parts = ["guest_and_switch", "kvm", "vmm", "poll", "idle", "steal", "other"];
    let sum: f64 = parts.iter().map(|part| cycles(part)).sum::<Result<f64>>()?;
    let total = cycles("round_trip")?;
    ensure!((sum - total).abs() <= 1e-6 * total.abs().max(1.0), "{sum} is not {total}: {split}");
    ensure!(split["of"] == of && split["operations"] == operations, "{split}");
    for part in &parts[1..] {
        ensure!(cycles(part)? >= 0.0, "{split}");
    }
    ensure!(cycles("kvm")? > 0.0, "an exit without KVM: {split}");
    ensure!(of == "samples" || total == cycles("whole")?, "{split}");
    Ok(())
}

/// Exits of a list whose class is one of these.
pub fn exits_of(list: &Value, classes: &[&str]) -> u64 {
    let list = list.as_array().into_iter().flatten();
    let is_it = |one: &&Value| one["class"].as_str().is_some_and(|class| classes.contains(&class));
    list.filter(is_it).filter_map(|one| one["count"].as_u64()).sum()
}

/// A register is written: SVM's exit code does not tell by itself.
pub const WRITES: &[&str] = &["msr", "msr-write"];

/// What one vCPU does to itself, in a lab without APICv and AVIC: each interrupt is a write that sends or times it, and one
/// that ends it.
fn attribute_interrupts(context: &Context, source: Source) -> Result<()> {
    const SAMPLES: u64 = 307;
    let document = attributed(context, source, 1, SAMPLES, "ipi:self,eoi,hlt,timer:fire,jitter")?;
    // Where the timer has no deadline mode there is none to fire.
    for one in ran(&document, &["ipi:self", "eoi", "hlt", "jitter"])? {
        let budget = &one["budget"];
        eprintln!("  {}: {} {}", one["op"], budget["counted"]["exits"], budget["split"]);
        let exits = &budget["counted"]["exits"];
        let (of, halts) = match one["op"].as_str() {
            Some("null") => continue,
            Some("jitter") => {
                shared_out(one)?;
                continue;
            }
            Some("ipi:self") => ("samples", 0),
            Some("hlt") => ("round", SAMPLES),
            _ => ("round", 0),
        };
        let (written, halted) = (exits_of(exits, WRITES), exits_of(exits, &["hlt"]));
        ensure!((written, halted) == (2 * SAMPLES, halts), "{}: {budget}", one["op"]);
        adds_up_to(of, SAMPLES, &budget["split"]).with_context(|| format!("{}", one["op"]))?;
    }
    Ok(())
}

/// The gaps that the guest saw are shared out, or it saw none and says so.
fn shared_out(jitter: &Value) -> Result<()> {
    let budget = &jitter["budget"];
    let gaps = jitter["budget"]["counted"]["operations"].as_u64().context("no count")?;
    let timed = budget["split"]["operations"].as_u64().unwrap_or(0);
    eprintln!("  jitter: {gaps} and {timed} gaps, {}", budget["not_split"]);
    if timed == 0 {
        ensure!(budget["not_split"].as_str().is_some_and(|why| why.contains("no gap")), "{jitter}");
        return Ok(());
    }
    adds_up_to("samples", timed, &budget["split"])
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
