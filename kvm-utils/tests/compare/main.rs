//! Comparing recordings: of guests whose truth is known, simulated and recorded.
//!
//! The pictures are in `snapshots/`. After a wanted change: `INSTA_UPDATE=always cargo test -p kvm-utils --test compare`,
//! then read the difference before committing it.

// clippy.toml allows this in test functions; their helpers here are tests as well.
#![allow(clippy::unwrap_used, clippy::panic)]

mod alarms;
mod boots;
mod changes;
mod invariants;
#[path = "../../src/compare/simulated.rs"]
mod simulated;
mod views;
mod world;
