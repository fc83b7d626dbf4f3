//! vCPUs and threads in unusual relations, and a vCPU that changes its CPU in its sleep.

use anyhow::{Result, ensure};
use kvm_utils::decode::{Class, Isa};
use kvm_utils::selftest::{Config, Operation, Options, Phase, Placement, Plan, expect};

use crate::check;
use crate::reference::{Counter, Scope};
use crate::registry::{Context, Test, Verdict};

pub const TESTS: &[Test] = &[
    Test {
        name: "one-thread-many-vcpus",
        needs_idle_kvm: false,
        timeout_s: 60,
        run: |_| placed(Placement::OneThread),
    },
    Test {
        name: "vcpu-changes-thread-each-phase",
        needs_idle_kvm: false,
        timeout_s: 60,
        run: |_| placed(Placement::EachPhase),
    },
    Test {
        name: "vcpu-changes-thread-each-exit",
        needs_idle_kvm: false,
        timeout_s: 60,
        run: |_| placed(Placement::EachUserExit),
    },
];

/// Where there are two processors.
pub const TWO_CPUS: &[Test] = &[Test {
    name: "halted-vcpu-changes-cpu",
    needs_idle_kvm: false,
    timeout_s: 60,
    run: halted_vcpu_changes_cpu,
}];

fn placed(placement: Placement) -> Result<Verdict> {
    let host = check::host()?;
    // Few exits to user space: up to 6.12 each change of thread waits for an RCU grace period, some 10 ms.
    let operations = ["cpuid=997", "io-out-user=23", "mmio-read-user=29", "hlt=31", "io-in-kernel=227"];
    let phases = operations.iter().map(|text| Phase::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let plan = Plan { phases, skipped: Vec::new() };
    let options = Options { placement, ..check::options() };
    let mut session = check::start(&plan, Config { vcpus: 3, ..Config::default() }, options)?;
    check::every_phase(&host, &mut session)?;
    Ok(Verdict::Ok)
}

fn halted_vcpu_changes_cpu(_: &Context) -> Result<Verdict> {
    const HALTS: u64 = 31;
    let host = check::host()?;
    let hlt: u32 = if host.isa == Isa::Vmx { 12 } else { 0x78 };
    let phase = Phase::new("hlt-message", Class::Hlt, Operation::HaltMessage, HALTS);
    let plan = Plan { phases: vec![phase], skipped: Vec::new() };
    let mut session = check::start(&plan, Config::default(), check::options())?;
    let counter = Counter::all_reasons(&Scope::System, host.isa)?;
    if session.pin(0, 1).is_err() {
        return Ok(Verdict::Skipped("this kernel has one CPU".to_owned()));
    }
    session.begin_phase()?;
    for nth in 1..=HALTS {
        session.wait_asleep(0, nth)?;
        session.pin(0, usize::from(nth % 2 == 0))?;
        session.send_message(0)?;
    }
    let report = session.finish_phase()?;
    let counts = counter.read()?;
    ensure!(
        check::compare("hlt-message", host.isa, &expect::expected(&host, &report), &counts),
        "counts differ"
    );
    // The first halt is on CPU 1, the following alternate.
    let on = |cpu| counts.cpus.get(&(hlt, cpu)).copied().unwrap_or(0);
    ensure!((on(0), on(1)) == (HALTS / 2, HALTS / 2 + 1), "halts on CPU 0 and 1: {} and {}", on(0), on(1));
    Ok(Verdict::Ok)
}
