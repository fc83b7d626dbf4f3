//! The VMM itself: it never hangs, and virtual machines come and go.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use kvm_utils::decode::Class;
use kvm_utils::selftest::{Config, Error, Operation, Options, Phase, Plan, Step, Work, expect};

use crate::check;
use crate::reference::{Counter, Scope};
use crate::registry::{Context, Test, Verdict};

pub const TESTS: &[Test] = &[
    Test { name: "guest-that-never-wakes", needs_idle_kvm: false, timeout_s: 60, run: never_wakes },
    Test { name: "guest-that-faults", needs_idle_kvm: false, timeout_s: 60, run: faults },
    Test {
        name: "vm-dropped-while-it-runs",
        needs_idle_kvm: false,
        timeout_s: 60,
        run: dropped_while_running,
    },
    Test { name: "spinning-guest-is-counted", needs_idle_kvm: false, timeout_s: 60, run: spins },
    Test { name: "fifty-short-vms", needs_idle_kvm: false, timeout_s: 120, run: fifty_short_vms },
];

fn plan(phase: Phase) -> Plan {
    Plan { phases: vec![phase], skipped: Vec::new() }
}

/// A guest in HLT with KVM's own interrupt controllers blocks `KVM_RUN`: the guard takes it out.
fn never_wakes(_: &Context) -> Result<Verdict> {
    const LIMIT: Duration = Duration::from_secs(1);
    let plan = plan(Phase::new("hlt for ever", Class::Hlt, Operation::HaltMessage, 1));
    let options = Options { limit: LIMIT, ..check::options() };
    let mut session = check::start(&plan, Config { vcpus: 2, ..Config::default() }, options)?;
    let started = Instant::now();
    match session.run_phase() {
        Err(error @ Error::Timeout { .. }) => eprintln!("  {error}"),
        other => bail!("expected a timeout, not {other:?}"),
    }
    let took = started.elapsed();
    ensure!(took >= LIMIT && took < LIMIT * 10, "a limit of {LIMIT:?} took {took:?}");
    Ok(Verdict::Ok)
}

/// An MSR that does not exist: the guest reports its #GP, already in the warm-up.
fn faults(_: &Context) -> Result<Verdict> {
    let phase = Phase {
        name: "no such msr".to_owned(),
        class: Class::MsrRead,
        work: Work::Each(vec![Vec::new(), vec![Step::new(Operation::ReadMsr { index: 0x0dea_dbee }, 1)]]),
    };
    let all = Plan { phases: vec![phase], skipped: Vec::new() };
    match check::start(&all, Config { vcpus: 2, ..Config::default() }, check::options()) {
        Err(error) => match error.downcast_ref::<Error>() {
            Some(Error::GuestFault { vector: 13, .. }) => eprintln!("  {error}"),
            _ => return Err(error.context("expected a general protection fault")),
        },
        Ok(_) => bail!("reading MSR 0xdeadbee did not fault; kvm.ignore_msrs may be on"),
    }
    Ok(Verdict::Ok)
}

fn dropped_while_running(_: &Context) -> Result<Verdict> {
    for operation in [Operation::SpinCpuid, Operation::SpinQuiet, Operation::HaltMessage] {
        let plan = plan(Phase::new("left behind", Class::Cpuid, operation, 1));
        let mut session = check::start(&plan, Config { vcpus: 2, ..Config::default() }, check::options())?;
        session.begin_phase()?;
        if operation == Operation::HaltMessage {
            session.wait_asleep(1, 1)?;
        } else {
            while session.executed(1, 0)? < 1000 {
                std::hint::spin_loop();
            }
        }
        let started = Instant::now();
        drop(session);
        ensure!(started.elapsed() < Duration::from_secs(5), "dropping took {:?}", started.elapsed());
    }
    Ok(Verdict::Ok)
}

fn spins(_: &Context) -> Result<Verdict> {
    let host = check::host()?;
    let plan = plan(Phase::new("spin", Class::Cpuid, Operation::SpinCpuid, 1));
    let mut session = check::start(&plan, Config { vcpus: 2, ..Config::default() }, check::options())?;
    let counter = Counter::all_reasons(&Scope::System, host.isa)?;
    session.begin_phase()?;
    while session.executed(0, 0)? < 2000 || session.executed(1, 0)? < 2000 {
        std::thread::yield_now();
    }
    session.stop_spinning(0)?;
    session.stop_spinning(1)?;
    let report = session.finish_phase()?;
    ensure!(
        check::compare("spin", host.isa, &expect::expected(&host, &report), &counter.read()?),
        "expected and counted exits differ"
    );
    Ok(Verdict::Ok)
}

fn fifty_short_vms(_: &Context) -> Result<Verdict> {
    let host = check::host()?;
    let plan = plan(Phase::parse("cpuid=11")?);
    let counter = Counter::all_reasons(&Scope::System, host.isa)?;
    for nth in 0..50 {
        let mut session = check::start(&plan, Config::default(), check::options())?;
        let before = counter.read()?;
        let Some(report) = session.run_phase()? else { bail!("virtual machine {nth} had nothing to do") };
        let counts = counter.read()?.since(&before);
        let agrees =
            check::compare(&format!("vm {nth}"), host.isa, &expect::expected(&host, &report), &counts);
        ensure!(agrees, "expected and counted exits differ in virtual machine {nth}");
    }
    Ok(Verdict::Ok)
}
