//! The drill-downs there are. A new one is a line in [`REGISTRY`]; docs/architecture.md shows the other steps.

use super::{cpuid, derived, exits, fault, halt, hypercall, io, irq, msr, noun::Noun, rip, time};

/// Every drill-down.
pub static REGISTRY: &[&Noun] = &[
    &exits::NOUN,
    &derived::NOUN,
    &msr::MSR,
    &msr::WRMSR,
    &msr::MSR_PATHS,
    &msr::WRMSR_PATHS,
    &msr::IPI,
    &io::IO,
    &cpuid::NOUN,
    &hypercall::NOUN,
    &fault::NOUN,
    &rip::NOUN,
    &time::TIME,
    &irq::NOUN,
    &halt::NOUN,
];

/// Maps that belong to no noun: the vCPUs and how they are found, filters, and trouble.
pub static SHARED_MAPS: &[&str] = &[
    "VCPUS",
    "SLOTS",
    "FREE_VCPUS",
    "THREADS",
    "TGIDS",
    "VCPU_IDS",
    "TROUBLE",
    "ROWS",
    "MORE_ROWS",
    "CROWDS",
    "NUMBERS",
    "CLOCK",
    "EVENTS",
];

/// Drill-downs that can be named, each once: of those with variants the plain one.
#[must_use]
pub fn names() -> Vec<&'static str> {
    let mut names = Vec::new();
    for noun in REGISTRY.iter().filter(|noun| !std::ptr::eq(**noun, &derived::NOUN)) {
        if !names.contains(&noun.name) {
            names.push(noun.name);
        }
    }
    names
}

/// The drill-down of this name; of those with variants the plain one.
#[must_use]
pub fn named(name: &str) -> Option<&'static Noun> {
    REGISTRY.iter().find(|noun| noun.name == name).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::bpf::{hook::Hook, object::OBJECT};

    /// How often each name is claimed.
    fn claims<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, usize> {
        let mut claims = BTreeMap::new();
        for name in names {
            *claims.entry(name.to_owned()).or_default() += 1;
        }
        claims
    }

    #[test]
    fn every_map_and_program_of_the_object_is_claimed_exactly_once() {
        let object = aya_obj::Object::parse(OBJECT).unwrap();
        // Sections for globals are maps too.
        let maps = claims(object.maps.keys().map(String::as_str).filter(|name| !name.starts_with('.')));
        let claimed = REGISTRY.iter().flat_map(|noun| noun.maps).chain(SHARED_MAPS).copied();
        assert_eq!(claims(claimed), maps);

        let programs = claims(object.programs.keys().map(String::as_str));
        assert_eq!(claims(Hook::ALL.iter().copied().flat_map(Hook::programs).copied()), programs);
    }

    #[test]
    fn every_hook_feeds_a_noun_and_nouns_are_distinct() {
        for hook in Hook::ALL {
            assert!(REGISTRY.iter().any(|noun| noun.hooks.contains(hook)), "{hook:?}");
        }
        // A noun may have a variant with more hooks and more columns.
        let variants =
            REGISTRY.iter().map(|noun| format!("{} {:?}", noun.name, noun.hooks)).collect::<Vec<_>>();
        assert!(claims(variants.iter().map(String::as_str)).values().all(|n| *n == 1));
        for noun in REGISTRY {
            assert!(noun.columns.iter().any(|c| c.id == noun.sort), "{}", noun.name);
            assert!(claims(noun.columns.iter().map(|c| c.id)).values().all(|n| *n == 1), "{}", noun.name);
        }
    }

    #[test]
    fn each_name_names_a_drill_down_and_derived_has_none() {
        let names = names();
        assert!(names.starts_with(&["exits", "msr", "wrmsr"]), "{names:?}");
        assert!(names.iter().all(|name| named(name).is_some_and(|noun| noun.name == *name)));
        assert!(!names.contains(&"derived"));
        assert!(std::ptr::eq(named("io").unwrap(), &io::IO));
    }
}
