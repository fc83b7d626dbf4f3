//! `lab vm`: guests with a plan given on the command line, for tests that watch another process.

use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use kvm_utils::decode::Isa;
use kvm_utils::selftest::{
    self, Apic, Config, Host, Operation, PhaseReport, Placement, Plan, Session, Vm, Work, expect, plan,
};
use serde_json::{Value, json};

use crate::Outcome;

#[derive(Debug, Args)]
pub struct Options {
    /// Operation and count, e.g. cpuid=1009; each is a phase of its own. Without any, the selftest's plan
    #[arg(long = "op", value_name = "NAME[=COUNT]")]
    operations: Vec<String>,
    /// Virtual machines in this process, all with the same vCPU ids
    #[arg(long, default_value_t = 1)]
    vms: u32,
    /// vCPUs of each
    #[arg(long, default_value_t = 1)]
    vcpus: u32,
    /// Which threads run the vCPUs
    #[arg(long, value_enum, default_value_t = Threads::Own)]
    threads: Threads,
    /// Put the LAPICs into x2APIC mode
    #[arg(long)]
    x2apic: bool,
    /// Run the plan so many times
    #[arg(long, default_value_t = 1)]
    repeat: u32,
    /// After the warm-up, and after each phase with --each-phase, wait for a line on standard input. At its end go on
    #[arg(long)]
    wait_stdin: bool,
    /// With --wait-stdin: wait before every phase, not only before the first
    #[arg(long, requires = "wait_stdin")]
    each_phase: bool,
    /// How long the operations `spin` and `quiet` go on, in milliseconds; with --wait-stdin until the next line
    #[arg(long, default_value_t = 200)]
    spin_ms: u64,
    /// Most seconds a phase may take
    #[arg(long, default_value_t = 60)]
    limit: u64,
}

/// See [`Placement`].
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Threads {
    /// One per vCPU
    Own,
    /// One for all vCPUs of a virtual machine
    One,
    /// A vCPU changes its thread with every phase
    EachPhase,
    /// A vCPU changes its thread with every return to user space
    EachExit,
}

impl From<Threads> for Placement {
    fn from(threads: Threads) -> Self {
        match threads {
            Threads::Own => Self::OwnThread,
            Threads::One => Self::OneThread,
            Threads::EachPhase => Self::EachPhase,
            Threads::EachExit => Self::EachUserExit,
        }
    }
}

pub fn run(options: &Options) -> Outcome {
    let host = Host::detect();
    let plan = plan_of(options, &host)?;
    let mut sessions = Vec::new();
    for _ in 0..options.vms {
        sessions.push(start(options, &plan)?);
    }
    let threads: Vec<Vec<_>> = sessions
        .iter()
        .map(|session| (0..options.vcpus).filter_map(|vcpu| session.thread_of(vcpu)).collect())
        .collect();
    print(&json!({
        "event": "ready", "pid": std::process::id(), "threads": threads,
        "phases": plan.phases.iter().map(|phase| &phase.name).collect::<Vec<_>>(),
        "skipped": plan.skipped,
    }))?;
    let mut first = true;
    while sessions.iter().any(|session| session.phases_left() > 0) {
        if options.wait_stdin && (first || options.each_phase) {
            wait_for_line()?;
        }
        first = false;
        let spinning = begin(&mut sessions)?;
        if spinning {
            if options.wait_stdin {
                wait_for_line()?;
            } else {
                std::thread::sleep(Duration::from_millis(options.spin_ms));
            }
            stop_spinning(&sessions, options.vcpus)?;
        }
        for (index, session) in sessions.iter_mut().enumerate() {
            let report = session.finish_phase()?;
            print(&describe(index, &host, &report))?;
        }
    }
    if options.wait_stdin {
        print(&json!({ "event": "done" }))?;
        wait_for_line()?;
    }
    Ok(ExitCode::SUCCESS)
}

fn plan_of(options: &Options, host: &Host) -> Result<Plan> {
    let mut plan = if options.operations.is_empty() {
        plan::standard(host)
    } else {
        let phases = options.operations.iter().map(|text| selftest::Phase::parse(text));
        Plan { phases: phases.collect::<Result<_, _>>()?, skipped: Vec::new() }
    };
    let once = plan.phases.clone();
    for _ in 1..options.repeat {
        plan.phases.extend(once.iter().cloned());
    }
    let waits = |phase: &selftest::Phase| match &phase.work {
        Work::Same(steps) => steps.iter().any(|step| step.operation.waits_for_others()),
        Work::Each(_) => false,
    };
    if let Some(phase) = plan.phases.iter().find(|phase| waits(phase)) {
        bail!("{} waits for messages that nobody sends here", phase.name);
    }
    Ok(plan)
}

fn start(options: &Options, plan: &Plan) -> Result<Session> {
    let config = Config {
        vcpus: options.vcpus,
        apic: if options.x2apic { Apic::X2Apic } else { Apic::XApic },
        fresh_pages: plan.fresh_pages(options.vcpus),
    };
    let session =
        selftest::Options { placement: options.threads.into(), limit: Duration::from_secs(options.limit) };
    Ok(Session::start(Vm::new(&config)?, plan, session)?)
}

/// Begins the next phase everywhere. Whether it is one that spins.
fn begin(sessions: &mut [Session]) -> Result<bool> {
    let mut spinning = false;
    for session in sessions {
        let name = session.begin_phase()?;
        spinning |= matches!(name, Some("spin" | "quiet"));
    }
    Ok(spinning)
}

fn stop_spinning(sessions: &[Session], vcpus: u32) -> Result<()> {
    for session in sessions {
        for vcpu in 0..vcpus {
            session.stop_spinning(vcpu)?;
        }
    }
    Ok(())
}

fn describe(vm: usize, host: &Host, report: &PhaseReport) -> Value {
    let step = |step: &selftest::StepReport| json!({ "operation": step.operation.to_string(), "count": step.count, "executed": step.executed });
    let vcpus: Vec<_> = report
        .vcpus
        .iter()
        .map(|vcpu| {
            json!({
                "vcpu": vcpu.vcpu, "steps": vcpu.steps.iter().map(step).collect::<Vec<_>>(),
                "interrupts": vcpu.interrupts, "interrupted_by_signals": vcpu.user.interrupted,
            })
        })
        .collect();
    let mut operations = report.vcpus.iter().flat_map(|vcpu| &vcpu.steps).map(|step| step.operation);
    let known = !matches!(host.isa, Isa::Other(_))
        && operations.all(|operation: Operation| expect::support(host, operation).is_ok());
    let expected: Vec<_> = expect::expected(host, report)
        .iter()
        .map(|expected| {
            json!({
                "codes": expected.codes, "count": expected.count, "or_count": expected.or_count,
                "more_with": expected.more_with,
            })
        })
        .collect();
    json!({
        "event": "phase", "vm": vm, "name": report.name, "vcpus": vcpus,
        "isa": host.isa.to_string(), "expected": if known { json!(expected) } else { Value::Null },
    })
}

fn print(value: &Value) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{value}").and_then(|()| out.flush()).context("cannot write to standard output")
}

fn wait_for_line() -> Result<()> {
    io::stdin().lock().read_line(&mut String::new()).context("cannot read standard input")?;
    Ok(())
}
