//! kvm-bench: measures inside a KVM guest what each trip out of it costs.
//!
//! - [`shared::ops`] is the one list of operations, for Linux guests ([`ops`]) and for the freestanding [`payload`].
//! - [`measure`] takes samples, [`stats`] makes figures of them, [`report`] shows them; [`cli`] is the command line.
//! - [`payload`] and [`protocol`] are the freestanding guest of `kvm-utils selftest` and what it says to its VMM.

pub mod cli;
pub mod compare;
pub mod cpu;
pub mod environment;
pub mod kernel_log;
pub mod measure;
pub mod nature;
pub mod numa;
pub mod ops;
pub mod payload;
pub mod protocol;
pub mod pv;
pub mod report;
pub mod shared;
pub mod stats;
