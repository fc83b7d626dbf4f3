//! What can go wrong when a guest is run, each with its remedy.

use std::io;
use std::time::Duration;

/// Why a guest could not be run, or did not do as told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `/dev/kvm` could not be opened.
    #[error("cannot open /dev/kvm: {source}; {}", open_remedy(.source))]
    Open {
        /// What the kernel answered.
        source: io::Error,
    },
    /// A KVM ioctl was refused.
    #[error(
        "KVM refused to {what}: {source}; the kernel log (dmesg) may say more, `kvm-utils caps` checks the host"
    )]
    Kvm {
        /// What was asked for.
        what: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The host lacks something the guest needs.
    #[error("this host's KVM has no {what}; a kernel of 5.10 or newer with full virtualization is needed")]
    Missing {
        /// What is missing.
        what: &'static str,
    },
    /// Memory, threads or signals of this process.
    #[error("cannot {what}: {source}; {remedy}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// What the kernel answered.
        source: io::Error,
        /// What helps.
        remedy: &'static str,
    },
    /// The plan cannot be run as it is.
    #[error("this plan cannot be run: {0}")]
    Plan(String),
    /// The guest took an exception.
    #[error(
        "vCPU {vcpu} took exception {vector} (error {error:#x}, address {address:#x}) at {rip:#x} in {what}; KVM refuses \
         that operation here: leave it out, or report it with this line"
    )]
    GuestFault {
        /// vCPU id.
        vcpu: u32,
        /// The operation, or the guest's start.
        what: String,
        /// Exception vector.
        vector: u64,
        /// Error code.
        error: u64,
        /// Instruction pointer in the guest.
        rip: u64,
        /// CR2.
        address: u64,
    },
    /// The guest ended a batch without having done it.
    #[error(
        "vCPU {vcpu} did not do {what}: {done} of {count}; the embedded guest and this program disagree, rebuild"
    )]
    Incomplete {
        /// vCPU id.
        vcpu: u32,
        /// The operation.
        what: String,
        /// Executions reported.
        done: u64,
        /// Executions asked for.
        count: u64,
    },
    /// `KVM_RUN` returned something that ends the guest.
    #[error(
        "vCPU {vcpu} stopped with {exit} at guest instruction {rip:#x}; the kernel log (dmesg) may say more"
    )]
    Exit {
        /// vCPU id.
        vcpu: u32,
        /// The exit, in words.
        exit: String,
        /// Instruction pointer in the guest.
        rip: u64,
    },
    /// A phase did not end in time.
    #[error(
        "the guest did not finish {phase} within {limit:?} ({progress}); the host is overloaded or a wake-up was lost"
    )]
    Timeout {
        /// Name of the phase.
        phase: String,
        /// The limit.
        limit: Duration,
        /// How far each vCPU got.
        progress: String,
    },
    /// A vCPU was taken out of its phase on request.
    #[error("vCPU {vcpu} was stopped on request before it finished")]
    Kicked {
        /// vCPU id.
        vcpu: u32,
    },
    /// A worker thread is gone.
    #[error("a vCPU thread ended unexpectedly; run with RUST_BACKTRACE=1 and report what it prints")]
    Worker,
}

fn open_remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "load kvm_amd or kvm_intel, and enable virtualization in the firmware",
        io::ErrorKind::PermissionDenied => "run as root, or as a member of the group that owns /dev/kvm",
        _ => "check with `ls -l /dev/kvm` and the kernel log (dmesg)",
    }
}

impl Error {
    /// For `map_err` on kvm-ioctls' results.
    pub(crate) fn kvm(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> Self {
        move |error| Self::Kvm { what, source: io::Error::from_raw_os_error(error.errno()) }
    }
}
