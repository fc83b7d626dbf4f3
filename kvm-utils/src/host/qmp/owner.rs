//! Who uses the UNIX sockets of a process, as the kernel sees it: nothing is asked of the process, nothing connected.
//!
//! QEMU serves one client per monitor. A second one gets a connection too, waits in the listener's queue, and has the
//! monitor as soon as the first leaves, perhaps for a moment only. So a monitor is left alone unless it is known
//! that nobody is connected and nobody waits.

use std::{collections::HashMap, fs, io, os::unix::fs::MetadataExt as _};

use super::unix_table::{self, Entry, State};
use crate::host::root::{Peek, ProcRoot};

/// The sockets of a process and the clients at them.
#[derive(Debug)]
pub(super) struct View {
    table: Vec<Entry>,
    /// Inodes of sockets that the process holds.
    held: HashMap<u64, String>,
    /// Whether it holds a UNIX socket that is in no table here.
    hidden: bool,
}

impl View {
    /// Looks at process `pid`.
    pub(super) fn read(proc: &ProcRoot, pid: u32) -> Peek<Self> {
        Self::try_read(proc, pid).into()
    }

    fn try_read(proc: &ProcRoot, pid: u32) -> io::Result<Self> {
        // Before and after the table: what was there before must be in it, and what is in it may have been accepted
        // only now.
        let before = sockets(proc, pid)?;
        let table = tables(proc, pid)?;
        let hidden = before.iter().any(|(inode, fd)| {
            !table.iter().any(|entry| entry.inode == *inode) && may_be_unix(proc, pid, fd)
        });
        let mut held = before;
        held.extend(sockets(proc, pid)?);
        Ok(Self { table, held, hidden })
    }

    /// The paths at which the process listens, as it gave them to bind(2).
    pub(super) fn listening(&self) -> impl Iterator<Item = &[u8]> {
        let listens =
            |entry: &&Entry| entry.state == State::Listening && self.held.contains_key(&entry.inode);
        self.table.iter().filter(listens).map(|entry| entry.path.as_slice()).filter(|path| !path.is_empty())
    }

    /// Number of clients that are connected to the process at `path`, or wait there. Another process may listen at the
    /// same path, in another mount namespace; who waits there counts here as well.
    pub(super) fn clients(&self, path: &[u8]) -> usize {
        let is_client = |entry: &&Entry| match entry.state {
            State::Waiting => true,
            State::Connected => self.held.contains_key(&entry.inode),
            State::Listening | State::Other => false,
        };
        self.table.iter().filter(|entry| entry.path == path).filter(is_client).count()
    }

    /// Whether the process serves a client at `path`.
    pub(super) fn serves(&self, path: &[u8]) -> bool {
        let is_served = |entry: &Entry| {
            entry.state == State::Connected && entry.path == path && self.held.contains_key(&entry.inode)
        };
        self.table.iter().any(is_served)
    }

    /// Whether the process may have a client that cannot be seen: the kernel lists a connection in the network
    /// namespace of whoever made it (unix_stream_connect, net/unix/af_unix.c).
    pub(super) fn has_hidden(&self) -> bool {
        self.hidden
    }
}

/// The UNIX sockets of the process's network namespace, and of our own.
fn tables(proc: &ProcRoot, pid: u32) -> io::Result<Vec<Entry>> {
    let namespace = |name: &str| Ok::<_, io::Error>(fs::metadata(proc.path().join(name))?.ino());
    let mut table = unix_table::parse(&fs::read(proc.of(pid, "net/unix"))?);
    if namespace(&format!("{pid}/ns/net"))? != namespace("self/ns/net")? {
        table.extend(unix_table::parse(&fs::read(proc.path().join("self/net/unix"))?));
    }
    Ok(table)
}

/// The sockets that a process holds, of any family: inode and name in its directory of descriptors.
fn sockets(proc: &ProcRoot, pid: u32) -> io::Result<HashMap<u64, String>> {
    let mut sockets = HashMap::new();
    for entry in fs::read_dir(proc.of(pid, "fd"))? {
        let entry = entry?;
        let target = match fs::read_link(entry.path()) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            // Closed in the meantime.
            Err(_) => continue,
        };
        let inode = target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']'));
        if let (Some(Ok(inode)), Ok(fd)) = (inode.map(str::parse), entry.file_name().into_string()) {
            sockets.insert(inode, fd);
        }
    }
    Ok(sockets)
}

/// Whether a descriptor is a UNIX socket, or is one for all that is known. Its protocol is an extended attribute
/// (sockfs_xattr_get, net/socket.c): `UNIX`, or `UNIX-STREAM` and `UNIX` since they were told apart.
fn may_be_unix(proc: &ProcRoot, pid: u32, fd: &str) -> bool {
    let mut name = [0_u8; 64];
    let path = proc.of(pid, "fd").join(fd);
    match rustix::fs::getxattr(path, "system.sockprotoname", &mut name) {
        Ok(length) => name.get(..length).is_none_or(|name| name.starts_with(b"UNIX")),
        // Closed in the meantime, with the process or without.
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::SRCH) => false,
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::{
        ffi::OsStrExt as _,
        net::{UnixListener, UnixStream},
    };

    fn view() -> View {
        View::read(&ProcRoot::default(), std::process::id()).seen().expect("this process")
    }

    #[test]
    fn clients_are_seen_before_and_after_they_are_accepted() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("listens here");
        let bytes = path.as_os_str().as_bytes();
        let listener = UnixListener::bind(&path).expect("bound");
        assert!(view().listening().any(|listening| listening == bytes));
        assert_eq!(view().clients(bytes), 0);

        let first = UnixStream::connect(&path).expect("connected");
        assert_eq!(view().clients(bytes), 1, "waits");
        let (accepted, _) = listener.accept().expect("accepted");
        assert_eq!(view().clients(bytes), 1, "is served");
        let second = UnixStream::connect(&path).expect("connected");
        assert_eq!(view().clients(bytes), 2, "one of them waits");
        drop((first, accepted));
        assert_eq!(view().clients(bytes), 1, "still waits");
        // One that left without having been served is in the queue all the same.
        drop(second);
        assert_eq!(view().clients(bytes), 1);
        drop(listener);
        assert!(view().listening().all(|listening| listening != bytes));
        assert_eq!(view().clients(bytes), 0);
    }

    #[test]
    fn nobody_is_hidden_where_all_is_seen_and_the_dead_are_gone() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let (unix, _twin) = UnixStream::pair().expect("a pair");
        let view = view();
        drop((tcp, unix));
        assert!(!view.has_hidden());
        // No pid reaches this number (PID_MAX_LIMIT, include/linux/threads.h).
        assert!(matches!(View::read(&ProcRoot::default(), 1 << 22), Peek::Gone));
    }
}
