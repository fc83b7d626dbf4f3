//! The guest behind `kvm-utils bench`: the measuring payload of `kvm-bench`, booted by PVH under a small VMM of our own, or
//! under QEMU.
//!
//! [`Machine`] is what the payload runs on, [`run`] runs it to its end and shows an [`Observer`] what it prints.

mod attribute;
mod budget;
mod counted;
mod elf;
mod error;
mod machine;
mod notify;
mod qemu;
mod run;
mod serial;
mod split;
mod start_info;

pub use attribute::{Beside, Each, Exits, Ledger, Meter, Seen, Times, Untraced};
pub use budget::{Budget, EMPTY, budgets};
pub use counted::{Counted, Reason};
pub use error::Error;
pub use machine::{Config, Machine};
pub use notify::{NOTIFY_ADDRESS, NOTIFY_PORT};
pub use qemu::run_in_qemu;
pub use run::{End, Observer, Options, run};
pub use split::{Scope, Split, Splits, typical};
