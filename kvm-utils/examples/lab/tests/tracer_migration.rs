//! A vCPU that changes its CPU while it sleeps in HLT: its exit is on one CPU, its entry on another.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kvm_utils::decode::Class;
use kvm_utils::selftest::{Config, Operation, Phase, Plan, expect};

use crate::check;
use crate::reference::{Counter, Scope};
use crate::registry::Context;
use crate::report::ensure_expected;
use crate::tracer::{Source, Tracer};

tracer_tests! {
    "tracer-halted-vcpu-changes-cpu", 60, halted_vcpu_changes_cpu;
}

fn halted_vcpu_changes_cpu(context: &Context, source: Source) -> Result<()> {
    const HALTS: u64 = 31;
    /// No synchronisation: how long the vCPU sleeps at least.
    const SLEEP: Duration = Duration::from_millis(10);
    let host = check::host()?;
    let phase = Phase::new("hlt-message", Class::Hlt, Operation::HaltMessage, HALTS);
    let plan = Plan { phases: vec![phase], skipped: Vec::new() };
    let mut session = check::start(&plan, Config::default(), check::options())?;
    session.pin(0, 1)?;
    let counter = Counter::all_reasons(&Scope::System, host.isa)?;
    let tracer = Tracer::start(context, source, &[])?;
    let began = Instant::now();
    session.begin_phase()?;
    for nth in 1..=HALTS {
        session.wait_asleep(0, nth)?;
        session.pin(0, usize::from(nth % 2 == 0))?;
        std::thread::sleep(SLEEP);
        session.send_message(0)?;
    }
    let report = session.finish_phase()?;
    let elapsed = began.elapsed();
    let summary = tracer.stop()?;
    let reference = counter.read()?;
    summary.ensure_equals(&reference)?;
    summary.ensure_proven()?;
    ensure!(summary.proof.unpaired == 0, "{:?}", summary.proof);
    let vm = summary.vm_of(std::process::id())?;
    ensure_expected("hlt-message", &host, &expect::expected(&host, &report), &vm.totals)?;

    let hlt = vm.totals.iter().find(|row| row.waiting).context("no row that waits")?;
    ensure!(hlt.count == HALTS, "{hlt:?}");
    // It moved indeed, as the kernel's own count by CPU says.
    let on = |cpu| hlt.code.and_then(|code| reference.cpus.get(&(code, cpu)).copied()).unwrap_or(0);
    ensure!((on(0), on(1)) == (HALTS / 2, HALTS / 2 + 1), "halts on CPU 0 and 1: {} and {}", on(0), on(1));
    ensure!(hlt.min_ns >= Some(SLEEP.as_nanos() as u64), "slept {SLEEP:?} each time: {hlt:?}");
    ensure!(hlt.total_ns <= elapsed.as_nanos() as u64, "slept longer than {elapsed:?}: {hlt:?}");
    Ok(())
}
