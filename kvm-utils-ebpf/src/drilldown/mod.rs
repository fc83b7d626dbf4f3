//! One file per noun: its maps and the functions that hooks hand their events to.

pub mod exits;
pub mod io;
pub mod irq;
pub mod msr;
