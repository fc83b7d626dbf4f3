//! One module per noun: reads what the programs recorded and turns it into the model's rows.

pub mod body;
pub mod cpuid;
pub mod derived;
pub mod exits;
pub mod fault;
pub mod halt;
pub mod hypercall;
pub mod io;
pub mod irq;
pub mod msr;
pub mod noun;
pub mod registry;
pub mod report;
pub mod rip;
pub mod sample;
pub mod tally;
pub mod time;
