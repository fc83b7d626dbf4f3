//! Only what was asked for is counted, and what finds no room is counted all the same.

use anyhow::{Context as _, Result, ensure};
use kvm_utils::selftest::expect::{self, Expected};
use kvm_utils::selftest::{Host, Operation};

use crate::check;
use crate::program::Guest;
use crate::reference::{Counter, Scope};
use crate::registry::Context;
use crate::report::ensure_expected;
use crate::tracer::{Source, Tracer};

tracer_tests! {
    "tracer-filters", 90, filters;
    "tracer-more-vcpus-than-room", 60, more_vcpus_than_room;
}

fn two_guests() -> Result<[Guest; 2]> {
    Ok([
        Guest::start(&["--vcpus", "2", "--each-phase", "--op", "cpuid=1013", "--op", "cpuid=1019"])?,
        Guest::start(&["--vcpus", "2", "--each-phase", "--op", "cpuid=1021", "--op", "cpuid=1031"])?,
    ])
}

/// By process in the first phase, by process and vCPU in the second.
fn filters(context: &Context, source: Source) -> Result<()> {
    let host = check::host()?;
    let mut guests = two_guests()?;
    let pid = guests[0].pid();
    for (count, vcpu) in [(1013, None), (1019, Some(1))] {
        let pid_option = pid.to_string();
        let mut options = vec!["--pid", &pid_option];
        if vcpu.is_some() {
            options.extend(["--vcpu", "1"]);
        }
        let tracer = Tracer::start(context, source, &options)?;
        for guest in &mut guests {
            guest.go()?;
        }
        for guest in &mut guests {
            guest.phase()?;
        }
        let summary = tracer.stop()?;
        let vm = summary.vm_of(pid)?;
        ensure!(summary.vms.len() == 1, "{:?}", summary.names());
        let ids: Vec<_> = vm.vcpus.iter().map(|one| one.vcpu).collect();
        ensure!(ids == vcpu.map_or(vec![Some(0), Some(1)], |id| vec![Some(id)]), "vCPUs {ids:?}");
        for one in &vm.vcpus {
            ensure_expected(&format!("vcpu {:?}", one.vcpu), &host, &batch(&host, count), &one.exits)?;
        }
        match vcpu {
            None => summary.ensure_proven()?,
            Some(_) => {
                summary.ensure_undoubted()?;
                let why = summary.proof.kvm_stat_unknown.as_deref().unwrap_or_default();
                ensure!(why.contains("--vcpu"), "why KVM's statistic is not compared: {why:?}");
            }
        }
    }
    Ok(())
}

/// What a batch of so many CPUID causes.
fn batch(host: &Host, count: u64) -> Vec<Expected> {
    let mut all = expect::exits(host, Operation::Cpuid { leaf: 0 }, count, count);
    // The port write that ends it.
    all.extend(expect::exits(host, Operation::PortOut { port: 0, value: 0 }, 1, 1));
    expect::merge(all)
}

/// With room for one vCPU, those of others are counted per reason, that is told, and `--strict` does not accept it.
fn more_vcpus_than_room(context: &Context, source: Source) -> Result<()> {
    let host = check::host()?;
    let mut guests = two_guests()?;
    let counter = Counter::all_reasons(&Scope::System, host.isa)?;
    let tracer = Tracer::start(context, source, &["--max-vcpus", "1", "--strict"])?;
    for guest in &mut guests {
        guest.go()?;
        guest.phase()?;
    }
    tracer.signal(rustix::process::Signal::INT)?;
    let run = tracer.finish()?;
    ensure!(run.status.code() == Some(1), "{}: {}", run.status, run.said);
    ensure!(run.said.contains("--strict") && run.said.contains("--max-vcpus"), "{}", run.said);
    let summary = run.into_any_summary()?;
    summary.ensure_equals(&counter.read()?)?;
    let proof = &summary.proof;
    ensure!(proof.verdict == "doubtful" && !proof.doubts.is_empty(), "{proof:?}");
    // One of four vCPUs has a record.
    let recorded = summary.vms.first().and_then(|vm| vm.vcpus.first()).context("no vCPU")?;
    ensure!(proof.vcpus_full == summary.count - recorded.count && recorded.count >= 1014, "{proof:?}");
    ensure!(proof.missed.unwrap_or(0) == 0 && proof.unreadable == 0, "{proof:?}");
    Ok(())
}
