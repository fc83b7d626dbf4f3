//! Whether recordings are of the same machine, with guests that look the same.

use std::collections::{BTreeMap, BTreeSet};

use super::Recorded;
use crate::model::History;

/// A fact that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name, such as `kernel` or `vm web-1 vcpus`.
    pub fact: String,
    /// What it is in the base.
    pub base: String,
    /// What it is in the new recording.
    pub new: String,
}

/// How the facts compare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// What makes the figures those of something else.
    pub differ: Vec<Difference>,
    /// What might, but is not known everywhere.
    pub unknown: Vec<String>,
    /// What differs and decides nothing, as sentences.
    pub notes: Vec<String>,
}

/// Facts of a guest begin with this and the guest's name.
const GUEST: &str = "vm ";

/// Stands for what is not known.
const UNKNOWN: &str = "unknown";

/// Facts that may differ without a cause for other figures.
const FREE: [&str; 1] = [
    // The guests in a sentence; they are compared one by one.
    "vms",
];

/// What stands for the monitor where a process runs no VM.
const NO_VM: &str = "no VM";

type ByName = BTreeMap<String, String>;

/// Compares each recording with the first: all have to be of the same.
#[must_use]
pub fn compare(base: &[Recorded], new: &[Recorded]) -> Facts {
    let mut all = Facts::default();
    let mut recordings = base.iter().chain(new).map(facts);
    let Some(first) = recordings.next() else { return all };
    for other in recordings {
        let found = pair(&first, &other);
        for one in found.differ {
            if !all.differ.iter().any(|known| known.fact == one.fact) {
                all.differ.push(one);
            }
        }
        let add = |known: &mut Vec<String>, more: Vec<String>| {
            for one in more {
                if !known.contains(&one) {
                    known.push(one);
                }
            }
        };
        add(&mut all.unknown, found.unknown);
        add(&mut all.notes, found.notes);
    }
    all
}

/// Holds a recording against facts of a machine; what only one of them knows is no difference.
#[must_use]
pub fn with_machine(base: &Recorded, machine: &BTreeMap<String, String>) -> Vec<Difference> {
    let mut base = facts(base);
    base.retain(|name, _| !name.starts_with(GUEST));
    pair(&base, machine).differ
}

/// The facts of all of a recording's drill-downs, with what their reports say of the host.
fn facts(recording: &Recorded) -> ByName {
    let mut facts = ByName::new();
    for history in &recording.histories {
        let host = &history.whole.host;
        let cpus = host.cpus.to_string();
        for (name, value) in
            [("kernel", &host.kernel), ("isa", &host.isa), ("cpu", &host.cpu), ("cpus", &cpus)]
        {
            let known = facts.entry(name.to_owned()).or_insert_with(|| value.clone());
            // Before the first event a drill-down does not know what others do.
            if is_unknown(known) {
                known.clone_from(value);
            }
        }
        facts.extend(history.fingerprint.facts.clone());
    }
    facts.extend(guest_facts(recording));
    facts.retain(|_, value| !is_unknown(value));
    facts
}

/// What each guest is. The drill-down that saw most of them knows of all.
fn guest_facts(recording: &Recorded) -> ByName {
    let guests = |history: &History| {
        let vms = history.whole.vms.iter().filter(|vm| vm.vmm != NO_VM);
        vms.map(|vm| {
            let vcpus = vm.vcpus.iter().filter(|vcpu| !vcpu.others).count();
            (vm.name.clone(), vm.vmm.clone(), vcpus)
        })
        .collect::<Vec<_>>()
    };
    let mut guests = recording.histories.iter().map(guests).max_by_key(Vec::len).unwrap_or_default();
    guests.sort();
    let mut facts = ByName::new();
    for (index, (name, vmm, vcpus)) in guests.iter().enumerate() {
        let same = guests[..index].iter().filter(|(other, ..)| other == name).count();
        let name = if same > 0 { format!("{name} ({})", same + 1) } else { name.clone() };
        facts.insert(format!("{GUEST}{name} vmm"), vmm.clone());
        facts.insert(format!("{GUEST}{name} vcpus"), vcpus.to_string());
    }
    facts
}

fn is_unknown(value: &str) -> bool {
    value.is_empty() || value == UNKNOWN
}

fn pair(base: &ByName, new: &ByName) -> Facts {
    let mut found = Facts::default();
    let names: BTreeSet<&String> = base.keys().chain(new.keys()).collect();
    for name in names.into_iter().filter(|name| !name.starts_with(GUEST) && !FREE.contains(&name.as_str())) {
        match (base.get(name), new.get(name)) {
            (Some(one), Some(two)) if one != two => {
                found.differ.push(Difference { fact: name.clone(), base: one.clone(), new: two.clone() });
            }
            (Some(_), Some(_)) => {}
            _ => found.unknown.push(name.clone()),
        }
    }
    guests(base, new, &mut found);
    found
}

/// Guests are compared by name; where names differ, by what they are: a guest of a CI job is called another each time.
fn guests(base: &ByName, new: &ByName, found: &mut Facts) {
    let (one, two) = (by_guest(base), by_guest(new));
    let names = |guests: &BTreeMap<String, ByName>| guests.keys().cloned().collect::<Vec<_>>();
    if names(&one) == names(&two) {
        for (name, facts) in &one {
            let Some(other) = two.get(name) else { continue };
            for (fact, value) in facts {
                match other.get(fact) {
                    Some(new) if new != value => found.differ.push(Difference {
                        fact: format!("{GUEST}{name} {fact}"),
                        base: value.clone(),
                        new: new.clone(),
                    }),
                    Some(_) => {}
                    None => found.unknown.push(format!("{GUEST}{name} {fact}")),
                }
            }
            let more = other.keys().filter(|fact| !facts.contains_key(*fact));
            found.unknown.extend(more.map(|fact| format!("{GUEST}{name} {fact}")));
        }
        return;
    }
    if one.is_empty() || two.is_empty() {
        found.unknown.push("the guests".to_owned());
        return;
    }
    let sorted = |guests: &BTreeMap<String, ByName>| {
        let mut all: Vec<String> = guests.values().map(describe).collect();
        all.sort();
        all
    };
    let (of_base, of_new) = (sorted(&one), sorted(&two));
    if of_base == of_new {
        let list = |guests: &BTreeMap<String, ByName>| names(guests).join(", ");
        found.notes.push(format!(
            "the guests have other names, {} and {}, but are alike",
            list(&one),
            list(&two)
        ));
    } else {
        let list = |guests: &BTreeMap<String, ByName>| {
            let all = guests.iter().map(|(name, facts)| match describe(facts) {
                facts if facts.is_empty() => name.clone(),
                facts => format!("{name} ({facts})"),
            });
            all.collect::<Vec<_>>().join("; ")
        };
        found.differ.push(Difference { fact: "guests".to_owned(), base: list(&one), new: list(&two) });
    }
}

fn describe(facts: &ByName) -> String {
    facts.iter().map(|(fact, value)| format!("{fact} {value}")).collect::<Vec<_>>().join(", ")
}

/// What is known of each guest. The fact is the last word of a name, for a guest's name may have spaces.
fn by_guest(facts: &ByName) -> BTreeMap<String, ByName> {
    let mut guests: BTreeMap<String, ByName> = BTreeMap::new();
    for (name, value) in facts {
        let Some(rest) = name.strip_prefix(GUEST) else { continue };
        let (guest, fact) = rest.rsplit_once(' ').unwrap_or((rest, ""));
        guests.entry(guest.to_owned()).or_default().insert(fact.to_owned(), value.clone());
    }
    guests
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(list: &[(&str, &str)]) -> ByName {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn differ(base: &[(&str, &str)], new: &[(&str, &str)]) -> Vec<String> {
        pair(&facts(base), &facts(new)).differ.into_iter().map(|one| one.fact).collect()
    }

    #[test]
    fn what_is_the_same_on_both_sides_is_no_difference() {
        let base = [("kernel", "6.1"), ("isa", "svm"), ("vm web-1 vcpus", "2"), ("vms", "web-1")];
        assert_eq!(pair(&facts(&base), &facts(&base)), Facts::default());
        let new = [("kernel", "6.12"), ("isa", "vmx"), ("vm web-1 vcpus", "4"), ("vms", "web-2")];
        assert_eq!(differ(&base, &new), ["isa", "kernel", "vm web-1 vcpus"]);
    }

    #[test]
    fn what_one_side_does_not_know_is_named() {
        let found = pair(&facts(&[("kernel", "6.1"), ("microcode", "0x1")]), &facts(&[("kernel", "6.1")]));
        assert_eq!((found.differ.len(), found.unknown), (0, vec!["microcode".to_owned()]));
    }

    #[test]
    fn guests_of_other_names_are_compared_by_what_they_are() {
        let one = [("vm job-17 vcpus", "2"), ("vm job-17 vmm", "qemu")];
        let found = pair(&facts(&one), &facts(&[("vm job 18 vcpus", "2"), ("vm job 18 vmm", "qemu")]));
        assert!(found.differ.is_empty() && found.notes[0].contains("job 18"), "{found:?}");
        let found = pair(&facts(&one), &facts(&[("vm job 18 vcpus", "4"), ("vm job 18 vmm", "qemu")]));
        assert_eq!(found.differ[0].new, "job 18 (vcpus 4, vmm qemu)");
        let two = [("vm a vcpus", "2"), ("vm b vcpus", "2")];
        assert_eq!(differ(&one[..1], &two), ["guests"]);
        assert_eq!(pair(&facts(&one), &facts(&[])).unknown, ["the guests"]);
    }
}
