//! What is given beside the program, in contrib/: the dashboard, the rules and the unit.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use kvm_utils::{
    export::Limits,
    view::prometheus::{Names, own, prefix},
};
use serde_json::Value;

use super::{
    fleet::Fleet,
    harness::{Outcome, Test},
    needs,
    prometheus::promtool,
    server::{Fixture, LONG, SHOWN},
};

pub const TESTS: &[Test] = &[
    ("contrib::dashboard_and_rules_name_what_is_served", names),
    ("contrib::the_dashboards_queries_are_right", queries),
    ("contrib::rules_fire_when_they_should", rules),
    ("contrib::systemd_takes_the_unit", unit),
];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(path(name)).expect("a file of contrib")
}

/// Where a query is, and the query with values for the dashboard's variables.
fn dashboard() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&text("grafana/kvm-utils.json")).expect("JSON");
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push((title.to_owned(), target["expr"].as_str().expect("a query").to_owned()));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().expect("variables") {
        // label_values(METRIC, LABEL)
        if let Some((query, _)) = variable["definition"].as_str().and_then(|query| query.rsplit_once(',')) {
            let query = query.strip_prefix("label_values(").expect("label_values");
            queries.push((variable["name"].to_string(), query.to_owned()));
        }
    }
    let values = [("$__rate_interval", "5m"), ("$host", ".*"), ("$job", ".*"), ("$vm", ".*")];
    for (_, query) in &mut queries {
        for (variable, value) in values {
            *query = query.replace(variable, value);
        }
        assert!(!query.contains('$'), "{query}");
    }
    assert!(queries.len() > 40, "{queries:?}");
    queries
}

/// The expressions of the rules: from `expr:` to the next key.
fn rules_queries() -> Vec<(String, String)> {
    let text = text("prometheus/kvm-utils.rules.yml");
    let mut queries = Vec::new();
    for rule in text.split("- alert: ").skip(1) {
        let (name, rest) = rule.split_once('\n').expect("a name");
        let expr = rest.split("expr: ").nth(1).expect("an expression");
        let lines = expr
            .lines()
            .take_while(|line| !line.trim_start().starts_with("for:") && !line.contains("labels:"));
        queries.push((name.to_owned(), lines.collect::<Vec<_>>().join("\n").replace(">-", "")));
    }
    assert_eq!(queries.len(), 11);
    queries
}

/// Words of a query that may be names: letters, digits and underscores outside of strings.
fn words(query: &str) -> Vec<&str> {
    let outside = query.split('"').step_by(2);
    outside.flat_map(|part| part.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')).collect()
}

/// Samples that can be served, with their labels; those of this machine's own kind of CPU have none here.
fn served() -> BTreeMap<String, BTreeSet<String>> {
    let mut served: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for sample in own::all().iter().flat_map(kvm_utils::view::prometheus::Family::samples) {
        served.entry(sample).or_default();
    }
    let fixture =
        Fixture::start(SHOWN, Limits::default(), LONG, |_| Some(Fleet { vms: 2, vcpus: 1 }.everything()));
    for line in fixture.metrics().lines().filter(|line| !line.starts_with('#')) {
        let (name, _) = line.rsplit_once(' ').expect("a sample");
        let (name, labels) = name.trim_end_matches('}').split_once('{').unwrap_or((name, ""));
        let labels =
            labels.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name.to_owned());
        served.entry(name.to_owned()).or_default().extend(labels);
    }
    served
}

fn names() -> Outcome {
    // The rule that names follow is the one that the dashboard knows.
    assert_eq!(prefix("exits"), "kvm_exits");
    assert!(!Names::of("exits", &[], false, true).families.is_empty());
    let served = served();
    let mut labels: BTreeSet<&str> = served.values().flatten().map(String::as_str).collect();
    labels.extend(["instance", "job", "kind"]);
    let mut used = BTreeSet::new();
    for (place, query) in dashboard().into_iter().chain(rules_queries()) {
        let names = words(&query);
        let is_metric =
            |word: &&str| ["kvm_", "process_"].iter().any(|prefix| word.starts_with(prefix)) || *word == "up";
        // A name of a state set is a label as well.
        let is_metric =
            |word: &&str| is_metric(word) && (served.contains_key(*word) || !labels.contains(*word));
        let metrics: Vec<&str> = names.into_iter().filter(is_metric).collect();
        assert!(!metrics.is_empty(), "{place}: {query}");
        for metric in metrics {
            assert!(metric == "up" || served.contains_key(metric), "{place}: nobody serves {metric}");
            used.insert(metric.to_owned());
        }
        // Labels: what is compared in braces, and what is grouped by.
        for part in query.split('{').skip(1) {
            let inside = part.split('}').next().expect("a part");
            for matcher in inside.split(',').filter(|matcher| !matcher.is_empty()) {
                let label = matcher.split(['=', '!']).next().expect("a label");
                let of = query[..query.find(part).expect("a part")].trim_end_matches('{');
                let metric = words(of).last().copied().unwrap_or_default();
                let known = served.get(metric).filter(|labels| !labels.is_empty());
                let is_known =
                    known.is_none_or(|known| known.contains(label)) || ["instance", "job"].contains(&label);
                assert!(is_known && labels.contains(label), "{place}: {metric} has no label {label}");
            }
        }
        for group in query.split("by (").skip(1).chain(query.split("on(").skip(1)) {
            let inside = group.split(')').next().expect("a group");
            for label in inside.split(", ").filter(|label| !label.is_empty()) {
                assert!(labels.contains(label), "{place}: nothing has a label {label}");
            }
        }
    }
    // What the fleet is watched for.
    for metric in [
        "kvm_posted_interrupts_total",
        "kvm_wrmsr_total",
        "kvm_exits_total",
        "kvm_utils_verdict",
        "kvm_time_seconds_total",
    ] {
        assert!(used.contains(metric), "the dashboard does not show {metric}");
    }
    Ok(())
}

/// Prometheus can read all of them: as rules, since promtool has no other way to read a query without a server.
fn queries() -> Outcome {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("dashboard.yml");
    let mut yaml = "groups:\n- name: dashboard\n  rules:\n".to_owned();
    for (nth, (_, query)) in dashboard().iter().enumerate() {
        yaml.push_str(&format!(
            "  - record: query:{nth}\n    expr: {}\n",
            serde_json::to_string(query).expect("JSON")
        ));
    }
    fs::write(&file, yaml).expect("a file");
    let (ok, said) = promtool(&["check", "rules", &file.display().to_string()], "")?;
    assert!(ok, "{said}");
    Ok(())
}

fn rules() -> Outcome {
    let file = |name| path(name).display().to_string();
    let (ok, said) = promtool(&["check", "rules", &file("prometheus/kvm-utils.rules.yml")], "")?;
    assert!(ok && said.contains("SUCCESS: 11 rules found"), "{said}");
    let (ok, said) = promtool(&["test", "rules", &file("prometheus/kvm-utils.rules.test.yml")], "")?;
    assert!(ok && said.contains("SUCCESS"), "{said}");
    // Each rule is tried where it fires.
    let tests = text("prometheus/kvm-utils.rules.test.yml");
    for (name, _) in rules_queries() {
        assert!(
            tests.contains(&format!("alertname: {name}\n        exp_alerts:")),
            "{name} never fires in a test"
        );
    }
    Ok(())
}

fn unit() -> Outcome {
    let analyze = needs::systemd_analyze()?;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("kvm-utils-exporter.service");
    let unit = text("systemd/kvm-utils-exporter.service");
    assert!(unit.contains("ExecStart=/usr/bin/kvm-utils export "));
    fs::write(&file, unit.replace("/usr/bin/kvm-utils", env!("CARGO_BIN_EXE_kvm-utils"))).expect("a file");
    let run = |arguments: &[&str]| {
        let output =
            Command::new(&analyze).args(arguments).arg(&file).output().expect("systemd-analyze starts");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.success(), said)
    };
    // What it does not understand it says, and goes on.
    let (ok, said) = run(&["verify", "--man=no"]);
    assert!(ok && said.is_empty(), "{said}");
    // 0 is harmless and 10 is root with everything: no unit that may load programs and see all processes gets to 2.
    let (ok, said) = run(&["security", "--offline=true", "--threshold=25", "--no-pager"]);
    assert!(ok || said.contains("unrecognized option"), "{said}");
    Ok(())
}
