//! Why QEMU cannot be asked.

use std::{
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::host::process::printable;

/// What to do where a monitor is not for us.
const OF_ITS_OWN: &str = "start QEMU with one for this tool: -qmp unix:PATH,server=on,wait=off";

/// Why there is no map of devices: the cause, and after a semicolon the remedy.
#[derive(Debug, thiserror::Error)]
pub enum NoMap {
    /// There is no such process, or no longer.
    #[error("process {pid} has ended; look for running VMs with: kvm-utils exits -n 1")]
    Gone {
        /// The process.
        pid: u32,
    },
    /// This user may not look at the process.
    #[error("not allowed to look at process {pid}; run as root")]
    Denied {
        /// The process.
        pid: u32,
    },
    /// Another program runs this VM.
    #[error("process {pid} is not QEMU; only QEMU can be asked for its devices")]
    NotQemu {
        /// The process.
        pid: u32,
    },
    /// QEMU was started without a monitor that can be asked.
    #[error("QEMU (process {pid}) has no monitor on a UNIX socket; {OF_ITS_OWN}")]
    NoMonitor {
        /// The process.
        pid: u32,
    },
    /// The monitor is libvirt's, which is connected to it, or will be again after a restart.
    #[error("the monitor of QEMU (process {pid}) belongs to libvirt; {OF_ITS_OWN}")]
    Libvirt {
        /// The process.
        pid: u32,
    },
    /// Somebody is connected to the monitor or waits for it.
    #[error("another client has QEMU's monitor {}; end it, or {OF_ITS_OWN}", shown(path))]
    Busy {
        /// The monitor's socket.
        path: PathBuf,
    },
    /// QEMU has a client that cannot be seen from here.
    #[error(
        "QEMU's monitor {} may have a client in another network namespace; run this tool in that namespace, or \
         {OF_ITS_OWN}",
        shown(path)
    )]
    Unclear {
        /// The monitor's socket.
        path: PathBuf,
    },
    /// QEMU has not made its machine yet: it does so as soon as anybody connects to the monitor.
    #[error(
        "QEMU waits at {} for a client before it starts; connect the one that it is meant for, or add wait=off",
        shown(path)
    )]
    Waits {
        /// The monitor's socket.
        path: PathBuf,
    },
    /// Our visit might cost the guest something.
    #[error(
        "QEMU (process {pid}) has descriptors from -add-fd, and older versions close unused ones when the last client \
         leaves their monitors; keep a client connected to another monitor of it meanwhile"
    )]
    Descriptors {
        /// The process.
        pid: u32,
    },
    /// The process does not listen at this path.
    #[error(
        "QEMU (process {pid}) does not listen at {}; look for its sockets with: ss -xlp | grep pid={pid}",
        shown(path)
    )]
    NotListening {
        /// The process.
        pid: u32,
        /// The path.
        path: PathBuf,
    },
    /// The socket has been replaced by that of another process.
    #[error("at {} now listens process {other}, not QEMU (process {pid}); {OF_ITS_OWN}", shown(path))]
    Replaced {
        /// The process.
        pid: u32,
        /// Who listens instead; 0 if it is outside of this pid namespace.
        other: u32,
        /// The path.
        path: PathBuf,
    },
    /// The socket cannot be reached.
    #[error("cannot connect to QEMU's monitor {}: {source}; {}", shown(path), remedy(source))]
    Unreachable {
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// QEMU's monitor was reached, and no answer came of it.
    #[error("QEMU's monitor {}: {source}", shown(path))]
    Talk {
        /// The monitor's socket.
        path: PathBuf,
        /// What went wrong.
        source: TalkError,
    },
    /// QEMU's answer holds no map.
    #[error(
        "QEMU's monitor {} answers \"info mtree -f\" without a map of devices; QEMU 2.11 or later has one",
        shown(path)
    )]
    Unknown {
        /// The monitor's socket.
        path: PathBuf,
    },
}

/// A path, safe to print.
fn shown(path: &Path) -> String {
    printable(path.as_os_str().as_bytes())
}

/// What to do about a socket that cannot be reached.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "run as root",
        io::ErrorKind::NotFound => "name the socket with --qmp PATH",
        io::ErrorKind::ConnectionRefused => "restart QEMU if that socket file is a leftover",
        _ => "look whether QEMU still runs, and try again",
    }
}

/// What can go wrong while talking to a monitor: the cause, and after a semicolon the remedy.
#[derive(Debug, thiserror::Error)]
pub enum TalkError {
    /// No or no complete answer in time.
    #[error("no answer within {limit:?}; QEMU is stopped or busy, try again")]
    TimedOut {
        /// The time given for all of it.
        limit: Duration,
    },
    /// The connection ended.
    #[error("the connection was closed before the answer was complete; look whether QEMU still runs")]
    Closed,
    /// What answers speaks neither of QEMU's languages.
    #[error("what answers there is no monitor; name the socket of -qmp or -monitor")]
    NotQemu,
    /// More than is kept.
    #[error("an answer of more than {most} bytes; that is no map of devices")]
    TooLong {
        /// The most that is kept, bytes.
        most: usize,
    },
    /// QEMU does not run the command.
    #[error("QEMU refuses {command}: {reason}; use a QEMU that knows it")]
    Refused {
        /// The command.
        command: &'static str,
        /// QEMU's words.
        reason: String,
    },
    /// Anything else.
    #[error("{0}; try again")]
    Io(#[from] io::Error),
}
