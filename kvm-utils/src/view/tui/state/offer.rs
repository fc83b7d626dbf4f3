//! The drill-downs, whether they run, and by which key they are reached.

use crate::decode::Class;

/// A drill-down that there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its noun.
    pub noun: &'static str,
    /// It runs.
    pub runs: bool,
    /// It can be started now.
    pub can_start: bool,
    /// Why it could not be started.
    pub failure: Option<String>,
}

/// A key and the drill-downs behind it, of which the first that runs is shown.
pub const KEYS: [(char, &[&str]); 10] = [
    ('1', &["exits"]),
    ('2', &["time"]),
    ('3', &["io"]),
    ('4', &["msr", "wrmsr"]),
    ('5', &["irq"]),
    ('6', &["halt"]),
    ('7', &["cpuid"]),
    ('8', &["hypercall"]),
    ('9', &["fault"]),
    ('0', &["rip"]),
];

/// The key of a drill-down; some have none and are reached by Tab.
#[must_use]
pub fn key_of(noun: &str) -> Option<char> {
    KEYS.iter().find(|(_, nouns)| nouns.contains(&noun)).map(|(key, _)| *key)
}

/// The first of `nouns` that runs, else the first that there is.
#[must_use]
pub fn choose(offers: &[Offer], nouns: &[&str]) -> Option<&'static str> {
    let there = || nouns.iter().filter_map(|noun| offers.iter().find(|offer| offer.noun == *noun));
    there().find(|offer| offer.runs).or_else(|| there().next()).map(|offer| offer.noun)
}

/// The drill-downs that tell more about exits of a class, the best first; none where a count is all there is.
#[must_use]
pub fn fitting(class: &str) -> &'static [&'static str] {
    let Some(class) = Class::ALL.iter().find(|known| known.id() == class) else { return &[] };
    match (class, class.drilldown()) {
        // On AMD this includes device registers.
        (Class::Ept, _) => &["fault", "io"],
        (Class::MsrWrite, _) => &["msr", "wrmsr"],
        (_, Some(noun)) => {
            KEYS.iter().find(|(_, nouns)| nouns.contains(&noun)).map_or(&[], |(_, nouns)| nouns)
        }
        (_, None) => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_class_asks_for_is_found() {
        assert_eq!(fitting("io"), ["io"]);
        assert_eq!(fitting("msr"), ["msr", "wrmsr"]);
        assert_eq!(fitting("hlt"), ["halt"]);
        assert_eq!(fitting("cr"), [""; 0]);
        assert_eq!(fitting("no such class"), [""; 0]);
        for class in Class::ALL {
            if let Some(noun) = class.drilldown() {
                assert!(!fitting(class.id()).is_empty(), "{noun} has no key");
            }
        }
    }

    #[test]
    fn what_runs_comes_first() {
        let offer = |noun, runs| Offer { noun, runs, can_start: false, failure: None };
        let offers = [offer("msr", false), offer("wrmsr", true)];
        assert_eq!(choose(&offers, &["msr", "wrmsr"]), Some("wrmsr"));
        assert_eq!(choose(&offers[..1], &["msr", "wrmsr"]), Some("msr"));
        assert_eq!(choose(&offers, &["io"]), None);
    }
}
