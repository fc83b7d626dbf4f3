//! Finds the file of a socket as another process sees it, and connects to it.

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, net::UnixStream},
    },
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};

use crate::host::root::ProcRoot;

/// A handle of a file, not the file's content: a socket cannot be opened.
const HANDLE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// The file that `path` names for process `pid`, which may have another root or working directory.
pub(super) fn locate(proc: &ProcRoot, pid: u32, path: &[u8]) -> io::Result<OwnedFd> {
    let path = Path::new(OsStr::from_bytes(path));
    let Ok(below) = path.strip_prefix("/") else { return open(&proc.of(pid, "cwd").join(path)) };
    let root = open(&proc.of(pid, "root"))?;
    // Links that begin with a slash are to be followed from that root.
    match rustix::fs::openat2(&root, below, HANDLE, Mode::empty(), ResolveFlags::IN_ROOT) {
        // Linux before 5.6, or a filter of system calls from before it.
        Err(Errno::NOSYS | Errno::PERM) => open(&proc.of(pid, "root").join(below)),
        other => Ok(other?),
    }
}

/// A handle of the file at `path`.
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, HANDLE, Mode::empty())?)
}

/// Device and inode of a file.
pub(super) fn identity(file: &OwnedFd) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(file)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Connects at once or not at all: `WouldBlock` says that the listener's queue is full.
pub(super) fn connect(file: &OwnedFd) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // By way of the handle: the path may be longer than an address can hold (108 bytes, unix(7)), and cannot have
    // become another file in the meantime.
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    rustix::net::connect(socket.as_fd(), &address)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// The process that listens at the other end; 0 if it has no number in our pid namespace.
pub(super) fn listener(stream: &UnixStream) -> io::Result<u32> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = libc::socklen_t::try_from(size_of_val(&peer)).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `length` bytes to `peer`, which has that many and may hold any numbers, and
    // the length to `length`.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(peer.pid.cast_unsigned()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs,
        os::unix::{fs::symlink, net::UnixListener},
        path::PathBuf,
    };

    #[test]
    fn a_socket_is_reached_however_long_its_path_and_through_links() {
        let directory = tempfile::tempdir().expect("a directory");
        let deep: PathBuf = directory.path().join(["d".repeat(100), "e".repeat(100)].join("/"));
        fs::create_dir_all(&deep).expect("directories");
        let (short, long) = (directory.path().join("s"), deep.join("s"));
        let bound = UnixListener::bind(&short).expect("bound");
        fs::rename(&short, &long).expect("moved");
        symlink(&long, directory.path().join("link")).expect("a link");
        let (proc, me) = (ProcRoot::default(), std::process::id());
        for path in [&long, &directory.path().join("link")] {
            let file = locate(&proc, me, path.as_os_str().as_bytes()).expect("found");
            assert_eq!(identity(&file).expect("stat"), identity(&open(&long).expect("open")).expect("stat"));
            let stream = connect(&file).expect("connected");
            assert_eq!(listener(&stream).expect("a peer"), me);
            assert!(bound.accept().is_ok());
        }
    }

    #[test]
    fn a_full_queue_is_not_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("s");
        let bound = UnixListener::bind(&path).expect("bound");
        rustix::net::listen(&bound, 0).expect("a shorter queue");
        let file = open(&path).expect("open");
        let waits = connect(&file).expect("one may wait");
        assert_eq!(connect(&file).expect_err("no room").kind(), io::ErrorKind::WouldBlock);
        drop((waits, bound));
        assert_eq!(connect(&file).expect_err("nobody").kind(), io::ErrorKind::ConnectionRefused);
    }
}
