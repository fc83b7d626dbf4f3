//! kvm-bench in a Linux guest under a real QEMU, and the tracer outside: what the guest says it did is what left it.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::tracer_linux::{console, pin_vcpus, start};
use crate::program;
use crate::registry::{Context, Test, Verdict};
use crate::tracer::{Source, Tracer};

tracer_tests! {
    "kvm-bench-operations-are-exits", 300, operations_are_exits;
    "kvm-bench-ports-are-exits", 300, ports_are_exits;
    "kvm-bench-registers-are-exits", 300, registers_are_exits;
}

/// Tests without the tracer, on a lab with two CPUs.
pub const TWO_CPUS: &[Test] = &[
    Test { name: "kvm-bench-all", needs_idle_kvm: false, timeout_s: 300, run: all_in_a_guest },
    Test { name: "kvm-bench-clock-sources", needs_idle_kvm: false, timeout_s: 120, run: clock_sources },
];

/// Where the guest's vCPUs run.
enum Vcpus {
    Anywhere,
    /// On a CPU each.
    Apart,
}

/// Boots the guest and runs kvm-bench in it, once for each line of words. Gives its reports.
fn bench(context: &Context, vcpus: &Vcpus, lines: &[&str]) -> Result<Vec<Value>> {
    let lines: Vec<_> = lines.iter().map(|line| format!("{line} -o json").replace(' ', ",")).collect();
    // What the kernel says of an emulator that stands still for half a minute would come amid the report.
    let words = format!("nosoftlockup work=bench bench={}", lines.join("+"));
    let mut guest = start(context, context.l2_bench.as_ref(), "lab-bench", &["-cpu", "host"], &words)?;
    if matches!(vcpus, Vcpus::Apart) {
        pin_vcpus(&mut guest)?;
    }
    let console = console(guest)?;
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

/// What cannot be measured in the guest, as its beginning, and a part of the reason that is given.
const SKIPPED: [(&str, &str); 3] = [
    // QEMU's emulator raises #GP in ring 3 of a guest of its guest, whatever is granted there.
    ("pio:", "but the instruction is refused all the same"),
    // Registers that the emulated processor lacks.
    ("msr:read", "raises #GP"),
    // A kernel with so little memory switches huge pages off.
    ("fault:2m", "(enabled: always madvise [never])"),
];

/// Everything that is usual is measured, and beyond doubt, or skipped with the reason that is true here, in a guest with two
/// vCPUs. The emulator's vCPUs lose time to whatever else its machine does, so that an interrupt may find its target off its
/// CPU and not be sent: what is suspect is measured twice.
fn all_in_a_guest(context: &Context) -> Result<Verdict> {
    // Without device memory: QEMU's emulator still shows an interrupt as under way that has long been delivered, and a KVM
    // that looks at that for SVM, as 7.2 does, gives up a guest whose access to a device comes then (KVM internal error 3).
    // The payload reads device memory in all labs: host_bench.rs.
    let words =
        "all null cpuid hypercall pio msr syscall clock timer fault jitter ipi tlb wake -t 100ms --rounds 3";
    let reports = bench(context, &Vcpus::Apart, &[words])?;
    let results: Vec<_> = reports[0]["results"].as_array().into_iter().flatten().collect();
    ensure!(results.len() > 40, "{} results: {}", results.len(), reports[0]);
    let (mut ok, mut twice) = (0, 0);
    for result in &results {
        let (op, status) = (result["op"].as_str().unwrap_or(""), result["status"].as_str().unwrap_or(""));
        let reason = result["reason"].as_str().unwrap_or("");
        let is_named = |(begin, why): &(&str, &str)| op.starts_with(begin) && reason.contains(why);
        let is_told = match status {
            "ok" => op == "jitter" || result["n"].as_u64() > Some(0),
            "skipped" => {
                SKIPPED.iter().any(is_named) && result["hint"].as_str().is_some_and(|hint| hint.len() > 5)
            }
            _ => false,
        };
        ensure!(is_told, "{result}");
        let first = result["notes"]["measured_twice"].as_str();
        if let Some(first) = first {
            eprintln!("  {op} {} measured twice: {first}", result["args"]);
        }
        ok += u32::from(status == "ok");
        twice += u32::from(first.is_some());
    }
    // What needs no other vCPU, no device and no idle one is measured in any case.
    for op in ["null", "cpuid", "hypercall", "syscall", "clock:gettime", "msr:read", "fault:4k", "ipi:self"] {
        ensure!(result(&reports[0], op)?["status"] == "ok", "{}", result(&reports[0], op)?);
    }
    eprintln!("  {ok} of {} ok, {twice} of them measured twice", results.len());
    Ok(Verdict::Ok)
}

/// The clock source that the kernel uses.
fn clock_source() -> Result<String> {
    let file = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    Ok(std::fs::read_to_string(file).context("cannot read the clock source")?.trim().to_owned())
}

/// Every clock source is measured while it is used, and the one before is put back, also when kvm-bench is killed.
fn clock_sources(context: &Context) -> Result<Verdict> {
    let program = context.kvm_bench.as_ref().context("--kvm-bench is needed")?;
    let before = clock_source()?;
    let command = |words: &str| {
        let mut command = Command::new(program);
        command.args(words.split(' ')).stdout(Stdio::piped()).stderr(Stdio::null());
        program::dies_with_us(&mut command);
        command
    };
    let output = command("clock --each-source -t 50ms -o json").output().context("cannot start kvm-bench")?;
    ensure!(output.status.success(), "{}", output.status);
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let results: Vec<_> = report["results"].as_array().into_iter().flatten().collect();
    ensure!(results.len() > 1, "{} clock sources: {report}", results.len());
    for result in results {
        ensure!(result["status"] == "ok", "{result}");
        ensure!(result["args"]["source"] == result["notes"]["source"], "{result}");
    }
    ensure!(clock_source()? == before, "{} stays, {before} was", clock_source()?);

    let mut child = command("clock --each-source -t 20s --samples 1000000000").spawn()?;
    while clock_source()? == before {
        ensure!(child.try_wait()?.is_none(), "kvm-bench ended before it changed anything");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill()?;
    child.wait()?;
    // The test's own time limit ends this.
    while clock_source()? != before {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(Verdict::Ok)
}

/// A leaf and a number that nobody else asks for.
const UNKNOWN: &str = "0x4b564d55";

/// Measured with so many samples, of which the tracer has counted as many exits as there were operations.
fn ensure_counted(report: &Value, op: &str, samples: u64, counted: u64) -> Result<()> {
    let result = result(report, op)?;
    let operations = result["operations"].as_u64();
    eprintln!("  {op}: {operations:?} operations, {counted} exits");
    ensure!(result["status"] == "ok" && result["all"]["n"].as_u64() == Some(samples), "{result}");
    ensure!(operations == Some(counted), "{op}: {operations:?} operations, {counted} exits");
    Ok(())
}

/// A port where nobody answers is read and written as often as kvm-bench says; the others are reached at all. QEMU's
/// emulator refuses the instruction in ring 3 of a guest of KVM's, whatever its kernel allows: then it is left out, and no
/// port was touched.
fn ports_are_exits(context: &Context, source: Source) -> Result<()> {
    const SAMPLES: u64 = 211;
    let line = format!("pio --write --samples {SAMPLES} --rounds 1 --time 60s");
    let tracer = Tracer::start_noun(context, "io", source, &[])?;
    let reports = bench(context, &Vcpus::Anywhere, &[&line])?;
    let summary = tracer.stop_noun()?;
    let counted =
        |port: u16, dir: &str| summary.sum("count", &[("address_value", json!(port)), ("dir", json!(dir))]);
    let user = result(&reports[0], "pio:user-in")?;
    if user["reason"].as_str().is_some_and(|why| why.contains("refused all the same")) {
        eprintln!("  {}", user["reason"]);
        ensure!(user["status"] == "skipped" && counted(0x1234, "in") == 0, "{user}");
        return Ok(());
    }
    ensure_counted(&reports[0], "pio:user-in", SAMPLES, counted(0x1234, "in"))?;
    ensure_counted(&reports[0], "pio:user-out", SAMPLES, counted(0x1234, "out"))?;
    // Firmware and kernel use these too.
    let others = [
        ("pio:kernel-in", 0x4d0, "in"),
        ("pio:kernel-out", 0x4d0, "out"),
        ("pio:pic", 0x21, "in"),
        ("pio:pit", 0x40, "in"),
        ("pio:keyboard", 0x64, "in"),
        ("pio:pmtimer", 0x608, "in"),
    ];
    for (op, port, dir) in others {
        let result = result(&reports[0], op)?;
        let (operations, counted) = (result["operations"].as_u64(), counted(port, dir));
        eprintln!("  {op}: {operations:?} operations, {counted} exits");
        ensure!(result["status"] == "ok" && operations > Some(SAMPLES), "{result}");
        ensure!(Some(counted) >= operations, "{op}: {operations:?} operations, {counted} exits");
    }
    Ok(())
}

/// Registers that a Linux guest does not use by itself are read and written as often as kvm-bench says, and no other one
/// is written in their place.
fn registers_are_exits(context: &Context, source: Source) -> Result<()> {
    const SAMPLES: u64 = 223;
    let amount = format!("--samples {SAMPLES} --rounds 1 --time 60s");
    // Linux writes KVM's wall clock (MSR_KVM_WALL_CLOCK_NEW) and never reads it.
    let read = format!("msr --index 0x4b564d00 {amount}");
    let write = format!("msr --write --index tsc_adjust {amount}");
    let tracer = Tracer::start_noun(context, "msr", source, &[])?;
    let reports = bench(context, &Vcpus::Anywhere, &[&read, &write])?;
    let summary = tracer.stop_noun()?;
    let counted = |index: &str, access: &str| {
        summary.sum("count", &[("index", json!(index)), ("access", json!(access))])
    };
    ensure_counted(&reports[0], "msr:read", SAMPLES, counted("0x4b564d00", "read"))?;
    ensure_counted(&reports[1], "msr:write", SAMPLES, counted("0x3b", "write"))?;
    Ok(())
}

/// Every operation that kvm-bench says it did is an exit of its kind that the tracer counted, warm-up included.
fn operations_are_exits(context: &Context, source: Source) -> Result<()> {
    const SAMPLES: u64 = 307;
    let amount = format!("--samples {SAMPLES} --rounds 1 --time 60s");
    let cpuid = format!("cpuid --leaf {UNKNOWN} {amount}");
    let hypercall = format!("hypercall --nr {UNKNOWN} {amount}");
    let tracers = ["cpuid", "hypercall"].map(|noun| Tracer::start_noun(context, noun, source, &[]));
    let reports = bench(context, &Vcpus::Anywhere, &[&cpuid, &hypercall])?;
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
