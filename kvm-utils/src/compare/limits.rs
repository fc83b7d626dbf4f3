//! The file that says how much is allowed.
//!
//! ```toml
//! [exits]                      # all exits together
//! max_rate = 2000              # per second, or per what --per says
//! [exits.class.io]             # all exits of a class
//! max_increase = "10%"
//! [exits.reason."EPT_*"]       # rows, by name or pattern
//! max_mean = "40us"
//! max_p99 = "250us"
//! [io.row."ACPI PM timer*"]    # rows of another drill-down
//! max_rate = 10
//! ```

use std::path::Path;

use toml::{Table, Value};

use crate::{
    decode::{Class, ExitReason, Isa},
    drilldown::registry::REGISTRY,
    host::names::{is_glob, matches_glob, near},
};

/// What is allowed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// In no order.
    pub rules: Vec<Rule>,
}

/// What is allowed for some rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The drill-down.
    pub noun: String,
    /// For what.
    pub target: Target,
    /// Where it stands in the file: `exits.reason.io`.
    pub path: String,
    /// Events per second, or per unit of work.
    pub max_rate: Option<f64>,
    /// Of any figure, as a share of what was.
    pub max_increase: Option<f64>,
    /// Nanoseconds.
    pub max_mean_ns: Option<f64>,
    /// Nanoseconds.
    pub max_p99_ns: Option<f64>,
}

/// What a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The sum of all rows.
    Total,
    /// Classes, by name or pattern.
    Class(String),
    /// Rows, by name or pattern.
    Row(String),
}

impl Rule {
    /// What it allows by this key.
    #[must_use]
    pub const fn most(&self, key: Key) -> Option<f64> {
        match key {
            Key::Rate => self.max_rate,
            Key::Increase => self.max_increase,
            Key::Mean => self.max_mean_ns,
            Key::P99 => self.max_p99_ns,
        }
    }
}

/// What a rule limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// How often.
    Rate,
    /// How much more of any figure.
    Increase,
    /// How long on average.
    Mean,
    /// How long at most, but for 1 %.
    P99,
}

impl Key {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rate, Self::Increase, Self::Mean, Self::P99];

    /// Its name in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rate => "max_rate",
            Self::Increase => "max_increase",
            Self::Mean => "max_mean",
            Self::P99 => "max_p99",
        }
    }
}

/// Why a file of limits cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LimitsError {
    /// No file, or no right to read it.
    #[error("cannot read the limits in {file}: {error}")]
    File {
        /// Which.
        file: String,
        /// Why not.
        error: std::io::Error,
    },
    /// It is no TOML.
    #[error("{file} is no TOML: {error}")]
    Form {
        /// Which.
        file: String,
        /// Where and why.
        error: toml::de::Error,
    },
    /// It says something that nobody understands.
    #[error("{file}: {place}: {what}")]
    Meaning {
        /// Which.
        file: String,
        /// The table and key.
        place: String,
        /// What is wrong and what to write.
        what: String,
    },
}

/// Keys of a rule.
const KEYS: [&str; 4] = [Key::Rate.name(), Key::Increase.name(), Key::Mean.name(), Key::P99.name()];

/// Tables in a drill-down's table.
const GROUPS: [&str; 3] = ["class", "reason", "row"];

impl Limits {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or says what nobody understands.
    pub fn read(path: &Path) -> Result<Self, LimitsError> {
        let file = path.display().to_string();
        let text =
            std::fs::read_to_string(path).map_err(|error| LimitsError::File { file: file.clone(), error })?;
        Self::parse(&text, &file)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    ///
    /// When it says what nobody understands.
    pub fn parse(text: &str, file: &str) -> Result<Self, LimitsError> {
        let table: Table =
            text.parse().map_err(|error| LimitsError::Form { file: file.to_owned(), error })?;
        let mut rules = Vec::new();
        for (noun, value) in &table {
            drilldown(noun, value, &mut rules).map_err(|(place, what)| LimitsError::Meaning {
                file: file.to_owned(),
                place,
                what,
            })?;
        }
        if rules.is_empty() {
            return Err(LimitsError::Meaning {
                file: file.to_owned(),
                place: "the whole file".to_owned(),
                what: "it limits nothing; write for instance [exits] and max_rate = 2000".to_owned(),
            });
        }
        Ok(Self { rules })
    }
}

/// Where it is, and what is wrong.
type Wrong = (String, String);

fn drilldown(noun: &str, value: &Value, rules: &mut Vec<Rule>) -> Result<(), Wrong> {
    let nouns = || REGISTRY.iter().map(|one| one.name);
    let Some(known) = nouns().find(|name| *name == noun) else {
        return Err((format!("[{noun}]"), unknown("drill-down", noun, nouns())));
    };
    let table = as_table(value, &format!("[{noun}]"))?;
    let (groups, keys): (Vec<_>, Vec<_>) = table.iter().partition(|(key, _)| GROUPS.contains(&key.as_str()));
    if let Some((key, _)) = keys.iter().find(|(key, value)| value.is_table() && !KEYS.contains(&key.as_str()))
    {
        return Err((format!("[{noun}.{key}]"), unknown("group", key, GROUPS)));
    }
    if !keys.is_empty() {
        rules.push(rule(known, Target::Total, &keys, noun)?);
    }
    for (group, value) in groups {
        for (name, value) in as_table(value, &format!("[{noun}.{group}]"))? {
            let place = format!("{noun}.{group}.{name}");
            let target = target(known, group, name).map_err(|what| (format!("[{place}]"), what))?;
            let keys: Vec<_> = as_table(value, &format!("[{place}]"))?.iter().collect();
            rules.push(rule(known, target, &keys, &place)?);
        }
    }
    Ok(())
}

fn as_table<'a>(value: &'a Value, place: &str) -> Result<&'a Table, Wrong> {
    value.as_table().ok_or_else(|| {
        (
            place.to_owned(),
            "this is to be a table of limits, such as [exits.class.io] with max_rate = 500".to_owned(),
        )
    })
}

fn target(noun: &str, group: &str, name: &str) -> Result<Target, String> {
    let has_column = |id: &str| {
        let columns = REGISTRY.iter().filter(|one| one.name == noun).flat_map(|one| one.columns);
        columns.into_iter().any(|column| column.id == id)
    };
    let is_one_of = |names: &[&str]| names.iter().any(|known| matches_glob(name, known));
    match group {
        "class" if !has_column("class") => Err(format!(
            "{noun} has no classes; write [{noun}.row.\"{name}\"] with a row's name or a pattern"
        )),
        "class" => {
            let classes: Vec<&str> = Class::ALL.iter().map(|class| class.id()).collect();
            if !is_one_of(&classes) {
                return Err(unknown("class", name, classes));
            }
            Ok(Target::Class(name.to_owned()))
        }
        "reason" if !has_column("reason") => Err(format!(
            "{noun} has no exit reasons; write [{noun}.row.\"{name}\"] with a row's name or a pattern"
        )),
        _ if noun == "exits" => {
            let reasons: Vec<String> = [Isa::Vmx, Isa::Svm]
                .into_iter()
                .flat_map(ExitReason::all)
                .map(|reason| reason.name().into_owned())
                .collect();
            let reasons: Vec<&str> = reasons.iter().map(String::as_str).collect();
            // Numbers stand for what has no name, and flags follow one.
            let is_number = name.starts_with("0x") || name.starts_with('(');
            let is_flagged = reasons.iter().any(|reason| name.starts_with(&format!("{reason} ")));
            if !is_number && !is_flagged && !is_one_of(&reasons) {
                let what = unknown("exit reason", name, reasons);
                let class = Class::ALL.iter().any(|class| class.id() == name);
                let hint = if class {
                    format!("; there is a class of this name: [exits.class.{name}]")
                } else {
                    String::new()
                };
                return Err(format!("{what}{hint}"));
            }
            Ok(Target::Row(name.to_owned()))
        }
        _ => Ok(Target::Row(name.to_owned())),
    }
}

fn rule(noun: &str, target: Target, keys: &[(&String, &Value)], place: &str) -> Result<Rule, Wrong> {
    let mut rule = Rule {
        noun: noun.to_owned(),
        target,
        path: place.to_owned(),
        max_rate: None,
        max_increase: None,
        max_mean_ns: None,
        max_p99_ns: None,
    };
    for (key, value) in keys {
        let at = |what: String| (format!("[{place}] {key}"), what);
        match key.as_str() {
            "max_rate" => rule.max_rate = Some(number(value).map_err(at)?),
            "max_increase" => rule.max_increase = Some(percent(value).map_err(at)?),
            "max_mean" => rule.max_mean_ns = Some(nanoseconds(value).map_err(at)?),
            "max_p99" => rule.max_p99_ns = Some(nanoseconds(value).map_err(at)?),
            other => return Err(at(unknown("limit", other, KEYS))),
        }
    }
    if keys.is_empty() {
        return Err((format!("[{place}]"), format!("it limits nothing; write one of {}", KEYS.join(", "))));
    }
    Ok(rule)
}

fn number(value: &Value) -> Result<f64, String> {
    let number = value.as_float().or_else(|| value.as_integer().map(|number| number as f64));
    number
        .filter(|number| number.is_finite() && *number >= 0.0)
        .ok_or_else(|| "write a number that is not negative, such as 500".to_owned())
}

fn percent(value: &Value) -> Result<f64, String> {
    let text = value.as_str().and_then(|text| text.strip_suffix('%'));
    text.and_then(|text| text.trim().parse::<f64>().ok())
        .filter(|number| number.is_finite() && *number >= 0.0)
        .map(|number| number / 100.0)
        .ok_or_else(|| "write a percentage in quotes, such as \"10%\"".to_owned())
}

fn nanoseconds(value: &Value) -> Result<f64, String> {
    let expected = || "write a duration in quotes, such as \"250us\" (ns, us, ms or s)".to_owned();
    let text = value.as_str().ok_or_else(expected)?;
    let split = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(expected)?;
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "ns" => 1.0,
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return Err(expected()),
    };
    let number = number.trim().parse::<f64>().map_err(|_| expected())?;
    Some(number * scale).filter(|ns| ns.is_finite() && *ns >= 0.0).ok_or_else(expected)
}

/// There is no such thing; perhaps one of these was meant.
fn unknown<'a>(kind: &str, name: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let what = if is_glob(name) {
        format!("no {kind} fits {name:?}")
    } else {
        format!("there is no {kind} {name:?}")
    };
    let near = near(name, names.iter().copied());
    if !near.is_empty() {
        return format!("{what}; did you mean {}?", near.join(" or "));
    }
    if names.len() <= 16 {
        let mut names = names;
        names.dedup();
        format!("{what}; there are {}", names.join(", "))
    } else {
        format!("{what}; write it as `kvm-utils exits` shows it")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Vec<Rule>, String> {
        Limits::parse(text, "exits.toml").map(|limits| limits.rules).map_err(|error| error.to_string())
    }

    #[test]
    fn everything_that_may_be_limited_is_read() {
        let rules = parse(
            "[exits]\nmax_rate = 2000\n[exits.class.io]\nmax_increase = \"10%\"\n\
             [exits.reason.\"EPT_*\"]\nmax_mean = \"40us\"\nmax_p99 = \"0.25ms\"\n[io.row.\"ACPI PM timer*\"]\nmax_rate = 1.5\n",
        )
        .unwrap();
        let find = |path: &str| rules.iter().find(|rule| rule.path == path).unwrap();
        assert_eq!(rules.len(), 4);
        assert_eq!(find("exits").max_rate, Some(2000.0));
        assert_eq!(find("exits.class.io").max_increase, Some(0.1));
        let ept = find("exits.reason.EPT_*");
        assert_eq!((ept.max_mean_ns, ept.max_p99_ns, ept.max_rate), (Some(40_000.0), Some(250_000.0), None));
        assert_eq!(find("io.row.ACPI PM timer*").max_rate, Some(1.5));
    }

    #[test]
    fn what_is_not_understood_is_said_with_what_to_write() {
        for (text, expected) in [
            ("[exit]\nmax_rate = 1", "there is no drill-down \"exit\"; did you mean exits?"),
            ("[exits]\nmax_rat = 1", "[exits] max_rat: there is no limit \"max_rat\"; did you mean max_rate"),
            ("[exits]\nmax_rate = \"1\"", "[exits] max_rate: write a number"),
            ("[exits]\nmax_rate = -1", "not negative"),
            ("[exits]\nmax_rate = nan", "not negative"),
            ("[exits]\nmax_increase = 10", "\"10%\""),
            ("[exits]\nmax_p99 = 250", "\"250us\""),
            ("[exits]\nmax_p99 = \"250\"", "\"250us\""),
            ("[exits]\nmax_p99 = \"2m\"", "(ns, us, ms or s)"),
            ("[exits.class.oi]\nmax_rate = 1", "there is no class \"oi\""),
            ("[exits.class.msrr]\nmax_rate = 1", "did you mean msr"),
            ("[exits.reason.ept]\nmax_rate = 1", "there is a class of this name: [exits.class.ept]"),
            ("[exits.reason.EPT_VIOLATIO]\nmax_rate = 1", "did you mean EPT_VIOLATION"),
            ("[exits.reason.\"XYZ*\"]\nmax_rate = 1", "no exit reason fits \"XYZ*\""),
            ("[exits.rows.io]\nmax_rate = 1", "did you mean row?"),
            ("[io.class.io]\nmax_rate = 1", "io has no classes; write [io.row.\"io\"]"),
            ("[io.reason.io]\nmax_rate = 1", "io has no exit reasons"),
            ("[exits.reason.io]", "it limits nothing; write one of max_rate"),
            ("exits = 1", "this is to be a table"),
            ("[exits]\nclass = 1", "this is to be a table"),
            ("", "it limits nothing"),
            ("[exits", "exits.toml is no TOML"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected) && error.contains("exits.toml"), "{text:?}: {error}");
        }
        let error = Limits::read(Path::new("/nowhere/exits.toml")).unwrap_err().to_string();
        assert!(error.contains("cannot read the limits in /nowhere/exits.toml"), "{error}");
    }

    #[test]
    fn reasons_without_a_name_may_be_limited() {
        for name in ["0x12345", "(other codes)", "npf", "*", "EPT_VIOLATION bus-lock"] {
            assert!(parse(&format!("[exits.reason.\"{name}\"]\nmax_rate = 1")).is_ok(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_limits_or_a_sentence(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
