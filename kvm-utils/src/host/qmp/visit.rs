//! Whether a monitor may be opened, and how: first everything that can be known from outside.

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt as _, net::UnixStream},
    },
    path::Path,
    time::{Duration, Instant},
};

use super::{
    NoMap, arguments::Monitors, monitor::Monitor, owner::View, session::Session, socket, wire::Wire,
};
use crate::host::{
    fds::KvmFds,
    root::{Peek, ProcRoot},
};

/// A visit to one QEMU.
pub(super) struct Visit<'a> {
    pub(super) proc: &'a ProcRoot,
    pub(super) pid: u32,
    pub(super) view: &'a View,
    pub(super) monitors: &'a Monitors,
    pub(super) end: Instant,
    pub(super) limit: Duration,
}

impl Visit<'_> {
    /// Opens the monitor whose socket has the path `given` for us.
    pub(super) fn given(&self, given: &Path) -> Result<Monitor, NoMap> {
        let unreachable = |source| NoMap::Unreachable { path: given.to_owned(), source };
        let file = socket::open(given).map_err(unreachable)?;
        let wanted = socket::identity(&file).map_err(unreachable)?;
        let is_it = |bound: &&[u8]| {
            let located = socket::locate(self.proc, self.pid, bound).and_then(|file| socket::identity(&file));
            // A QEMU in the background (-daemonize) has left the directory that its path was relative to.
            located.map_or_else(
                |_| !bound.starts_with(b"/") && given.ends_with(OsStr::from_bytes(bound)),
                |located| located == wanted,
            )
        };
        let not_listening = || NoMap::NotListening { pid: self.pid, path: given.to_owned() };
        let bound = self.view.listening().find(is_it).ok_or_else(not_listening)?;
        if is_libvirts(given.as_os_str().as_bytes()) {
            return Err(NoMap::Libvirt { pid: self.pid });
        }
        let waits =
            self.monitors.sockets.iter().any(|socket| socket.path.as_bytes() == bound && socket.waits);
        self.open(bound, || Ok(file), waits)
    }

    /// Opens the monitor that listens at `bound`, if it is free.
    pub(super) fn open(
        &self,
        bound: &[u8],
        file: impl FnOnce() -> io::Result<OwnedFd>,
        waits: bool,
    ) -> Result<Monitor, NoMap> {
        let pid = self.pid;
        let path = Path::new(OsStr::from_bytes(bound)).to_owned();
        if is_libvirts(bound) || self.monitors.libvirt.as_ref().is_some_and(|path| path.as_bytes() == bound) {
            return Err(NoMap::Libvirt { pid });
        }
        if !self.view.listening().any(|listening| listening == bound) {
            return Err(NoMap::NotListening { pid, path });
        }
        // Monitors come first, then the machine with its vCPUs: once there is one, nobody waits.
        if waits && seen(pid, KvmFds::read(self.proc, pid))?.vcpus.is_empty() {
            return Err(NoMap::Waits { path });
        }
        if self.monitors.has_descriptors && !self.has_other_client(bound) {
            return Err(NoMap::Descriptors { pid });
        }
        self.allow(self.view, bound, 0)?;
        let connected = file().and_then(|file| socket::connect(&file));
        let stream = connected.map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => NoMap::Busy { path: path.clone() },
            _ => NoMap::Unreachable { path: path.clone(), source },
        })?;
        self.check_listener(&stream, &path)?;
        // Somebody may have come at the same time: then we are the one who leaves.
        self.allow(&seen(pid, View::read(self.proc, pid))?, bound, 1)?;
        let session = Session::new(Wire::new(stream, self.end, self.limit));
        match session {
            Ok(session) => Ok(Monitor { path, session }),
            Err(source) => Err(NoMap::Talk { path, source }),
        }
    }

    /// Whether there is a client at another monitor than the one at `bound`. QEMU before 9.1 closes descriptors of
    /// `-add-fd` that nothing uses yet, when no monitor has a client any more (monitor_fdsets_cleanup, monitor/fds.c).
    fn has_other_client(&self, bound: &[u8]) -> bool {
        let is_monitor = |path: &[u8]| {
            is_libvirts(path) || self.monitors.sockets.iter().any(|socket| socket.path.as_bytes() == path)
        };
        self.view.listening().any(|path| path != bound && is_monitor(path) && self.view.serves(path))
    }

    /// Whether there are no other clients than `ours` at `bound`.
    fn allow(&self, view: &View, bound: &[u8], ours: usize) -> Result<(), NoMap> {
        let path = || Path::new(OsStr::from_bytes(bound)).to_owned();
        if view.clients(bound) > ours {
            return Err(NoMap::Busy { path: path() });
        }
        if view.has_hidden() {
            return Err(NoMap::Unclear { path: path() });
        }
        Ok(())
    }

    /// Whether it is QEMU that listens: a later process may have bound the same path.
    fn check_listener(&self, stream: &UnixStream, path: &Path) -> Result<(), NoMap> {
        match socket::listener(stream) {
            Ok(pid) if pid == self.pid => Ok(()),
            Ok(other) => Err(NoMap::Replaced { pid: self.pid, other, path: path.to_owned() }),
            Err(source) => Err(NoMap::Unreachable { path: path.to_owned(), source }),
        }
    }
}

pub(super) fn seen<T>(pid: u32, peek: Peek<T>) -> Result<T, NoMap> {
    match peek {
        Peek::Seen(value) => Ok(value),
        Peek::Gone => Err(NoMap::Gone { pid }),
        Peek::Denied => Err(NoMap::Denied { pid }),
    }
}

/// Whether a path is that of a monitor of libvirt's: DIRECTORY/domain-ID-NAME/monitor.sock
/// (qemuProcessPrepareMonitorChr, src/qemu/qemu_process.c of libvirt), once DIRECTORY/libvirt/qemu/NAME.monitor.
fn is_libvirts(path: &[u8]) -> bool {
    let path = Path::new(OsStr::from_bytes(path));
    let name = path.file_name().map(OsStr::as_bytes).unwrap_or_default();
    let above = path.parent().and_then(Path::file_name).map(OsStr::as_bytes).unwrap_or_default();
    let by_libvirt = path.components().any(|part| part.as_os_str() == "libvirt");
    (name == b"monitor.sock" && (by_libvirt || above.starts_with(b"domain-")))
        || (name.ends_with(b".monitor") && by_libvirt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monitors_of_libvirt_are_known_by_their_path() {
        for path in [
            "/var/lib/libvirt/qemu/domain-1-web-1/monitor.sock",
            "/home/u/.config/libvirt/qemu/lib/domain-3-x/monitor.sock",
            "/srv/embedded/lib/qemu/domain-1-x/monitor.sock",
            "/var/run/kubevirt-private/libvirt/qemu/lib/domain-1-default_vm/monitor.sock",
            "/var/lib/libvirt/qemu/web-1.monitor",
        ] {
            assert!(is_libvirts(path.as_bytes()), "{path}");
        }
        for path in ["/run/vm/monitor.sock", "/var/lib/libvirt/qemu/mine.sock", "/run/web-1.monitor", ""] {
            assert!(!is_libvirts(path.as_bytes()), "{path}");
        }
    }
}
