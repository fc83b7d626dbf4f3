//! What people and programs read: every view of realistic and of hostile reports.
//!
//! The pictures are in `snapshots/`. After a wanted change: `INSTA_UPDATE=always cargo test -p kvm-utils --test view`,
//! then read the difference before committing it.

// clippy.toml allows this in test functions; their helpers here are tests as well.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod csv;
mod drilldown;
mod fixture;
mod html;
mod json;
mod live;
mod prometheus;
mod run;
mod same_numbers;
mod table;
mod width;
