//! time: all of a vCPU's time is in one of the buckets, as the wall clock and the scheduler's own statistic say.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kvm_utils::decode::Class;
use kvm_utils::selftest::{Config, Operation, Options, Phase, Placement, Plan, Session, Step, Work};
use serde_json::Value;

use super::tracer_linux::{boot, end, qemu};
use crate::check;
use crate::drilldown::Summary;
use crate::reference::{Counter, Scope};
use crate::registry::{Context, Test, Verdict};
use crate::tracer::{Source, Tracer};

tracer_tests! {
    "time-busy", 180, busy;
    "time-idle", 180, idle;
    "time-io-bound", 180, io_bound;
    "time-oversubscribed", 180, oversubscribed;
    "time-one-thread", 180, one_thread;
    "time-runs-already", 180, runs_already;
    "time-vmm-halts", 180, vmm_halts;
    "time-linux-guest", 300, linux_guest;
}

/// Where KVM's modules have no BTF: classic tracepoints of KVM with the scheduler's raw ones.
pub const AUTO: &[Test] = &[Test {
    name: "time-oversubscribed-auto",
    needs_idle_kvm: false,
    timeout_s: 180,
    run: |context| {
        if context.kvm_utils.is_none() {
            return Ok(Verdict::Skipped("--kvm-utils is not given".to_owned()));
        }
        oversubscribed_from(context, "auto").map(|()| Verdict::Ok)
    },
}];

/// How long a guest works.
const WORK: Duration = Duration::from_secs(3);
/// How often the tracer reports.
const INTERVAL: &str = "1s";
/// The tracer reads the clock and then a vCPU's times; it may lose its CPU in between, ns.
const SPARE: u64 = 5_000_000;

/// What a vCPU's time went to, ns.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    guest: u64,
    kvm: u64,
    vmm: u64,
    poll: u64,
    idle: u64,
    steal: u64,
    other: u64,
    wall: u64,
}

impl Times {
    fn of(row: &Value) -> Result<Self> {
        let ns = |name: &str| row[name].as_u64().with_context(|| format!("no {name}: {row}"));
        let times = Self {
            guest: ns("guest_ns")?,
            kvm: ns("kvm_ns")?,
            vmm: ns("vmm_ns")?,
            poll: ns("poll_ns")?,
            idle: ns("idle_ns")?,
            steal: ns("steal_ns")?,
            other: ns("other_ns")?,
            wall: ns("wall_ns")?,
        };
        ensure!(times.on_cpu() + times.idle + times.steal + times.other == times.wall, "{row}");
        Ok(times)
    }

    fn on_cpu(&self) -> u64 {
        self.guest + self.kvm + self.vmm + self.poll
    }
}

/// What the scheduler says of a thread: time on a CPU and time waiting for one, ns
/// (Documentation/scheduler/sched-stats.rst, /proc/<pid>/schedstat).
fn schedstat(tid: i32) -> Result<(u64, u64)> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{tid}/schedstat"))?;
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(on_cpu), Some(waiting)) => Ok((on_cpu?, waiting?)),
        _ => anyhow::bail!("{text:?} is no schedstat"),
    }
}

/// Runs one phase under the tracer while `during` does what it likes, and holds each vCPU's times against the wall clock
/// and the scheduler's statistic.
fn ledger(
    context: &Context,
    source: &str,
    work: &[Vec<Step>],
    during: impl Fn(&Session) -> Result<()>,
) -> Result<Vec<Times>> {
    patiently(|| measured(context, source, work.to_vec(), &during))
}

/// Does it again if it fails, as often as is sensible: a machine that is emulated may stand still for a while, just between
/// the scheduler's reading of the clock and the tracer's.
fn patiently<T>(what: impl Fn() -> Result<T>) -> Result<T> {
    const TIMES: u32 = 3;
    for _ in 1..TIMES {
        match what() {
            Err(error) => eprintln!("  again: {error:#}"),
            done => return done,
        }
    }
    what()
}

fn measured(
    context: &Context,
    source: &str,
    work: Vec<Vec<Step>>,
    during: impl Fn(&Session) -> Result<()>,
) -> Result<Vec<Times>> {
    let vcpus = u32::try_from(work.len())?;
    let phase = |name: &str, work| Phase { name: name.to_owned(), class: Class::Other, work };
    let seen = phase("seen", Work::Same(steps(Operation::Cpuid { leaf: 0 }, 11)));
    let plan = Plan { phases: vec![seen, phase("work", Work::Each(work))], skipped: Vec::new() };
    let mut session = check::start(&plan, Config { vcpus, ..Config::default() }, check::options())?;
    let tids: Vec<i32> = (0..vcpus).filter_map(|vcpu| session.thread_of(vcpu)).collect();
    let mut tracer = Tracer::spawn_noun(context, "time", &["-i", INTERVAL, "--source", source])?;
    tracer.await_line("attached (")?;
    let before = tids.iter().map(|tid| schedstat(*tid)).collect::<Result<Vec<_>>>()?;
    let began = Instant::now();
    // A vCPU's time begins with its first event. What its thread waits before is not to be much.
    session.run_phase()?;
    session.begin_phase()?;
    during(&session)?;
    session.finish_phase()?;
    let least = began.elapsed();
    let reports = tracer.stop_reports()?;
    let most = began.elapsed();
    let after = tids.iter().map(|tid| schedstat(*tid)).collect::<Result<Vec<_>>>()?;
    sums_up(&reports)?;

    let summary = summary(&reports)?;
    let vm = summary.vm_of(std::process::id())?;
    let rows = vm["vcpus"].as_array().context("no vcpus")?;
    ensure!(rows.len() == tids.len(), "{vm}");
    let mut all = Vec::new();
    for ((row, tid), (before, after)) in rows.iter().zip(&tids).zip(before.iter().zip(&after)) {
        ensure!(row["tid"] == *tid, "{row}");
        let times = Times::of(&row["time"][0])?;
        eprintln!("  {times:?}");
        eprintln!("  wall {least:?} to {most:?}, schedstat {} {}", after.0 - before.0, after.1 - before.1);
        within("wall time", times.wall, ns(least), ns(most), ns(most) / 100)?;
        within_share("time on a CPU", times.on_cpu(), after.0 - before.0, times.wall)?;
        within_share("time waiting for a CPU", times.steal, after.1 - before.1, times.wall)?;
        all.push(times);
    }
    Ok(all)
}

/// The last report. The kernel runs no classic program while another one runs, so that a wake-up in an interrupt may be
/// missed; of times that moves a little from one bucket to another.
fn summary(reports: &[Value]) -> Result<Summary> {
    let summary = Summary::parse_skipped(&reports.last().context("no report")?.to_string())?;
    let proof = &summary.value()["proof"];
    let missed = proof["missed"].as_u64().unwrap_or(0);
    let most = if proof["source"] == "tracepoint" { summary.count() / 100 } else { 0 };
    ensure!(missed <= most, "{missed} runs skipped: {proof}");
    Ok(summary)
}

/// In every interval in which a vCPU was there from the beginning its times make up the interval.
fn sums_up(reports: &[Value]) -> Result<()> {
    let (mut before, mut seen) = (0, 0);
    for report in reports.iter().filter(|report| report["summary"] == false) {
        let vcpus: Vec<&Value> = report["vms"][0]["vcpus"].as_array().into_iter().flatten().collect();
        for vcpu in &vcpus {
            let wall = Times::of(&vcpu["time"][0])?.wall;
            let interval = (report["interval_s"].as_f64().context("no interval_s")? * 1e9) as u64;
            let whole = vcpus.len() == before && report["vms"][0]["ended"] == false;
            within("an interval", wall, if whole { interval } else { 0 }, interval, interval / 100 + SPARE)?;
        }
        before = vcpus.len();
        seen += before;
    }
    ensure!(seen > 0, "no interval with a vCPU");
    Ok(())
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn within(what: &str, value: u64, least: u64, most: u64, tolerance: u64) -> Result<()> {
    ensure!(
        value >= least.saturating_sub(tolerance) && value <= most + tolerance,
        "{what}: {value} ns, not {least} to {most} +- {tolerance}"
    );
    Ok(())
}

fn within_share(what: &str, value: u64, expected: u64, wall: u64) -> Result<()> {
    within(what, value, expected, expected, wall / 50)
}

fn steps(operation: Operation, count: u64) -> Vec<Step> {
    vec![Step::new(operation, count)]
}

fn work_for(time: Duration, session: &Session) -> Result<()> {
    std::thread::sleep(time);
    for vcpu in 0..2 {
        // A guest may have only one.
        let _ = session.stop_spinning(vcpu);
    }
    Ok(())
}

fn busy(context: &Context, source: Source) -> Result<()> {
    let work = vec![steps(Operation::SpinQuiet, 1)];
    let times = ledger(context, source.option(), &work, |session| work_for(WORK, session))?[0];
    ensure!(times.guest > times.wall / 2, "a guest that only computes: {times:?}");
    Ok(())
}

fn idle(context: &Context, source: Source) -> Result<()> {
    let work = vec![steps(Operation::HaltTimer { delay: Duration::from_millis(20) }, 149)];
    let times = ledger(context, source.option(), &work, |_| Ok(()))?[0];
    ensure!(times.idle > times.wall / 2, "a guest that sleeps: {times:?}");
    Ok(())
}

fn io_bound(context: &Context, source: Source) -> Result<()> {
    let work = vec![steps(Operation::PortOut { port: 0x1234, value: 1 }, 30_011)];
    let times = ledger(context, source.option(), &work, |_| Ok(()))?[0];
    ensure!(times.vmm > 0 && times.kvm > 0 && times.kvm + times.vmm > times.wall / 2, "{times:?}");
    Ok(())
}

/// Two vCPUs that only compute share one CPU: each waits for it half of the time.
fn oversubscribed(context: &Context, source: Source) -> Result<()> {
    oversubscribed_from(context, source.option())
}

fn oversubscribed_from(context: &Context, source: &str) -> Result<()> {
    let work = vec![steps(Operation::SpinQuiet, 1); 2];
    let times = ledger(context, source, &work, |session| {
        session.pin(0, 0)?;
        session.pin(1, 0)?;
        work_for(WORK, session)
    })?;
    for times in times {
        ensure!(times.steal > times.wall / 3 && times.guest > times.wall / 5, "{times:?}");
    }
    Ok(())
}

/// One thread runs two vCPUs in turn: its time on a CPU is theirs, each having its own part.
fn one_thread(context: &Context, source: Source) -> Result<()> {
    patiently(|| one_thread_once(context, source))
}

fn one_thread_once(context: &Context, source: Source) -> Result<()> {
    let phase = |count| {
        let operation = Operation::PortOut { port: 0x1234, value: 1 };
        Phase::new(format!("{count} writes"), Class::Io, operation, count)
    };
    let plan = Plan { phases: vec![phase(11), phase(5003)], skipped: Vec::new() };
    let options = Options { placement: Placement::OneThread, ..check::options() };
    let mut session = check::start(&plan, Config { vcpus: 2, ..Config::default() }, options)?;
    let tid = session.thread_of(0).context("no thread")?;
    let tracer = Tracer::start_noun(context, "time", source, &["-i", INTERVAL])?;
    let before = schedstat(tid)?;
    session.run_phase()?;
    session.run_phase()?;
    let reports = tracer.stop_reports()?;
    let after = schedstat(tid)?;
    sums_up(&reports)?;
    let vm = summary(&reports)?.vm_of(std::process::id())?.clone();
    let rows = vm["vcpus"].as_array().context("no vcpus")?.iter();
    let times = rows.map(|vcpu| Times::of(&vcpu["time"][0])).collect::<Result<Vec<_>>>()?;
    eprintln!("  {times:?}, schedstat {before:?} {after:?}");
    ensure!(times.len() == 2 && times.iter().all(|times| times.other > times.wall / 4), "{times:?}");
    let on_cpu = times.iter().map(Times::on_cpu).sum();
    within_share("time on a CPU", on_cpu, after.0 - before.0, times[0].wall)
}

/// What a vCPU did while the programs were being attached is none of the run's.
fn runs_already(context: &Context, source: Source) -> Result<()> {
    patiently(|| runs_already_once(context, source))
}

fn runs_already_once(context: &Context, source: Source) -> Result<()> {
    let work = Work::Same(steps(Operation::SpinQuiet, 1));
    let plan = Plan {
        phases: vec![Phase { name: "work".to_owned(), class: Class::Other, work }],
        skipped: Vec::new(),
    };
    let mut session = check::start(&plan, Config::default(), check::options())?;
    session.begin_phase()?;
    let tracer = Tracer::start_noun(context, "time", source, &["-i", INTERVAL])?;
    std::thread::sleep(WORK);
    let reports = tracer.stop_reports()?;
    session.stop_spinning(0)?;
    session.finish_phase()?;
    let summary = summary(&reports)?;
    for report in reports.iter().filter(|report| report["vms"][0]["vcpus"][0].is_object()) {
        let interval = (report["interval_s"].as_f64().context("no interval_s")? * 1e9) as u64;
        let times = Times::of(&report["vms"][0]["vcpus"][0]["time"][0])?;
        within("an interval", times.wall, interval, interval, interval / 100 + SPARE)?;
        ensure!(times.guest > times.wall / 2, "a guest that only computes: {times:?}");
    }
    summary.vm_of(std::process::id()).map(|_| ())
}

/// Without KVM's interrupt controllers a HLT is left to QEMU, whose thread then waits: the guest, here a firmware that has
/// found nothing to boot, idles all the same.
fn vmm_halts(context: &Context, source: Source) -> Result<()> {
    patiently(|| vmm_halts_once(context, source))
}

fn vmm_halts_once(context: &Context, source: Source) -> Result<()> {
    let tracer = Tracer::start_noun(context, "time", source, &["-i", INTERVAL])?;
    let machine = ["-machine", "kernel-irqchip=off", "-cpu", "host,-kvm-asyncpf-int", "-m", "64"];
    let mut guest = qemu("lab-halts", &machine).spawn().context("cannot start qemu-system-x86_64")?;
    let pid = guest.id();
    std::thread::sleep(3 * WORK);
    end(&mut guest)?;
    let reports = tracer.stop_reports()?;
    sums_up(&reports)?;
    let summary = summary(&reports)?;
    let times = Times::of(&summary.vm_of(pid)?["totals"][0])?;
    ensure!(times.idle > times.other, "{times:?}");
    Ok(())
}

/// Linux boots under QEMU, on two vCPUs: all their exits, all their time.
fn linux_guest(context: &Context, source: Source) -> Result<()> {
    patiently(|| linux_guest_once(context, source))
}

fn linux_guest_once(context: &Context, source: Source) -> Result<()> {
    let host = check::host()?;
    let counter = Counter::all_reasons(&Scope::System, host.isa)?;
    let tracer = Tracer::start_noun(context, "time", source, &["-i", INTERVAL])?;
    let before = counter.read()?.total;
    let began = Instant::now();
    let pid = boot(context, "lab-time", &[], "work=boot")?;
    let most = began.elapsed();
    let reports = tracer.stop_reports()?;
    sums_up(&reports)?;
    let summary = summary(&reports)?;
    let exits = counter.read()?.total - before;
    ensure!(summary.count() == exits, "{} exits, perf counted {exits}", summary.count());
    let vm = summary.vm_of(pid)?;
    ensure!(vm["name"] == "lab-time" && vm["ended"] == true, "{vm}");
    let mut sum = 0;
    for (id, vcpu) in vm["vcpus"].as_array().context("no vcpus")?.iter().enumerate() {
        ensure!(vcpu["vcpu"] == id && vcpu["time"][0]["vcpu"].as_str() == Some(&id.to_string()), "{vcpu}");
        let times = Times::of(&vcpu["time"][0])?;
        eprintln!("  {times:?}");
        within("wall time", times.wall, 0, ns(most), 0)?;
        ensure!(times.guest > 0 && times.kvm > 0 && times.vmm > 0, "{times:?}");
        sum += times.wall;
    }
    ensure!(Times::of(&vm["totals"][0])?.wall == sum && sum > 0, "{vm}");
    Ok(())
}
