//! What this process may do.

use super::{
    answers::{Answer, Answers},
    item::{Group, Item, Support},
};
use crate::host::{SysRoot, process::status_field};

/// Numbers of capabilities, include/uapi/linux/capability.h.
const CAP_DAC_OVERRIDE: u32 = 1;
const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Identity of this process.
struct Process {
    effective: u64,
    uid: u32,
    seccomp: bool,
    /// Root only within a user namespace.
    user_namespace: bool,
    /// The kernel knows CAP_BPF (since 5.8).
    knows_cap_bpf: bool,
}

impl Process {
    fn read(root: &SysRoot) -> Option<Self> {
        let status = root.proc().path().join("self/status");
        let status = std::fs::read(status).ok()?;
        let last_cap = root.text("/proc/sys/kernel/cap_last_cap").ok();
        let uid_map = root.text("/proc/self/uid_map").unwrap_or_default();
        Some(Self {
            effective: u64::from_str_radix(&status_field(&status, "CapEff")?, 16).ok()?,
            // Real, effective, saved, filesystem.
            uid: status_field(&status, "Uid")?.split_ascii_whitespace().nth(1)?.parse().ok()?,
            seccomp: status_field(&status, "Seccomp").is_some_and(|mode| mode != "0"),
            user_namespace: !is_initial_map(&uid_map),
            knows_cap_bpf: last_cap
                .and_then(|last| last.parse::<u32>().ok())
                .is_some_and(|last| last >= CAP_BPF),
        })
    }

    fn has(&self, capability: u32) -> bool {
        self.effective & (1 << capability) != 0
    }

    fn may_trace(&self) -> bool {
        self.has(CAP_SYS_ADMIN) || (self.knows_cap_bpf && self.has(CAP_BPF) && self.has(CAP_PERFMON))
    }

    fn may_read_all(&self) -> bool {
        self.has(CAP_DAC_READ_SEARCH) || self.has(CAP_DAC_OVERRIDE)
    }

    fn describe(&self) -> String {
        let who = if self.uid == 0 { "root".to_owned() } else { format!("uid {}", self.uid) };
        let held: Vec<&str> = [
            (CAP_SYS_ADMIN, "CAP_SYS_ADMIN"),
            (CAP_BPF, "CAP_BPF"),
            (CAP_PERFMON, "CAP_PERFMON"),
            (CAP_SYS_PTRACE, "CAP_SYS_PTRACE"),
            (CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH"),
        ]
        .into_iter()
        .filter(|(capability, _)| self.has(*capability))
        .map(|(_, name)| name)
        .collect();
        match held.len() {
            5 => format!("{who} with all capabilities needed"),
            4 if !self.knows_cap_bpf => format!("{who} with all capabilities needed"),
            0 => format!("{who}, no capabilities"),
            _ => format!("{who} with {}", held.join(", ")),
        }
    }
}

/// `0 0 4294967295`: ids mean the same inside and outside, which only the initial user namespace can have.
fn is_initial_map(map: &str) -> bool {
    map.is_empty() || map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

pub(super) fn items(root: &SysRoot, answers: &Answers, initial_pidns: Option<bool>) -> Vec<Item> {
    let process = Process::read(root);
    vec![
        privileges(process.as_ref(), answers),
        other_processes(process.as_ref()),
        lockdown(root, answers),
        pid_namespace(initial_pidns),
    ]
}

/// What this process may do, alone.
pub(super) fn own(root: &SysRoot, answers: &Answers) -> Item {
    privileges(Process::read(root).as_ref(), answers)
}

fn privileges(process: Option<&Process>, answers: &Answers) -> Item {
    let item =
        |support, detail: String| Item::new(Group::Process, "privileges", "privileges", support, detail);
    let Some(process) = process else {
        let support = Support::unknown("/proc/self/status cannot be read", "mount -t proc proc /proc");
        return item(support, String::new());
    };
    let detail = process.describe();
    // The kernel has the last word, whatever the capabilities look like.
    if answers.raw_program.is_yes() {
        return item(Support::Full, detail);
    }
    let needed = if process.knows_cap_bpf {
        "run as root (sudo), or with CAP_BPF and CAP_PERFMON"
    } else {
        "run as root (sudo): this kernel has no CAP_BPF, CAP_SYS_ADMIN is needed"
    };
    let support = match &answers.raw_program {
        _ if !process.may_trace() => Support::no("BPF programs need privileges", needed),
        Answer::No(libc::EPERM | libc::EACCES) if process.user_namespace => Support::no(
            "root only within a user namespace (a rootless container), which BPF does not count",
            "run on the host itself, or in a container with the host's user namespace (--privileged)",
        ),
        Answer::No(libc::EPERM | libc::EACCES) if process.seccomp => Support::no(
            "a seccomp filter forbids bpf(2) (a container's default profile)",
            "run on the host itself, or with --security-opt seccomp=unconfined",
        ),
        Answer::No(libc::EPERM | libc::EACCES) => Support::no(
            "the capabilities suffice, yet the kernel refuses programs: a security module, or locked memory",
            "see lockdown and memory below; look for denials: dmesg, ausearch -m avc",
        ),
        _ => Support::Full,
    };
    item(support, detail)
}

fn other_processes(process: Option<&Process>) -> Item {
    let support = match process {
        None => Support::unknown("/proc/self/status cannot be read", "mount -t proc proc /proc"),
        Some(process) if process.has(CAP_SYS_PTRACE) && process.may_read_all() => Support::Full,
        Some(process) => Support::degraded(
            format!("only VMs that run as uid {} can be found by name or pid", process.uid),
            "run as root, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
        ),
    };
    let detail = if support == Support::Full { "processes of all users can be looked into" } else { "" };
    Item::new(Group::Process, "other_processes", "other processes", support, detail)
}

/// The level in force, Documentation/ABI/testing or kernel_lockdown(7): `none [integrity] confidentiality`.
fn lockdown_level(text: &str) -> Option<&str> {
    text.split_ascii_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))
}

fn lockdown(root: &SysRoot, answers: &Answers) -> Item {
    let item = |support, detail: String| Item::new(Group::Process, "lockdown", "lockdown", support, detail);
    let remedy = "boot without lockdown= (and without Secure Boot, which may imply it)";
    let text = root.text("/sys/kernel/security/lockdown");
    match text.as_deref().ok().and_then(lockdown_level) {
        Some("none") => item(Support::Full, "none".to_owned()),
        Some("integrity") => item(
            Support::degraded("KVM's statistics in debugfs are hidden even from root", remedy),
            "integrity".to_owned(),
        ),
        Some(level) if answers.read_kernel.is_yes() => item(Support::Full, level.to_owned()),
        Some(level) => item(Support::no("BPF programs may not read kernel memory", remedy), level.to_owned()),
        // No such LSM, or securityfs is not mounted: what programs may do shows it as well.
        None if answers.read_kernel.is_yes() => {
            item(Support::Full, "BPF programs may read kernel memory".to_owned())
        }
        None => item(
            Support::unknown(
                "/sys/kernel/security/lockdown is not there",
                "mount -t securityfs securityfs /sys/kernel/security",
            ),
            String::new(),
        ),
    }
}

fn pid_namespace(initial: Option<bool>) -> Item {
    let (support, detail) = match initial {
        Some(true) => (Support::Full, "initial"),
        Some(false) => (
            Support::degraded(
                "KVM's own statistics cannot be matched, and VMs outside this namespace have no name",
                "run on the host itself, or in a container with the host's pid namespace (--pid=host)",
            ),
            "a container's",
        ),
        None => (Support::unknown("/proc/self/ns/pid cannot be read", "mount -t proc proc /proc"), ""),
    };
    Item::new(Group::Process, "pid_namespace", "pid namespace", support, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lockdown_levels() {
        assert_eq!(lockdown_level("none [integrity] confidentiality"), Some("integrity"));
        assert_eq!(lockdown_level("[none] integrity confidentiality\n"), Some("none"));
        assert_eq!(lockdown_level(""), None);
    }

    #[test]
    fn user_namespaces() {
        assert!(is_initial_map("         0          0 4294967295"));
        assert!(!is_initial_map("         0       1000          1"));
    }
}
