//! Comparing in earnest: the documented CI job on the boot of a Linux guest, and a live run against a recording.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail, ensure};
use kvm_utils::decode::Class;
use kvm_utils::selftest::{Config, Operation, Phase, Plan, Session};
use serde_json::Value;

use crate::check;
use crate::registry::{Context, Test, Verdict};
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

/// A directory like a runner's, gone when the test is.
struct Runner(PathBuf);

impl Runner {
    fn new(context: &Context) -> Result<Self> {
        let runner = Self(std::env::temp_dir().join(format!("lab-runner-{}", std::process::id())));
        fs::create_dir_all(runner.0.join("bin"))?;
        let tool = context.kvm_utils.as_ref().context("--kvm-utils is not given")?;
        symlink(fs::canonicalize(tool)?, runner.0.join("bin/kvm-utils"))?;
        // All is root's here.
        runner.script("bin/sudo", "exec \"$@\"")?;
        fs::write(runner.0.join("exits.toml"), LIMITS)?;
        Ok(runner)
    }

    fn script(&self, name: &str, text: &str) -> Result<()> {
        let path = self.0.join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    /// From now on the guest's kernel gets these words.
    fn guest(&self, context: &Context, words: &str) -> Result<()> {
        let (Some(kernel), Some(initramfs)) = (&context.l2_kernel, &context.l2_initramfs) else {
            bail!("--l2-kernel and --l2-initramfs are needed");
        };
        self.script(
            "boot-guest.sh",
            &format!(
                "exec qemu-system-x86_64 -accel kvm -cpu host -smp 2 -m 256 -nodefaults -no-user-config -display none -no-reboot \
                 -name web-1 -serial file:console -kernel {} -initrd {} -append 'console=ttyS0 quiet work=boot {words}'",
                kernel.display(),
                initramfs.display()
            ),
        )
    }

    /// Does what the runner does with a step.
    fn step(&self, step: &str) -> Result<Output> {
        let path = format!("{}:{}", self.0.join("bin").display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("sh");
        command.args(["-e", "-c", step]).current_dir(&self.0).env("PATH", path);
        command.env("GITHUB_STEP_SUMMARY", self.0.join("summary.md"));
        crate::program::dies_with_us(&mut command);
        command.output().context("cannot start sh")
    }

    /// Does the whole job; its exit code, and what is shown beside the pull request.
    fn job(&self) -> Result<(Option<i32>, String)> {
        let _ = fs::remove_file(self.0.join("summary.md"));
        for step in steps() {
            let output = self.step(&step)?;
            eprintln!("  {}", String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "));
            if !output.status.success() {
                return Ok((output.status.code(), self.read("summary.md")));
            }
        }
        Ok((Some(0), self.read("summary.md")))
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // The lab ends soon.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The job passes for the guest as it is, and fails for one that reads the PM timer all the time, with a sentence that names
/// what it was.
fn exit_budget(context: &Context) -> Result<Verdict> {
    if context.kvm_utils.is_none() {
        return Ok(Verdict::Skipped("--kvm-utils is not given".to_owned()));
    }
    ensure!(steps().len() == 2, "{:?}", steps());
    let runner = Runner::new(context)?;
    runner.guest(context, "")?;
    let recorded = runner.step(&steps()[0])?;
    ensure!(recorded.status.success(), "{}", String::from_utf8_lossy(&recorded.stderr));
    fs::rename(runner.0.join("new.kvmrec"), runner.0.join("base.kvmrec"))?;

    let (code, shown) = runner.job()?;
    // Of one boot a side nothing is said but whether it keeps the limits.
    let sentence = shown.lines().next().unwrap_or_default();
    ensure!(
        code == Some(0) && sentence.starts_with("✅ **") && sentence.ends_with("; no limit is exceeded.**"),
        "{code:?}: {shown}"
    );
    runner.guest(context, "clocksource=acpi_pm")?;
    let (code, shown) = runner.job()?;
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
    let runner = Runner::new(context)?;
    let (busy, quiet) = (runner.0.join("busy.kvmrec"), runner.0.join("quiet.kvmrec"));
    let record = ["record", "--source", source.option(), "-o"];
    for (spins, path) in [(true, &busy), (false, &quiet)] {
        let output = beside(context, spins, &record, path)?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let live = [
        "exits",
        "--source",
        source.option(),
        "-o",
        "json",
        "--summary",
        "--fail-above",
        "100%",
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
