//! `report --html`: the page has the numbers that the same command prints, and nobody's file is overwritten.

use std::{fs, path::Path};

use kvm_utils::{
    drilldown::{registry::named, sample::Sample},
    recording::{
        Recorder,
        wire::{End, Header},
    },
};
use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::TestRunner,
};
use serde_json::Value;

use super::{
    harness::{Outcome, Test},
    sample::sample,
    tool::{Tool, tool},
};

pub const TESTS: &[Test] = &[
    ("page::it_has_the_numbers_of_the_report", numbers),
    ("page::it_goes_where_it_shall_and_overwrites_no_other_file", places),
    ("page::it_says_that_the_recording_was_cut_off", cut_off),
    ("page::what_cannot_be_meant", usage),
];

/// Some intervals of `exits` and of `cpuid`, of whatever content.
fn recording(directory: &Path, end: bool) -> std::path::PathBuf {
    let path = directory.join("a.kvmrec");
    let mut runner = TestRunner::deterministic();
    let mut next = |noun: &str| {
        let noun = named(noun).expect("a drill-down");
        loop {
            let sample = sample().new_tree(&mut runner).expect("a sample").current();
            if sample.vms.len() > 1 {
                return Sample { noun, ..sample };
            }
        }
    };
    let header = Header {
        nouns: ["exits", "cpuid"].map(str::to_owned).to_vec(),
        interval: 1_000_000_000,
        ..Header::default()
    };
    let mut recorder = Recorder::create(&path, header).expect("a recording");
    for _ in 0..12 {
        recorder.interval(&[next("exits"), next("cpuid")], []).expect("an interval");
    }
    if end {
        recorder.finish(&End { time: 7, status: None }).expect("an end");
    }
    path
}

fn with(arguments: &str, path: &Path) -> Tool {
    tool(&arguments.replace("FILE", path.to_str().expect("UTF-8")))
}

/// The exact numbers of a column in the tables of a drill-down of all VMs.
fn column(page: &str, noun: &str, position: usize) -> Vec<String> {
    let section = page.split(&format!("<section class=\"noun\" id=\"{noun}\"")).nth(1).expect("a section");
    let all = section.split("<div class=\"of\" data-scope=\"0\">").nth(1).expect("all VMs");
    let table =
        all.split("<table class=\"rows\">").nth(1).map_or("", |t| t.split("</table>").next().unwrap());
    let rows = table.split("<tbody").skip(1);
    rows.map(|row| row.split(" data-v=\"").nth(position + 1).unwrap().split('"').next().unwrap().to_owned())
        .collect()
}

fn numbers() -> Outcome {
    let directory = tempfile::tempdir().expect("a directory");
    let file = recording(directory.path(), true);
    let page = with("report FILE --html -", &file).run().exits_with(0);
    let json = with("report FILE -o json", &file).run().exits_with(0);
    let mut compared = 0;
    for line in json.stdout.lines() {
        let report: Value = serde_json::from_str(line).expect("JSON");
        let noun = report["schema"].as_str().unwrap().split('/').nth(1).unwrap().to_owned();
        let counts: Vec<String> =
            report["totals"].as_array().unwrap().iter().map(|row| row["count"].to_string()).collect();
        let shown = column(&page.stdout, &noun, 0);
        assert_eq!(shown, counts.iter().take(shown.len()).cloned().collect::<Vec<_>>(), "{noun}");
        assert!(
            shown.len() == counts.len() || shown.len() >= 40,
            "{noun}: {} of {}",
            shown.len(),
            counts.len()
        );
        compared += shown.len();
    }
    assert!(compared > 5, "{compared} numbers");
    // A part of it is a part of the page.
    let page = with("report FILE cpuid --html -", &file).run().exits_with(0);
    assert!(page.stdout.contains("id=\"cpuid\"") && !page.stdout.contains("id=\"exits\""));
    Ok(())
}

fn places() -> Outcome {
    let directory = tempfile::tempdir().expect("a directory");
    let file = recording(directory.path(), true);
    let beside = directory.path().join("a.html");
    let ran = with("report FILE --html", &file).run().exits_with(0);
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains("wrote ") && ran.stderr.contains("a.html ("), "{}", ran.picture());
    let page = fs::read_to_string(&beside).expect("a page");
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    // An older page is replaced, whatever its length.
    fs::write(&beside, format!("{page}{page}")).expect("a file");
    with("report FILE --html", &file).run().exits_with(0);
    assert_eq!(fs::read_to_string(&beside).expect("a page"), page);
    // The same recording gives the same page.
    let other = directory.path().join("b.html");
    with(&format!("report FILE --html {}", other.display()), &file).run().exits_with(0);
    assert_eq!(fs::read_to_string(&other).expect("a page"), page);
    // Another file is none of our business.
    fs::write(&beside, "<!doctype html>\nmine").expect("a file");
    with("report FILE --html", &file).run().exits_with(2).says("is another file");
    assert_eq!(fs::read_to_string(&beside).expect("a file"), "<!doctype html>\nmine");
    let recording = fs::read(&file).expect("a recording");
    with("report FILE --html FILE", &file).run().exits_with(2).says("is another file");
    assert_eq!(fs::read(&file).expect("a recording"), recording);
    with("report FILE --html /no/such/directory/a.html", &file).run().exits_with(3).says("cannot write");
    Ok(())
}

fn cut_off() -> Outcome {
    let directory = tempfile::tempdir().expect("a directory");
    let file = recording(directory.path(), false);
    let page = with("report FILE --html -", &file).run().exits_with(0);
    assert!(page.stdout.contains("the recording was cut off: shown is what was whole"));
    assert!(page.stderr.contains("the recording was cut off"));
    Ok(())
}

fn usage() -> Outcome {
    let directory = tempfile::tempdir().expect("a directory");
    let file = recording(directory.path(), true);
    for (arguments, words) in [
        ("report FILE --html exits", "--html ./exits"),
        ("report FILE --html a.html --list", "cannot be used with"),
        ("report FILE --html a.html -o json", "cannot be used with"),
        ("report FILE --html a.html --intervals", "cannot be used with"),
        ("report FILE --html a.html --by vcpu", "cannot be used with"),
    ] {
        let ran = with(arguments, &file).run().exits_with(2);
        assert!(ran.stderr.contains(words), "{}", ran.picture());
    }
    Ok(())
}
