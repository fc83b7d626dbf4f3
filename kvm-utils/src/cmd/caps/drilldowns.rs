//! Whether each drill-down finds its events on this kernel, and how they would be attached.

use std::collections::BTreeSet;

use crate::{
    bpf::{
        caps::{Group, Item, Support},
        event::How,
        hook::Hook,
        source::{Resolved, SourceChoice, resolve},
    },
    drilldown::{noun::Noun, registry::REGISTRY},
};

/// One item for each drill-down that is a subcommand, in the order of the registry. Reads BTF and tracefs, attaches nothing.
pub(super) fn items() -> Vec<Item> {
    let mut seen = BTreeSet::from(["exits", "derived", "ipi"]);
    // A noun with options is there more than once, the plain one first; what is left out is an option of another.
    REGISTRY.iter().filter(|noun| seen.insert(noun.name)).map(|noun| item(noun)).collect()
}

fn item(noun: &Noun) -> Item {
    let (support, detail) = match resolve(SourceChoice::Auto, noun.hooks) {
        Ok(resolved) => (support(noun, &resolved), detail(noun, &resolved)),
        Err(error) => (Support::no(error.to_string(), ""), String::new()),
    };
    Item::new(Group::Drilldowns, noun.name, noun.name, support, detail)
}

fn support(noun: &Noun, resolved: &Resolved) -> Support {
    let missing: Vec<_> =
        names(noun).filter(|name| !resolved.events.iter().any(|(e, ..)| e.name == *name)).collect();
    if !missing.is_empty() {
        return Support::degraded(format!("this kernel has no {}", missing.join(", ")), "");
    }
    Support::Full
}

/// Events by the way in which they are attached.
fn detail(noun: &Noun, resolved: &Resolved) -> String {
    let of = |wanted: How, title: &str| {
        let events = resolved.events.iter().filter(|(_, how, _)| *how == wanted);
        let names: Vec<_> = events.map(|(event, ..)| event.name).collect();
        match names.len() {
            0 => None,
            // More than a person wants to read.
            5.. => Some(format!("{title}: {} events", names.len())),
            _ => Some(format!("{title}: {}", names.join(", "))),
        }
    };
    let exits = noun.hooks.contains(&Hook::KvmExit).then(|| "exits".to_owned());
    let ways = [exits, of(How::Raw, "raw"), of(How::Classic, "classic")];
    ways.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// Events that it would have.
fn names(noun: &Noun) -> impl Iterator<Item = &'static str> {
    noun.hooks.iter().filter_map(|hook| if let Hook::Event(event) = hook { Some(event.name) } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subcommand_has_one_item() {
        let names: Vec<_> = items().iter().map(|item| item.id).collect();
        for noun in ["msr", "wrmsr", "io", "cpuid", "hypercall", "fault", "rip", "time", "irq", "halt"] {
            assert_eq!(names.iter().filter(|name| **name == noun).count(), 1, "{noun} in {names:?}");
        }
    }
}
