//! Which tests are run in every lab, and which in one of them only: what depends on the kernel is run everywhere.

use crate::registry::Test;

/// Subjects that look the same on every kernel: files, screens, servers. Beginnings of names.
const ONE_LAB: [&str; 7] =
    ["compare-", "events-recorded", "export-", "host-bench-qemu", "recipes", "record-", "top-"];

/// What decides whether a kernel's events are read and counted right, in every lab with raw and with classic
/// tracepoints. Everything else is run with classic ones only where there is no choice. Parts of names.
const BOTH_SOURCES: [&str; 5] =
    ["-known-numbers-", "-every-operation-", "-counts-and-durations-", "-module-reloaded-", "-selftest-"];

/// How much of all tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Extent {
    /// Every test
    All,
    /// What one lab is enough for, and what depends on the kernel
    OneLab,
    /// What depends on the kernel
    EveryLab,
}

impl Extent {
    /// Whether a test is part of it, `raw` being whether raw tracepoints can be used in this lab.
    pub fn has(self, test: &Test, raw: bool) -> bool {
        let one_lab = ONE_LAB.iter().any(|beginning| test.name.starts_with(beginning));
        let other_source = raw && test.name.ends_with("-tracepoint");
        let everywhere = !other_source || BOTH_SOURCES.iter().any(|part| test.name.contains(part));
        match self {
            Self::All => true,
            Self::OneLab => one_lab || everywhere,
            Self::EveryLab => !one_lab && everywhere,
        }
    }
}
