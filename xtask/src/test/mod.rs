//! `cargo xtask test`: everything that is checked, in named steps, all of them even when some fail.

mod host;
mod lab;
mod tally;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;

use crate::ebpf;
use crate::lab::{Lab, Suite, Vendor};
use crate::project::{Project, cargo};
use crate::release::{self, Release};
use crate::{process, ui};
use tally::Tally;

/// Which labs the tests run in.
const LABS: [(Vendor, Suite); 5] = [
    (Vendor::Amd, Suite::Bullseye),
    (Vendor::Amd, Suite::Bookworm),
    (Vendor::Amd, Suite::Trixie),
    (Vendor::Amd, Suite::Forky),
    (Vendor::Intel, Suite::Bookworm),
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
    /// In the labs, only tests whose name contains this
    #[arg(long, value_name = "TEXT")]
    lab_test: Option<String>,
}

/// One step.
enum Step {
    Format,
    Clippy,
    EbpfClippy,
    EbpfVerify,
    Unit,
    Lab(Vendor, Suite),
}

impl Step {
    fn all() -> Vec<Self> {
        let host = [Self::Format, Self::Clippy, Self::EbpfClippy, Self::EbpfVerify, Self::Unit];
        host.into_iter().chain(LABS.map(|(vendor, suite)| Self::Lab(vendor, suite))).collect()
    }

    fn name(&self) -> String {
        match self {
            Self::Format => "format".into(),
            Self::Clippy => "clippy".into(),
            Self::EbpfClippy => "ebpf-clippy".into(),
            Self::EbpfVerify => "ebpf-verify".into(),
            Self::Unit => "unit".into(),
            Self::Lab(vendor, suite) => format!("lab-{vendor}-{suite}"),
        }
    }

    fn about(&self) -> String {
        match self {
            Self::Format => "rustfmt has nothing to change".into(),
            Self::Clippy => "clippy has nothing to say of the host's code".into(),
            Self::EbpfClippy => "clippy has nothing to say of the eBPF programs".into(),
            Self::EbpfVerify => "the committed eBPF object is what its sources give".into(),
            Self::Unit => "unit, snapshot and command line tests".into(),
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

/// What the steps share.
struct Run {
    project: Project,
    /// Nothing may be skipped.
    strict: bool,
    lab_test: Option<String>,
    /// The release build, made once; its error's text if it failed.
    release: Option<Result<Release, String>>,
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
    let strict = std::env::var("CI").is_ok_and(|value| !value.is_empty() && value != "false");
    let project = Project::locate()?;
    let mut run = Run { project, strict, lab_test: options.lab_test, release: None };
    let start = Instant::now();
    let mut all = Tally::default();
    for (number, step) in steps.iter().enumerate() {
        let (name, from) = (step.name(), Instant::now());
        ui::step(format_args!("[{}/{}] {name}: {}", number + 1, steps.len(), step.about()));
        let tally = run.step(step, &name);
        ui::step(format_args!(
            "[{}/{}] {name}: {tally} in {}",
            number + 1,
            steps.len(),
            ui::elapsed(from.elapsed())
        ));
        all.add(tally);
    }
    ui::step(format_args!("all steps took {}", ui::elapsed(start.elapsed())));
    for (what, list) in [("skipped", &all.skipped), ("FAILED", &all.failed)] {
        for (name, why) in list {
            println!("{what} {name}: {why}");
        }
    }
    println!("{all}");
    Ok(if all.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Run {
    fn step(&mut self, step: &Step, name: &str) -> Tally {
        match step {
            Step::Format => Tally::single(
                name,
                process::show(
                    cargo().current_dir(&self.project.root).args(["fmt", "--all", "--check", "--", "-l"]),
                ),
            ),
            Step::Clippy => Tally::single(name, host::clippy(&self.project)),
            Step::EbpfClippy => self.unless_sources_miss(name, ebpf::clippy(&self.project)),
            Step::EbpfVerify => {
                let verdict =
                    ebpf::verify(&self.project).and_then(|differences| match differences.as_slice() {
                        [] => Ok(()),
                        some => bail!("{}; run `cargo xtask ebpf`", some.join("; ")),
                    });
                self.unless_sources_miss(name, verdict)
            }
            Step::Unit => host::tests(&self.project, name),
            Step::Lab(vendor, suite) => {
                let tally = self.lab(*vendor, *suite).unwrap_or_else(|error| Tally::single(name, Err(error)));
                if self.strict { tally.without_skips() } else { tally }
            }
        }
    }

    /// Skips a step that lacks nothing but the sources of Rust's library; where nothing may be skipped it fails.
    fn unless_sources_miss(&self, name: &str, result: Result<()>) -> Tally {
        match result {
            Err(error) if !self.strict && error.is::<ebpf::MissingSources>() => {
                Tally::skipped(name, &format!("{error:#}"))
            }
            result => Tally::single(name, result),
        }
    }

    fn lab(&mut self, vendor: Vendor, suite: Suite) -> Result<Tally> {
        let project = &self.project;
        let release =
            self.release.get_or_insert_with(|| release::build(project).map_err(|error| format!("{error:#}")));
        match release {
            Ok(release) => lab::tests(&Lab::open()?, release, vendor, suite, self.lab_test.as_deref()),
            Err(error) => bail!("{error}"),
        }
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
    fn step_names_are_unique() {
        let names: std::collections::BTreeSet<_> = Step::all().iter().map(Step::name).collect();
        assert_eq!(names.len(), Step::all().len());
    }
}
