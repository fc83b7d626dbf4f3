//! Whether exits can be counted here.

use serde::Serialize;

use super::item::{Item, Support};
use crate::bpf::tracer::Source;

/// One cause that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Blocker {
    /// The item that tells more.
    pub item: &'static str,
    /// The cause.
    pub why: String,
    /// What to do about it.
    pub remedy: String,
}

/// Whether `kvm-utils exits` can run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It can.
    Runs {
        /// How exits will be learned of.
        source: Source,
    },
    /// It cannot.
    Blocked(Vec<Blocker>),
}

/// Items that stand in the way if they are `no`, causes before their consequences.
const ESSENTIAL: [&str; 8] = [
    "privileges",
    "vendor_module",
    "kvm_module",
    "bpf",
    "memory",
    "read_kernel",
    "mappable_arrays",
    "hook_kvm_exit",
];

pub(super) fn exits(items: &[Item], sources: &[Source]) -> Verdict {
    let find = |id: &str| items.iter().find(|item| item.id == id);
    let blocker = |item: &Item| match &item.support {
        Support::No { why, remedy } => {
            Some(Blocker { item: item.id, why: why.clone(), remedy: remedy.clone() })
        }
        _ => None,
    };
    let mut blockers: Vec<Blocker> = Vec::new();
    for blocking in ESSENTIAL.iter().filter_map(|id| blocker(find(id)?)) {
        // Without privileges the rest was not asked; one refusal by bpf(2) explains the others.
        let explained = blockers.iter().any(|known| match known.item {
            "privileges" => {
                ["bpf", "read_kernel", "mappable_arrays", "hook_kvm_exit"].contains(&blocking.item)
            }
            "vendor_module" => ["kvm_module", "hook_kvm_exit"].contains(&blocking.item),
            "kvm_module" => blocking.item == "hook_kvm_exit",
            "bpf" | "read_kernel" => ["mappable_arrays", "hook_kvm_exit"].contains(&blocking.item),
            _ => false,
        });
        if !explained {
            blockers.push(blocking);
        }
    }
    blockers.extend(find("fires").and_then(blocker));
    if blockers.is_empty() {
        if let Some(source) = sources.first() {
            return Verdict::Runs { source: *source };
        }
        // Neither way was refused for a reason known above: kvm_entry, or what could not be asked.
        let open = items.iter().find(|item| item.id.starts_with("hook_kvm") && item.support != Support::Full);
        blockers.push(Blocker {
            item: open.map_or("hook_kvm_entry", |item| item.id),
            why: open
                .and_then(|item| item.support.why())
                .unwrap_or("kvm_exit and kvm_entry cannot be attached to")
                .to_owned(),
            remedy: open.and_then(|item| item.support.remedy()).unwrap_or("run as root").to_owned(),
        });
    }
    Verdict::Blocked(blockers)
}
