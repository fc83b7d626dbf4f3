//! Whether two reports are of the same machine in the same state.

use serde_json::Value;

use crate::environment::{FIELDS, Weight, words_that_count};

/// A field of `environment` that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Its name, such as `kernel` or `tsc.hz`.
    pub field: String,
    /// Base.
    pub base: Value,
    /// New.
    pub new: Value,
}

/// How two environments compare.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Environments {
    /// What makes the figures those of different machines.
    pub differ: Vec<Difference>,
    /// What would, if both reports knew it.
    pub unknown: Vec<String>,
}

/// Compares what decides. A field that one of them does not know is no difference, but it is named.
pub fn compare(base: &Value, new: &Value) -> Environments {
    let mut environments = Environments::default();
    for (pointer, weight) in FIELDS {
        let field = pointer.trim_start_matches('/').replace('/', ".");
        let (one, two) = (base.pointer(pointer), new.pointer(pointer));
        // Null in both, and written by both: both know that there is none.
        let (Some(one), Some(two)) = (one, two) else {
            if *weight != Weight::Varies {
                environments.unknown.push(field);
            }
            continue;
        };
        let may_be_absent = matches!(one, Value::Null) != matches!(two, Value::Null);
        let is_same = match weight {
            Weight::Varies => true,
            Weight::Decides if *pointer == "/cmdline" => words(one) == words(two),
            Weight::Decides if may_be_absent && needs_rights(pointer) => {
                environments.unknown.push(field.clone());
                true
            }
            Weight::Decides => one == two,
            Weight::DecidesWithin(share) => match (one.as_f64(), two.as_f64()) {
                (Some(one), Some(two)) => (one - two).abs() <= share * one.max(two),
                _ => one == two,
            },
        };
        if !is_same {
            environments.differ.push(Difference { field, base: one.clone(), new: two.clone() });
        }
    }
    environments
}

/// Fields that are read from the kernel's log: null means that nobody could.
fn needs_rights(pointer: &str) -> bool {
    matches!(pointer, "/pv" | "/apic" | "/mitigations" | "/microcode")
}

fn words(cmdline: &Value) -> Vec<&str> {
    words_that_count(cmdline.as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn machine() -> Value {
        let mut machine = crate::environment::fingerprint();
        machine["tsc"] = json!({"hz": 2_596_120_000_u64, "invariant": true, "source": "x", "error_ppm": 1, "untrusted": []});
        machine
    }

    #[test]
    fn a_machine_is_comparable_to_itself() {
        assert_eq!(compare(&machine(), &machine()), Environments::default());
        let mut later = machine();
        later["tsc"]["hz"] = 2_596_150_000_u64.into();
        later["tsc"]["source"] = "another".into();
        later["guess"] = json!(["something"]);
        later["cmdline"] = format!("root=/dev/vdb {}", machine()["cmdline"].as_str().unwrap()).into();
        assert_eq!(compare(&machine(), &later).differ, []);
    }

    #[test]
    fn what_decides_is_named() {
        let mut other = machine();
        other["kernel"] = "6.1.0-1-amd64".into();
        other["guest_halt_poll_ns"] = 777_777.into();
        other["tsc"]["hz"] = 2_700_000_000_u64.into();
        let differ: Vec<_> = compare(&machine(), &other).differ.into_iter().map(|one| one.field).collect();
        assert_eq!(differ, ["kernel", "guest_halt_poll_ns", "tsc.hz"]);
    }

    #[test]
    fn what_only_root_knows_is_no_difference() {
        let (mut user, mut old) = (machine(), machine());
        user["pv"] = Value::Null;
        let mut root = machine();
        root["pv"] = json!(["PV IPI"]);
        let found = compare(&user, &root);
        assert_eq!((found.differ.len(), found.unknown), (0, vec!["pv".to_owned()]));
        old.as_object_mut().unwrap().remove("thp");
        assert_eq!(compare(&old, &machine()).unknown, ["thp"]);
    }
}
