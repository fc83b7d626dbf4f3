//! Where things lie in the running kernel: in the records of classic tracepoints (`format` files of tracefs) and in
//! KVM's own structs (BTF). Nothing here knows a kernel version; everything is looked up.

pub mod btf;
mod error;
pub mod files;
pub mod format;
mod preempt;
pub mod print_fmt;
mod raw;
mod thread;

pub use error::{Argument, LayoutError};
pub use files::BtfFiles;
pub use format::{EntryFormat, EventFormat, ExitFormat, FormatError, Slot};
pub use preempt::PreemptCount;
pub use print_fmt::{PrintFmtError, ReasonNames};
pub use raw::{ExitArgs, ExitLayout, ReasonAt, VcpuLayout};
pub use thread::{SwitchLayout, ThreadLayout, have_arguments, may_be_preempted};
