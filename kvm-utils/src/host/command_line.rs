//! What the command line of a monitor says of its VM.
//!
//! Each monitor has options of its own; the sources named here are those that parse them.

use std::path::Path;

use super::{cgroup::is_container_id, process::Process, qemu, uuid, vmm::Vmm};

/// Who a VM is, as far as something tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The name that its owner gave it.
    pub name: Option<String>,
    /// The UUID that the guest sees as its system's (SMBIOS type 1), canonical.
    pub uuid: Option<String>,
    /// What the manager calls it, which need not be unlike the name.
    pub id: Option<String>,
}

/// What the command line of `process`, which is a `vmm`, says.
#[must_use]
pub fn said(vmm: Vmm, process: &Process) -> Said {
    let arguments = &process.cmdline;
    let owned = |value: Option<&str>| value.filter(|value| !value.is_empty()).map(str::to_owned);
    let mut said = match vmm {
        Vmm::Qemu => Said {
            name: qemu::guest_name(arguments),
            uuid: qemu::guest_uuid(arguments),
            id: qemu::proxmox_id(arguments),
        },
        // firecracker --id ID, which the jailer passes on; src/firecracker/src/main.rs.
        Vmm::Firecracker => {
            let id = owned(option(arguments, "--id"));
            let name = id.clone().or_else(|| socket_name(option(arguments, "--api-sock")?));
            Said { name, id, uuid: None }
        }
        // cloud-hypervisor --api-socket [path=]/run/web-1.sock --platform uuid=UUID (system_uuid= in newer ones);
        // vmm/src/config.rs.
        Vmm::CloudHypervisor => {
            let field = |name| field(option(arguments, "--platform")?, name);
            Said {
                name: event_monitor_name(arguments)
                    .or_else(|| socket_name(option(arguments, "--api-socket")?)),
                uuid: field("system_uuid").or_else(|| field("uuid")).and_then(uuid::canonical),
                id: None,
            }
        }
        // crosvm run --name NAME --smbios uuid=UUID; src/crosvm/cmdline.rs. Its control socket tells, next best.
        Vmm::Crosvm => Said {
            name: owned(option(arguments, "--name"))
                .or_else(|| socket_name(option(arguments, "--socket").or_else(|| option(arguments, "-s"))?)),
            uuid: option(arguments, "--smbios")
                .and_then(|value| field(value, "uuid"))
                .and_then(uuid::canonical),
            id: None,
        },
        // lkvm run --name NAME; else it is guest-PID to `lkvm list`: builtin-run.c.
        Vmm::Kvmtool => {
            let own_pid = process.ns_pids.last().copied().unwrap_or(process.pid);
            let name = owned(option(arguments, "--name")).or_else(|| Some(format!("guest-{own_pid}")));
            Said { name, ..Said::default() }
        }
        // containerd-shim-kata-v2 -id SANDBOX; src/runtime-rs/crates/shim.
        Vmm::Dragonball => {
            let id = owned(option(arguments, "-id").or_else(|| option(arguments, "--id")));
            Said { name: id.clone(), id, uuid: None }
        }
        Vmm::Selftest => Said { name: Some(vmm.as_str().to_owned()), ..Said::default() },
        Vmm::Unknown => Said { name: owned(Some(&process.comm)), ..Said::default() },
    };
    // Kata Containers calls QEMU's guest sandbox-ID, and puts the sockets of others into a directory named ID.
    if said.id.is_none()
        && let Some(name) = &said.name
        && let id = name.strip_prefix("sandbox-").unwrap_or(name)
        && is_container_id(id)
    {
        said.id = Some(id.to_owned());
    }
    said
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

/// The value of `name` in `key=value,key=[value,value],...`.
fn field<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let mut depth = 0_i32;
    let items = value.split(|c| {
        depth += match c {
            '[' => 1,
            ']' => -1,
            _ => 0,
        };
        c == ',' && depth == 0
    });
    items.filter_map(|item| item.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// libvirt starts Cloud Hypervisor with a socket that it opened itself, and `--event-monitor
/// path=/run/libvirt/ch/NAME-event-monitor-fifo` (virCHMonitorNew, src/ch/ch_monitor.c there).
fn event_monitor_name(arguments: &[String]) -> Option<String> {
    let path = field(option(arguments, "--event-monitor")?, "path")?;
    let name = Path::new(path).file_name()?.to_str()?.strip_suffix("-event-monitor-fifo")?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// Names of control sockets, and of the directories that they are in, that say nothing of the VM.
const SAYS_NOTHING: [&str; 17] = [
    "api",
    "clh-api",
    "ch-api",
    "ch",
    "cloud-hypervisor",
    "control",
    "crosvm",
    "fc",
    "firecracker",
    "hypervisor",
    "vm",
    "vmm",
    "root",
    "run",
    "tmp",
    "var",
    "lib",
];

/// What the path of a control socket says of the VM's name: that of the socket, else that of the nearest directory
/// that says something (Kata Containers: /run/vc/vm/ID/clh-api.sock, /run/vc/firecracker/ID/root/run/
/// firecracker.socket). `path=PATH,...` is Cloud Hypervisor's long form; `fd=N` says nothing.
fn socket_name(value: &str) -> Option<String> {
    let path = match field(value, "path") {
        Some(path) => path,
        None if value.starts_with("fd=") => return None,
        None => value,
    };
    let path = Path::new(path);
    let stem = path.file_stem()?.to_str()?;
    let directories = path.ancestors().skip(1).filter_map(|directory| directory.file_name()?.to_str());
    std::iter::once(stem).chain(directories).find(|name| !SAYS_NOTHING.contains(name)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "94a6391dde707330a94acb3e684ee7048d085e7b6d9b1feda0cc1151b90606b2";
    const UUID: &str = "1e8aa28a-435d-4027-87f4-40dceff1fa0a";

    fn of(vmm: Vmm, arguments: &str) -> Said {
        let cmdline = arguments.split(' ').map(str::to_owned).collect();
        let (pid, comm) = (4711, "comm".to_owned());
        said(vmm, &Process { pid, comm, cmdline, ns_pids: vec![pid, 7], ..Process::default() })
    }

    #[track_caller]
    fn check(vmm: Vmm, arguments: &str, name: Option<&str>, uuid: Option<&str>, id: Option<&str>) {
        let said = of(vmm, arguments);
        let got = (said.name.as_deref(), said.uuid.as_deref(), said.id.as_deref());
        assert_eq!(got, (name, uuid, id), "{arguments}");
    }

    #[test]
    fn qemu() {
        let vmm = Vmm::Qemu;
        check(vmm, "qemu -name guest=web-1,debug-threads=on -S", Some("web-1"), None, None);
        check(vmm, &format!("qemu -name web-1 -uuid {UUID}"), Some("web-1"), Some(UUID), None);
        check(vmm, "kvm -id 8006 -name simple", Some("simple"), None, Some("8006"));
        let name = format!("sandbox-{ID}");
        check(vmm, &format!("qemu -name {name},debug-threads=on"), Some(&name), None, Some(ID));
        check(vmm, "qemu -name sandbox-3", Some("sandbox-3"), None, None);
        check(vmm, "qemu", None, None, None);
    }

    #[test]
    fn firecracker() {
        let vmm = Vmm::Firecracker;
        check(vmm, "/firecracker --id=fc-1 --api-sock a", Some("fc-1"), None, Some("fc-1"));
        check(vmm, "fc --api-sock /run/a.socket --id b", Some("b"), None, Some("b"));
        check(vmm, "fc --api-sock /run/fc-1.socket", Some("fc-1"), None, None);
        let kata = format!("fc --api-sock /run/vc/firecracker/{ID}/root/run/firecracker.socket");
        check(vmm, &kata, Some(ID), None, Some(ID));
        check(vmm, "firecracker --api-sock /run/firecracker.socket", None, None, None);
        check(vmm, "firecracker --no-api --config-file x", None, None, None);
    }

    #[test]
    fn cloud_hypervisor() {
        let vmm = Vmm::CloudHypervisor;
        for api in
            ["--api-socket /run/db-1.sock", "--api-socket=/run/db-1.sock", "--api-socket path=/run/db-1.sock"]
        {
            check(vmm, &format!("ch {api}"), Some("db-1"), None, None);
        }
        check(vmm, &format!("ch --api-socket /run/vc/vm/{ID}/clh-api.sock"), Some(ID), None, Some(ID));
        check(vmm, &format!("ch --api-socket /run/kata/{ID}/root/ch-api.sock"), Some(ID), None, Some(ID));
        let fifo = "--event-monitor path=/run/libvirt/ch/web-event-monitor-fifo";
        check(vmm, &format!("ch --api-socket fd=23 {fifo}"), Some("web"), None, None);
        for key in ["uuid", "system_uuid"] {
            let platform = format!("--platform oem_strings=[uuid=no,b],{key}={UUID}");
            check(vmm, &format!("ch --api-socket fd=5 {platform}"), None, Some(UUID), None);
        }
        check(vmm, "ch --api-socket /tmp/cloud-hypervisor.sock", None, None, None);
        check(vmm, "ch --api-socket", None, None, None);
        check(vmm, "ch", None, None, None);
    }

    #[test]
    fn crosvm_and_kvmtool() {
        let vmm = Vmm::Crosvm;
        check(vmm, "crosvm run --name vm0 bzImage", Some("vm0"), None, None);
        check(vmm, "crosvm run -s /run/arc.sock k", Some("arc"), None, None);
        check(vmm, "crosvm run --socket /run/crosvm k", None, None, None);
        let smbios = format!("--smbios manufacturer=x,uuid={UUID},oem-strings=[a,b]");
        check(vmm, &format!("crosvm run {smbios}"), None, Some(UUID), None);
        check(Vmm::Kvmtool, "lkvm run --name t1 -k b", Some("t1"), None, None);
        // The pid that it has for itself.
        check(Vmm::Kvmtool, "lkvm run -k b", Some("guest-7"), None, None);
    }

    #[test]
    fn others() {
        check(Vmm::Dragonball, &format!("shim -namespace k8s.io -id {ID}"), Some(ID), None, Some(ID));
        check(Vmm::Selftest, "kvm-utils selftest", Some("selftest"), None, None);
        check(Vmm::Unknown, "./a.out --name x", Some("comm"), None, None);
    }
}
