//! The command line as a person meets it: help, messages, exit codes, pipes; the real binary on this machine, and on
//! this machine without something (root, tracefs, BTF, KVM, its device), by means of mount namespaces.
//!
//! The texts are in `snapshots/`. After a wanted change: `INSTA_UPDATE=always cargo test -p kvm-utils --test cli`, then
//! read the difference before committing it. A test that needs what this machine lacks is reported as ignored.

// clippy.toml allows these in tests, but does not see that this is one.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod bench;
mod compare;
mod derived;
mod export;
mod harness;
mod help;
mod host;
mod needs;
mod page;
mod pipes;
mod privileges;
mod runs;
#[path = "../recording/sample.rs"]
mod sample;
mod selectors;
mod tool;
mod usage;
mod vm;

use std::process::ExitCode;

fn main() -> ExitCode {
    if vm::is_asked_for() {
        return vm::act();
    }
    let groups = [
        help::TESTS,
        usage::TESTS,
        privileges::TESTS,
        selectors::TESTS,
        host::TESTS,
        runs::TESTS,
        pipes::TESTS,
        derived::TESTS,
        bench::TESTS,
        compare::TESTS,
        export::TESTS,
        page::TESTS,
    ];
    harness::run(groups.concat())
}
