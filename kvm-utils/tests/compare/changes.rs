//! Something changed, and it is found and named.

use kvm_utils::compare::{
    Comparison, Outcome, Per, Question, Recorded, compare,
    finding::{Finding, Verdict},
    limits::Limits,
    measure::{Kind, Measure},
    table::What,
    words,
};
use kvm_utils::model::Cell;

use crate::{
    simulated::{Noise, Random},
    world::{CPUID, HLT, IO, MSR, NPF, READ_DR0, World},
};

/// One recording a side.
fn one_each(base: &World, new: &World) -> (Recorded, Recorded) {
    let mut random = Random::new(3);
    (base.record(&mut random, "base.kvmrec"), new.record(&mut random, "new.kvmrec"))
}

fn several(world: &World, count: usize, random: &mut Random) -> Vec<Recorded> {
    (0..count).map(|number| world.record(random, &format!("{number}.kvmrec"))).collect()
}

fn judge(base: &World, new: &World, question: &Question) -> Comparison {
    let (base, new) = one_each(base, new);
    compare(&[base], &[new], question)
}

fn row<'a>(comparison: &'a Comparison, name: &str, figure: &str) -> &'a Finding {
    let is_it = |finding: &&Finding| {
        finding.figure == figure && matches!(&finding.what, What::Row { label, .. } if label == name)
    };
    comparison.findings.iter().find(is_it).unwrap_or_else(|| panic!("no {figure} of {name}"))
}

#[test]
fn a_thousand_reads_of_the_pm_timer_a_second_are_found_in_one_file_a_side() {
    // Reads of the ACPI PM timer leave the guest for the VMM.
    let usual = World { intervals: 40, ..World::usual() };
    let comparison = judge(&usual, &usual.clone().with(IO, 1000.0, 150e3), &Question::default());
    assert_eq!(comparison.outcome(), Outcome::Failed);
    let io = row(&comparison, "io", "rate");
    assert_eq!((io.verdict, io.class()), (Verdict::Worse, Some("io")));
    assert!((3.0..7.0).contains(&io.change().unwrap()), "{:?}", io.change());
    // First comes the row with the most exits more, and the sentence names it.
    let said = words::summary(&comparison);
    assert!(said.starts_with("Regression: io (class io): more exits, "), "{said}");
    assert!(said.contains("/s before and 1,2") && said.contains(" sure"), "{said}");
    let others = ["cpuid", "msr", "npf", "interrupt"].map(|name| row(&comparison, name, "rate").verdict);
    assert!(others.iter().all(|verdict| !verdict.is_regression()), "{others:?}");
}

#[test]
fn what_is_fewer_or_shorter_is_better() {
    let usual = World { intervals: 40, ..World::usual() };
    let comparison = judge(&usual.clone().with(IO, 1000.0, 150e3), &usual, &Question::default());
    assert_eq!(comparison.outcome(), Outcome::Passed);
    assert_eq!(row(&comparison, "io", "rate").verdict, Verdict::Better);
    let mut slow = usual.clone();
    slow.exits.insert(MSR, (390.0, 144e3));
    let comparison = judge(&slow, &usual, &Question::default());
    assert_eq!(row(&comparison, "msr", "mean_ns").verdict, Verdict::Better);
    let comparison = judge(&usual, &slow, &Question::default());
    let mean = row(&comparison, "msr", "mean_ns");
    assert_eq!(mean.verdict, Verdict::Worse);
    assert!(words::sentence(mean, Per::Second).starts_with("msr (class msr): an exit takes "), "{mean:?}");
}

#[test]
fn new_and_gone() {
    let usual = World { intervals: 40, ..World::usual() };
    let mut without = usual.clone();
    without.exits.remove(&CPUID);
    let comparison = judge(&without, &usual, &Question::default());
    let cpuid = row(&comparison, "cpuid", "rate");
    assert_eq!((cpuid.verdict, cpuid.base, cpuid.change()), (Verdict::New, Some(0.0), Some(f64::INFINITY)));
    assert_eq!(comparison.outcome(), Outcome::Failed);
    let comparison = judge(&usual, &without, &Question::default());
    assert_eq!(row(&comparison, "cpuid", "rate").verdict, Verdict::Gone);
    assert_eq!(comparison.outcome(), Outcome::Passed);
}

#[test]
fn what_is_new_is_found_however_much_it_varies() {
    let usual = World { intervals: 30, ..World::usual() };
    let mut without = usual.clone();
    without.exits.remove(&CPUID);
    let wild = World { noise: Noise::Correlated(0.95), load: 0.5, ..usual };
    let mut random = Random::new(4);
    for _ in 0..20 {
        let (base, new) = (without.record(&mut random, "a"), wild.record(&mut random, "b"));
        let comparison = compare(&[base], &[new], &Question::default());
        assert_eq!(row(&comparison, "cpuid", "rate").verdict, Verdict::New);
    }
    // But not what came in a single moment.
    let mut once = without.record(&mut random, "c");
    let moment = &wild.record(&mut random, "d").histories[0].intervals[7];
    once.histories[0].intervals[7] = moment.clone();
    once.histories[0]
        .whole
        .totals
        .push(moment.totals.iter().find(|row| row.cells[0] == Cell::Text("cpuid".into())).unwrap().clone());
    let comparison = compare(&[without.record(&mut random, "a")], &[once], &Question::default());
    assert_eq!(row(&comparison, "cpuid", "rate").verdict, Verdict::Inconclusive);
}

#[test]
fn what_happens_twice_in_a_run_fails_no_build() {
    let usual = World { intervals: 40, load: 0.0, noise: Noise::Correlated(0.0), ..World::usual() };
    let mut never = usual.clone();
    never.exits.remove(&READ_DR0);
    let twice = never.clone().with(READ_DR0, 2.0 / 40.0, 11e3);
    let mut random = Random::new(5);
    for _ in 0..10 {
        let one = compare(
            &[never.record(&mut random, "a")],
            &[twice.record(&mut random, "b")],
            &Question::default(),
        );
        assert_eq!(one.outcome(), Outcome::Passed, "{:?}", one.breaches);
        let (base, new) = (several(&never, 5, &mut random), several(&twice, 5, &mut random));
        let several = compare(&base, &new, &Question { per: Per::Run("boot"), ..Question::default() });
        assert!(!several.breaches.iter().any(|breach| breach.text.contains("dr0")), "{:?}", several.breaches);
    }
}

#[test]
fn boots_are_compared_file_by_file() {
    let usual = World { intervals: 5, between_runs: 0.03, ..World::usual() };
    let mut random = Random::new(8);
    let base = several(&usual, 5, &mut random);
    // Without kvm-clock a guest asks its time of ports.
    let new = several(&usual.clone().with(IO, 400.0, 61e3), 5, &mut random);
    let question = Question { per: Per::Run("boot"), ..Question::default() };
    let comparison = compare(&base, &new, &question);
    let io = row(&comparison, "io", "rate");
    assert_eq!((io.verdict, io.figures), (Verdict::Worse, [5, 5]));
    assert!(io.p.unwrap() < 0.01 && io.base.unwrap() > 1000.0, "{io:?}");
    assert!(
        words::summary(&comparison)
            .contains("io (class io): more exits, 1,147/boot before and 3,087/boot now"),
        "{}",
        words::summary(&comparison)
    );
    // Of four, two ways of 70 to deal them out are as clear: too few.
    let few = compare(&base[..4], &new[..4], &question);
    assert_eq!(few.outcome(), Outcome::Passed);
    assert!(row(&few, "io", "rate").because.as_ref().unwrap().to_string().contains("4 and 4 files"));
}

#[test]
fn a_few_files_a_side_that_differ_as_much_as_the_sides_say_nothing() {
    let usual = World { intervals: 15, load: 0.02, ..World::usual() };
    let mut random = Random::new(2);
    let much = usual.clone().with(IO, 300.0, 61e3);
    let base = [usual.record(&mut random, "a"), much.record(&mut random, "b")];
    let new = [much.record(&mut random, "c"), much.clone().with(IO, 300.0, 61e3).record(&mut random, "d")];
    let io = compare(&base, &new, &Question::default());
    assert!(!row(&io, "io", "rate").verdict.is_change(), "{:?}", row(&io, "io", "rate"));
}

#[test]
fn too_little_is_said_to_be_too_little() {
    let short = World { intervals: 10, ..World::usual() };
    let comparison = judge(&short, &short.clone().with(IO, 1000.0, 150e3), &Question::default());
    assert_eq!(comparison.outcome(), Outcome::Passed);
    let because = row(&comparison, "io", "rate").because.as_ref().unwrap().to_string();
    assert!(because.starts_with("10 and 10 intervals are too few: 20 a side"), "{because}");
}

#[test]
fn waiting_is_counted_and_not_timed() {
    let usual = World { intervals: 40, ..World::usual() };
    let mut lazy = usual.clone();
    lazy.exits.insert(HLT, (450.0, 40e6));
    let comparison = judge(&usual, &lazy, &Question::default());
    assert_eq!(row(&comparison, "hlt", "rate").verdict, Verdict::Worse);
    let of_hlt = comparison.findings.iter().filter(|finding| finding.class() == Some("hlt"));
    assert!(of_hlt.clone().count() == 1 && of_hlt.clone().all(|finding| finding.waiting));
    // Nor does it take more of the vCPUs' time: 80 ms in a second at most.
    let is_time = |finding: &&Finding| finding.what == What::Total && finding.measure == Some(Measure::Busy);
    let total = comparison.findings.iter().find(is_time).unwrap();
    assert!(total.new.unwrap() < 80e6 && !total.verdict.is_change(), "{total:?}");
}

#[test]
fn another_mix_makes_nothing_longer() {
    let usual = World { intervals: 40, ..World::usual() };
    let mut without = usual.clone();
    // The shortest of all.
    without.exits.remove(&CPUID);
    let limits = Limits::parse("[exits]\nmax_mean = \"40us\"\n", "exits.toml").unwrap();
    let comparison = judge(&usual, &without, &Question { limits, ..Question::default() });
    let is_mean = |finding: &&Finding| finding.what == What::Total && finding.measure == Some(Measure::Mean);
    let mean = comparison.findings.iter().find(is_mean).unwrap();
    assert!(mean.change().unwrap() > 0.3 && mean.verdict == Verdict::Inconclusive, "{mean:?}");
    // But a limit is a limit.
    assert_eq!(comparison.breaches.len(), 1);
    assert_eq!(judge(&usual, &without, &Question::default()).outcome(), Outcome::Passed);
}

#[test]
fn only_what_is_asked_for_is_compared() {
    let usual = World { intervals: 20, ..World::usual() };
    let question = Question { measures: vec![Kind::Rate], ..Question::default() };
    let comparison = judge(&usual, &usual, &question);
    assert!(comparison.findings.iter().all(|finding| finding.measure == Some(Measure::Rate)));
    let question = Question { nouns: vec!["io".to_owned()], ..Question::default() };
    assert_eq!(judge(&usual, &usual, &question).outcome(), Outcome::NotComparable);
}

#[test]
fn rates_per_unit_of_work_forget_how_long_it_took() {
    // The new code does the same work in half the time, with the same exits for it.
    let base = World { intervals: 60, ..World::usual() };
    let mut new = World { intervals: 30, ..World::usual() };
    new.exits.values_mut().for_each(|(rate, _)| *rate *= 2.0);
    let comparison = judge(&base, &new, &Question { per: Per::Units([5000.0; 2]), ..Question::default() });
    assert_eq!(comparison.outcome(), Outcome::Passed, "{:?}", comparison.breaches);
    let cpuid = row(&comparison, "cpuid", "rate");
    assert!((4.0..7.0).contains(&cpuid.base.unwrap()) && cpuid.verdict == Verdict::Same, "{cpuid:?}");
    // By the second it is worse.
    assert_eq!(judge(&base, &new, &Question::default()).outcome(), Outcome::Failed);
}

#[test]
fn limits_decide_where_there_are_some() {
    let usual = World { intervals: 40, ..World::usual() };
    let more = usual.clone().with(IO, 240.0, 61e3);
    let asked = |text: &str| {
        let limits = Limits::parse(text, "exits.toml").unwrap();
        let comparison = judge(&usual, &more, &Question { limits, ..Question::default() });
        (comparison.breaches.iter().map(|breach| breach.limit.clone()).collect::<Vec<_>>(), comparison.notes)
    };
    assert_eq!(asked("[exits]\nmax_rate = 5000\n").0, Vec::<String>::new());
    assert_eq!(asked("[exits]\nmax_rate = 1500\n").0, ["exits max_rate 1,500"]);
    // The only reason of its class is its class.
    assert_eq!(asked("[exits.class.io]\nmax_rate = 400\n").0, ["exits.class.io max_rate 400"]);
    assert_eq!(asked("[exits.reason.io]\nmax_increase = \"50%\"\n").0, ["exits.reason.io max_increase 50%"]);
    assert_eq!(asked("[exits.reason.io]\nmax_increase = \"200%\"\n").0, Vec::<String>::new());
    assert_eq!(
        asked("[exits.reason.msr]\nmax_mean = \"10us\"\nmax_p99 = \"1ms\"\n").0,
        ["exits.reason.msr max_mean 10us"]
    );
    assert_eq!(asked("[exits.reason.msr]\nmax_p99 = \"100us\"\n").0, ["exits.reason.msr max_p99 100us"]);
    // The very name goes before a pattern, whatever the pattern allows.
    let text = "[exits.reason.\"*\"]\nmax_increase = \"0%\"\n[exits.reason.io]\nmax_increase = \"500%\"\n";
    assert_eq!(asked(text).0, Vec::<String>::new());
    let (none, notes) = asked("[exits.reason.wbinvd]\nmax_rate = 1\n");
    assert!(none.is_empty() && notes.iter().any(|note| note.contains("exits.reason.wbinvd")), "{notes:?}");
}

/// What is exceeded, and the notes.
fn limited(base: &World, new: &World, text: &str) -> (Vec<String>, Vec<String>) {
    let limits = Limits::parse(text, "exits.toml").unwrap();
    let comparison = judge(base, new, &Question { limits, ..Question::default() });
    (comparison.breaches.iter().map(|breach| breach.limit.clone()).collect(), comparison.notes)
}

#[test]
fn a_limit_of_a_class_holds_though_its_only_reason_has_another() {
    let usual = World { intervals: 40, ..World::usual() };
    let more = usual.clone().with(IO, 240.0, 61e3);
    let text = "[exits.class.io]\nmax_rate = 400\n[exits.reason.\"*\"]\nmax_rate = 5000\n";
    assert_eq!(limited(&usual, &more, text).0, ["exits.class.io max_rate 400"]);
}

#[test]
fn a_limit_that_cannot_be_checked_is_named() {
    let usual = World { intervals: 40, ..World::usual() };
    for text in ["[io]\nmax_rate = 1\n", "[io.row.\"0x608*\"]\nmax_rate = 1\n"] {
        let (none, notes) = limited(&usual, &usual, text);
        let place = text.lines().next().unwrap().trim_matches(['[', ']']).replace('"', "");
        let is_named = notes.iter().any(|note| note.contains("was not recorded") && note.ends_with(&place));
        assert!(none.is_empty() && is_named, "{notes:?}");
    }
    // Eight events have a mean, but no 99 % that take no longer.
    let mut seldom = usual.clone();
    seldom.exits.insert(READ_DR0, (0.3, 11e3));
    let text = "[exits.reason.read_dr0]\nmax_mean = \"1us\"\nmax_p99 = \"1us\"\n";
    let (exceeded, notes) = limited(&seldom, &seldom, text);
    assert_eq!(exceeded, ["exits.reason.read_dr0 max_mean 1.0us"]);
    assert!(notes.iter().any(|note| note.ends_with(": exits.reason.read_dr0 max_p99")), "{notes:?}");
    // What happens no more takes no time.
    let mut gone = usual.clone();
    gone.exits.remove(&CPUID);
    let (none, notes) = limited(&usual, &gone, "[exits.reason.cpuid]\nmax_p99 = \"1us\"\n");
    assert!(none.is_empty() && !notes.iter().any(|note| note.contains("limits")), "{notes:?}");
}

#[test]
fn a_limit_below_what_matters_otherwise_is_held() {
    let steady = World { intervals: 40, load: 0.002, noise: Noise::Correlated(0.0), ..World::usual() };
    let [usual, more] = [20_000.0, 20_700.0].map(|rate| {
        let mut world = steady.clone();
        world.exits.insert(IO, (rate, 9e3));
        world
    });
    let text = "[exits.reason.io]\nmax_increase = \"1%\"\n";
    assert_eq!(limited(&usual, &more, text).0, ["exits.reason.io max_increase 1%"]);
    assert_eq!(judge(&usual, &more, &Question::default()).outcome(), Outcome::Passed);
}

#[test]
fn fail_above_lets_small_regressions_pass() {
    let usual = World { intervals: 40, load: 0.01, noise: Noise::Correlated(0.0), ..World::usual() };
    let more = usual.clone().with(NPF, 115.0, 21e3);
    let outcome = |fail_above| {
        let question = Question { fail_above, measures: vec![Kind::Rate], ..Question::default() };
        judge(&usual, &more, &question).outcome()
    };
    assert_eq!(
        [None, Some(0.5), Some(1.5)].map(outcome),
        [Outcome::Failed, Outcome::Failed, Outcome::Passed]
    );
}
