//! The steps that need nothing but this machine.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::tally::Tally;
use crate::lab::packages::{self, Need};
use crate::lab::prometheus;
use crate::process::{self, tie};
use crate::project::{Project, cargo};
use crate::ui;

/// Everything but the eBPF package, which has a target of its own.
fn workspace(project: &Project, verb: &str) -> Command {
    let mut cargo = cargo();
    cargo.current_dir(&project.root).args([verb, "--workspace", "--exclude", crate::ebpf::PACKAGE]);
    cargo
}

pub(super) fn format(project: &Project) -> Result<()> {
    process::show(cargo().current_dir(&project.root).args(["fmt", "--all", "--check", "--", "-l"]))
        .context("the files named above are not formatted; type: cargo fmt --all")
}

pub(super) fn clippy(project: &Project) -> Result<()> {
    process::show(workspace(project, "clippy").args(["--all-targets", "--", "-D", "warnings"]))
}

/// What tests use beside Rust, and report as lacking where it is not there: a browser, and letters for it to write with.
const TEST_NEEDS: [Need; 2] = [
    Need::new("chromium-headless-shell", "chromium-headless-shell"),
    Need::new("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf", "fonts-dejavu-core"),
];

/// Gets what tests use, if that can be done; they tell what they miss.
fn equip() {
    // Whoever has another Chromium needs no more.
    if Need::new("chromium", "chromium").is_met() {
        return;
    }
    if let Err(error) = packages::ensure(&TEST_NEEDS) {
        ui::step(format_args!("tests that need a browser are left out: {error:#}"));
    }
}

/// Runs the tests of all packages and counts them one by one.
pub(super) fn tests(project: &Project, step: &str) -> Tally {
    equip();
    let mut cargo = workspace(project, "test");
    // A snapshot that differs is a failure, not a file to look at later.
    cargo.arg("--no-fail-fast").env("INSTA_UPDATE", "no");
    match prometheus::prepare(project) {
        Ok(programs) => _ = cargo.env("KVM_UTILS_PROMETHEUS", programs),
        // Tests that need it say so.
        Err(error) => ui::warn(format_args!("no Prometheus: {error:#}")),
    }
    let mut results = Results::new(step);
    if let Err(error) = follow(&mut cargo, &mut results) {
        // Cargo fails when a test does, which is counted; else there is more to tell.
        if results.tally.failed.is_empty() {
            results.tally.fail(step, &format!("{error:#}"));
        }
    }
    if results.tally.count() == 0 {
        results.tally.fail(step, "no test ran");
    }
    results.tally
}

/// Runs the command, shows its output without the lines of tests that passed, and reads the results.
fn follow(command: &mut Command, results: &mut Results) -> Result<()> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    tie(command, Signal::TERM);
    let mut child = command.spawn().with_context(|| format!("cannot start {}", process::name(command)))?;
    let stdout = child.stdout.take().context("cargo has no stdout")?;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        if results.read(&line) {
            println!("{line}");
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{} failed ({status})", process::name(command));
    }
    Ok(())
}

/// Reads what libtest prints.
struct Results {
    step: String,
    tally: Tally,
}

impl Results {
    fn new(step: &str) -> Self {
        Self { step: step.into(), tally: Tally::default() }
    }

    /// Reads one line; false for lines that nobody misses.
    fn read(&mut self, line: &str) -> bool {
        let Some((name, verdict)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
        else {
            return !(line.is_empty() || line.starts_with("running ") || line.starts_with("test result: ok"));
        };
        let name = format!("{}/{name}", self.step);
        if verdict.starts_with("ok") {
            self.tally.passed += 1;
            return false;
        }
        match verdict.strip_prefix("ignored") {
            Some("") => self.tally.skip(&name, "ignored"),
            Some(why) => self.tally.skip(&name, why.trim_start_matches(", ")),
            None => self.tally.fail(&name, verdict),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtest_is_counted_test_by_test() {
        let output = "\nrunning 4 tests\ntest a::b ... ok\ntest a::c - should panic ... ok\ntest d ... FAILED\n\
                      test e ... ignored, needs root\ntest result: FAILED. 2 passed; 1 failed; 1 ignored\n\
                      test src/lib.rs - x (line 7) - compile ... ok (0.10s)\n";
        let mut results = Results::new("unit");
        let shown: Vec<_> = output.lines().filter(|line| results.read(line)).collect();
        assert_eq!(results.tally.passed, 3);
        assert_eq!(results.tally.failed, [("unit/d".to_owned(), "FAILED".to_owned())]);
        assert_eq!(results.tally.skipped, [("unit/e".to_owned(), "needs root".to_owned())]);
        assert_eq!(shown.len(), 3);
    }

    #[test]
    fn a_command_that_cannot_start_says_so() {
        let error = follow(&mut Command::new("no-such-program"), &mut Results::new("unit")).unwrap_err();
        assert!(format!("{error:#}").contains("no-such-program"));
    }
}
