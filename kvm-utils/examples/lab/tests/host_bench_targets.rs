//! `kvm-utils bench --attribute` with two vCPUs, on a lab with two CPUs: who interrupts, and who is interrupted.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::host_bench::{WRITES, adds_up_to, attributed, exits_of, ran};
use crate::registry::Context;
use crate::tracer::Source;

tracer_tests! {
    "host-bench-attribute-targets", 300, targets;
}

/// A known number of each operation: a prime.
const SAMPLES: u64 = 211;

/// In a lab without AVIC and virtualized IPIs each interrupt is one write of its sender, one of its target that ends it, and of
/// a target that halts one HLT. Both vCPUs' times add up.
fn targets(context: &Context, source: Source) -> Result<()> {
    let document = attributed(context, source, 2, SAMPLES, "ipi")?;
    for one in ran(&document, &["ipi:send", "ipi:single", "ipi:halted", "ipi:broadcast"])? {
        interrupts(one).with_context(|| format!("{}", one["op"]))?;
    }
    Ok(())
}

fn interrupts(one: &Value) -> Result<()> {
    let budget = &one["budget"];
    eprintln!("  {} {} {}", one["op"], budget["counted"]["exits"], budget["targets"]);
    let waits = one["op"] == "ipi:send" || one["op"] == "ipi:halted";
    adds_up_to(if waits { "round" } else { "samples" }, SAMPLES, &budget["split"])?;
    let written = exits_of(&budget["counted"]["exits"], WRITES);
    let targets = budget["targets"].as_array().context("no targets")?;
    if one["op"] == "ipi:self" {
        ensure!(targets.is_empty() && written == 2 * SAMPLES, "{budget}");
        return Ok(());
    }
    ensure!(written == SAMPLES, "{budget}");
    let [target] = targets.as_slice() else { anyhow::bail!("{budget}") };
    ensure!(target["vcpu"] == 1 && exits_of(&target["exits"], WRITES) == SAMPLES, "{budget}");
    // The first HLT may lie before the round, and the last behind it.
    let halts = exits_of(&target["exits"], &["hlt"]);
    let is_halted = one["op"] == "ipi:halted";
    ensure!(
        halts.abs_diff(if is_halted { SAMPLES } else { 0 }) <= u64::from(is_halted),
        "{halts} halts: {budget}"
    );
    adds_up_to("round", SAMPLES, &target["split"])
}
