//! The HTML page in a real browser, Chromium, driven through its DevTools protocol: that it loads without an error and
//! without a request, what it shows and does, and that nothing in a VM's name is ever run. Where there is no Chromium the
//! tests are reported as ignored.
//!
//! `KVM_UTILS_PICTURES=DIRECTORY` keeps the screenshots.

// clippy.toml allows these in tests, but does not see that this is one.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod chromium;
#[allow(dead_code)]
#[path = "../view/fixture.rs"]
mod fixture;
#[path = "../cli/harness.rs"]
mod harness;
mod looks;
mod numbers;
mod pages;
mod picture;
#[allow(dead_code)]
#[path = "../view/run.rs"]
mod run;
mod safety;

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::run([safety::TESTS, numbers::TESTS, looks::TESTS].concat())
}
