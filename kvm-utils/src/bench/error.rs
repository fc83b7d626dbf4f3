//! Why a guest could not be run, each with its remedy.

use std::io;
use std::time::Duration;

use crate::selftest;

/// Why the payload could not be run to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// KVM, memory or threads: the same as with the selftest's guest.
    #[error(transparent)]
    Vm(#[from] selftest::Error),
    /// The file is no program for this machine.
    #[error("the guest's program cannot be loaded: {0}; rebuild kvm-utils")]
    Elf(&'static str),
    /// The command line for the guest does not fit.
    #[error(
        "the guest's command line has {bytes} bytes, of which {most} fit; name fewer operations with --ops"
    )]
    CommandLine {
        /// Its length in bytes.
        bytes: usize,
        /// The longest that fits, bytes.
        most: usize,
    },
    /// More vCPUs than this KVM can run.
    #[error("this KVM runs guests of up to {most} vCPUs, not {vcpus}; give --vcpus {most} or less")]
    Vcpus {
        /// How many were asked for.
        vcpus: u32,
        /// How many it can run.
        most: usize,
    },
    /// The guest said nothing for too long.
    #[error(
        "the guest said nothing for {} s{after}; leave that operation out with --ops, and report it", patience.as_secs()
    )]
    Silent {
        /// How long it was waited for.
        patience: Duration,
        /// What it said last, as the end of a sentence.
        after: String,
    },
    /// QEMU could not be run.
    #[error("cannot run {program}: {source}; install QEMU (qemu-system-x86), or name it with --qemu=PATH")]
    Qemu {
        /// Its path.
        program: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// QEMU ended by itself with an error.
    #[error("QEMU ended with {status}: {message}; try without --qemu")]
    QemuEnded {
        /// As the kernel tells it.
        status: std::process::ExitStatus,
        /// Its last words.
        message: String,
    },
    /// Who watches the run could not go on.
    #[error("{0}")]
    Watcher(String),
}
