use insta::assert_snapshot;
use kvm_utils::model::{KvmStat, Report};
use kvm_utils::view::json::line;
use serde_json::Value;

use crate::fixture;

fn parsed(report: &Report) -> Value {
    serde_json::from_str(&line(report).unwrap()).unwrap()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The document with a line break after every row and object that matters, for reading differences.
fn broken(report: &Report) -> String {
    line(report)
        .unwrap()
        .replace("},{", "},\n{")
        .replace(":[{", ":[\n{")
        .replace(",\"proof\"", ",\n\"proof\"")
}

#[test]
fn one_vm() {
    assert_snapshot!(broken(&fixture::one_vm()));
}

#[test]
fn who_a_vm_is_and_what_it_runs_in() {
    let vm = &parsed(&fixture::in_a_pod())["vms"][0];
    assert_eq!(vm["uuid"], "5c6fa8f7-c3f6-4b3f-b596-d16ea3912302");
    assert_eq!(vm["id"], Value::Null);
    let place =
        |at: usize| (vm["within"][at]["kind"].as_str().unwrap(), vm["within"][at]["name"].as_str().unwrap());
    assert_eq!(place(0), ("pod", "08ff2263-5cf1-49f7-b3e7-80b6e0840fd5"));
    assert_eq!(place(1), ("container", "1a5b9a1eb29e863bf504561344f7ffc67cfc469150418b7727c8959e0c5f8982"));
    assert_eq!(parsed(&fixture::many_managers())["vms"][1]["id"], "8006");
}

#[test]
fn unknown_values_are_null() {
    assert_snapshot!(broken(&fixture::two_vms()));
}

#[test]
fn a_document_is_one_line() {
    for report in [fixture::one_vm(), fixture::two_vms(), fixture::doubtful(), fixture::hostile()] {
        let line = line(&report).unwrap();
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}

#[test]
fn the_keys_of_the_contract_are_there() {
    let json = parsed(&fixture::one_vm());
    let has = |value: &Value, wanted: &[&str]| {
        for key in wanted {
            assert!(keys(value).contains(key), "no {key} in {value}");
        }
    };
    has(&json, &["schema", "time", "interval_s", "host", "proof", "vms", "totals"]);
    assert_eq!(json["schema"], "kvm-utils/exits/v1");
    assert_eq!(json["time"], "2026-11-20T10:34:56.789Z");
    assert_eq!(json["summary"], false);
    has(&json["host"], &["kernel", "isa", "cpus", "cpu"]);
    has(&json["proof"], &["source", "counted", "kvm_stat", "missed", "unpaired"]);
    assert_eq!(json["proof"]["kvm_stat"], 22_480);
    let vm = &json["vms"][0];
    has(vm, &["pid", "name", "vmm", "vcpus"]);
    let vcpu = &vm["vcpus"][0];
    has(vcpu, &["vcpu", "tid", "exits"]);
    assert_eq!(vcpu["running"]["for_ns"], 81_300_000);
    let row = [
        "reason", "code", "isa", "class", "count", "rate", "total_ns", "min_ns", "max_ns", "mean_ns",
        "p50_ns", "p90_ns", "p99_ns",
    ];
    has(&vcpu["exits"][0], &row);
    has(&json["totals"][0], &row);
    let first = &json["totals"][0];
    assert_eq!((&first["reason"], &first["count"]), (&Value::from("io"), &Value::from(10_835)));
    assert_eq!(first["waiting"], false);
    assert_eq!(json["totals"][7]["waiting"], true);
}

#[test]
fn rows_have_the_columns_in_their_order() {
    let line = line(&fixture::one_vm()).unwrap();
    let row = &line[line.find("{\"reason\":\"io\"").unwrap()..];
    let row = &row[..=row.find('}').unwrap()];
    let mut at = 0;
    for column in fixture::COLUMNS {
        let key = format!("\"{}\":", column.id);
        at += row[at..].find(&key).unwrap_or_else(|| panic!("{key} missing or out of order in {row}"));
    }
}

#[test]
fn kvm_stat_equals_the_count_only_where_it_can() {
    let mut report = fixture::one_vm();
    for (least, most, shown, verdict) in [
        (22_480, 22_480, 22_480, "proven"),
        (22_470, 22_490, 22_480, "proven"),
        (22_481, 22_490, 22_481, "doubtful"),
        (20_000, 22_000, 22_000, "doubtful"),
    ] {
        report.proof.kvm_stat = KvmStat::Between { least, most };
        let proof = &parsed(&report)["proof"];
        assert_eq!(proof["kvm_stat"], shown);
        assert_eq!(proof["kvm_stat_least"], least);
        assert_eq!(proof["kvm_stat_most"], most);
        assert_eq!(proof["verdict"], verdict);
        assert_eq!(proof["doubts"].as_array().unwrap().is_empty(), verdict == "proven");
    }
    report.proof.kvm_stat = KvmStat::Unknown("no debugfs".to_owned());
    let proof = &parsed(&report)["proof"];
    assert_eq!(proof["kvm_stat"], Value::Null);
    assert_eq!(proof["kvm_stat_unknown"], "no debugfs");
    assert_eq!(proof["verdict"], "unchecked");
}

#[test]
fn the_largest_numbers_stay_exact_and_what_is_no_number_is_null() {
    let json = parsed(&fixture::hostile());
    assert_eq!(json["vms"][0]["totals"][0]["count"], u64::MAX);
    assert_eq!(json["proof"]["counted"], u64::MAX);
    assert_eq!(json["proof"]["own_cost"], Value::Null);
    assert_eq!(json["vms"][0]["busy_share"], Value::Null);
    assert_eq!(json["vms"][0]["name"], fixture::hostile().vms[0].name.as_str());
    // A row without cells has all its keys.
    assert_eq!(json["vms"][0]["totals"][2]["count"], Value::Null);
}
