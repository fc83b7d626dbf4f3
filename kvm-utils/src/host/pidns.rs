//! The pid namespace of this process.
//!
//! BPF programs and debugfs speak of ids in the initial namespace; a user in a container sees others.

use std::{fs, io, os::unix::fs::MetadataExt};

use super::root::ProcRoot;

/// PROC_PID_INIT_INO, include/linux/proc_ns.h: the inode of the initial pid namespace, the same on every kernel.
const INITIAL_INODE: u64 = 0xEFFF_FFFC;

/// A pid namespace, by the device and inode of its file, as `bpf_get_ns_current_pid_tgid` wants them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PidNs {
    /// Device number in the encoding of stat(2).
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

impl PidNs {
    /// The namespace of this process.
    ///
    /// # Errors
    /// If /proc/self/ns/pid cannot be looked at: /proc not mounted, or no CONFIG_PID_NS.
    pub fn own(proc: &ProcRoot) -> io::Result<Self> {
        let file = fs::metadata(proc.path().join("self/ns/pid"))?;
        Ok(Self { dev: file.dev(), ino: file.ino() })
    }

    /// Whether it is the initial namespace, the one whose ids the kernel's events and debugfs show.
    #[must_use]
    pub fn is_initial(self) -> bool {
        self.ino == INITIAL_INODE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_namespace_is_the_one_its_link_names() {
        let own = PidNs::own(&ProcRoot::default()).expect("has a namespace");
        let link = fs::read_link("/proc/self/ns/pid").expect("link");
        assert_eq!(link.to_str(), Some(format!("pid:[{}]", own.ino).as_str()));
        assert_eq!(own.is_initial(), own.ino == 4_026_531_836);
    }
}
