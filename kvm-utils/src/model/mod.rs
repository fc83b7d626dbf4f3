//! What a view may see: rows of cells under columns that have units, grouped by VM and vCPU, with the proof of their
//! completeness. Nothing here knows of maps, of /proc or of terminals.

pub(crate) mod durations;
mod events;
mod history;
mod proof;
mod report;
mod table;

pub use events::{EventBatch, EventReason, EventVcpu, EventVm, ExitEvent, VcpuId};
pub use history::{Fingerprint, History};
pub use proof::{KvmStat, Proof, Verdict};
pub use report::{Host, NO_VM, Place, Report, Running, Vcpu, Vm};
pub use table::{Cell, Column, Durations, Role, Row, Unit, arrange};
