//! Labels, as both formats write them.

use std::fmt::Write as _;

use crate::view::text;

/// A value is not longer than this, columns: names of VMs are what somebody put on a command line.
const LONGEST: usize = 200;

/// Names of labels that mean something to Prometheus, or to us.
const TAKEN: [&str; 7] = ["le", "quantile", "job", "instance", "vm", "pid", "vcpu"];

/// Names and values, in the order in which they were added: `vm="web-1",pid="4711"`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(String);

impl Labels {
    /// One label; none if the value is empty, which is the same to Prometheus.
    #[must_use]
    pub fn of(name: &str, value: &str) -> Self {
        Self::default().and(name, value)
    }

    /// With another label. What a terminal would obey is spelled out, and a long value is cut.
    #[must_use]
    pub fn and(mut self, name: &str, value: &str) -> Self {
        self.add(name, value);
        self
    }

    /// Adds a label.
    pub fn add(&mut self, name: &str, value: &str) {
        let value = text::cut(&text::safe(value, true), LONGEST, true);
        // There may have been nothing in it that is shown.
        if value.is_empty() {
            return;
        }
        self.separate();
        self.0.push_str(name);
        self.0.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                c => self.0.push(c),
            }
        }
        self.0.push('"');
    }

    /// With the labels of another set.
    #[must_use]
    pub fn join(mut self, more: &Self) -> Self {
        if !more.0.is_empty() {
            self.separate();
            self.0.push_str(&more.0);
        }
        self
    }

    fn separate(&mut self) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
    }

    /// As the formats have it, without braces.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Writes them with braces, with another label that needs no escaping; nothing if there are none.
    pub(super) fn write(&self, out: &mut String, more: Option<(&str, &str)>) {
        if self.0.is_empty() && more.is_none() {
            return;
        }
        out.push('{');
        out.push_str(&self.0);
        if let Some((name, value)) = more {
            let comma = if self.0.is_empty() { "" } else { "," };
            let _ = write!(out, "{comma}{name}=\"{value}\"");
        }
        out.push('}');
    }
}

/// A column's id as the name of a label.
#[must_use]
pub fn name(id: &str) -> String {
    let mut name: String = id.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    // Those that begin with two are Prometheus's own.
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || TAKEN.contains(&id) {
        name.insert_str(0, "key_");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_escaped_and_empty_ones_left_out() {
        let labels = Labels::of("vm", "a\"b\\c\nd\u{1b}[2J").and("id", "").and("pid", "7");
        assert_eq!(labels.as_str(), r#"vm="a\"b\\c\\nd\\u{1b}[2J",pid="7""#);
        let mut text = String::new();
        labels.write(&mut text, Some(("le", "1")));
        assert!(text.ends_with(",le=\"1\"}"));
        assert_eq!(Labels::default().join(&Labels::of("a", "b")), Labels::of("a", "b"));
        // A variation selector, of which nothing is left: to Prometheus no value and no label are the same.
        assert_eq!(Labels::of("vm", "\u{fe0f}"), Labels::default());
        assert!(Labels::of("vm", &"x".repeat(5000)).as_str().chars().count() < 210);
    }

    #[test]
    fn names_are_what_prometheus_takes() {
        assert_eq!(name("reason"), "reason");
        assert_eq!(name("le"), "key_le");
        assert_eq!(name("__x"), "key___x");
        assert_eq!(name("9-ä"), "key_9__");
    }

    proptest! {
        #[test]
        fn no_value_ends_its_label(value in any::<String>()) {
            let labels = Labels::of("vm", &value);
            let mut inner = labels.as_str();
            if text::safe(&value, true).is_empty() {
                prop_assert_eq!(inner, "");
                return Ok(());
            }
            inner = inner.strip_prefix("vm=\"").unwrap().strip_suffix('"').unwrap();
            let mut chars = inner.chars();
            while let Some(c) = chars.next() {
                prop_assert!(c != '"' && !c.is_control());
                if c == '\\' {
                    prop_assert!(matches!(chars.next(), Some('\\' | '"')));
                }
            }
        }
    }
}
