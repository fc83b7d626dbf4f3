//! VMs that come and go while they are traced.

use anyhow::{Context as _, Result, ensure};
use kvm_utils::selftest::{Config, Operation, Step, Until, Vm, expect};

use crate::check;
use crate::program::Guest;
use crate::reference::{Counter, Scope};
use crate::registry::Context;
use crate::report::{Row, ensure_expected};
use crate::tracer::{Source, Tracer};

tracer_tests! {
    "tracer-vm-killed", 60, vm_killed;
    "tracer-ends-with-its-process", 60, ends_with_its_process;
    "tracer-fifty-vms-one-thread", 120, fifty_vms_on_one_thread;
    "tracer-fifty-processes", 180, fifty_processes;
}

/// One that starts after the tracer and is killed in the middle of its exits: all of them are in the summary.
fn vm_killed(context: &Context, source: Source) -> Result<()> {
    let host = check::host()?;
    let counter = Counter::all_reasons(&Scope::System, host.isa)?;
    let tracer = Tracer::start(context, source, &[])?;
    let mut guest = Guest::start(&["--vcpus", "2", "--op", "spin"])?;
    let pid = guest.pid();
    let warm = counter.read()?;
    guest.go()?;
    while counter.read()?.since(&warm).total < 5000 {
        std::thread::yield_now();
    }
    guest.kill()?;
    let summary = tracer.stop()?;
    summary.ensure_equals(&counter.read()?)?;
    match source {
        Source::Raw => summary.ensure_proven()?,
        Source::Classic => summary.ensure_undoubted()?,
    }
    let vm = summary.vm_of(pid)?;
    ensure!(vm.ended && vm.vcpus.len() == 2, "{vm:?}");
    Ok(())
}

/// `--pid` is done when the process is, and says what it saw.
fn ends_with_its_process(context: &Context, source: Source) -> Result<()> {
    let host = check::host()?;
    let mut guest = Guest::start(&["--vcpus", "2", "--op", "cpuid=1013", "--op", "io-in-user=227"])?;
    let pid = guest.pid();
    let tracer = Tracer::start(context, source, &["--pid", &pid.to_string()])?;
    guest.go()?;
    let expected = guest.phases()?;
    guest.end()?;
    let run = tracer.finish()?;
    ensure!(run.said.contains("has ended"), "{}", run.said);
    let summary = run.into_summary()?;
    summary.ensure_undoubted()?;
    let vm = summary.vm_of(pid)?;
    ensure!(vm.ended && summary.vms.len() == 1, "{:?}", summary.names());
    ensure_expected("process that ended", &host, &expected, &vm.totals)
}

/// The kernel gives each VM the memory, the thread and the vCPU id of the one before.
fn fifty_vms_on_one_thread(context: &Context, source: Source) -> Result<()> {
    const VMS: usize = 50;
    let host = check::host()?;
    let counter = Counter::all_reasons(&Scope::System, host.isa)?;
    let step = Step::new(Operation::Cpuid { leaf: 0 }, 11);
    let expected = expect::exits(&host, step.operation, step.count, step.count);
    let is_cpuid =
        |row: &&Row| expected.iter().any(|one| row.code.is_some_and(|code| one.codes.contains(&code)));
    let tracer = Tracer::start(context, source, &[])?;
    for _ in 0..VMS {
        for mut vcpu in Vm::new(&Config::default())?.into_vcpus() {
            vcpu.load(&[step])?;
            vcpu.run(Until::BatchEnd)?;
        }
    }
    let summary = tracer.stop()?;
    summary.ensure_equals(&counter.read()?)?;
    match source {
        Source::Raw => {
            summary.ensure_proven()?;
            ensure!(summary.vms.len() == VMS, "{} VMs", summary.vms.len());
            for vm in &summary.vms {
                let cpuid: u64 = vm.totals.iter().filter(is_cpuid).map(|row| row.count).sum();
                ensure!(vm.ended && vm.vcpus.len() == 1 && cpuid == step.count, "{vm:?}");
            }
        }
        Source::Classic => {
            summary.ensure_undoubted()?;
            // One thread that runs one vCPU id: nothing tells them apart.
            ensure!(summary.vms.len() == 1, "{:?}", summary.names());
        }
    }
    Ok(())
}

fn fifty_processes(context: &Context, source: Source) -> Result<()> {
    const VMS: usize = 50;
    let host = check::host()?;
    let counter = Counter::all_reasons(&Scope::System, host.isa)?;
    let tracer = Tracer::start(context, source, &[])?;
    let mut pids = Vec::new();
    for _ in 0..VMS {
        let mut guest = Guest::start(&["--op", "cpuid=11"])?;
        guest.go()?;
        guest.phases()?;
        pids.push(guest.pid());
        guest.end()?;
    }
    let summary = tracer.stop()?;
    summary.ensure_equals(&counter.read()?)?;
    match source {
        Source::Raw => summary.ensure_proven()?,
        Source::Classic => summary.ensure_undoubted()?,
    }
    ensure!(summary.vms.len() == VMS, "{} VMs", summary.vms.len());
    for pid in pids {
        let vm = summary.vm_of(pid)?;
        let tid = vm.vcpus.first().context("a VM without vCPU")?.tid;
        ensure!(vm.ended && vm.vcpus.len() == 1 && vm.count >= 12 && tid != pid, "{vm:?}");
    }
    Ok(())
}
