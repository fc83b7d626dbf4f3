//! What `kvm-utils export` serves, as its readers meet it: clients good and bad, promtool, a real Prometheus that scrapes
//! it, the dashboard, the rules and the unit. The tracer behind it is made up; the lab has a real one.
//!
//! A test that needs what this machine lacks is reported as ignored.

// clippy.toml allows these in tests, but does not see that this is one.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod contrib;
mod fleet;
#[path = "../cli/harness.rs"]
mod harness;
mod hostile;
mod http;
mod needs;
mod prometheus;
mod server;

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::run([http::TESTS, hostile::TESTS, prometheus::TESTS, contrib::TESTS].concat())
}
