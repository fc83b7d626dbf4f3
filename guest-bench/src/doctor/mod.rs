//! `kvm-bench doctor`: what in this guest makes it leave more often, or come back later, than it needs to. One file per
//! subject; each tells facts, findings, and what it could not see.

mod clock;
mod idle;
mod interrupts;
mod machine;
mod network;
mod paravirt;
mod profilers;
mod qdisc;
pub mod view;

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::environment;
use crate::kernel_log::KernelLog;
use crate::pv::{self, Offered};

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It costs exits or time now, or whenever something usual is done.
    Problem,
    /// It may, depending on what the guest does.
    Warning,
    /// Worth knowing.
    Info,
}

/// How sure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// The evidence shows it.
    Seen,
    /// The evidence makes it probable.
    Likely,
    /// The evidence allows it; it depends on what cannot be seen from here.
    Possible,
}

/// One thing to know, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// How sure it is.
    pub certainty: Certainty,
    /// What is the matter.
    pub what: String,
    /// What shows it.
    pub evidence: String,
    /// What it costs.
    pub costs: String,
    /// What to do, what to type where possible.
    pub remedy: String,
}

/// What could not be seen, and what would help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unknown {
    /// What.
    pub what: String,
    /// Why not, and what would help.
    pub why: String,
}

/// One subject.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Section {
    /// Its name.
    pub name: &'static str,
    /// What there is.
    pub facts: Map<String, Value>,
    /// What to make of it.
    pub findings: Vec<Finding>,
    /// What could not be seen.
    pub unknown: Vec<Unknown>,
}

impl Section {
    fn new(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }

    fn fact(&mut self, name: &str, value: impl Into<Value>) {
        self.facts.insert(name.to_owned(), value.into());
    }

    fn unknown(&mut self, what: &str, why: impl Into<String>) {
        self.unknown.push(Unknown { what: what.to_owned(), why: why.into() });
    }
}

/// Where to look. Tests look elsewhere.
pub struct System {
    /// What stands before /proc and /sys.
    root: PathBuf,
    /// The kernel's log, or why it cannot be read.
    log: Result<KernelLog, String>,
    /// What KVM offers.
    offered: Option<Offered>,
}

impl System {
    /// This one.
    pub fn this() -> Self {
        Self { root: "/".into(), log: KernelLog::read(), offered: pv::offered() }
    }

    fn read(&self, path: &str) -> Option<String> {
        environment::text(self.root.join(path.trim_start_matches('/')))
    }

    /// The first line of the log that holds one of these.
    fn said(&self, texts: &[&str]) -> Option<&str> {
        let log = self.log.as_ref().ok()?;
        texts.iter().find_map(|text| log.find(text))
    }

    /// The words of the kernel's command line before those of the first program.
    fn cmdline(&self) -> Vec<String> {
        let words = self.read("/proc/cmdline").unwrap_or_default();
        words.split_ascii_whitespace().take_while(|word| *word != "--").map(str::to_owned).collect()
    }

    fn cpu_flags(&self) -> Vec<String> {
        let cpuinfo = self.read("/proc/cpuinfo").unwrap_or_default();
        let flags =
            cpuinfo.lines().find(|line| line.starts_with("flags")).and_then(|line| line.split_once(':'));
        flags.map_or(Vec::new(), |(_, flags)| flags.split_ascii_whitespace().map(str::to_owned).collect())
    }
}

/// Examines everything; counts interrupts for as long as this says.
pub fn examine(system: &System, interval: Duration) -> Vec<Section> {
    let mut sections = vec![
        machine::examine(system),
        clock::examine(system),
        paravirt::examine(system),
        idle::examine(system),
        interrupts::examine(system, interval),
        network::examine(system),
        profilers::examine(system),
    ];
    for section in &mut sections {
        section.findings.sort_by_key(|finding| finding.severity);
    }
    sections
}

/// A system of files made up for a test.
#[cfg(test)]
fn made_up(files: &[(&str, &str)], log: &[&str], features: u32) -> (tempfile::TempDir, System) {
    let directory = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let log = KernelLog { lines: log.iter().map(|line| (*line).to_owned()).collect(), is_whole: true };
    let system =
        System { root: directory.path().into(), log: Ok(log), offered: Some(Offered { features, hints: 0 }) };
    (directory, system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_system_is_examined_without_findings_that_claim_to_be_seen() {
        let directory = tempfile::tempdir().unwrap();
        let system = System { root: directory.path().into(), log: Err("no right".into()), offered: None };
        let sections = examine(&system, Duration::ZERO);
        assert_eq!(sections.len(), 7);
        for section in sections {
            // What it is, CPUID says, which no test can make up.
            let findings =
                section.findings.iter().filter(|finding| !finding.what.starts_with("nothing here"));
            assert_eq!(findings.count(), 0, "{section:?}");
        }
    }
}
