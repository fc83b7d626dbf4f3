//! Which tests are run in every lab, and which in the one that runs everything: what depends on the kernel everywhere.

use crate::registry::Test;

/// Subjects that look the same on every kernel: files, screens, servers. Beginnings of names.
const ONE_LAB: [&str; 7] =
    ["compare-", "events-recorded", "export-", "host-bench-qemu", "recipes", "record-", "top-"];

/// What decides whether a kernel's events are read and counted right, in every lab with raw and with classic
/// tracepoints. Everything else is run with classic ones only where there is no choice. Parts of names.
const BOTH_SOURCES: [&str; 5] =
    ["-known-numbers-", "-every-operation-", "-counts-and-durations-", "-module-reloaded-", "-selftest-"];

/// Whether a test is to be run in every lab, `raw` being whether raw tracepoints can be used in this one.
pub fn is_for_every_lab(test: &Test, raw: bool) -> bool {
    let one_lab = ONE_LAB.iter().any(|beginning| test.name.starts_with(beginning));
    let other_source = raw && test.name.ends_with("-tracepoint");
    !one_lab && (!other_source || BOTH_SOURCES.iter().any(|part| test.name.contains(part)))
}
