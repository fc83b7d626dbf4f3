//! One file per noun: its maps and the functions that hooks hand their events to.

pub mod cpuid;
pub mod derived;
pub mod exits;
pub mod fault;
pub mod halt;
pub mod hypercall;
pub mod io;
pub mod irq;
pub mod msr;
pub mod rip;
pub mod stream;
pub mod time;
