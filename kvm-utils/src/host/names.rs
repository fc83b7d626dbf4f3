//! Names of VMs for a reader who must tell them apart.

use std::collections::HashMap;

/// A label for each `(pid, name)`: the name, with the pid behind it where several share it.
#[must_use]
pub fn labels(vms: &[(u32, &str)]) -> Vec<String> {
    let mut uses: HashMap<&str, usize> = HashMap::new();
    for (_, name) in vms {
        *uses.entry(name).or_default() += 1;
    }
    vms.iter()
        .map(
            |(pid, name)| {
                if uses.get(name) == Some(&1) { (*name).to_owned() } else { format!("{name} ({pid})") }
            },
        )
        .collect()
}

/// Whether `pattern` matches `name`: `*` stands for any text, `?` for one character, all else for itself.
#[must_use]
pub fn matches_glob(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // Where the last star was, and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p, n));
            p += 1;
        } else if pattern.get(p).is_some_and(|c| *c == '?' || *c == name[n]) {
            p += 1;
            n += 1;
        } else if let Some((at, taken)) = star {
            p = at + 1;
            n = taken + 1;
            star = Some((at, taken + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Whether `pattern` asks for more than one name.
#[must_use]
pub fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?'])
}

/// Those of `names` that a person may have meant by `wanted`, the likeliest first, at most three.
#[must_use]
pub fn near<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = wanted.to_lowercase();
    // One slip in three characters is still a slip.
    let allowed = (wanted.chars().count() / 3).clamp(1, 3);
    let mut found: Vec<(usize, &str)> = names
        .into_iter()
        .filter_map(|name| {
            let lower = name.to_lowercase();
            let distance = edit_distance(&wanted, &lower);
            let part = !wanted.is_empty() && (lower.contains(&wanted) || wanted.contains(lower.as_str()));
            (distance <= allowed || part).then_some((distance, name))
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Insertions, deletions and replacements that make `b` of `a` (Levenshtein).
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_shared_names_get_the_pid() {
        assert_eq!(labels(&[(1, "a"), (2, "b"), (3, "a")]), ["a (1)", "b", "a (3)"]);
        assert!(labels(&[]).is_empty());
    }

    #[test]
    fn globs() {
        for (pattern, name, expected) in [
            ("web-*", "web-1", true),
            ("web-*", "web-", true),
            ("web-*", "we", false),
            ("*", "", true),
            ("*-1", "web-1-1", true),
            ("w*b*1", "web-web-1", true),
            ("w?b", "web", true),
            ("w?b", "wb", false),
            ("", "", true),
            ("", "a", false),
            ("a", "ab", false),
            ("[a]", "a", false),
        ] {
            assert_eq!(matches_glob(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn near_names_are_found() {
        let names = ["web-1", "web-10", "db", "Mail"];
        assert_eq!(near("web-2", names), ["web-1"]);
        assert_eq!(near("web1", names), ["web-1"]);
        assert_eq!(near("mail", names), ["Mail"]);
        assert_eq!(near("web", names), ["web-1", "web-10"]);
        assert!(near("zzzzzz", names).is_empty());
    }

    proptest! {
        #[test]
        fn a_name_matches_itself_and_its_prefix_with_a_star(name in "[a-z*?-]{0,12}", cut in 0usize..12) {
            prop_assert!(matches_glob(&name, &name));
            let prefix: String = name.chars().take(cut).collect();
            let pattern = format!("{prefix}*");
            prop_assert!(matches_glob(&pattern, &name));
        }
    }
}
