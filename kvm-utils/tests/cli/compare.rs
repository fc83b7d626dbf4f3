//! `kvm-utils compare` as CI calls it: files, exit codes, formats. What it finds is tested beside it.

use std::{fs, path::Path};

use serde_json::Value;

use super::{
    harness::{Outcome, Test},
    tool::{Ran, tool},
};

pub const TESTS: &[Test] = &[
    ("compare::exit_codes_say_what_came_of_it", exit_codes),
    ("compare::every_format_is_what_it_is_called", formats),
    ("compare::mistakes_are_told_with_a_remedy", mistakes),
    ("compare::reports_of_kvm_bench", bench),
    ("compare::a_baseline_is_judged_before_anything_is_traced", baseline),
];

/// A boot that was recorded.
fn boot(name: &str) -> String {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/boots").join(format!("{name}.kvmrec"));
    path.display().to_string()
}

/// Five boots a side.
fn boots(new: &str, more: &str) -> Ran {
    let list =
        |name: &str| (1..=5).map(|number| boot(&format!("{name}-0{number}"))).collect::<Vec<_>>().join(" ");
    tool(&format!("compare --per boot {more} --base {} --new {}", list("boot"), list(new))).run()
}

fn exit_codes() -> Outcome {
    let same = boots("boot", "").exits_with(0);
    assert!(same.stdout.lines().last().is_some_and(|line| line.starts_with("passed  ")), "{}", same.stdout);
    let worse = boots("acpi-pm", "").exits_with(1);
    let last = worse.stdout.lines().last();
    assert!(last.is_some_and(|line| line.starts_with("FAILED  2 of ")), "{}", worse.stdout);
    assert!(worse.stdout.lines().all(|line| line.chars().count() <= 80) && !worse.stdout.contains('\u{1b}'));
    // Nothing on standard error: it is no error to find something.
    assert_eq!(worse.stderr, "");
    boots("acpi-pm", "--fail-above 900%").exits_with(0);
    boots("acpi-pm", "--min-change 1e9").exits_with(0);

    let dir = tempfile::tempdir().expect("a directory");
    let limits = dir.path().join("exits.toml");
    fs::write(&limits, "[exits.class.io]\nmax_rate = 100\n").expect("a file");
    let limits = format!("--limits {}", limits.display());
    let ran = boots("boot", &limits).exits_with(1);
    assert!(ran.stdout.contains("limit: exits.class.io max_rate 100"), "{}", ran.stdout);
    // Nobody counted these.
    let ran = boots("boot", "--noun io").exits_with(3);
    let said = "the recordings have no drill-down in common in which anything was counted\nNOT COMPARABLE\n";
    assert!(ran.stdout.ends_with(said), "{}", ran.stdout);
    let document: Value =
        serde_json::from_str(&boots("boot", "--noun io -o json").exits_with(3).stdout).expect("JSON");
    assert_eq!((&document["comparable"], &document["outcome"]), (&false.into(), &"not comparable".into()));
    Ok(())
}

fn formats() -> Outcome {
    let json = boots("acpi-pm", "-o json").exits_with(1);
    assert_eq!(json.stdout.lines().count(), 1);
    let document: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(document["schema"], "kvm-utils/compare/v1");
    assert_eq!((&document["outcome"], &document["per"]), (&"failed".into(), &"boot".into()));
    assert_eq!(document["results"][0]["key"]["reason"], "io");
    let markdown = boots("acpi-pm", "-o markdown").exits_with(1);
    let sentence = document["summary"].as_str().expect("a summary").replace('>', "&gt;");
    assert!(markdown.stdout.starts_with(&format!("❌ **{sentence}**\n\n| row |")), "{}", markdown.stdout);
    let junit = boots("acpi-pm", "-o junit").exits_with(1);
    assert!(
        junit.stdout.starts_with("<?xml ")
            && junit.stdout.contains("<failure message=\"io (class io): more exits, ")
    );
    Ok(())
}

fn mistakes() -> Outcome {
    let (one, two) = (boot("boot-01"), boot("boot-02"));
    let ran = tool(&format!("compare {one} /nowhere.kvmrec")).run().exits_with(2);
    assert!(
        ran.stderr.contains("cannot read /nowhere.kvmrec: ") && ran.stderr.contains("kvm-utils record -o")
    );
    let ran = tool(&format!("compare {one} {}", env!("CARGO_BIN_EXE_kvm-utils"))).run().exits_with(2);
    assert!(ran.stderr.contains("is no recording of kvm-utils"), "{}", ran.stderr);
    let dir = tempfile::tempdir().expect("a directory");
    let limits = dir.path().join("limits.toml");
    fs::write(&limits, "[exits.reason.oi]\nmax_rate = 1\n").expect("a file");
    let ran = tool(&format!("compare {one} {two} --limits {}", limits.display())).run().exits_with(2);
    assert!(ran.stderr.contains("[exits.reason.oi]: there is no exit reason \"oi\""), "{}", ran.stderr);
    for (options, said) in [
        ("", "name two files, or several with --base and --new"),
        ("--base a", "--new"),
        ("a b --base c --new d", "cannot be used with"),
        ("a b --per fortnight", "write second, boot, run, job"),
        ("a b --per-base 5", "--per-new"),
        ("a b --fail-above 10", "write a percentage, such as 10%"),
        ("a b --noun exit", "there is no such drill-down"),
    ] {
        let ran = tool(&format!("compare {options}")).run().exits_with(2);
        assert!(ran.stderr.contains(said), "{options}: {}", ran.stderr);
    }
    Ok(())
}

/// What kvm-bench wrote is compared by kvm-bench's own rules, and shown as everything else.
fn bench() -> Outcome {
    let file = "../guest-bench/tests/fixtures/compare/same-machine.jsonl";
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("recorded reports");
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let mut lines = text.lines();
    let base = write("a.json", lines.next().expect("a report"));
    let mut slower: Value = serde_json::from_str(lines.next().expect("another")).expect("JSON");
    let new = write("b.json", &slower.to_string());
    let ran = tool(&format!("compare {base} {new}")).run().exits_with(0);
    assert!(ran.stdout.contains("cpuid") && ran.stdout.contains("p50"), "{}", ran.stdout);
    let cpuid =
        slower["results"].as_array_mut().expect("results").iter_mut().find(|one| one["op"] == "cpuid");
    for round in cpuid.expect("CPUID")["rounds_p50"].as_array_mut().expect("rounds") {
        *round = (round.as_f64().expect("a number") * 1.5).into();
    }
    let new = write("b.json", &slower.to_string());
    let ran = tool(&format!("compare {base} {new} -o markdown")).run().exits_with(1);
    assert!(ran.stdout.starts_with("❌ **Regression: cpuid: p50 is "), "{}", ran.stdout);
    tool(&format!("compare {base} {new} --fail-above 90%")).run().exits_with(0);
    slower["environment"]["kernel"] = "5.0".into();
    let new = write("b.json", &slower.to_string());
    let ran = tool(&format!("compare {base} {new}")).run().exits_with(3);
    assert!(ran.stdout.contains("kernel: ") && ran.stdout.ends_with("NOT COMPARABLE\n"), "{}", ran.stdout);
    tool(&format!("compare {base} {new} --force")).run().exits_with(1);

    let ran = tool(&format!("compare {base} {}", boot("boot-01"))).run().exits_with(2);
    assert!(ran.stderr.contains("compare recordings with recordings"), "{}", ran.stderr);
    // What they have no use for is not left out silently.
    for option in ["--per boot", "--by vm", "--noun io", "--figure rate", "--min-change 5"] {
        let ran = tool(&format!("compare {base} {new} {option}")).run().exits_with(2);
        let name = option.split(' ').next().expect("a name");
        assert!(ran.stderr.contains(&format!("{name} is for recordings")), "{}", ran.stderr);
    }
    Ok(())
}

fn baseline() -> Outcome {
    let recorded = boot("boot-01");
    // Of a lab's machine, which is not this one.
    let ran = tool(&format!("exits --baseline {recorded} -d 1s")).run().exits_with(3);
    assert!(ran.stderr.contains("is of another machine, "), "{}", ran.stderr);
    let ran = tool(&format!("io --baseline {recorded} -d 1s")).run().exits_with(2);
    assert!(ran.stderr.contains("holds no io: record it with --with io"), "{}", ran.stderr);
    let ran = tool("exits --baseline /nowhere").run().exits_with(2);
    assert!(ran.stderr.contains("/nowhere"), "{}", ran.stderr);
    let ran = tool("exits --fail-above 10%").run().exits_with(2);
    assert!(ran.stderr.contains("--baseline"), "{}", ran.stderr);
    Ok(())
}
