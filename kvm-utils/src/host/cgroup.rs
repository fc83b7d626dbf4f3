//! What a process runs in, as the names of its cgroups tell: a Kubernetes pod, a container, a machine of
//! systemd-machined, a unit of systemd.
//!
//! The kernel knows nothing of these; each manager names cgroups in its own way, and nests them in those of another.
//! `/proc/PID/cgroup` (cgroups(7)) has a line `ID:CONTROLLERS:PATH` per hierarchy: one with cgroup v2 (`0::PATH`),
//! several with v1, both on hybrid hosts. Managers need not use all of them, so the line that tells most counts.

use std::fmt;

use super::{process::printable, root::ProcRoot};

/// What kind of thing a [`Place`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PlaceKind {
    /// A Kubernetes pod; its name is the pod's uid.
    Pod,
    /// A container: of Docker, containerd, CRI-O or Podman, named by its id, or of LXC, by its name.
    Container,
    /// A machine of systemd-machined, as libvirt registers its domains; the name is that of `machinectl`.
    Machine,
    /// A service, a scope or (if there is no more) a slice of systemd, with its suffix.
    Unit,
    /// Some other cgroup; its name is the path.
    Cgroup,
}

impl PlaceKind {
    /// The word in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Container => "container",
            Self::Machine => "machine",
            Self::Unit => "unit",
            Self::Cgroup => "cgroup",
        }
    }
}

impl PlaceKind {
    /// The kind of this word in reports.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        let all = [Self::Pod, Self::Container, Self::Machine, Self::Unit, Self::Cgroup];
        all.into_iter().find(|kind| kind.as_str() == word)
    }
}

impl fmt::Display for PlaceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Something that a process runs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What it is.
    pub kind: PlaceKind,
    /// What its manager calls it.
    pub name: String,
}

impl Place {
    fn new(kind: PlaceKind, name: &str) -> Self {
        Self { kind, name: printable(name.as_bytes()) }
    }
}

/// What a process runs in, the outermost first, from the text of its `/proc/PID/cgroup`.
#[must_use]
pub fn places(text: &str) -> Vec<Place> {
    let mut best = (0, u8::MAX, Vec::new());
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let found = places_in(path);
        let worth = worth(&found);
        // Where several tell the same, systemd's own hierarchy is the one that it looks after.
        let rank = match controllers {
            "" => 0,
            "name=systemd" => 1,
            _ => 2,
        };
        if worth > best.0 || worth == best.0 && rank < best.1 {
            best = (worth, rank, found);
        }
    }
    best.2
}

/// What `process` runs in, by its cgroup file's `text`. Kata Containers (docs/design/host-cgroups.md there) leaves
/// only the threads of vCPUs in the pod's cgroups and moves the others to one of its own, unless told otherwise.
#[must_use]
pub fn places_of(proc: &ProcRoot, pid: u32, text: &str) -> Vec<Place> {
    if text.contains("/kata_overhead/") || text.contains("/kata-overhead.slice/") {
        let threads = std::fs::read_dir(proc.of(pid, "task")).into_iter().flatten().flatten();
        let texts = threads.filter_map(|thread| std::fs::read(thread.path().join("cgroup")).ok());
        let of_threads = texts.map(|text| places(&String::from_utf8_lossy(&text)));
        if let Some(of_vcpu) =
            of_threads.into_iter().find(|found| found.iter().any(|place| place.kind == PlaceKind::Pod))
        {
            return of_vcpu;
        }
    }
    places(text)
}

/// How much a line tells.
fn worth(places: &[Place]) -> u32 {
    let has = |kind| u32::from(places.iter().any(|place| place.kind == kind));
    let slice_only = places.iter().all(|place| place.name.ends_with(".slice"));
    16 * has(PlaceKind::Pod)
        + 8 * (has(PlaceKind::Container) + has(PlaceKind::Machine))
        + if slice_only { 2 } else { 4 } * has(PlaceKind::Unit)
        + has(PlaceKind::Cgroup)
}

/// What the parts of a path are.
fn places_in(path: &str) -> Vec<Place> {
    // The kernel's note on a cgroup that was removed; and the way out of the reader's own cgroup namespace.
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | "..")).collect();
    let mut places: Vec<Place> = Vec::new();
    let mut in_kubernetes = false;
    let mut slice = None;
    let mut rest = parts.iter().copied();
    while let Some(part) = rest.next() {
        // systemd puts `_` before names that the kernel could take for its own files (cg_escape there).
        let part = part.strip_prefix('_').unwrap_or(part);
        in_kubernetes |= part.contains("kubepods");
        // containerd without systemd, told to use it: SLICE:PREFIX:ID as one part.
        let (first, behind) = part.split_once(':').map_or((part, None), |(a, b)| (a, Some(b)));
        if let Some(uid) = pod(first, in_kubernetes) {
            places.push(Place::new(PlaceKind::Pod, &uid));
            places.extend(behind.and_then(container).map(|id| Place::new(PlaceKind::Container, id)));
        } else if let Some(id) = container(part) {
            places.push(Place::new(PlaceKind::Container, id));
        } else if let Some(name) = lxc(part, &mut rest) {
            places.push(Place::new(PlaceKind::Container, name));
        } else if let Some(name) = machine(part) {
            places.push(Place::new(PlaceKind::Machine, &name));
        } else if part.ends_with(".service") || part.ends_with(".scope") {
            places.push(Place::new(PlaceKind::Unit, part));
        } else if part.ends_with(".slice") {
            slice = Some(part);
        }
    }
    if places.is_empty() {
        places.extend(match (slice, parts.is_empty()) {
            (Some(slice), _) => Some(Place::new(PlaceKind::Unit, slice)),
            (None, false) => Some(Place::new(PlaceKind::Cgroup, path)),
            (None, true) => None,
        });
    }
    places
}

/// The uid of the pod that a part stands for. The kubelet names a pod's cgroup `podUID` with the driver cgroupfs; with
/// systemd `PARENT-podUID.slice`, where `-` would mean another level and becomes `_` (pkg/kubelet/cm/
/// cgroup_manager_linux.go of Kubernetes). PARENT is `kubepods` and the pod's class, or more where it is nested.
fn pod(part: &str, in_kubernetes: bool) -> Option<String> {
    if !in_kubernetes {
        return None;
    }
    let uid = match part.strip_suffix(".slice") {
        Some(stem) => stem.rsplit_once("-pod")?.1.replace('_', "-"),
        None => part.strip_prefix("pod")?.to_owned(),
    };
    (!uid.is_empty()).then_some(uid)
}

/// The id of the container that a part stands for: 64 hexadecimal digits, alone or in `PREFIX-ID.scope`
/// (`docker`, `cri-containerd`, `crio`, `libpod`, `nerdctl`), `PREFIX:ID`, or `kata_ID`. `conmon` watches a container
/// from outside.
fn container(part: &str) -> Option<&str> {
    let stem = part.strip_suffix(".scope").unwrap_or(part);
    let at = stem.rfind(['-', '_', ':']).map_or(0, |at| at + 1);
    let (prefix, id) = (stem.get(..at)?, stem.get(at..)?);
    (is_container_id(id) && !prefix.ends_with("conmon-")).then_some(id)
}

/// Whether this is how container managers name what they make: a SHA-256 or 32 random bytes.
#[must_use]
pub fn is_container_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The name of the LXC container that a part, with the next, stands for: `lxc.payload.NAME` (since LXC 4, also
/// Incus and LXD), `lxc.payload/NAME` (3.1), `lxc/NAME` (before, and Proxmox). `lxc.monitor` watches from outside.
fn lxc<'a>(part: &'a str, rest: &mut impl Iterator<Item = &'a str>) -> Option<&'a str> {
    match part {
        "lxc" | "lxc.payload" => rest.next(),
        _ => part.strip_prefix("lxc.payload.").filter(|name| !name.is_empty()),
    }
}

/// The name of the machine that a part stands for: `machine-NAME.scope` of systemd-machined, the templates of
/// systemd-nspawn(1) and systemd-vmspawn(1), and `NAME.libvirt-DRIVER`, which libvirt makes where there is no systemd
/// (virCgroupNewDomainPartition, src/util/vircgroup.c there).
fn machine(part: &str) -> Option<String> {
    let scope = part.strip_prefix("machine-").and_then(|name| name.strip_suffix(".scope"));
    let template = part.strip_prefix("systemd-nspawn@").or_else(|| part.strip_prefix("systemd-vmspawn@"));
    let name = match scope.or_else(|| template?.strip_suffix(".service")) {
        Some(escaped) => unescape(escaped),
        None => part.rsplit_once(".libvirt-").filter(|(_, driver)| !driver.is_empty())?.0.to_owned(),
    };
    (!name.is_empty()).then_some(name)
}

/// Undoes the `\xNN` of systemd-escape(1). A name of a machine has no `/`, so `-` stays.
fn unescape(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find("\\x") {
        let (before, escape) = rest.split_at(at);
        bytes.extend_from_slice(before.as_bytes());
        // `from_str_radix` alone would take "+1".
        let digits = escape.get(2..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let length = if let Some(byte) = byte {
            bytes.push(byte);
            4
        } else {
            bytes.extend_from_slice(b"\\x");
            2
        };
        rest = escape.get(length..).unwrap_or_default();
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_are_undone_and_half_ones_kept() {
        assert_eq!(unescape(r"qemu\x2d1\x2dweb"), "qemu-1-web");
        assert_eq!(unescape(r"bull\xf0\x9f\x92\xa9"), "bull\u{1f4a9}");
        assert_eq!(unescape(r"a\x2"), r"a\x2");
        assert_eq!(unescape(r"a\xzz\x2d"), r"a\xzz-");
        assert_eq!(unescape(r"\x+1é"), r"\x+1é");
        assert_eq!(unescape("plain"), "plain");
    }

    proptest! {
        #[test]
        fn any_text_gives_places_that_are_safe_to_print(text in "[0-9]{1,2}:[a-z=]{0,4}:(/\\PC{0,12}|/pod[a-f0-9]*|/kubepods|/lxc|\\\\x[0-9a-g]{1,2}|\u{1b}|\\.scope){0,5}") {
            for place in places(&text) {
                prop_assert!(!place.name.is_empty());
                prop_assert!(!place.name.chars().any(char::is_control));
            }
        }
    }
}
