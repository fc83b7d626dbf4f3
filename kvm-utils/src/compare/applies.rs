//! Which limits are for what.

use std::collections::BTreeSet;

use super::{
    limits::{Key, Rule, Target},
    table::What,
};
use crate::host::names::{is_glob, matches_glob};

/// Something that limits may be for: its drill-down, its VM or vCPU, and what it is there.
pub type Thing<'a> = (&'static str, Option<&'a str>, &'a What);

/// What is summed up, by scope. A class or a table of one row has no sum: the row is the sum.
pub struct Sums<'a> {
    classes: BTreeSet<(&'static str, Option<&'a str>, &'a str)>,
    totals: BTreeSet<(&'static str, Option<&'a str>)>,
}

impl<'a> Sums<'a> {
    /// The sums among all there is.
    pub fn of(things: impl Iterator<Item = Thing<'a>>) -> Self {
        let mut sums = Self { classes: BTreeSet::new(), totals: BTreeSet::new() };
        for (noun, scope, what) in things {
            match what {
                What::Class(class) => {
                    sums.classes.insert((noun, scope, class));
                }
                What::Total => {
                    sums.totals.insert((noun, scope));
                }
                What::Row { .. } => {}
            }
        }
        sums
    }

    /// Whether a rule is for this.
    pub fn applies(&self, rule: &Rule, (noun, scope, what): Thing<'_>) -> bool {
        if rule.noun != noun {
            return false;
        }
        match (&rule.target, what) {
            (Target::Total, What::Total) => true,
            (Target::Total, What::Row { .. }) => !self.totals.contains(&(noun, scope)),
            (Target::Class(pattern), What::Class(class)) => matches_glob(pattern, class),
            (Target::Class(pattern), What::Row { class: Some(class), .. }) => {
                matches_glob(pattern, class) && !self.classes.contains(&(noun, scope, class.as_str()))
            }
            (Target::Row(pattern), What::Row { label, .. }) => matches_glob(pattern, label),
            _ => false,
        }
    }

    /// The rules that limit this by this key: of those for rows one, of those for classes one, and that for the sum of all. Of
    /// several, the one with its very name, else the pattern that says most of it.
    pub fn rules<'r>(&self, rules: &'r [Rule], key: Key, thing: Thing<'_>) -> Vec<(&'r Rule, f64)> {
        let fitting: Vec<(&Rule, f64)> = rules
            .iter()
            .filter(|rule| self.applies(rule, thing))
            .filter_map(|rule| Some((rule, rule.most(key)?)))
            .collect();
        let level_of = |rule: &Rule| match &rule.target {
            Target::Row(_) => 0,
            Target::Class(_) => 1,
            Target::Total => 2,
        };
        let closest = |level: u8| {
            let those = fitting.iter().filter(|(rule, _)| level_of(rule) == level);
            those.max_by_key(|(rule, _)| match &rule.target {
                Target::Total => (true, 0),
                Target::Class(name) | Target::Row(name) => (!is_glob(name), literal(name)),
            })
        };
        (0..3).filter_map(closest).copied().collect()
    }
}

fn literal(pattern: &str) -> usize {
    pattern.chars().filter(|c| !matches!(c, '*' | '?')).count()
}
