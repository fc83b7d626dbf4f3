//! What tells a VM from others besides its name, for where there is room.

use super::Style;
use crate::model::{Place, Vm};
use crate::view::text;

/// A name of a unit or a path takes no more columns than this.
const LONGEST: usize = 48;
/// Digits of an id or UUID that is shown in short.
const FEW: usize = 8;
/// As many digits of a container's id as Docker and Podman list.
const CONTAINER: usize = 12;

/// Something that a heading has where there is room.
pub struct Extra {
    /// The ways to write it, the longest first.
    pub ways: Vec<String>,
    /// It is worth another line where lines are not counted.
    pub worth_a_line: bool,
}

/// The manager's id, what the VM runs in and its UUID, as far as they say more than the name.
pub fn identity(vm: &Vm, style: &Style) -> Vec<Extra> {
    let mut all = Vec::new();
    let in_name = |id: &str| vm.name.contains(id);
    if let Some(id) = vm.id.as_deref().filter(|id| !in_name(id)) {
        all.push(Extra { ways: ways("id", id, style), worth_a_line: true });
    }
    if let Some(place) = most_telling(&vm.within).filter(|place| !says_no_more(place, vm)) {
        all.push(Extra { ways: ways(place.kind, &place.name, style), worth_a_line: true });
    }
    if let Some(uuid) = vm.uuid.as_deref().filter(|uuid| !in_name(uuid)) {
        all.push(Extra { ways: ways("uuid", uuid, style), worth_a_line: false });
    }
    all
}

/// A pod before the container in it, anything of a manager before the unit that manager runs in.
fn most_telling(places: &[Place]) -> Option<&Place> {
    let last = |kind: &str| places.iter().rev().find(|place| place.kind == kind);
    last("pod").or_else(|| last("container")).or_else(|| last("machine")).or_else(|| places.last())
}

/// libvirt, Proxmox and Firecracker's jailer name the place after the VM.
fn says_no_more(place: &Place, vm: &Vm) -> bool {
    let has_id = |name: &str| vm.id.as_ref().is_some_and(|id| name.contains(id.as_str()));
    match place.kind {
        "machine" => place.name.contains(&vm.name),
        "unit" => place.name.strip_suffix(".scope").is_some_and(|stem| vm.id.as_deref() == Some(stem)),
        "container" | "cgroup" => has_id(&place.name),
        _ => false,
    }
}

fn ways(what: &str, name: &str, style: &Style) -> Vec<String> {
    let hexadecimal = name.len() > FEW && name.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    let short = |most| text::cut(name, most, style.unicode);
    let names = match (hexadecimal, name.len()) {
        (true, 64) => vec![name.get(..CONTAINER).unwrap_or(name).to_owned()],
        (true, _) => vec![name.to_owned(), short(FEW + 1)],
        (false, _) => vec![text::cut(&text::safe(name, style.unicode), LONGEST, style.unicode)],
    };
    names.into_iter().map(|name| format!("{what} {name}")).collect()
}
