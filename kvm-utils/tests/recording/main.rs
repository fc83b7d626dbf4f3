//! Recordings: what is written is what is read, whatever happens to the file in between.

// clippy.toml allows these in tests, but does not see that this is one.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod events;
mod file;
mod sample;
mod sums;
