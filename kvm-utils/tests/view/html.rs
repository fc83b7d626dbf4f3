//! What can be said of a page without a browser; `tests/browser` has the rest.

use kvm_utils::model::{History, Report};
use kvm_utils::view::html::page;

use crate::{fixture, run};

fn written(histories: &[History]) -> String {
    page(histories).unwrap()
}

/// What the page's script knows.
fn data(page: &str) -> serde_json::Value {
    let data = page.split("<script type=\"application/json\" id=\"data\">").nth(1).unwrap();
    serde_json::from_str(data.split("</script>").next().unwrap()).unwrap()
}

#[test]
fn a_page_is_whole_in_itself() {
    let page = written(&run::one_vm());
    for loads in ["http:", "https:", "//", " src=", "<link", "url(", "@import", "<iframe"] {
        let outside_of_scripts: String =
            page.split("<script>").next().unwrap().split("</style>").map(str::to_owned).collect();
        assert!(!outside_of_scripts.contains(loads), "{loads}");
    }
    assert_eq!(page.matches("<script>").count(), 1);
    // The policy knows the digest of that script and of no other.
    let script = page.split("<script>").nth(1).unwrap().split("</script>").next().unwrap();
    let policy = page.split("script-src '").nth(1).unwrap().split('\'').next().unwrap();
    assert_eq!(policy, digest(script));
}

/// As CSP has it.
fn digest(script: &str) -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use sha2::{Digest as _, Sha256};
    format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(script)))
}

#[test]
fn a_page_does_not_grow_with_what_was_recorded() {
    for (name, histories, most) in [
        ("one", run::one_vm(), 400_000),
        ("several", run::several_vms(), 800_000),
        ("many", run::many_vms(), 2_500_000),
    ] {
        let size = written(&histories).len();
        assert!((100_000..most).contains(&size), "{name}: {size} bytes");
    }
    // An hour and a half is no larger than ten minutes, and says what a column is.
    let mut long = run::one_vm();
    for history in &mut long {
        let intervals = std::mem::take(&mut history.intervals);
        history.intervals = intervals.iter().cycle().take(5_403).cloned().collect();
    }
    let page = written(&long);
    assert!(page.len() < 1_200_000, "{} bytes", page.len());
    assert!(page.contains("Drawn with one column for 10 intervals (10.0 s)"));
    let data = data(&page);
    let columns = &data["nouns"][0]["columns"][0]["x"];
    assert_eq!(columns.as_array().unwrap().len(), 5_403_usize.div_ceil(10) + 1);
    // Nothing was lost on the way: the columns add up to the intervals.
    let sum: u64 = data["nouns"][0]["stack"]["of"][0]["n"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|area| area.as_array().unwrap())
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!(sum, long[0].intervals.iter().map(|report| report.events).sum::<u64>());
}

#[test]
fn rows_that_were_not_kept_are_among_the_others() {
    let mut histories = run::one_vm();
    let all: u64 = histories[0].whole.events;
    let exits = &mut histories[0];
    for report in exits.intervals.iter_mut().chain([&mut exits.whole]) {
        report.totals.truncate(2);
        report.vms[0].rows.truncate(2);
    }
    let data = data(&written(&histories));
    let stack = &data["nouns"][0]["stack"];
    assert_eq!(stack["names"].as_array().unwrap().len(), 3);
    let sums = stack["of"][0]["sum"].as_array().unwrap();
    assert_eq!(sums.iter().map(|n| n.as_u64().unwrap()).sum::<u64>(), all);
    assert!(sums[2].as_u64().unwrap() > 0);
}

#[test]
fn vms_of_one_process_and_name_are_one() {
    let mut histories = run::several_vms();
    for history in &mut histories {
        for report in history.intervals.iter_mut().chain([&mut history.whole]) {
            report.vms.iter_mut().filter(|vm| vm.name == "db").for_each(|vm| {
                vm.name = "web-1".to_owned();
                vm.pid = 4711;
            });
        }
    }
    let whole = histories[0].whole.clone();
    let page = written(&histories);
    let data = data(&page);
    assert_eq!(data["scopes"].as_array().unwrap().len(), 4);
    let scope =
        data["scopes"].as_array().unwrap().iter().position(|name| name == "web-1 (qemu 4711)").unwrap();
    let sums = data["nouns"][0]["stack"]["of"][scope]["sum"].as_array().unwrap();
    let both: u64 = whole.vms.iter().filter(|vm| vm.pid == 4711).map(|vm| vm.events).sum();
    assert_eq!(sums.iter().map(|n| n.as_u64().unwrap()).sum::<u64>(), both);
}

#[test]
fn nothing_recorded_is_said() {
    assert!(written(&[]).contains("Nothing was recorded."));
    let report = fixture::empty();
    let whole = Report { summary: true, ..report };
    let page = written(&[History { fingerprint: Default::default(), intervals: Vec::new(), whole }]);
    assert!(page.contains("There are no intervals to draw"));
    assert!(page.contains("no exits in 1.0 s: no VM ran"));
}
