//! UUIDs as people and command lines write them.

/// `text` as 8-4-4-4-12 lower-case digits, if it is a UUID with or without its hyphens. That of all zeros is none: it
/// is what a guest sees that was given no UUID.
#[must_use]
pub fn canonical(text: &str) -> Option<String> {
    const HYPHENS: [usize; 4] = [8, 13, 18, 23];
    let hyphenated = text.len() == 36;
    let mut digits = String::with_capacity(32);
    for (at, c) in text.char_indices() {
        match c {
            '-' if hyphenated && HYPHENS.contains(&at) => {}
            _ if hyphenated && HYPHENS.contains(&at) => return None,
            _ if c.is_ascii_hexdigit() => digits.push(c.to_ascii_lowercase()),
            _ => return None,
        }
    }
    if digits.len() != 32 || digits.bytes().all(|digit| digit == b'0') {
        return None;
    }
    let part = |from: usize, to: usize| digits.get(from..to);
    Some([part(0, 8)?, part(8, 12)?, part(12, 16)?, part(16, 20)?, part(20, 32)?].join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_way_to_write_one_comes_out_the_same() {
        let one = Some("5c6fa8f7-c3f6-4b3f-b596-d16ea3912302".to_owned());
        assert_eq!(canonical("5c6fa8f7-c3f6-4b3f-b596-d16ea3912302"), one);
        assert_eq!(canonical("5C6FA8F7-C3F6-4B3F-B596-D16EA3912302"), one);
        assert_eq!(canonical("5c6fa8f7c3f64b3fb596d16ea3912302"), one);
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "web-1",
            "00000000-0000-0000-0000-000000000000",
            "5c6fa8f7-c3f6-4b3f-b596-d16ea391230",
            "5c6fa8f7-c3f6-4b3f-b596-d16ea39123022",
            "5c6fa8f7c-3f6-4b3f-b596-d16ea3912302",
            "5c6fa8f7-c3f6-4b3f-b596-d16ea391230g",
            "5c6fa8f7-c3f64b3fb596d16ea3912302",
            "{c6fa8f7-c3f6-4b3f-b596-d16ea391230}",
            "ééééééééé-ééé",
        ] {
            assert_eq!(canonical(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_one_or_not(text in "\\PC{0,40}") {
            if let Some(uuid) = canonical(&text) {
                prop_assert_eq!(canonical(&uuid), Some(uuid));
            }
        }
    }
}
