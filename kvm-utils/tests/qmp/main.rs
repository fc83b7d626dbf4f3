//! QEMU's monitor, asked by `host::qmp`: real QEMU processes of this machine, started here, without KVM where that is
//! enough. A test that needs what this machine lacks is reported as ignored.

// clippy.toml allows these in tests, but does not see that this is one.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod free;
#[path = "../cli/harness.rs"]
mod harness;
mod machine;
mod owned;
mod person;
mod refused;

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::run([free::TESTS, owned::TESTS, refused::TESTS].concat())
}
