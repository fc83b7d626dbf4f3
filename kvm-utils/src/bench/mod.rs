//! The guest behind `kvm-utils bench`: the measuring payload of `kvm-bench`, booted by PVH under a small VMM of our own, or
//! under QEMU.
//!
//! [`Machine`] is what the payload runs on, [`run`] runs it to its end and shows an [`Observer`] what it prints.

mod attribute;
mod budget;
mod elf;
mod error;
mod machine;
mod qemu;
mod run;
mod serial;
mod start_info;

pub use attribute::{Beside, Exits, Ledger, Meter, Seen, Times, Untraced};
pub use budget::{Budget, Counted, EMPTY, Reason, Split, budgets, typical};
pub use error::Error;
pub use machine::{Config, Machine};
pub use qemu::run_in_qemu;
pub use run::{End, Observer, Options, run};
