//! msr and wrmsr say which registers guests accessed, and how often.

use std::time::Duration;

use anyhow::{Result, ensure};
use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::Kvm;
use kvm_utils::decode::Class;
use kvm_utils::selftest::{Apic, Config, Operation, Phase, Plan, Step, Work, expect};
use serde_json::json;

use super::tracer_linux::boot;
use crate::check;
use crate::reference::EventCounter;
use crate::registry::{Context, Test, Verdict};
use crate::tracer::{Source, Tracer};

tracer_tests! {
    "msr-known-numbers", 60, known_numbers;
    "msr-linux-guest", 300, linux_guest;
    "msr-ipi-matrix", 60, ipi_matrix;
    "msr-timer-storm", 300, timer_storm;
}

/// Which way writes took, which needs BTF of KVM.
pub const PATHS: &[Test] = &[Test { name: "msr-paths", needs_idle_kvm: false, timeout_s: 60, run: paths }];

const TSC_DEADLINE: u32 = 0x6e0;
/// Written by guests that want to know their microcode revision; KVM ignores the value.
const BIOS_SIGN_ID: u32 = 0x8b;
const APIC_BASE: u32 = 0x1b;
const PAT: u32 = 0x277;
/// How far ahead the guest arms its timer.
const DELAY: Duration = Duration::from_micros(200);

fn known_numbers(context: &Context, source: Source) -> Result<()> {
    let write = |index, value| Operation::WriteMsr { index, value };
    let phases = [
        (write(BIOS_SIGN_ID, 0), 311),
        (Operation::ReadMsr { index: APIC_BASE }, 307),
        (Operation::ReadMsr { index: PAT }, 503),
        (write(TSC_DEADLINE, 0), 313),
        (Operation::HaltTimer { delay: DELAY }, 53),
    ];
    let phases = phases
        .map(|(operation, count)| Phase::new(format!("{operation:?}"), Class::MsrWrite, operation, count));
    let plan = Plan { phases: phases.to_vec(), skipped: Vec::new() };
    for noun in ["msr", "wrmsr"] {
        let mut session = check::start(&plan, Config::default(), check::options())?;
        let counter = EventCounter::new("kvm_msr", &["write == 1"])?;
        let tracer = Tracer::start_noun(context, noun, source, &["-i", "300ms"])?;
        let before = counter.read()?;
        while session.run_phase()?.is_some() {}
        let summary = tracer.stop_noun()?;
        let (all, writes) = (counter.read()?[0] - before[0], counter.read()?[1] - before[1]);
        let reads_too = noun == "msr";
        ensure!(
            summary.count() == if reads_too { all } else { writes },
            "{} of {all} {writes}",
            summary.count()
        );
        let of = |index: u32, access: &str| {
            summary.sum("count", &[("index", json!(format!("{index:#x}"))), ("access", json!(access))])
        };
        ensure!(of(BIOS_SIGN_ID, "write") == 311, "{}", summary.value());
        ensure!(of(TSC_DEADLINE, "write") == 313 + 53, "{}", summary.value());
        let reads = if reads_too { (307, 503) } else { (0, 0) };
        ensure!((of(APIC_BASE, "read"), of(PAT, "read")) == reads, "{}", summary.value());

        let timer = [("index", json!("0x6e0"))];
        ensure!(summary.sum("armed", &timer) == 53, "{}", summary.value());
        let (past, unknown) = (summary.sum("past", &timer), summary.sum("ahead_unknown", &timer));
        if source == Source::Raw {
            ensure!(unknown == 0, "{}", summary.value());
            // No more than the guest asked for, but for the histogram's error and the clocks'.
            let most = summary.sum("ahead_p99_ns", &timer);
            let asked = u64::try_from(DELAY.as_nanos())?;
            ensure!(past > 26 || (1..asked + asked / 10).contains(&most), "{most} ns: {}", summary.value());
        }
        let vm = summary.vm_of(std::process::id())?;
        ensure!(vm["vcpus"][0]["vcpu"] == 0 && vm["count"] == summary.count(), "{vm}");
    }
    Ok(())
}

/// Who interrupts whom, and how often.
fn ipi_matrix(context: &Context, source: Source) -> Result<()> {
    if let Err(why) = expect::support(&check::host()?, Operation::SendIpi { to: 1 }) {
        eprintln!("  no IPIs between vCPUs here: {why}");
        return Ok(());
    }
    let phase = |steps: [Step; 2]| Phase {
        name: "ipi".to_owned(),
        class: Class::MsrWrite,
        work: Work::Each(steps.map(|step| vec![step]).to_vec()),
    };
    let send = |to, count| Step::new(Operation::SendIpi { to }, count);
    let receive = |count| Step::new(Operation::AwaitInterrupts, count);
    let phases = vec![
        phase([send(1, 401), receive(401)]),
        phase([receive(211), send(0, 211)]),
        phase([send(0, 307), Step::new(Operation::Cpuid { leaf: 0 }, 1)]),
    ];
    let config = Config { vcpus: 2, apic: Apic::X2Apic, ..Config::default() };
    let mut session = check::start(&Plan { phases, skipped: Vec::new() }, config, check::options())?;
    let tracer = Tracer::start_noun(context, "wrmsr", source, &["--ipi"])?;
    while session.run_phase()?.is_some() {}
    let summary = tracer.stop_noun()?;
    let of = |from: &str, to: &str| {
        let what = ("what", json!("fixed vector 0x41"));
        summary.sum("count", &[("from", json!(from)), ("to", json!(to)), what])
    };
    let matrix = [of("0", "1"), of("1", "0"), of("0", "0")];
    ensure!(
        matrix == [401, 211, 307] && summary.count() == 401 + 211 + 307,
        "{matrix:?}: {}",
        summary.value()
    );
    Ok(())
}

/// Writes that no fast path takes, writes of the VMM, and whatever this kernel does with the timer's deadline.
fn paths(context: &Context) -> Result<Verdict> {
    let write = |index, value| Operation::WriteMsr { index, value };
    let phase = |index, count| Phase::new("write", Class::MsrWrite, write(index, 0), count);
    let plan = Plan { phases: vec![phase(BIOS_SIGN_ID, 311), phase(TSC_DEADLINE, 313)], skipped: Vec::new() };
    let mut session = check::start(&plan, Config::default(), check::options())?;
    let vmm = Kvm::new()?.create_vm()?;
    let vcpu = vmm.create_vcpu(0)?;

    let mut tracer = Tracer::spawn_noun(context, "wrmsr", &["--source", "kprobe"])?;
    tracer.await_line("attached (")?;
    while session.run_phase()?.is_some() {}
    let msrs = Msrs::from_entries(&[kvm_msr_entry { index: BIOS_SIGN_ID, ..Default::default() }])?;
    for _ in 0..17 {
        ensure!(vcpu.set_msrs(&msrs)? == 1, "KVM_SET_MSRS refused");
    }
    let summary = tracer.stop_noun()?;
    let of = |index: u32, column: &str| summary.sum(column, &[("index", json!(format!("{index:#x}")))]);
    let plain = ["count", "slow", "host"].map(|column| of(BIOS_SIGN_ID, column));
    ensure!(plain == [311, 311, 17], "{plain:?}: {}", summary.value());
    let (timer, slow) = (of(TSC_DEADLINE, "count"), of(TSC_DEADLINE, "slow"));
    ensure!(timer == 313 && slow <= timer, "{slow} of {timer}: {}", summary.value());
    eprintln!("  {} of {timer} writes of TSC_DEADLINE took the fast path", timer - slow);
    Ok(Verdict::Ok)
}

/// Seconds for which the guest arms timers.
const STORM_S: u64 = 4;

/// A guest that arms a timer anew and anew, as some congestion controls do: TSC_DEADLINE stands out, most deadlines never
/// come, and it is known how far ahead they were.
fn timer_storm(context: &Context, source: Source) -> Result<()> {
    let tracer = Tracer::start_noun(context, "wrmsr", source, &[])?;
    let counter = EventCounter::new("kvm_msr", &["write == 1 && ecx == 0x6e0"])?;
    boot(context, "lab-timers", &[], &format!("work=timers work_seconds={STORM_S}"))?;
    let perf = counter.read()?[1];
    let summary = tracer.stop_noun()?;
    let first = summary.totals().first().copied().cloned().unwrap_or_default();
    eprintln!("  {first}");
    ensure!(first["msr"] == "IA32_TSC_DEADLINE" && first["count"] == perf, "{first}, perf {perf}");
    ensure!(first["share"].as_f64() > Some(0.5), "{first}");
    let number = |column: &str| first[column].as_u64().unwrap_or(0);
    ensure!(number("rearmed") * 4 > number("armed"), "most deadlines came: {first}");
    ensure!(number("ahead_p50_ns") > 0, "how far ahead is not known: {first}");
    Ok(())
}

/// A Linux guest: what perf counts.
fn linux_guest(context: &Context, source: Source) -> Result<()> {
    let filters =
        ["write == 1", "exception == 1", "write == 1 && ecx == 0x6e0", "write == 1 && ecx == 0x830"];
    let counter = EventCounter::new("kvm_msr", &filters)?;
    let tracer = Tracer::start_noun(context, "msr", source, &[])?;
    let before = counter.read()?;
    let pid = boot(context, "lab-msr", &[], "work=boot")?;
    let summary = tracer.stop_noun()?;
    let counts: Vec<u64> = counter.read()?.iter().zip(before).map(|(now, before)| now - before).collect();
    let write = |index: &str| {
        let keys = [("access", json!("write")), ("index", json!(index))];
        summary.sum("count", &keys[..if index.is_empty() { 1 } else { 2 }])
    };
    let ours = [summary.count(), write(""), summary.sum("faults", &[]), write("0x6e0"), write("0x830")];
    eprintln!("  counted {ours:?}, perf {counts:?}");
    ensure!(ours == counts[..], "counted {ours:?}, perf {counts:?}");
    ensure!(ours[3] > 0 && ours[4] > 0, "a Linux guest that never armed its timer: {ours:?}");
    let vm = summary.vm_of(pid)?;
    ensure!(vm["name"] == "lab-msr" && vm["ended"] == true, "{vm}");
    Ok(())
}
