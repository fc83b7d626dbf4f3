//! kvm-bench in a Linux guest under a real QEMU, and the tracer outside: what the guest says it did is what left it.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::tracer_linux::boot_with;
use crate::registry::Context;
use crate::tracer::{Source, Tracer};

tracer_tests! {
    "kvm-bench-operations-are-exits", 300, operations_are_exits;
}

/// Boots the guest and runs kvm-bench in it, once for each line of words. Gives its reports.
fn bench(context: &Context, lines: &[&str]) -> Result<Vec<Value>> {
    let lines: Vec<_> = lines.iter().map(|line| format!("{line} -o json").replace(' ', ",")).collect();
    let words = format!("work=bench bench={}", lines.join("+"));
    let (_, console) = boot_with(context, context.l2_bench.as_ref(), "lab-bench", &["-cpu", "host"], &words)?;
    // In front of a report on the same line: how far it was, which a terminal shows.
    let report = |line: &str| serde_json::from_str(line.get(line.find('{')?..)?.trim()).ok();
    let reports: Vec<Value> = console.lines().filter_map(report).collect();
    ensure!(reports.len() == lines.len(), "{} reports of {}: {console}", reports.len(), lines.len());
    for line in &lines {
        ensure!(console.contains(&format!("L2-WORKED {line}: exit status 0")), "{console}");
    }
    Ok(reports)
}

/// What it measured of one operation.
fn result<'a>(report: &'a Value, op: &str) -> Result<&'a Value> {
    let mut results = report["results"].as_array().into_iter().flatten();
    results.find(|result| result["op"] == op).with_context(|| format!("no {op}: {report}"))
}

/// A leaf and a number that nobody else asks for.
const UNKNOWN: &str = "0x4b564d55";

/// Every operation that kvm-bench says it did is an exit of its kind that the tracer counted, warm-up included.
fn operations_are_exits(context: &Context, source: Source) -> Result<()> {
    const SAMPLES: u64 = 307;
    let amount = format!("--samples {SAMPLES} --rounds 1 --time 60s");
    let cpuid = format!("cpuid --leaf {UNKNOWN} {amount}");
    let hypercall = format!("hypercall --nr {UNKNOWN} {amount}");
    let tracers = ["cpuid", "hypercall"].map(|noun| Tracer::start_noun(context, noun, source, &[]));
    let reports = bench(context, &[&cpuid, &hypercall])?;
    let keys = [("cpuid", "leaf"), ("hypercall", "nr")];
    for ((tracer, report), (op, key)) in tracers.into_iter().zip(&reports).zip(keys) {
        let summary = tracer?.stop_noun()?;
        let counted = summary.sum("count", &[(key, json!(UNKNOWN))]);
        let result = result(report, op)?;
        let samples = result["all"]["n"].as_u64();
        let operations = result["operations"].as_u64();
        eprintln!("  {op}: {samples:?} samples, {operations:?} operations, {counted} exits");
        ensure!(result["status"] == "ok" && samples == Some(SAMPLES), "{result}");
        ensure!(operations == Some(counted), "{op}: {operations:?} operations, {counted} exits");
    }
    Ok(())
}
