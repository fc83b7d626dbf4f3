//! The full screen: what it shows of made-up VMs, and that no key and no report upsets it.
//!
//! The pictures are in `snapshots/`. After a wanted change: `INSTA_UPDATE=always cargo test -p kvm-utils --test tui`,
//! then read the difference before committing it.

// clippy.toml allows this in test functions; their helpers here are tests as well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod any;
mod bytes;
mod demo;
mod fleet;
mod moves;
mod numbers;
mod pictures;
mod screen;
mod terminal;
