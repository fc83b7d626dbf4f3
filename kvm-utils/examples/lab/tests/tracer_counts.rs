//! The tracer counts what the guests did, whoever and however many they are.

use anyhow::{Context as _, Result, ensure};
use kvm_utils::selftest::{Config, Phase, PhaseReport, Plan, Session, expect, plan};

use crate::check;
use crate::program::Guest;
use crate::reference::{Counter, Scope};
use crate::registry::Context;
use crate::report::ensure_expected;
use crate::tracer::{self, Source, Tracer};

tracer_tests! {
    "tracer-selftest", 120, selftest;
    "tracer-counts-and-durations", 120, every_operation;
    "tracer-two-processes", 60, two_processes;
    "tracer-two-vms-one-process", 60, two_vms_in_one_process;
}

fn selftest(context: &Context, source: Source) -> Result<()> {
    let mut command = tracer::command(context)?;
    let output = command.args(["selftest", "-o", "json", "--source", source.option()]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    let result: serde_json::Value = serde_json::from_str(&text)?;
    ensure!(result["ok"] == true && result["kvm_exit_fires"] == true, "{text}");
    ensure!(result["source"].as_str().is_some_and(|name| name.contains(source.option())), "{text}");
    let results = result["results"].as_array().context("no results")?;
    ensure!(results.iter().all(|line| line["ok"] == true), "{text}");
    let runs = plan::standard(&check::host()?).phases.len();
    ensure!(results.len() >= runs, "{} results of {runs} phases", results.len());
    Ok(())
}

/// Everything a guest can do, from its first exit to its end.
fn every_operation(context: &Context, source: Source) -> Result<()> {
    let host = check::host()?;
    let plan = plan::standard(&host);
    let counter = Counter::all_reasons(&Scope::System, host.isa)?;
    let tracer = Tracer::start(context, source, &["-i", "300ms"])?;
    let mut session = check::start(&plan, Config::default(), check::options())?;
    while session.run_phase()?.is_some() {}
    let summary = tracer.stop()?;
    summary.ensure_equals(&counter.read()?)?;
    // The VM still lives, so KVM's statistic can be read with either source.
    summary.ensure_proven()?;
    ensure!(summary.proof.in_progress == 1, "the vCPU is outside the guest: {:?}", summary.proof);
    let vm = summary.vm_of(std::process::id())?;
    ensure!(!vm.ended && vm.vcpus.len() == 1, "{vm:?}");
    let waiting: Vec<_> = vm.totals.iter().filter(|row| row.waiting).map(|row| row.reason.as_str()).collect();
    ensure!(waiting.len() == 1, "reasons that wait: {waiting:?}");
    Ok(())
}

fn two_processes(context: &Context, source: Source) -> Result<()> {
    let host = check::host()?;
    let counter = Counter::all_reasons(&Scope::System, host.isa)?;
    let mut guests = [
        Guest::start(&["--vcpus", "2", "--op", "cpuid=2003", "--op", "io-out-user=401"])?,
        Guest::start(&["--vcpus", "2", "--op", "cpuid=1999", "--op", "rdmsr=397"])?,
    ];
    let before = counter.read()?;
    let tracer = Tracer::start(context, source, &[])?;
    for guest in &mut guests {
        guest.go()?;
    }
    let mut expected = Vec::new();
    for guest in &mut guests {
        expected.push(guest.phases()?);
    }
    let summary = tracer.stop()?;
    summary.ensure_equals(&counter.read()?.since(&before))?;
    summary.ensure_proven()?;
    ensure!(summary.vms.len() == 2, "VMs: {:?}", summary.names());
    for (guest, expected) in guests.into_iter().zip(&expected) {
        let vm = summary.vm_of(guest.pid())?;
        ensure_expected(&format!("process {}", vm.pid), &host, expected, &vm.totals)?;
        let ids: Vec<_> = vm.vcpus.iter().map(|vcpu| vcpu.vcpu).collect();
        ensure!(ids == [Some(0), Some(1)], "vCPUs {ids:?}");
        ensure!(guest.threads[0].iter().all(|tid| vm.on_thread(*tid).is_some()), "threads {:?}", vm.vcpus);
        guest.end()?;
    }
    Ok(())
}

/// With the same vCPU ids. Raw tracepoints know which VM a vCPU belongs to; classic ones show its thread.
fn two_vms_in_one_process(context: &Context, source: Source) -> Result<()> {
    let host = check::host()?;
    let counter = Counter::all_reasons(&Scope::System, host.isa)?;
    let mut sessions = Vec::new();
    for operations in [["cpuid=2003", "io-out-user=401"], ["cpuid=1999", "rdmsr=397"]] {
        let phases = operations.iter().map(|text| Phase::parse(text)).collect::<Result<_, _>>()?;
        let plan = Plan { phases, skipped: Vec::new() };
        sessions.push(check::start(&plan, Config { vcpus: 2, ..Config::default() }, check::options())?);
    }
    let before = counter.read()?;
    let tracer = Tracer::start(context, source, &[])?;
    let mut done: Vec<Vec<PhaseReport>> = vec![Vec::new(), Vec::new()];
    while sessions.iter().any(|session| session.phases_left() > 0) {
        for session in &mut sessions {
            session.begin_phase()?;
        }
        for (session, done) in sessions.iter_mut().zip(&mut done) {
            done.push(session.finish_phase()?);
        }
    }
    let summary = tracer.stop()?;
    summary.ensure_equals(&counter.read()?.since(&before))?;
    summary.ensure_proven()?;

    let told = summary.notes.iter().any(|note| note.contains("several VMs"));
    match source {
        Source::Raw => ensure!(summary.vms.len() == 2 && !told, "{:?} {:?}", summary.names(), summary.notes),
        Source::Classic => {
            ensure!(summary.vms.len() == 1 && told, "{:?} {:?}", summary.names(), summary.notes);
        }
    }
    for (index, (session, done)) in sessions.iter().zip(&done).enumerate() {
        for id in 0..2 {
            let tid = thread(session, id)?;
            let vm = summary.vms.iter().find(|vm| vm.on_thread(tid).is_some());
            let vcpu = vm.and_then(|vm| vm.on_thread(tid)).with_context(|| format!("no thread {tid}"))?;
            ensure!(vcpu.vcpu == Some(id), "thread {tid} runs vCPU {id}, not {:?}", vcpu.vcpu);
            let name = format!("vm {index} vcpu {id}");
            ensure_expected(&name, &host, &of_vcpu(&host, done, id), &vcpu.exits)?;
        }
        if source == Source::Raw {
            let tid = thread(session, 0)?;
            let vm = summary.vms.iter().find(|vm| vm.on_thread(tid).is_some()).context("no VM")?;
            ensure!(vm.vcpus.len() == 2, "VM {index} has {} vCPUs", vm.vcpus.len());
        }
    }
    Ok(())
}

fn thread(session: &Session, vcpu: u32) -> Result<i32> {
    session.thread_of(vcpu).with_context(|| format!("vCPU {vcpu} has no thread"))
}

/// What one vCPU must have caused.
fn of_vcpu(host: &kvm_utils::selftest::Host, done: &[PhaseReport], id: u32) -> Vec<expect::Expected> {
    let parts = done.iter().flat_map(|report| {
        let vcpus = report.vcpus.iter().filter(|vcpu| vcpu.vcpu == id).cloned().collect();
        expect::expected(host, &PhaseReport { name: report.name.clone(), vcpus })
    });
    expect::merge(parts)
}
