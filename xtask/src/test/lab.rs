//! The steps that run inside a lab: one boot, all tests of the lab program.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::tally::Tally;
use crate::lab::l2::{self, L2};
use crate::lab::packages;
use crate::lab::{Lab, Limits, Output, Request, Suite, Vendor};
use crate::project::Project;
use crate::release::{self, Release};

/// The line the lab program prints when it has come to its end.
const DONE: &str = "lab-done";

/// How long a lab may run, and how long it may be silent: tests that take longer than 5 minutes print meanwhile.
const LIMITS: Limits = Limits { whole: Duration::from_secs(40 * 60), silence: Duration::from_secs(7 * 60) };

/// The lab for the tests that one lab is enough for.
const ONE_LAB: (Vendor, Suite) = (Vendor::Amd, Suite::Bookworm);

/// More failures than this in one lab are no accident.
const ACCIDENTS: usize = 12;

/// The tests of a lab that are worth a second try; all of them when none is named.
pub(super) type Again = Vec<String>;

/// What the tests in all labs need.
pub(super) struct Tests {
    lab: Lab,
    release: Release,
    l2: L2,
    /// The guest's initramfs with kvm-bench on board.
    l2_bench: PathBuf,
    /// Only tests with this in their name.
    only: Option<String>,
    /// All tests in all labs.
    everything: bool,
}

impl Tests {
    /// Builds and downloads it.
    pub(super) fn prepare(project: &Project, only: Option<String>, everything: bool) -> Result<Self> {
        packages::ensure([&packages::TMUX])?;
        let release = release::build(project)?;
        let lab = Lab::open()?;
        let l2 = l2::prepare(&lab.cache)?;
        let l2_bench = l2.with_program(&lab.cache, "kvm-bench", &release.kvm_bench)?;
        Ok(Self { lab, release, l2, l2_bench, only, everything })
    }

    /// Boots a lab and counts the tests, each named after the vendor and the kernel's series. A guest that dies is
    /// a failure beside what it had shown. Also tells what to repeat, because an emulated machine may stand still.
    pub(super) fn run(&self, vendor: Vendor, suite: Suite, tests: &[String]) -> (Tally, Option<Again>) {
        let (kvm_utils, l2) = (&self.release.kvm_utils, &self.l2);
        let mut command: Vec<OsString> = vec![self.release.lab.clone().into(), "run-all".into()];
        let files = [
            ("--kvm-utils", kvm_utils),
            ("--l2-kernel", &l2.kernel),
            ("--l2-initramfs", &l2.initramfs),
            ("--l2-bench", &self.l2_bench),
            ("--kvm-bench", &self.release.kvm_bench),
        ];
        for (option, path) in files {
            command.extend([option.into(), path.into()]);
        }
        if let Some(text) = &self.only {
            command.extend(["--only".into(), text.into()]);
        } else if !self.everything {
            let extent = if (vendor, suite) == ONE_LAB { "one-lab" } else { "every-lab" };
            command.extend(["--extent".into(), extent.into()]);
        }
        command.extend(tests.iter().map(OsString::from));
        let mut carry: Vec<_> = files.iter().map(|(_, path)| (*path).clone()).collect();
        carry.extend(l2::QEMU.map(PathBuf::from));
        let request = Request { vendor, suite, command, carry, limits: LIMITS, ..Request::default() };
        let mut results = Results::new(vendor, suite);
        let show = |lines: &[String]| lines.iter().for_each(|line| println!("{line}"));
        let outcome = self.lab.run(
            &request,
            &mut Output::Lines(&mut |line| {
                show(&results.read(line));
                Ok(())
            }),
        );
        // A test that was running when the guest died has not shown its details.
        show(&results.details);
        let again = results.again();
        (results.finish(outcome.map(|outcome| (outcome.kernel, outcome.status))), again)
    }
}

/// Reads what the lab program prints: `lab-plan NAME NAME ...`, then `lab-test NAME ok`, `lab-test NAME FAILED: why`,
/// `lab-test NAME skipped: why`, and at the end `lab-done`.
struct Results {
    vendor: Vendor,
    suite: Suite,
    /// The tests that are to run.
    plan: Vec<String>,
    tests: Vec<(String, String)>,
    /// What the running test has printed.
    details: Vec<String>,
    done: bool,
}

impl Results {
    fn new(vendor: Vendor, suite: Suite) -> Self {
        Self { vendor, suite, plan: Vec::new(), tests: Vec::new(), details: Vec::new(), done: false }
    }

    /// Reads one line and returns the lines to show: a test's verdict, after its details if it failed.
    fn read(&mut self, line: &str) -> Vec<String> {
        let Some((name, verdict)) = line.strip_prefix("lab-test ").and_then(|rest| rest.split_once(' '))
        else {
            if line == DONE {
                self.done = true;
            } else if let Some(plan) = line.strip_prefix("lab-plan ") {
                self.plan = plan.split(' ').map(str::to_owned).collect();
            } else {
                self.details.push(line.to_owned());
            }
            return Vec::new();
        };
        self.tests.push((name.to_owned(), verdict.to_owned()));
        let mut shown = std::mem::take(&mut self.details);
        if !verdict.starts_with("FAILED") {
            shown.clear();
        }
        shown.push(format!("{}/{} {name} {verdict}", self.vendor, self.suite));
        shown
    }

    /// What failed and what the lab did not come to.
    fn again(&self) -> Option<Again> {
        let verdict =
            |name: &String| self.tests.iter().find(|(test, _)| test == name).map(|(_, verdict)| verdict);
        let has_failed = |name: &&String| verdict(name).is_some_and(|verdict| verdict.starts_with("FAILED"));
        if self.plan.iter().filter(has_failed).count() > ACCIDENTS {
            return None;
        }
        let open = |name: &&String| verdict(name).is_none() || has_failed(name);
        let again: Again = self.plan.iter().filter(open).cloned().collect();
        // A lab that did not come to its first test has no plan.
        let is_complete = self.done && again.is_empty();
        (!is_complete).then_some(again)
    }

    /// Counts; `end` is the lab's kernel and the program's exit status.
    fn finish(self, end: Result<(String, i32)>) -> Tally {
        // Named after the kernel's series, or, when the kernel is not known, after the suite.
        let prefix = match &end {
            Ok((kernel, _)) => format!("{}/{}", self.vendor, crate::lab::series(kernel)),
            Err(_) => format!("{}/{}", self.vendor, self.suite),
        };
        let mut tally = Tally::default();
        for (name, verdict) in &self.tests {
            let name = format!("{prefix}/{name}");
            let (word, why) = verdict.split_once(": ").unwrap_or((verdict, ""));
            match word.split(' ').next() {
                Some("ok") => tally.passed += 1,
                Some("skipped") => tally.skip(&name, why),
                _ => tally.fail(&name, if why.is_empty() { verdict } else { why }),
            }
        }
        match end {
            Err(error) => tally.fail(&prefix, &format!("{error:#}")),
            Ok((_, status)) if !self.done => {
                tally.fail(&prefix, &format!("the lab program ended early (exit status {status})"));
            }
            Ok((_, status)) if status != 0 && tally.failed.is_empty() => {
                tally.fail(&prefix, &format!("exit status {status} although no test failed"));
            }
            Ok(_) if tally.count() == 0 => tally.fail(&prefix, "no test ran"),
            Ok(_) => {}
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(output: &str) -> Results {
        let mut results = Results::new(Vendor::Amd, Suite::Bookworm);
        for line in output.lines() {
            results.read(line);
        }
        results
    }

    fn end(status: i32) -> Result<(String, i32)> {
        Ok(("6.1.0-50-amd64".into(), status))
    }

    #[test]
    fn each_line_is_a_test() {
        let output = "lab-test a ok (0.1 s)\nnoise\nlab-test b FAILED: 3 != 4: really (2.0 s)\n\
                      lab-test c skipped: no module BTF (0.0 s)\nlab-test d ok\nlab-done\n";
        let tally = results(output).finish(end(1));
        assert_eq!(tally.to_string(), "2 passed, 1 failed, 1 skipped");
        assert_eq!(tally.failed, [("amd/6.1/b".to_owned(), "3 != 4: really (2.0 s)".to_owned())]);
        assert_eq!(tally.skipped, [("amd/6.1/c".to_owned(), "no module BTF (0.0 s)".to_owned())]);
    }

    #[test]
    fn the_details_of_a_failure_are_shown() {
        let mut results = results("noise\n");
        assert_eq!(results.read("lab-test a ok (0.1 s)"), ["amd/bookworm a ok (0.1 s)"]);
        assert!(results.read("counted 3").is_empty());
        assert_eq!(results.read("lab-test b FAILED: 3"), ["counted 3", "amd/bookworm b FAILED: 3"]);
    }

    #[test]
    fn what_failed_or_did_not_run_is_worth_repeating() {
        let again = |output: &str| results(output).again();
        let plan = "lab-plan a b c\nlab-test a ok\n";
        assert_eq!(again(&format!("{plan}lab-test b skipped: x\nlab-test c ok\nlab-done")), None);
        assert_eq!(
            again(&format!("{plan}lab-test b FAILED: x\nlab-test c ok\nlab-done")),
            Some(vec!["b".to_owned()])
        );
        assert_eq!(again(plan), Some(vec!["b".to_owned(), "c".to_owned()]));
        assert_eq!(again("noise"), Some(Vec::new()));
        let names: Vec<_> = (0..=ACCIDENTS).map(|n| n.to_string()).collect();
        let failed: String = names.iter().map(|name| format!("lab-test {name} FAILED: x\n")).collect();
        assert_eq!(again(&format!("lab-plan {}\n{failed}lab-done", names.join(" "))), None);
    }

    #[test]
    fn an_early_end_is_a_failure_however_it_looks() {
        let failures = |output: &str, end| results(output).finish(end).failed.len();
        assert_eq!(failures("lab-test a ok\nlab-done\n", end(0)), 0);
        assert_eq!(failures("lab-test a ok\n", end(0)), 1);
        assert_eq!(failures("lab-test a ok\nlab-done\n", end(1)), 1);
        assert_eq!(failures("lab-done\n", end(0)), 1);
        let tally = results("lab-test a ok\n").finish(Err(anyhow::anyhow!("the guest died")));
        assert_eq!((tally.passed, tally.failed.len()), (1, 1));
        assert_eq!(tally.failed[0].0, "amd/bookworm");
    }
}
