//! Everything that speaks to the kernel's BPF side.

pub mod caps;
pub mod cause;
pub mod clock;
pub mod event;
pub mod events;
pub mod hook;
pub mod layout;
pub mod mapped;
pub mod object;
pub mod prog_info;
pub mod rows;
pub mod snapshot;
pub mod source;
pub mod tracer;
