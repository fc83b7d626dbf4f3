//! What the documents say of operations is what the one list of operations says.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use kvm_bench::environment::{FIELDS, Weight};
use kvm_bench::shared::ops::{Care, Exits, OPS, Pace};

const BEGIN: &str = "<!-- operations: begin -->\n";
const END: &str = "<!-- operations: end -->\n";

/// Every operation as a row.
fn table() -> String {
    let mut table = String::from("| Operation | Where | What is done | Exits of KVM |\n|---|---|---|---|\n");
    for op in OPS {
        let place = match (op.in_linux, op.in_payload) {
            (true, true) => "L P",
            (true, false) => "L",
            _ => "P",
        };
        let exits = match op.exits {
            Exits::None => "none".to_owned(),
            Exits::Each(class, 1) => format!("1 {class}"),
            Exits::Each(class, count) => format!("{count} {class}"),
            Exits::Depends(on) => format!("depends: {on}"),
        };
        let mut about = op.about.to_owned();
        about.push_str(if op.pace == Pace::Slow { "; sleeps" } else { "" });
        about.push_str(match op.care {
            Care::Safe => "",
            Care::Writes => "; **writes**, on request",
            Care::Destructive => "; **destructive**, on request",
        });
        table.push_str(&format!("| `{}` | {place} | {about} | {exits} |\n", op.name));
    }
    table
}

#[test]
fn the_table_of_operations_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kvm-bench.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    let current = table();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{current}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(written, current, "write it anew: UPDATE_DOCS=1 cargo test -p kvm-bench --test documentation");
}

#[test]
fn every_field_of_the_environment_is_in_the_page() {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kvm-bench.md")).unwrap();
    for (field, weight) in FIELDS {
        let row = format!("| `{}` |", field.trim_start_matches('/').replace('/', "."));
        let line = text.lines().find(|line| line.starts_with(&row));
        let decides = if *weight == Weight::Varies { "varies" } else { "decides" };
        assert!(line.is_some_and(|line| line.contains(decides)), "{row} ... {decides} ...");
    }
}
