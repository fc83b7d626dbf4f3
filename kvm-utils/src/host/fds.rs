//! The VMs and vCPUs that a process holds open.
//!
//! virt/kvm/kvm_main.c names the file of a VM `kvm-vm` and that of a vCPU `kvm-vcpu:ID`; /proc/PID/fd shows them as
//! links to `anon_inode:kvm-vm` and `anon_inode:kvm-vcpu:ID`.

use std::{fs, os::unix::ffi::OsStrExt};

use super::root::{Peek, ProcRoot};

/// A file descriptor of a VM or a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvmFile {
    /// A VM.
    Vm,
    /// The vCPU of this id; `None` on kernels that do not tell it.
    Vcpu(Option<u32>),
}

impl KvmFile {
    /// What the link `target` is, if it is one of these.
    #[must_use]
    pub fn parse(target: &[u8]) -> Option<Self> {
        let name = target.strip_prefix(b"anon_inode:")?;
        // Most users of anonymous inodes put brackets around the name; KVM's has none today.
        let name = name.strip_prefix(b"[").and_then(|name| name.strip_suffix(b"]")).unwrap_or(name);
        match name {
            b"kvm-vm" => Some(Self::Vm),
            b"kvm-vcpu" => Some(Self::Vcpu(None)),
            _ => {
                let id = std::str::from_utf8(name.strip_prefix(b"kvm-vcpu:")?).ok()?;
                Some(Self::Vcpu(Some(id.parse().ok()?)))
            }
        }
    }
}

/// The distinct VMs and vCPUs of a process, each by one of its descriptors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvmFds {
    /// A descriptor for each VM.
    pub vms: Vec<u32>,
    /// A descriptor and the id for each vCPU, by id; two VMs in one process have the same ids.
    pub vcpus: Vec<(u32, Option<u32>)>,
}

impl KvmFds {
    /// Whether the process holds neither a VM nor a vCPU.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.vms.is_empty() && self.vcpus.is_empty()
    }

    /// Looks through the descriptors of `pid`.
    #[must_use]
    pub fn read(proc: &ProcRoot, pid: u32) -> Peek<Self> {
        let directory = match fs::read_dir(proc.of(pid, "fd")).into() {
            Peek::Seen(directory) => directory,
            Peek::Gone => return Peek::Gone,
            Peek::Denied => return Peek::Denied,
        };
        let mut fds = Self::default();
        for entry in directory {
            let Ok(entry) = entry else { break };
            let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let target = match fs::read_link(entry.path()).into() {
                Peek::Seen(target) => target,
                // Closed in the meantime.
                Peek::Gone => continue,
                // Listing the directory asks for less than following its links (fs/proc/fd.c).
                Peek::Denied => return Peek::Denied,
            };
            match KvmFile::parse(target.as_os_str().as_bytes()) {
                Some(KvmFile::Vm) => fds.vms.push(fd),
                Some(KvmFile::Vcpu(id)) => fds.vcpus.push((fd, id)),
                None => {}
            }
        }
        fds.drop_duplicates(proc, pid);
        Peek::Seen(fds)
    }

    /// A VMM may hold several descriptors of one VM or vCPU (dup, as crosvm does); only kcmp(2) tells.
    fn drop_duplicates(&mut self, proc: &ProcRoot, pid: u32) {
        self.vms.sort_unstable();
        self.vcpus.sort_unstable_by_key(|(fd, id)| (*id, *fd));
        if !proc.is_live() {
            return;
        }
        let mut vms: Vec<u32> = Vec::new();
        for fd in std::mem::take(&mut self.vms) {
            if !vms.iter().any(|kept| same_file(pid, *kept, pid, fd) == Some(true)) {
                vms.push(fd);
            }
        }
        self.vms = vms;
        let mut vcpus: Vec<(u32, Option<u32>)> = Vec::new();
        for (fd, id) in std::mem::take(&mut self.vcpus) {
            let twin = vcpus.iter().rev().take_while(|kept| kept.1 == id);
            if !twin.clone().any(|kept| same_file(pid, kept.0, pid, fd) == Some(true)) {
                vcpus.push((fd, id));
            }
        }
        self.vcpus = vcpus;
    }
}

/// KCMP_FILE, include/uapi/linux/kcmp.h.
const KCMP_FILE: libc::c_int = 0;

/// Whether two descriptors are the same open file; `None` if the kernel does not say (no kcmp, no permission, gone).
#[must_use]
pub fn same_file(pid_a: u32, fd_a: u32, pid_b: u32, fd_b: u32) -> Option<bool> {
    // SAFETY: kcmp takes five integers and touches no memory of this process.
    let order = unsafe {
        libc::syscall(
            libc::SYS_kcmp,
            pid_a.cast_signed(),
            pid_b.cast_signed(),
            KCMP_FILE,
            libc::c_ulong::from(fd_a),
            libc::c_ulong::from(fd_b),
        )
    };
    match order {
        0 => Some(true),
        1..=3 => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn links_are_told_apart() {
        assert_eq!(KvmFile::parse(b"anon_inode:kvm-vm"), Some(KvmFile::Vm));
        assert_eq!(KvmFile::parse(b"anon_inode:[kvm-vm]"), Some(KvmFile::Vm));
        assert_eq!(KvmFile::parse(b"anon_inode:kvm-vcpu:10"), Some(KvmFile::Vcpu(Some(10))));
        assert_eq!(KvmFile::parse(b"anon_inode:[kvm-vcpu:0]"), Some(KvmFile::Vcpu(Some(0))));
        assert_eq!(KvmFile::parse(b"anon_inode:kvm-vcpu"), Some(KvmFile::Vcpu(None)));
        for other in [
            &b"anon_inode:kvm-vcpu-stats:0"[..],
            b"anon_inode:kvm-vm-stats",
            b"anon_inode:kvm-vcpu:",
            b"anon_inode:kvm-vcpu:x",
            b"anon_inode:kvm-device",
            b"anon_inode:[eventfd]",
            b"/tmp/anon_inode:kvm-vm",
            b"/dev/kvm",
            b"",
        ] {
            assert_eq!(KvmFile::parse(other), None, "{}", String::from_utf8_lossy(other));
        }
    }

    #[test]
    fn duplicated_descriptors_are_one_file() {
        let file = tempfile::tempfile().expect("temporary file");
        let twin = file.try_clone().expect("dup");
        let other = tempfile::tempfile().expect("temporary file");
        let me = std::process::id();
        let same = |a: &fs::File, b: &fs::File| {
            same_file(me, a.as_raw_fd().cast_unsigned(), me, b.as_raw_fd().cast_unsigned())
        };
        if same(&file, &file).is_none() {
            eprintln!("skipped: this kernel has no kcmp(2)");
            return;
        }
        assert_eq!(same(&file, &twin), Some(true));
        assert_eq!(same(&file, &other), Some(false));
    }
}
