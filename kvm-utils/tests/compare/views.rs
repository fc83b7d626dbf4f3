//! What people and programs read.

use std::{collections::BTreeSet, fs, path::Path};

use insta::assert_snapshot;
use kvm_utils::{
    compare::{
        Comparison, Per, Question, Recorded, compare,
        limits::Limits,
        view::{
            json, junit, markdown,
            table::{self, Shown},
        },
        words,
    },
    view::Style,
};
use serde_json::Value;

use crate::{
    simulated::{Noise, Random},
    world::{CPUID, HLT, IO, MSR, READ_DR0, World},
};

/// A guest with few reasons, for pictures that can be read.
fn small() -> World {
    let mut world = World { intervals: 40, noise: Noise::Correlated(0.3), ..World::usual() };
    world.exits.retain(|code, _| [CPUID, IO, MSR, HLT, READ_DR0].contains(code));
    world
}

fn recorded(world: &World, seed: u64, name: &str) -> Recorded {
    world.record(&mut Random::new(seed), name)
}

/// More port I/O, no CPUID, slower accesses to registers.
fn regression(question: &Question) -> Comparison {
    let mut new = small().with(IO, 1000.0, 150e3);
    new.exits.remove(&CPUID);
    new.exits.insert(MSR, (390.0, 90e3));
    compare(&[recorded(&small(), 1, "base.kvmrec")], &[recorded(&new, 2, "new.kvmrec")], question)
}

fn same() -> Comparison {
    let of = |seed| recorded(&small(), seed, "a|b <c>.kvmrec");
    let files = |from: u64| (from..from + 5).map(of).collect::<Vec<_>>();
    compare(&files(1), &files(6), &Question { per: Per::Run("boot"), ..Question::default() })
}

fn other_machine(force: bool) -> Comparison {
    let (base, mut new) = (recorded(&small(), 1, "base.kvmrec"), recorded(&small(), 2, "new.kvmrec"));
    new.histories[0].fingerprint.facts.insert("kernel".to_owned(), "6.13.1".to_owned());
    new.histories[0].whole.vms[0].name = "web-2".to_owned();
    compare(&[base], &[new], &Question { force, ..Question::default() })
}

fn limited() -> Comparison {
    let text = "[exits]\nmax_rate = 2000\n[exits.class.io]\nmax_increase = \"100%\"\n[exits.reason.wbinvd]\nmax_rate = 0\n";
    let limits = Limits::parse(text, "exits.toml").unwrap();
    regression(&Question { limits, ..Question::default() })
}

fn narrow(comparison: &Comparison) -> String {
    let style = Style { width: Some(80), ..Style::default() };
    let text = table::render(comparison, &style, Shown::Worst);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    text
}

#[test]
fn a_table_of_a_regression() {
    assert_snapshot!(narrow(&regression(&Question::default())));
}

#[test]
fn a_table_without_one() {
    assert_snapshot!(narrow(&same()));
}

#[test]
fn a_table_with_limits() {
    assert_snapshot!(narrow(&limited()));
}

#[test]
fn tables_of_another_machine() {
    assert_snapshot!("refused", narrow(&other_machine(false)));
    let forced = narrow(&other_machine(true));
    assert!(
        forced.contains("compared all the same") && forced.contains("kernel: 6.12.107 | 6.13.1"),
        "{forced}"
    );
}

#[test]
fn a_live_run_is_told_of_no_option_that_its_command_lacks() {
    let style = Style { width: Some(80), ..Style::default() };
    let live = |comparison: &Comparison| table::render(comparison, &style, Shown::Live);
    let mut many = same();
    many.findings = many.findings.iter().cycle().take(39).cloned().collect();
    assert!(narrow(&many).contains(" same; --all shows them\n"), "{}", narrow(&many));
    assert!(!live(&many).contains("--all") && live(&many).contains(" same\n"), "{}", live(&many));
    let refused = live(&other_machine(false));
    assert!(refused.contains("record this run and compare with --force"), "{refused}");
    assert!(!live(&regression(&Question::default())).contains("(--base"));
}

#[test]
fn the_sentence_claims_no_more_than_is_known() {
    let lenient = Limits::parse("[exits]\nmax_rate = 500000\n", "exits.toml").unwrap();
    let allowed = regression(&Question { limits: lenient.clone(), ..Question::default() });
    assert_eq!(
        words::summary(&allowed),
        "Nothing is too much in 11 figures (5 worse, 2 inconclusive, 1 gone, 3 same); no limit is exceeded."
    );
    // One boot a side tells nothing but whether limits are kept.
    let boot = |limits: Limits| Question { per: Per::Run("boot"), limits, ..Question::default() };
    let kept = regression(&boot(lenient));
    assert!(
        words::summary(&kept).starts_with("No regression shown, but none of ")
            && words::summary(&kept).ends_with(" figures is conclusive; no limit is exceeded."),
        "{}",
        words::summary(&kept)
    );
    let strict = Limits::parse("[exits.reason.msr]\nmax_rate = 100\n", "exits.toml").unwrap();
    let over = words::summary(&regression(&boot(strict)));
    assert!(
        over.starts_with("Over the limit: msr (class msr): exits, ")
            && over.ends_with(" (limit: exits.reason.msr max_rate 100)."),
        "{over}"
    );
}

#[test]
fn colours_say_nothing_that_words_do_not() {
    let comparison = regression(&Question::default());
    let plain = Style { width: Some(80), ..Style::default() };
    let coloured = table::render(&comparison, &Style { color: true, ..plain }, Shown::Worst);
    assert!(coloured.contains("\u{1b}[31m") && coloured.contains("\u{1b}[32m"), "{coloured}");
    let mut stripped = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        stripped.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    stripped.push_str(rest);
    assert_eq!(stripped, table::render(&comparison, &plain, Shown::Worst));
}

#[test]
fn markdown_for_a_pull_request() {
    assert_snapshot!("markdown_regression", markdown::render(&regression(&Question::default())));
    assert_snapshot!("markdown_same", markdown::render(&same()));
    assert_snapshot!("markdown_refused", markdown::render(&other_machine(false)));
}

#[test]
fn junit_for_ci() {
    assert_snapshot!("junit_limits", junit::render(&limited()));
    assert_snapshot!("junit_refused", junit::render(&other_machine(false)));
}

#[test]
fn json_for_programs() {
    let mut document = json::document(&limited());
    // One of each kind is enough for a picture.
    let results = document["results"].as_array_mut().unwrap();
    for kind in ["row", "class", "total"] {
        let first = results.iter().position(|one| one["kind"] == kind);
        let mut index = 0;
        results.retain(|one| {
            index += 1;
            one["kind"] != kind || Some(index - 1) == first
        });
    }
    round(&mut document);
    assert_snapshot!(serde_json::to_string_pretty(&document).unwrap());
}

/// Keys in the first column of the tables of a part of docs/json.md.
fn documented(part: &str) -> BTreeSet<String> {
    let cells = part.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let names = cells.flat_map(|cell| cell.split(['`', ',', ' ']).filter(|name| !name.is_empty()));
    names.map(str::to_owned).collect()
}

#[test]
fn docs_name_every_key_of_json() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/json.md");
    let text = fs::read_to_string(path).unwrap();
    let section = text.split("\n## ").find(|part| part.starts_with("`compare`")).unwrap();
    let (document, results) = section.split_once("\n### results\n").unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    for comparison in [limited(), same(), other_machine(false), other_machine(true)] {
        let real = json::document(&comparison);
        assert_eq!(keys(&real), documented(document));
        for result in real["results"].as_array().unwrap() {
            assert_eq!(keys(result), documented(results));
        }
        // What is within these is told in their rows.
        let within =
            ["base", "new", "differ", "breaches"].into_iter().flat_map(|list| real[list].as_array().unwrap());
        let names = within.flat_map(&keys).chain(keys(&real["counts"]));
        for name in names {
            assert!(document.contains(&format!("`{name}`")), "{name}");
        }
    }
}

#[test]
fn an_interval_is_told_only_where_there_is_one() {
    // Of one file a side there is one ratio, which is no interval.
    let lone = |question| json::document(&regression(&question));
    let of_boot = lone(Question { per: Per::Run("boot"), ..Question::default() });
    assert!(of_boot["results"].as_array().unwrap().iter().all(|one| one["ci"].is_null()), "{of_boot}");
    assert!(json::document(&same())["results"][1]["ci"][0].is_number());
    assert!(lone(Question::default())["results"][0]["ci"][0].is_number());
}

/// Another mathematical library may give other last digits.
fn round(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let rounded: f64 = format!("{:.5e}", number.as_f64().unwrap()).parse().unwrap();
            *value = rounded.into();
        }
        Value::Array(values) => values.iter_mut().for_each(round),
        Value::Object(values) => values.values_mut().for_each(round),
        _ => {}
    }
}

#[test]
fn many_files_are_named_by_the_first_and_the_last() {
    let text = narrow(&same());
    assert!(
        text.starts_with("base  5 files, 40.0 s on average: a|b <c>.kvmrec to a|b <c>.kvmrec\n"),
        "{text}"
    );
}
