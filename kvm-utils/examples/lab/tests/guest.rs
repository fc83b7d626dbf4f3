//! The guest makes the exits it claims: each operation against the kernel's own count.

use anyhow::{Result, ensure};
use kvm_utils::decode::Class;
use kvm_utils::selftest::{Apic, Config, Operation, Phase, Plan, Step, Work, expect, plan};

use crate::check;
use crate::registry::{Context, Test, Verdict};

pub const TESTS: &[Test] = &[
    Test { name: "guest-ops", needs_idle_kvm: false, timeout_s: 120, run: operations },
    Test { name: "guest-ops-two-vcpus", needs_idle_kvm: false, timeout_s: 180, run: operations_on_two_vcpus },
    Test { name: "guest-ipis", needs_idle_kvm: false, timeout_s: 60, run: interrupts_between_vcpus },
];

fn operations(_: &Context) -> Result<Verdict> {
    standard_plan(1)
}

fn operations_on_two_vcpus(_: &Context) -> Result<Verdict> {
    standard_plan(2)
}

fn standard_plan(vcpus: u32) -> Result<Verdict> {
    let host = check::host()?;
    let plan = plan::standard(&host);
    for (name, why) in &plan.skipped {
        eprintln!("  {name:16} skipped: {why}");
    }
    let mut session = check::start(&plan, Config { vcpus, ..Config::default() }, check::options())?;
    let reports = check::every_phase(&host, &mut session)?;
    ensure!(reports.len() == plan.phases.len(), "{} of {} phases were run", reports.len(), plan.phases.len());
    // KVM has no such hypercall, and must have said so: -KVM_ENOSYS (include/uapi/linux/kvm_para.h)
    let hypercall = reports.iter().find(|report| report.name == "hypercall");
    for vcpu in hypercall.iter().flat_map(|report| &report.vcpus) {
        ensure!(
            vcpu.steps.iter().all(|step| step.result as i64 == -1000),
            "hypercall answered {:?}",
            vcpu.steps
        );
    }
    Ok(Verdict::Ok)
}

/// Messages through the x2APIC: to itself, to a vCPU that runs and to one that halts.
fn interrupts_between_vcpus(_: &Context) -> Result<Verdict> {
    const COUNT: u64 = 157;
    let host = check::host()?;
    if let Err(why) = expect::support(&host, Operation::SendIpi { to: 1 }) {
        return Ok(Verdict::Skipped(why));
    }
    let pair = |name: &str, to, receiver: Option<Operation>| Phase {
        name: name.to_owned(),
        class: Class::MsrWrite,
        work: Work::Each(vec![
            vec![Step::new(Operation::SendIpi { to }, COUNT)],
            receiver.map(|operation| Step::new(operation, COUNT)).into_iter().collect(),
        ]),
    };
    let plan = Plan {
        phases: vec![
            pair("ipi-self", 0, None),
            pair("ipi-running", 1, Some(Operation::AwaitInterrupts)),
            pair("ipi-halted", 1, Some(Operation::HaltMessage)),
        ],
        skipped: Vec::new(),
    };
    let config = Config { vcpus: 2, apic: Apic::X2Apic, ..Config::default() };
    let mut session = check::start(&plan, config, check::options())?;
    let reports = check::every_phase(&host, &mut session)?;
    let taken: Vec<u64> =
        reports.iter().flat_map(|report| &report.vcpus).map(|vcpu| vcpu.interrupts).collect();
    ensure!(taken == [COUNT, 0, 0, COUNT, 0, COUNT], "interrupts taken: {taken:?}");
    Ok(Verdict::Ok)
}
