//! A diagnosis for people and for programs.

use serde_json::{Value, json};

use super::{Certainty, Section, Severity};

/// Name and version of the form.
pub const SCHEMA: &str = "kvm-bench/doctor/v1";

/// `kvm-bench/doctor/v1`: subjects by name, and all findings, the gravest first.
pub fn document(sections: &[Section]) -> Value {
    let facts: serde_json::Map<_, _> = sections
        .iter()
        .map(|section| (section.name.to_owned(), Value::from(section.facts.clone())))
        .collect();
    let mut findings: Vec<_> = sections
        .iter()
        .flat_map(|section| {
            section.findings.iter().map(move |finding| (finding.severity, section.name, finding))
        })
        .collect();
    findings.sort_by_key(|(severity, ..)| *severity);
    let findings = findings.into_iter().map(|(_, subject, finding)| {
        let mut value = json!(finding);
        value["subject"] = subject.into();
        value
    });
    let unknown = sections.iter().flat_map(|section| {
        section.unknown.iter().map(|one| json!({"subject": section.name, "what": one.what, "why": one.why}))
    });
    json!({
        "schema": SCHEMA,
        "facts": facts,
        "findings": findings.collect::<Vec<_>>(),
        "unknown": unknown.collect::<Vec<_>>(),
    })
}

/// For people: what there is, what to make of it, what could not be seen.
pub fn text(sections: &[Section]) -> String {
    let mut text = String::new();
    for section in sections {
        let facts: Vec<String> = section.facts.iter().filter_map(|(name, value)| fact(name, value)).collect();
        text.push_str(&format!("{}\n", section.name));
        for fact in facts {
            text.push_str(&format!("  {fact}\n"));
        }
    }
    let mut findings: Vec<_> = sections.iter().flat_map(|section| &section.findings).collect();
    findings.sort_by_key(|finding| finding.severity);
    for finding in &findings {
        let severity = match finding.severity {
            Severity::Problem => "PROBLEM",
            Severity::Warning => "WARNING",
            Severity::Info => "info",
        };
        let certainty = match finding.certainty {
            Certainty::Seen => "seen",
            Certainty::Likely => "likely",
            Certainty::Possible => "possible",
        };
        text.push_str(&format!("\n{severity} ({certainty})  {}\n", finding.what));
        text.push_str(&format!(
            "  evidence  {}\n  costs     {}\n  do        {}\n",
            finding.evidence, finding.costs, finding.remedy
        ));
    }
    if findings.is_empty() {
        text.push_str("\nnothing found that costs exits\n");
    }
    let unknown: Vec<_> = sections.iter().flat_map(|section| &section.unknown).collect();
    if !unknown.is_empty() {
        text.push_str("\nnot known\n");
    }
    for one in unknown {
        text.push_str(&format!("  {}: {}\n", one.what, one.why));
    }
    text
}

/// One line; nothing for what is not there.
fn fact(name: &str, value: &Value) -> Option<String> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        Value::Array(all) if all.is_empty() => return None,
        Value::Array(all) => all.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(all) if all.is_empty() => return None,
        // A feature of KVM's.
        Value::Object(all) if all.contains_key("offered") => {
            let used = match all["used"].as_bool() {
                Some(true) => "used",
                Some(false) => "not used",
                None => "use not known",
            };
            format!("{used}: {}", plain(&all["why"]))
        }
        Value::Object(all) => {
            all.iter().map(|(name, value)| format!("{name} {}", plain(value))).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    };
    Some(format!("{name:<26}  {text}"))
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(all) => all.values().map(plain).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}
