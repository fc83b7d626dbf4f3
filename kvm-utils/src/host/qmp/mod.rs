//! The names of a guest's devices, from QEMU's monitor.
//!
//! A monitor that anybody else uses is left alone ([`NoMap::Busy`]): whether it is free is seen from outside
//! (`owner`), before connecting, and again before a word is said. It is given back at once.

mod arguments;
mod client;
mod error;
mod human;
mod json_frame;
mod monitor;
pub mod mtree;
mod owner;
mod session;
mod socket;
mod unix_table;
mod visit;
mod wire;

use std::{path::Path, time::Duration};

pub use error::{NoMap, TalkError};
pub use monitor::Monitor;
pub use mtree::{DeviceMap, Kind};

use super::root::SysRoot;

/// Time that QEMU is given for all of it.
pub const LIMIT: Duration = Duration::from_secs(1);

/// Asks QEMU, process `pid`, what is where in its guest: at the monitor socket `given`, else at the first free one of
/// its own. Takes at most [`LIMIT`].
///
/// # Errors
/// [`NoMap`] if this is not QEMU, has no monitor that is free, or does not answer.
pub fn device_map(root: &SysRoot, pid: u32, given: Option<&Path>) -> Result<DeviceMap, NoMap> {
    Monitor::open(root, pid, given, LIMIT)?.device_map()
}
