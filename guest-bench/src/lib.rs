//! kvm-bench: measures inside a KVM guest what each trip out of it costs.
//!
//! - [`shared::ops`] is the one list of operations, for Linux guests ([`ops`]) and for the freestanding [`payload`].
//! - [`measure`] takes samples, [`stats`] makes figures of them, [`report`] shows them; [`cli`] is the command line.
//! - [`payload`] holds the freestanding guests: the one that measures, whose output [`payload_report`] reads, and the one of
//!   `kvm-utils selftest`, which speaks [`protocol`] with its VMM.

/// The version of both programs; `cargo xtask dist` adds the commit.
pub const VERSION: &str = match option_env!("KVM_UTILS_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

pub mod cli;
pub mod compare;
pub mod cpu;
pub mod doctor;
pub mod environment;
pub mod kernel_log;
pub mod measure;
pub mod nature;
pub mod numa;
pub mod ops;
pub mod payload;
pub mod payload_report;
pub mod protocol;
pub mod pv;
pub mod report;
pub mod shared;
pub mod stats;
