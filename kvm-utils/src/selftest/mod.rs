//! The guest behind `kvm-utils selftest`: a small VMM that runs the freestanding guest of `kvm-bench`, so that a known
//! number of each exit happens.
//!
//! [`plan`] says what to do, [`Session`] does it phase by phase, [`expect`] knows which exits that must have caused and
//! compares with what was counted. Between phases every vCPU is outside `KVM_RUN`, so two snapshots of a counter
//! around a phase hold its exits and no others; what the host adds (its own interrupts) has reasons of its own, and
//! is listed apart.
//!
//! ```no_run
//! use kvm_utils::selftest::{Config, Host, Options, Session, Vm, expect, plan};
//!
//! # fn main() -> Result<(), kvm_utils::selftest::Error> {
//! let host = Host::detect();
//! let plan = plan::standard(&host);
//! let vm = Vm::new(&Config { fresh_pages: plan.fresh_pages(1), ..Config::default() })?;
//! let mut session = Session::start(vm, &plan, Options::default())?;
//! while let Some(report) = session.run_phase()? {
//!     let expected = expect::expected(&host, &report);
//!     println!("{}: {expected:?}", report.name);
//! }
//! # Ok(())
//! # }
//! ```

mod error;
pub mod expect;
mod host;
pub(crate) mod kick;
mod layout;
pub(crate) mod memory;
pub mod plan;
mod session;
mod vcpu;
mod vm;

pub use error::Error;
pub use host::Host;
pub use kick::Kick;
pub use layout::{Apic, MAX_VCPUS};
pub use plan::{Operation, Phase, Plan, Step, Work};
pub use session::{Options, PhaseReport, Placement, Session, run_plan};
pub use vcpu::{StepReport, Stop, Until, UserExits, Vcpu, VcpuReport};
pub use vm::{Config, Vm};
