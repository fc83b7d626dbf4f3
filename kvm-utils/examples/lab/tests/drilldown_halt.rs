//! halt says how often vCPUs halted, how that ended, and what KVM polled: as perf and as KVM's own statistic say.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kvm_utils::decode::Class;
use kvm_utils::selftest::{Config, Operation, Phase, Plan};
use serde_json::Value;

use super::tracer_linux::boot;
use crate::check;
use crate::drilldown::Summary;
use crate::reference::EventCounter;
use crate::registry::Context;
use crate::tracer::{Source, Tracer};

tracer_tests! {
    "halt-known-numbers", 60, known_numbers;
    "halt-linux-guest", 300, linux_guest;
}

/// perf's counts of what makes halts up.
struct Reference {
    wakeups: EventCounter,
    resizes: EventCounter,
    before: [u64; 5],
}

impl Reference {
    fn start() -> Result<Self> {
        let wakeups = EventCounter::new("kvm_vcpu_wakeup", &["waited == 1", "valid == 1"])?;
        let resizes = EventCounter::new("kvm_halt_poll_ns", &["grow == 1"])?;
        let mut reference = Self { wakeups, resizes, before: [0; 5] };
        reference.before = reference.read()?;
        Ok(reference)
    }

    /// Halts, those that waited, valid ones; changes of the time to poll that made it longer, and shorter.
    fn read(&self) -> Result<[u64; 5]> {
        let (wakeups, resizes) = (self.wakeups.read()?, self.resizes.read()?);
        let all = [wakeups[0], wakeups[1], wakeups[2], resizes[1], resizes[0] - resizes[1]];
        Ok(std::array::from_fn(|i| all[i] - self.before[i]))
    }

    /// The tracer has counted the same.
    fn ensure_equals(&self, summary: &Summary) -> Result<()> {
        let sum = |column| summary.sum(column, &[]);
        let ours = [sum("count"), sum("waited"), sum("valid"), sum("grown"), sum("shrunk")];
        let perf = self.read()?;
        eprintln!("  counted {ours:?}, perf {perf:?}");
        ensure!(ours == perf, "counted {ours:?}, perf {perf:?}: {}", summary.value());
        ensure!(
            sum("count") == summary.count() && sum("invalid") == ours[0] - ours[2],
            "{}",
            summary.value()
        );
        Ok(())
    }
}

/// KVM's own statistic of a process's VMs: the sum of a file in debugfs.
fn kvm_stat(name: &str) -> Result<u64> {
    let mut sum = 0;
    let mine = format!("{}-", std::process::id());
    for entry in std::fs::read_dir("/sys/kernel/debug/kvm").context("no debugfs")? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&mine) {
            sum += std::fs::read_to_string(entry.path().join(name))?.trim().parse::<u64>()?;
        }
    }
    Ok(sum)
}

const POLLING: [&str; 4] =
    ["halt_attempted_poll", "halt_successful_poll", "halt_poll_success_ns", "halt_poll_fail_ns"];

/// Long sleeps, for which KVM gives polling up, and short ones, for which it polls.
fn known_numbers(context: &Context, source: Source) -> Result<()> {
    const LONG: u64 = 53;
    const SHORT: u64 = 211;
    let phase = |us: u64, count| {
        let delay = Duration::from_micros(us);
        Phase::new(format!("{delay:?}"), Class::Hlt, Operation::HaltTimer { delay }, count)
    };
    let plan = Plan { phases: vec![phase(20_000, LONG), phase(150, SHORT)], skipped: Vec::new() };
    let mut session = check::start(&plan, Config::default(), check::options())?;
    let tracer = Tracer::start_noun(context, "halt", source, &["-i", "300ms"])?;
    let reference = Reference::start()?;
    let before = POLLING.map(kvm_stat);
    session.run_phase()?;
    session.run_phase()?;
    let after = POLLING.map(kvm_stat);
    let summary = tracer.stop_noun()?;
    reference.ensure_equals(&summary)?;
    // A timer that has fired before the vCPU halts makes no halt.
    ensure!((LONG..=LONG + SHORT).contains(&summary.count()), "{}", summary.value());
    let vm = summary.vm_of(std::process::id())?;
    let row: &Value = &vm["vcpus"][0]["halt"][0];
    ensure!(vm["vcpus"][0]["vcpu"] == 0 && row["count"] == summary.count(), "{vm}");
    let number = |name: &str| row[name].as_u64().with_context(|| format!("no {name}: {row}"));

    let blocked = number("blocked_ns")?;
    ensure!(blocked >= LONG * 15_000_000, "blocked for {blocked} ns: {row}");
    ensure!(number("blocked_p99_ns")? >= 15_000_000, "{row}");
    ensure!(number("halted_ns")? >= blocked, "{row}");
    let polled: Vec<u64> =
        before.into_iter().zip(after).map(|(before, after)| Ok(after? - before?)).collect::<Result<_>>()?;
    let names = ["polls", "polls_successful", "poll_success_ns", "poll_fail_ns"];
    let ours = names.iter().map(|name| number(name)).collect::<Result<Vec<_>>>()?;
    eprintln!("  polled {ours:?}, kvm {polled:?}, window {}", row["window_ns"]);
    let unknown = number("poll_unknown")?;
    match source {
        Source::Raw => {
            ensure!(unknown == 0 && ours[..2] == polled[..2], "polled {ours:?}, kvm {polled:?}: {row}");
            // Of the first halt it is estimated.
            for (ours, kvm) in ours.iter().zip(&polled).skip(2) {
                ensure!(ours.abs_diff(*kvm) <= 1_000_000, "polled {ours} ns, kvm {kvm} ns: {row}");
            }
        }
        Source::Classic => {
            ensure!(ours[0] <= polled[0] && ours[0] + unknown >= polled[0], "{ours:?} {polled:?}: {row}");
        }
    }
    Ok(())
}

/// A Linux guest: what perf counts.
fn linux_guest(context: &Context, source: Source) -> Result<()> {
    let reference = Reference::start()?;
    let tracer = Tracer::start_noun(context, "halt", source, &[])?;
    let pid = boot(context, "lab-halt", &[], "work=boot")?;
    let summary = tracer.stop_noun()?;
    reference.ensure_equals(&summary)?;
    let vm = summary.vm_of(pid)?;
    ensure!(vm["name"] == "lab-halt" && vm["ended"] == true, "{vm}");
    ensure!(summary.count() > 0, "a Linux guest that never halted");
    Ok(())
}
