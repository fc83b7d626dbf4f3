//! Comparing in earnest: the documented CI job on the boot of a Linux guest, and a live run against a recording.

use std::fs;
use std::path::Path;
use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use kvm_utils::decode::Class;
use kvm_utils::selftest::{Config, Operation, Phase, Plan, Session};
use serde_json::Value;

use crate::check;
use crate::registry::{Context, Test, Verdict};
use crate::shell::Shell;
use crate::tracer::{self, Source};

tracer_tests! {
    "compare-live-with-a-baseline", 120, live_with_a_baseline;
}

pub const TESTS: &[Test] = &[Test {
    name: "compare-exit-budget-of-a-boot",
    needs_idle_kvm: false,
    timeout_s: 600,
    run: exit_budget,
}];

/// The job, and what it allows.
const JOB: &str = include_str!("../../../../contrib/ci/exit-budget.yml");
const LIMITS: &str = include_str!("../../../../contrib/ci/exits.toml");

/// What the job's steps run, one after the other.
fn steps() -> Vec<String> {
    let mut steps: Vec<String> = Vec::new();
    let mut within = None;
    for line in JOB.lines() {
        let indent = line.len() - line.trim_start().len();
        if line.trim_start().starts_with("run: |") {
            within = Some(indent);
            steps.push(String::new());
        } else if within.is_some_and(|run| indent > run) {
            if let Some(step) = steps.last_mut() {
                step.push_str(line.trim_start());
                step.push('\n');
            }
        } else {
            within = None;
        }
    }
    steps
}

/// Does the whole job; its exit code, and what is shown beside the pull request.
fn job(shell: &Shell) -> Result<(Option<i32>, String)> {
    let _ = fs::remove_file(shell.path("summary.md"));
    let shown = || fs::read_to_string(shell.path("summary.md")).unwrap_or_default();
    for step in steps() {
        let output = shell.run(&step)?;
        eprintln!("  {}", String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "));
        if !output.status.success() {
            return Ok((output.status.code(), shown()));
        }
    }
    Ok((Some(0), shown()))
}

/// The job passes for the guest as it is, and fails for one that reads the PM timer all the time, with a sentence that names
/// what it was.
fn exit_budget(context: &Context) -> Result<Verdict> {
    if context.kvm_utils.is_none() {
        return Ok(Verdict::Skipped("--kvm-utils is not given".to_owned()));
    }
    ensure!(steps().len() == 2, "{:?}", steps());
    let runner = Shell::new(context)?;
    fs::write(runner.path("exits.toml"), LIMITS)?;
    runner.boots("")?;
    let recorded = runner.run(&steps()[0])?;
    ensure!(recorded.status.success(), "{}", String::from_utf8_lossy(&recorded.stderr));
    fs::rename(runner.path("new.kvmrec"), runner.path("base.kvmrec"))?;

    let (code, shown) = job(&runner)?;
    // Of one boot a side nothing is said but whether it keeps the limits.
    let sentence = shown.lines().next().unwrap_or_default();
    ensure!(
        code == Some(0) && sentence.starts_with("✅ **") && sentence.ends_with("; no limit is exceeded.**"),
        "{code:?}: {shown}"
    );
    runner.boots("clocksource=acpi_pm")?;
    let (code, shown) = job(&runner)?;
    let sentence = shown.lines().next().unwrap_or_default();
    eprintln!("  {sentence}");
    ensure!(code == Some(1) && sentence.starts_with("❌ **Over the limit: "), "{code:?}: {shown}");
    ensure!(
        sentence.contains("(class io): ") && sentence.contains("limit: exits.class.io max"),
        "{sentence}"
    );
    Ok(Verdict::Ok)
}

/// A guest that executes CPUID until it is stopped, or does nothing at all.
fn spinning(spins: bool) -> Result<Session> {
    let operation = if spins { Operation::SpinCpuid } else { Operation::SpinQuiet };
    let plan = Plan { phases: vec![Phase::new("spin", Class::Cpuid, operation, 1)], skipped: Vec::new() };
    let mut session = check::start(&plan, Config::default(), check::options())?;
    session.begin_phase()?;
    Ok(session)
}

/// Runs `kvm-utils` while a guest spins.
fn beside(context: &Context, spins: bool, arguments: &[&str], path: &Path) -> Result<Output> {
    let mut session = spinning(spins)?;
    let mut command = tracer::command(context)?;
    let output = command.args(arguments).arg(path).args(["-i", "100ms", "-d", "3s"]).output();
    session.stop_spinning(0)?;
    session.finish_phase()?;
    Ok(output?)
}

/// A live run that is like the recording passes, one that has exits of another kind fails and names it.
fn live_with_a_baseline(context: &Context, source: Source) -> Result<()> {
    let runner = Shell::new(context)?;
    let (busy, quiet) = (runner.path("busy.kvmrec"), runner.path("quiet.kvmrec"));
    let record = ["record", "--source", source.option(), "-o"];
    for (spins, path) in [(true, &busy), (false, &quiet)] {
        let output = beside(context, spins, &record, path)?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // An emulated machine may be several times slower from one moment to the next; a row that is new is worse than any limit.
    let live = [
        "exits",
        "--source",
        source.option(),
        "-o",
        "json",
        "--summary",
        "--fail-above",
        "2000%",
        "--baseline",
    ];
    let judged = |output: &Output| -> Result<Value> {
        let text = String::from_utf8_lossy(&output.stdout);
        let last =
            text.lines().last().with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        Ok(serde_json::from_str(last)?)
    };
    let output = beside(context, true, &live, &busy)?;
    let same = judged(&output)?;
    ensure!(output.status.code() == Some(0) && same["outcome"] == "passed", "{:?}: {same}", output.status);
    ensure!(same["schema"] == "kvm-utils/compare/v1" && same["method"] == "blocks", "{same}");
    ensure!(same["new"][0]["intervals"].as_u64() >= Some(20), "{same}");
    let output = beside(context, true, &live, &quiet)?;
    let new = judged(&output)?;
    ensure!(output.status.code() == Some(1) && new["outcome"] == "failed", "{:?}: {new}", output.status);
    let summary = new["summary"].as_str().unwrap_or_default();
    eprintln!("  {summary}");
    ensure!(summary.contains("(class cpuid): ") && summary.contains("exits"), "{summary}");
    Ok(())
}
