//! `cargo xtask test`: everything that is checked, in named steps, all of them even when some fail.

mod host;
mod lab;
mod tally;

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;

use crate::dist;
use crate::ebpf;
use crate::lab::{Suite, Vendor};
use crate::project::Project;
use crate::ui;
use tally::Tally;

/// Which labs the tests run in, the slowest first.
const LABS: [(Vendor, Suite); 5] = [
    (Vendor::Amd, Suite::Bookworm),
    (Vendor::Intel, Suite::Bookworm),
    (Vendor::Amd, Suite::Bullseye),
    (Vendor::Amd, Suite::Trixie),
    (Vendor::Amd, Suite::Forky),
];

/// Options of `cargo xtask test`.
#[derive(Args)]
pub(crate) struct Options {
    /// Only the steps of this name or that begin with it (lab, lab-amd, ebpf); may be repeated
    #[arg(long, value_name = "STEP")]
    only: Vec<String>,
    /// List the steps and do nothing
    #[arg(long)]
    list: bool,
    /// How many labs run at a time [default: as many as this machine has processors]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// In the labs, only tests whose name contains this
    #[arg(long, value_name = "TEXT")]
    lab_test: Option<String>,
    /// All tests in all labs, also those for which one lab is enough
    #[arg(long)]
    everything: bool,
}

/// One step.
#[derive(Clone, Copy)]
enum Step {
    Host(Check),
    Lab(Vendor, Suite),
}

/// A step that needs nothing but this machine.
#[derive(Clone, Copy)]
enum Check {
    Format,
    Clippy,
    EbpfClippy,
    EbpfVerify,
    Unit,
    Dist,
}

impl Step {
    fn all() -> Vec<Self> {
        let checks =
            [Check::Format, Check::Clippy, Check::EbpfClippy, Check::EbpfVerify, Check::Unit, Check::Dist];
        let labs = LABS.map(|(vendor, suite)| Self::Lab(vendor, suite));
        checks.map(Self::Host).into_iter().chain(labs).collect()
    }

    fn name(&self) -> String {
        match self {
            Self::Host(Check::Format) => "format".into(),
            Self::Host(Check::Clippy) => "clippy".into(),
            Self::Host(Check::EbpfClippy) => "ebpf-clippy".into(),
            Self::Host(Check::EbpfVerify) => "ebpf-verify".into(),
            Self::Host(Check::Unit) => "unit".into(),
            Self::Host(Check::Dist) => "dist".into(),
            Self::Lab(vendor, suite) => format!("lab-{vendor}-{suite}"),
        }
    }

    fn about(&self) -> String {
        match self {
            Self::Host(Check::Format) => "rustfmt has nothing to change".into(),
            Self::Host(Check::Clippy) => "clippy has nothing to say of the host's code".into(),
            Self::Host(Check::EbpfClippy) => "clippy has nothing to say of the eBPF programs".into(),
            Self::Host(Check::EbpfVerify) => "the committed eBPF object is what its sources give".into(),
            Self::Host(Check::Unit) => "unit, snapshot and command line tests".into(),
            Self::Host(Check::Dist) => "static programs, a manual page per command, completions".into(),
            Self::Lab(vendor, suite) => {
                format!("tests on Debian {suite}'s kernel with emulated {vendor} virtualization")
            }
        }
    }

    /// Whether one of the names picks this step, as a whole or by its first words.
    fn is_picked(&self, names: &[String]) -> bool {
        let name = self.name();
        names.iter().any(|picked| {
            name.strip_prefix(picked.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('-'))
        })
    }
}

/// `cargo xtask test`.
pub(crate) fn main(options: Options) -> Result<ExitCode> {
    let mut steps = Step::all();
    if options.list {
        for step in &steps {
            println!("{:18} {}", step.name(), step.about());
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !options.only.is_empty() {
        for name in &options.only {
            if !steps.iter().any(|step| step.is_picked(std::slice::from_ref(name))) {
                bail!("there is no step {name}; `cargo xtask test --list` names them");
            }
        }
        steps.retain(|step| step.is_picked(&options.only));
    }
    let run = Run {
        project: Project::locate()?,
        strict: std::env::var("CI").is_ok_and(|value| !value.is_empty() && value != "false"),
        steps: steps.len(),
        started: AtomicUsize::new(0),
        tally: Mutex::default(),
    };
    let start = Instant::now();
    let mut labs = VecDeque::new();
    for step in steps {
        match step {
            Step::Host(check) => {
                let tally = run.timed(&run.head(step), &step.about(), || run.check(check, &step.name()));
                run.count(tally);
            }
            Step::Lab(vendor, suite) => labs.push_back((vendor, suite)),
        }
    }
    if !labs.is_empty() {
        let jobs = options.jobs.or_else(|| std::thread::available_parallelism().ok());
        run.labs(labs, jobs.map_or(1, NonZeroUsize::get), options.lab_test, options.everything);
    }
    ui::step(format_args!("all steps took {}", ui::elapsed(start.elapsed())));
    let tally = run.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (what, list) in
        [("skipped", &tally.skipped), ("passed when repeated", &tally.repeated), ("FAILED", &tally.failed)]
    {
        for (name, why) in list {
            println!("{what} {name}: {}", short(why));
        }
    }
    println!("{tally}");
    Ok(if tally.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the steps share.
struct Run {
    project: Project,
    /// Nothing may be skipped.
    strict: bool,
    /// How many steps there are, and how many have been started.
    steps: usize,
    started: AtomicUsize,
    tally: Mutex<Tally>,
}

impl Run {
    /// What the next step is called.
    fn head(&self, step: Step) -> String {
        let number = self.started.fetch_add(1, Ordering::Relaxed) + 1;
        format!("[{number}/{}] {}", self.steps, step.name())
    }

    /// Runs something and says when it starts and ends.
    fn timed(&self, head: &str, about: &str, run: impl FnOnce() -> Tally) -> Tally {
        ui::step(format_args!("{head}: {about}"));
        let start = Instant::now();
        let mut tally = run();
        if self.strict {
            tally = tally.without_skips();
        }
        ui::step(format_args!("{head}: {tally} in {}", ui::elapsed(start.elapsed())));
        tally
    }

    fn count(&self, tally: Tally) {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).add(tally);
    }

    fn check(&self, check: Check, name: &str) -> Tally {
        let project = &self.project;
        match check {
            Check::Format => Tally::single(name, host::format(project)),
            Check::Clippy => Tally::single(name, host::clippy(project)),
            Check::EbpfClippy => unless_sources_miss(name, ebpf::clippy(project)),
            Check::EbpfVerify => {
                let verdict = ebpf::verify(project).and_then(|differences| match differences.as_slice() {
                    [] => Ok(()),
                    some => bail!("{}; run `cargo xtask ebpf`", some.join("; ")),
                });
                unless_sources_miss(name, verdict)
            }
            Check::Unit => host::tests(project, name),
            Check::Dist => Tally::single(name, dist::rehearse(project)),
        }
    }

    /// Runs the labs, `jobs` at a time; then, one lab at a time, what failed. An emulated machine may stand still for
    /// seconds or for ever, more so beside another: what passes in a fresh one passed, and is named as repeated.
    fn labs(&self, labs: VecDeque<(Vendor, Suite)>, jobs: usize, only: Option<String>, everything: bool) {
        let tests = lab::Tests::prepare(&self.project, only, everything);
        let jobs = jobs.min(labs.len());
        let queue = Mutex::new(labs);
        let again = Mutex::new(Vec::new());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let work = || {
            while let Some((vendor, suite)) = next() {
                let step = Step::Lab(vendor, suite);
                let mut open = None;
                let tally = self.timed(&self.head(step), &step.about(), || match &tests {
                    Ok(tests) => {
                        let (tally, failed) = tests.run(vendor, suite, &[]);
                        open = failed;
                        tally
                    }
                    Err(error) => Tally::failed(&step.name(), &format!("{error:#}")),
                });
                match open {
                    Some(open) => {
                        again
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push((vendor, suite, open, tally));
                    }
                    None => self.count(tally),
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(work);
            }
        });
        let Ok(tests) = &tests else { return };
        for (vendor, suite, open, tally) in again.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let head = format!("{} again", Step::Lab(vendor, suite).name());
            let about = match open.as_slice() {
                [] => "the whole lab".to_owned(),
                names => names.join(", "),
            };
            self.count(tally.after(self.timed(&head, &about, || tests.run(vendor, suite, &open).0)));
        }
    }
}

/// Skips a step that lacks nothing but the sources of Rust's library.
fn unless_sources_miss(name: &str, result: Result<()>) -> Tally {
    match result {
        Err(error) if error.is::<ebpf::MissingSources>() => Tally::skipped(name, &format!("{error:#}")),
        result => Tally::single(name, result),
    }
}

/// A cause in the list at the end; the whole of it stands where it happened.
fn short(why: &str) -> String {
    const LENGTH: usize = 400;
    match why.char_indices().nth(LENGTH) {
        Some((end, _)) if !why.contains('\n') => format!("{} ...", &why[..end]),
        _ => why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_picked_by_whole_words() {
        let step = Step::Lab(Vendor::Amd, Suite::Bookworm);
        for name in ["lab", "lab-amd", "lab-amd-bookworm"] {
            assert!(step.is_picked(&[name.into()]), "{name}");
        }
        for name in ["lab-a", "amd", "", "lab-amd-bookworm-x"] {
            assert!(!step.is_picked(&[name.into()]), "{name}");
        }
    }

    #[test]
    fn long_causes_are_cut_but_not_consoles() {
        assert_eq!(short("3 != 4"), "3 != 4");
        assert_eq!(short(&"ä".repeat(500)).chars().count(), 404);
        let console = format!("died:\n{}", "x".repeat(500));
        assert_eq!(short(&console), console);
    }

    #[test]
    fn step_names_are_unique() {
        let names: std::collections::BTreeSet<_> = Step::all().iter().map(Step::name).collect();
        assert_eq!(names.len(), Step::all().len());
    }
}
