//! Two virtual machines with the same vCPU ids in one process, at the same time.

use anyhow::{Result, ensure};
use kvm_utils::selftest::{Config, Phase, Plan, expect};

use crate::check;
use crate::reference::{Counter, Scope};
use crate::registry::{Context, Test, Verdict};

pub const TESTS: &[Test] =
    &[Test { name: "two-vms-one-process", needs_idle_kvm: false, timeout_s: 60, run: two_at_once }];

fn two_at_once(_: &Context) -> Result<Verdict> {
    let host = check::host()?;
    // Different numbers of the same, and something that only one of them does.
    let plans = [["cpuid=2003", "io-out-user=401"], ["cpuid=1999", "rdmsr=397"]].map(|operations| {
        let phases = operations.iter().map(|text| Phase::parse(text)).collect::<Result<Vec<_>, _>>();
        phases.map(|phases| Plan { phases, skipped: Vec::new() })
    });
    let mut sessions = Vec::new();
    for plan in plans {
        sessions.push(check::start(&plan?, Config { vcpus: 2, ..Config::default() }, check::options())?);
    }
    let mut counters = Vec::new();
    for session in &sessions {
        let threads = (0..2).filter_map(|vcpu| session.thread_of(vcpu)).collect();
        counters.push(Counter::all_reasons(&Scope::Threads(threads), host.isa)?);
    }
    let system = Counter::all_reasons(&Scope::System, host.isa)?;

    let mut expected: Vec<Vec<expect::Expected>> = vec![Vec::new(); sessions.len()];
    while sessions.iter().any(|session| session.phases_left() > 0) {
        for session in &mut sessions {
            session.begin_phase()?;
        }
        for (session, expected) in sessions.iter_mut().zip(&mut expected) {
            expected.extend(expect::expected(&host, &session.finish_phase()?));
        }
    }
    let mut equal = true;
    for (index, (counter, expected)) in counters.iter().zip(&expected).enumerate() {
        let expected = expect::merge(expected.iter().cloned());
        equal &= check::compare(&format!("vm {index}"), host.isa, &expected, &counter.read()?);
    }
    let both = expect::merge(expected.into_iter().flatten());
    equal &= check::compare("both", host.isa, &both, &system.read()?);
    ensure!(equal, "expected and counted exits differ");
    Ok(Verdict::Ok)
}
