//! Who a VM is: which monitor runs it, and what its owner calls it.
//!
//! Only the process itself is asked. Names known elsewhere (libvirt, cgroups) can join here.

use std::{fmt, path::Path};

use super::{process::Process, process::printable, qemu};

/// The virtual machine monitor: the program that runs a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Vmm {
    /// QEMU, also under libvirt.
    Qemu,
    /// Firecracker.
    Firecracker,
    /// Cloud Hypervisor.
    CloudHypervisor,
    /// crosvm.
    Crosvm,
    /// kvmtool, whose program is called lkvm.
    Kvmtool,
    /// This tool's own `selftest`.
    Selftest,
    /// Any other.
    Unknown,
}

impl Vmm {
    /// The name in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Firecracker => "firecracker",
            Self::CloudHypervisor => "cloud-hypervisor",
            Self::Crosvm => "crosvm",
            Self::Kvmtool => "kvmtool",
            Self::Selftest => "selftest",
            Self::Unknown => "unknown",
        }
    }

    /// The monitor that a program of this file name is.
    #[must_use]
    pub fn of_program(name: &str) -> Self {
        // Wrapper scripts of some distributions rename `x` to `.x-wrapped`; release files carry a version after the
        // name. The main thread's name ends after 15 bytes.
        let name = name.trim_start_matches('.');
        if name.contains("qemu") || name == "kvm" {
            Self::Qemu
        } else if name.starts_with("firecracker") {
            Self::Firecracker
        } else if name.starts_with("cloud-hyperviso") {
            Self::CloudHypervisor
        } else if name.starts_with("crosvm") {
            Self::Crosvm
        } else if name.starts_with("lkvm") || name.starts_with("kvmtool") {
            Self::Kvmtool
        } else if name == "kvm-utils" {
            Self::Selftest
        } else {
            Self::Unknown
        }
    }
}

impl fmt::Display for Vmm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The monitor that `process` is, and the name of its VM: the one its owner gave it, else one made of the monitor and
/// the pid, else (for monitors unknown here) the process's own name.
#[must_use]
pub fn identify(process: &Process) -> (Vmm, String) {
    let vmm = vmm(process);
    let arguments = &process.cmdline;
    let given = match vmm {
        Vmm::Qemu => qemu::guest_name(arguments),
        // firecracker --id ID; the jailer passes it on.
        Vmm::Firecracker => option(arguments, "--id").map(str::to_owned),
        // cloud-hypervisor --api-socket /run/web-1.sock, or path=/run/web-1.sock
        Vmm::CloudHypervisor => option(arguments, "--api-socket").and_then(socket_name),
        // crosvm run --name NAME; its control socket comes next best.
        Vmm::Crosvm => option(arguments, "--name").map(str::to_owned).or_else(|| {
            option(arguments, "--socket").or_else(|| option(arguments, "-s")).and_then(socket_name)
        }),
        // lkvm run --name NAME
        Vmm::Kvmtool => option(arguments, "--name").map(str::to_owned),
        Vmm::Selftest => Some(vmm.as_str().to_owned()),
        Vmm::Unknown => Some(process.comm.clone()),
    };
    let name = given
        .map(|name| printable(name.as_bytes()))
        .filter(|name| !name.trim().is_empty())
        .unwrap_or_else(|| format!("{vmm}-{}", process.pid));
    (vmm, name)
}

fn vmm(process: &Process) -> Vmm {
    let argv0 = process.cmdline.first().and_then(|program| Path::new(program).file_name()?.to_str());
    // The file is the surest sign; names can be changed by the process.
    [process.exe.as_deref(), argv0, Some(process.comm.as_str())]
        .into_iter()
        .flatten()
        .map(Vmm::of_program)
        .find(|vmm| *vmm != Vmm::Unknown)
        .unwrap_or(Vmm::Unknown)
}

/// The value of the last `NAME VALUE` or `NAME=VALUE` among the arguments.
fn option<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let mut value = None;
    let mut rest = arguments.iter().skip(1);
    while let Some(argument) = rest.next() {
        if argument == name {
            value = rest.next().map(String::as_str).or(value);
        } else if let Some(inline) = argument.strip_prefix(name).and_then(|tail| tail.strip_prefix('=')) {
            value = Some(inline);
        }
    }
    value
}

/// File names of control sockets that say nothing of the VM; managers that use them (Kata Containers: clh-api.sock)
/// put the VM's name into the directory.
const NAMELESS_SOCKETS: [&str; 6] = ["api", "clh-api", "ch", "cloud-hypervisor", "crosvm", "control"];

/// What the path of a control socket says of the VM's name. `path=PATH,...` is Cloud Hypervisor's long form; `fd=N`
/// says nothing.
fn socket_name(value: &str) -> Option<String> {
    let path = match value.split(',').find_map(|item| item.strip_prefix("path=")) {
        Some(path) => path,
        None if value.starts_with("fd=") => return None,
        None => value,
    };
    let path = Path::new(path);
    let stem = path.file_stem()?.to_str()?;
    if NAMELESS_SOCKETS.contains(&stem)
        && let Some(directory) = path.parent().and_then(Path::file_name).and_then(|name| name.to_str())
    {
        return Some(directory.to_owned());
    }
    Some(stem.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(comm: &str, exe: Option<&str>, cmdline: &[&str]) -> Process {
        Process {
            pid: 4711,
            start_time: 1,
            ppid: 1,
            comm: comm.to_owned(),
            cmdline: cmdline.iter().map(|a| (*a).to_owned()).collect(),
            exe: exe.map(str::to_owned),
            ns_pids: vec![4711],
        }
    }

    #[track_caller]
    fn check(process: &Process, vmm: Vmm, name: &str) {
        assert_eq!(identify(process), (vmm, name.to_owned()));
    }

    #[test]
    fn qemu() {
        let libvirt = ["/usr/bin/qemu-system-x86_64", "-name", "guest=web-1,debug-threads=on", "-S"];
        check(&process("qemu-system-x86", Some("qemu-system-x86_64"), &libvirt), Vmm::Qemu, "web-1");
        check(&process("renamed", Some("qemu-kvm"), &["/usr/libexec/qemu-kvm"]), Vmm::Qemu, "qemu-4711");
        check(&process("kvm", None, &["kvm", "-name", "x"]), Vmm::Qemu, "x");
        check(&process("x", Some(".qemu-system-x86_64-wrapped"), &["x", "-name", "y"]), Vmm::Qemu, "y");
    }

    #[test]
    fn firecracker() {
        check(
            &process("firecracker", None, &["/firecracker", "--id=fc-1", "--api-sock", "a"]),
            Vmm::Firecracker,
            "fc-1",
        );
        check(
            &process("fc", Some("firecracker-v1.13.1-x86_64"), &["fc", "--id", "b"]),
            Vmm::Firecracker,
            "b",
        );
        check(
            &process("firecracker", None, &["firecracker", "--no-api"]),
            Vmm::Firecracker,
            "firecracker-4711",
        );
    }

    #[test]
    fn cloud_hypervisor() {
        let comm = "cloud-hyperviso";
        let named = |arguments: &[&str]| {
            let mut all = vec!["cloud-hypervisor"];
            all.extend(arguments);
            identify(&process(comm, None, &all)).1
        };
        assert_eq!(named(&["--api-socket", "/run/db-1.sock"]), "db-1");
        assert_eq!(named(&["--api-socket=/run/db-1.sock"]), "db-1");
        assert_eq!(named(&["--api-socket", "path=/run/db-1.sock"]), "db-1");
        assert_eq!(named(&["--api-socket", "/run/vc/vm/8f3a/clh-api.sock"]), "8f3a");
        assert_eq!(named(&["--api-socket", "fd=5"]), "cloud-hypervisor-4711");
        assert_eq!(named(&[]), "cloud-hypervisor-4711");
        assert_eq!(identify(&process(comm, None, &[])).0, Vmm::CloudHypervisor);
    }

    #[test]
    fn crosvm_and_kvmtool() {
        check(&process("crosvm", None, &["crosvm", "run", "--name", "vm0", "bzImage"]), Vmm::Crosvm, "vm0");
        check(&process("crosvm", None, &["crosvm", "run", "-s", "/run/arc.sock", "k"]), Vmm::Crosvm, "arc");
        check(&process("lkvm", None, &["lkvm", "run", "--name", "t1", "-k", "b"]), Vmm::Kvmtool, "t1");
        check(&process("lkvm", None, &["lkvm", "run", "-k", "b"]), Vmm::Kvmtool, "kvmtool-4711");
    }

    #[test]
    fn others_keep_their_own_name() {
        check(
            &process("kvm-utils", Some("kvm-utils"), &["kvm-utils", "selftest"]),
            Vmm::Selftest,
            "selftest",
        );
        check(&process("my vmm", Some("a.out"), &["./a.out"]), Vmm::Unknown, "my vmm");
        check(&process("", None, &[]), Vmm::Unknown, "unknown-4711");
    }

    #[test]
    fn names_cannot_steer_the_terminal() {
        check(&process("qemu", None, &["qemu", "-name", "a\u{1b}[31mb"]), Vmm::Qemu, "a?[31mb");
    }
}
