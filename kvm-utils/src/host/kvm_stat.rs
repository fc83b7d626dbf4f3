//! KVM's own count of exits, from debugfs.
//!
//! Each VM has a directory `TID-FD` in /sys/kernel/debug/kvm: the thread that created it, as the initial pid namespace
//! numbers it, and the descriptor it got (kvm_create_vm_debugfs, virt/kvm/kvm_main.c). Its file `exits` is the sum
//! over the VM's vCPUs since they were created.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt, fs, io,
    path::{Path, PathBuf},
};

use kvm_utils_common::msr::is_unscaled;

use super::{
    process::process_of,
    root::{ProcRoot, SysRoot},
};

/// Why KVM's statistics cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// No debugfs is mounted.
    NotMounted,
    /// debugfs is there, this file is not.
    NoKvm(String),
    /// This user may not read this file.
    Denied(String),
    /// The kernel does not show this file even to root.
    LockedDown(String),
    /// The ids in debugfs cannot be matched from inside a pid namespace.
    PidNamespace,
    /// KVM lists no VM of this process.
    NotListed(u32),
    /// Anything else.
    Unexpected {
        /// The file.
        path: String,
        /// What the kernel said.
        error: String,
    },
}

impl Unavailable {
    fn new(path: &Path, error: &io::Error) -> Self {
        let shown = path.display().to_string();
        match error.raw_os_error() {
            // Permission bits answer EACCES, lockdown answers EPERM (fs/debugfs/file.c).
            Some(libc::EACCES) => Self::Denied(shown),
            Some(libc::EPERM) => Self::LockedDown(shown),
            Some(libc::ENOENT) => Self::NoKvm(shown),
            _ => Self::Unexpected { path: shown, error: error.to_string() },
        }
    }

    /// The cause.
    #[must_use]
    pub fn why(&self) -> String {
        match self {
            Self::NotMounted => "debugfs is not mounted".to_owned(),
            Self::NoKvm(path) => format!("there is no {path}"),
            Self::Denied(path) => format!("not allowed to read {path}"),
            Self::LockedDown(path) => format!("the kernel is locked down and does not show {path}"),
            Self::PidNamespace => {
                "debugfs shows ids of the initial pid namespace, and this is another".to_owned()
            }
            Self::NotListed(pid) => {
                format!(
                    "KVM lists no VM of process {pid}: it ended, or the thread that made it did before we looked"
                )
            }
            Self::Unexpected { path, error } => format!("cannot read {path}: {error}"),
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NotMounted => "mount -t debugfs debugfs /sys/kernel/debug",
            Self::NoKvm(_) => "load KVM: modprobe kvm_intel or kvm_amd",
            Self::Denied(_) => "run as root, or with CAP_DAC_READ_SEARCH",
            Self::LockedDown(_) => "boot without lockdown= (and without Secure Boot, which may imply it)",
            Self::PidNamespace => "run on the host itself, or with the host's pid namespace (--pid=host)",
            Self::NotListed(_) => "start this tool before the VM, or restart the VM",
            Self::Unexpected { .. } => "see dmesg",
        }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.why(), self.remedy())
    }
}

impl std::error::Error for Unavailable {}

/// The count of one VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmExits {
    /// Thread that created it, in the initial pid namespace.
    pub creator: u32,
    /// The descriptor it got.
    pub fd: u32,
    /// Exits of its vCPUs since they were created.
    pub exits: u64,
}

/// The counts of the VMs of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessExits {
    /// Their sum.
    pub total: u64,
    /// Each VM.
    pub vms: Vec<VmExits>,
}

/// Reads KVM's statistics.
#[derive(Clone, Debug)]
pub struct KvmStat {
    debugfs: PathBuf,
    proc: ProcRoot,
    initial_pidns: bool,
    /// Which process a directory belongs to, remembered because the thread it is named after may end before its VM.
    owners: HashMap<(u32, u32), u32>,
}

impl KvmStat {
    /// A reader of the statistics below `root`; asks for the pid namespace of this process.
    #[must_use]
    pub fn new(root: &SysRoot, initial_pidns: bool) -> Self {
        Self {
            debugfs: root.path("/sys/kernel/debug"),
            proc: root.proc(),
            initial_pidns,
            owners: HashMap::new(),
        }
    }

    /// Exits of all VMs there are, on the whole host. Falls when a VM ends.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn host_exits(&self) -> Result<u64, Unavailable> {
        self.check_mounted()?;
        read_count(&self.debugfs.join("kvm/exits"))
    }

    /// The exits of each process that has VMs, by pid.
    ///
    /// # Errors
    /// [`Unavailable`], if nothing can be read at all; a VM that vanishes is left out.
    pub fn all(&mut self) -> Result<BTreeMap<u32, ProcessExits>, Unavailable> {
        self.read(None)
    }

    /// The exits of process `pid`'s VMs.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn of(&mut self, pid: u32) -> Result<ProcessExits, Unavailable> {
        self.read(Some(pid))?.remove(&pid).ok_or(Unavailable::NotListed(pid))
    }

    /// What KVM adds to the host's TSC for this vCPU of process `pid`, modulo 2^64. `None` if debugfs does not tell
    /// (kvm_arch_create_vcpu_debugfs, arch/x86/kvm/debugfs.c), if the guest's TSC is scaled, or if the process has several
    /// VMs, whose vCPUs have the same ids.
    pub fn tsc_offset(&mut self, pid: u32, vcpu_id: u32) -> Option<u64> {
        let vms = self.of(pid).ok()?.vms;
        let [VmExits { creator, fd, .. }] = vms.as_slice() else { return None };
        let vcpu = self.debugfs.join(format!("kvm/{creator}-{fd}/vcpu{vcpu_id}"));
        let ratio = fs::read_to_string(vcpu.join("tsc-scaling-ratio"));
        if !ratio.is_ok_and(|ratio| ratio.trim().parse().is_ok_and(is_unscaled))
            && vcpu.join("tsc-scaling-ratio").exists()
        {
            return None;
        }
        let offset: i64 = fs::read_to_string(vcpu.join("tsc-offset")).ok()?.trim().parse().ok()?;
        Some(offset.cast_unsigned())
    }

    fn read(&mut self, only: Option<u32>) -> Result<BTreeMap<u32, ProcessExits>, Unavailable> {
        if !self.initial_pidns {
            return Err(Unavailable::PidNamespace);
        }
        self.check_mounted()?;
        let directory = self.debugfs.join("kvm");
        let entries = fs::read_dir(&directory).map_err(|error| Unavailable::new(&directory, &error))?;
        let listed: HashSet<(u32, u32)> =
            entries.filter_map(|entry| parse_name(entry.ok()?.file_name().to_str()?)).collect();
        self.owners.retain(|name, _| listed.contains(name));

        let mut processes: BTreeMap<u32, ProcessExits> = BTreeMap::new();
        for (creator, fd) in listed {
            let owner = match self.owners.get(&(creator, fd)) {
                Some(owner) => *owner,
                None => match process_of(&self.proc, creator) {
                    Some(owner) => *self.owners.entry((creator, fd)).or_insert(owner),
                    None => continue,
                },
            };
            if only.is_some_and(|pid| pid != owner) {
                continue;
            }
            let exits = match read_count(&directory.join(format!("{creator}-{fd}/exits"))) {
                Ok(exits) => exits,
                // The VM ended since the directory was listed.
                Err(Unavailable::NoKvm(_)) => continue,
                Err(error) => return Err(error),
            };
            let process = processes.entry(owner).or_default();
            process.total += exits;
            process.vms.push(VmExits { creator, fd, exits });
        }
        for process in processes.values_mut() {
            process.vms.sort_unstable_by_key(|vm| (vm.creator, vm.fd));
        }
        Ok(processes)
    }

    /// An unmounted /sys/kernel/debug is an empty directory of sysfs.
    fn check_mounted(&self) -> Result<(), Unavailable> {
        match fs::read_dir(&self.debugfs) {
            Ok(entries) => {
                if entries.count() == 0 {
                    Err(Unavailable::NotMounted)
                } else {
                    Ok(())
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Unavailable::NotMounted),
            Err(error) => Err(Unavailable::new(&self.debugfs, &error)),
        }
    }
}

fn read_count(path: &Path) -> Result<u64, Unavailable> {
    let text = fs::read_to_string(path).map_err(|error| Unavailable::new(path, &error))?;
    text.trim().parse().map_err(|_| Unavailable::Unexpected {
        path: path.display().to_string(),
        error: format!("{:?} is no count", text.trim()),
    })
}

/// The thread and descriptor that a directory is named after.
fn parse_name(name: &str) -> Option<(u32, u32)> {
    let (creator, fd) = name.split_once('-')?;
    Some((creator.parse().ok()?, fd.parse().ok()?))
}
