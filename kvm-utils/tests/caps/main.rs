//! `caps`: on trees of files like those of hosts that lack this or that, together with what their kernels answer; and
//! on this machine.

// clippy.toml allows these in tests, but does not see that the helpers of an integration test are one.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod hosts;
mod live;
mod tree;
