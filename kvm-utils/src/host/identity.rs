//! Who a VM is: which monitor runs it, what its owner calls it, and what it runs in.
//!
//! The process itself is asked first, then those who manage it. Whatever cannot be read is left out.

use super::{
    cgroup::{self, Place, PlaceKind, is_container_id},
    command_line::said,
    jail, libvirt,
    names::{is_glob, matches_glob},
    process::{Process, printable},
    root::ProcRoot,
    uuid,
    vmm::Vmm,
};

/// Who a VM is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name that its owner gave it, else one made of the monitor and the pid, else (for monitors unknown here) the
    /// process's own.
    pub name: String,
    /// The program that runs it.
    pub vmm: Vmm,
    /// The UUID that the guest sees as its system's, in lower case; `None` if it was given none, or where only the
    /// monitor knows.
    pub uuid: Option<String>,
    /// What its manager calls it: Firecracker's id, the sandbox of Kata Containers, the number that Proxmox gave it.
    /// May be the same as the name.
    pub id: Option<String>,
    /// What the process runs in, the outermost first.
    pub within: Vec<Place>,
}

/// How a VM answers to what a person typed, the better the smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// It is its name.
    Name,
    /// It is its UUID or its id.
    Id,
    /// It runs in something of this name; others may as well.
    Place,
}

impl Identity {
    /// Who the VM of `process` is.
    #[must_use]
    pub fn of(proc: &ProcRoot, process: &Process) -> Self {
        let pid = process.pid;
        let vmm = Vmm::of(process);
        let mut said = said(vmm, process);
        // libvirt's command lines for QEMU say all that it knows.
        let driver = match vmm {
            Vmm::Qemu => Some("qemu"),
            Vmm::CloudHypervisor => Some("ch"),
            _ => None,
        };
        if let Some(driver) = driver
            && (said.name.is_none() || said.uuid.is_none())
            && let Some(domain) = libvirt::domain(&proc.run(), driver, pid, said.name.as_deref())
        {
            said.name.get_or_insert(domain.name);
            said.uuid = said.uuid.or(domain.uuid);
        }
        if vmm == Vmm::Firecracker && said.id.is_none() {
            said.id = jail::id(proc, pid);
            said.name = said.name.or_else(|| said.id.clone());
        }
        let clean = |text: String| Some(printable(text.as_bytes())).filter(|text| !text.trim().is_empty());
        Self {
            name: said.name.and_then(clean).unwrap_or_else(|| format!("{vmm}-{pid}")),
            vmm,
            uuid: said.uuid,
            id: said.id.and_then(clean),
            within: cgroup::places_of(proc, pid, &process.cgroup),
        }
    }

    /// A VM of which nothing is known but the name of its process.
    #[must_use]
    pub fn unknown(name: String) -> Self {
        Self { name, vmm: Vmm::Unknown, uuid: None, id: None, within: Vec::new() }
    }

    /// Of a VM in the model.
    #[must_use]
    pub fn shown(vm: &crate::model::Vm) -> Self {
        let place = |place: &crate::model::Place| {
            let kind = PlaceKind::named(place.kind).unwrap_or(PlaceKind::Cgroup);
            Place { kind, name: place.name.clone() }
        };
        Self {
            name: vm.name.clone(),
            vmm: Vmm::Unknown,
            uuid: vm.uuid.clone(),
            id: vm.id.clone(),
            within: vm.within.iter().map(place).collect(),
        }
    }

    /// Whether and how the VM answers to `wanted`.
    #[must_use]
    pub fn answer(&self, wanted: &str) -> Option<Answer> {
        if self.name == wanted {
            return Some(Answer::Name);
        }
        let is_uuid = self.uuid.is_some() && self.uuid == uuid::canonical(wanted);
        if is_uuid || self.id.as_ref().is_some_and(|id| is_or_abbreviates(wanted, id)) {
            return Some(Answer::Id);
        }
        let inside = self.within.iter().any(|place| {
            is_or_abbreviates(wanted, &place.name)
                // As systemctl(1) takes names without a suffix.
                || place.kind == PlaceKind::Unit && place.name.strip_suffix(".service") == Some(wanted)
        });
        inside.then_some(Answer::Place)
    }

    /// Whether a pattern (`*`, `?`) fits anything that [`Identity::answer`] compares.
    #[must_use]
    pub fn fits(&self, pattern: &str) -> bool {
        let places = self.within.iter().map(|place| &place.name);
        is_glob(pattern)
            && std::iter::once(&self.name)
                .chain(&self.uuid)
                .chain(&self.id)
                .chain(places)
                .any(|name| matches_glob(pattern, name))
    }
}

/// Docker and Podman list the first 12 digits of an id, crictl 13.
const ABBREVIATED: usize = 12;

fn is_or_abbreviates(wanted: &str, id: &str) -> bool {
    wanted == id || wanted.len() >= ABBREVIATED && is_container_id(id) && id.starts_with(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "94a6391dde707330a94acb3e684ee7048d085e7b6d9b1feda0cc1151b90606b2";
    const UUID: &str = "1e8aa28a-435d-4027-87f4-40dceff1fa0a";

    fn identity(comm: &str, cmdline: &[&str], cgroup: &str) -> Identity {
        let process = Process {
            pid: 4711,
            comm: comm.to_owned(),
            cmdline: cmdline.iter().map(|a| (*a).to_owned()).collect(),
            cgroup: cgroup.to_owned(),
            ..Process::default()
        };
        Identity::of(&ProcRoot::at("/nowhere/proc"), &process)
    }

    #[test]
    fn a_vm_without_a_name_is_called_after_its_monitor() {
        assert_eq!(identity("qemu-system-x86", &["qemu-kvm"], "").name, "qemu-4711");
        assert_eq!(identity("firecracker", &["firecracker", "--no-api"], "").name, "firecracker-4711");
        assert_eq!(identity("cloud-hyperviso", &[], "").name, "cloud-hypervisor-4711");
        assert_eq!(identity("my vmm", &["./a.out"], "").name, "my vmm");
        assert_eq!(identity("", &[], "").name, "unknown-4711");
        assert_eq!(identity("qemu", &["qemu", "-name", "  "], "").name, "qemu-4711");
    }

    #[test]
    fn names_cannot_steer_the_terminal() {
        let vm = identity("qemu", &["qemu", "-name", "a\u{1b}[31mb"], "0::/a\u{1b}b.service\n");
        assert_eq!((vm.name.as_str(), vm.within[0].name.as_str()), ("a?[31mb", "a?b.service"));
        assert_eq!(identity("firecracker", &["fc", "--id", "a\u{7}"], "").id.as_deref(), Some("a?"));
    }

    #[test]
    fn a_vm_answers_to_its_name_its_ids_and_what_it_runs_in() {
        let cgroup = format!("0::/system.slice/web.service/{ID}\n");
        let vm = identity("kvm", &["kvm", "-id", "100", "-name", "web-1", "-uuid", UUID], &cgroup);
        assert_eq!(vm.answer("web-1"), Some(Answer::Name));
        assert_eq!(vm.answer("100"), Some(Answer::Id));
        assert_eq!(vm.answer(&UUID.to_uppercase()), Some(Answer::Id));
        assert_eq!(vm.answer(&UUID.replace('-', "")), Some(Answer::Id));
        for place in ["web.service", "web", ID, &ID[..12], &ID[..13]] {
            assert_eq!(vm.answer(place), Some(Answer::Place), "{place}");
        }
        for other in ["web-", "10", "WEB-1", &UUID[..8], &ID[..11], &ID[1..20], "unit", "", "*"] {
            assert_eq!(vm.answer(other), None, "{other}");
        }
    }

    #[test]
    fn a_vm_without_uuid_does_not_answer_to_what_is_none() {
        let vm = identity("kvm", &["kvm", "-name", "a"], "");
        assert_eq!(vm.answer("b"), None);
        assert_eq!(vm.answer("00000000-0000-0000-0000-000000000000"), None);
    }

    #[test]
    fn patterns_look_at_the_same() {
        let vm =
            identity("kvm", &["kvm", "-id", "100", "-name", "web-1", "-uuid", UUID], "0::/a.slice/b.scope\n");
        for pattern in ["web-*", "10?", "1e8aa28a-*", "b.*", "*"] {
            assert!(vm.fits(pattern), "{pattern}");
        }
        for pattern in ["web-1", "a.*", "qemu*", "?"] {
            assert!(!vm.fits(pattern), "{pattern}");
        }
    }
}
