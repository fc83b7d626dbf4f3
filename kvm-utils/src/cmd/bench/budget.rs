//! The exit budget in the report: a table of its own for people, members of each result in JSON.

use std::{collections::BTreeSet, fmt::Write as _};

use comfy_table::{CellAlignment, Table, presets};
use kvm_bench::{
    measure::supervisor::Measured,
    report::{Report, table::grouped},
};
use serde_json::{Value, json};

use super::Attributed;
use crate::{
    bench::{Budget, Counted, Each, Reason, Scope, Split, typical},
    model::{KvmStat, Verdict},
};

/// The columns; from the third to the one before `ROUND TRIP` they add up to it.
const HEAD: [&str; 9] =
    ["OPERATION", "EXITS EACH", "GUEST+SWITCH", "KVM", "VMM", "POLL", "OFF CPU", "ROUND TRIP", "UNTRACED"];

const TITLE: &str = "\nwho takes it: cycles per operation, means of all samples of a typical round; GUEST+SWITCH is the round trip minus the rest\n";

/// Below the table when a row has a star.
const STAR: &str = "* all of the time between the marks, also what arms, waits or ends between two samples; a vCPU that gets interrupts takes no \
samples\n";

/// For people.
pub(super) fn table(report: &Report, attributed: &Attributed) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(HEAD);
    let mut has_star = false;
    for one in &report.results {
        let title = one.spec.title();
        let Some(budget) = attributed.budgets.get(&title) else { continue };
        let exits = budget.counted.as_ref().map_or_else(|| "-".to_owned(), each);
        let splits = budget.split();
        table.add_row(row(&title, exits, splits.map(|splits| splits.measuring), one));
        let targets = splits.map(|splits| &splits.targets).filter(|targets| !targets.is_empty());
        if let Some(targets) = targets {
            let who = match targets.len() {
                1 => "  its target".to_owned(),
                len => format!("  each of {len} targets"),
            };
            table.add_row(row(&who, each_target(budget), mean(targets), one));
        }
        has_star |= splits.is_some_and(|splits| splits.each().any(|split| split.of == Scope::Round));
    }
    for index in 2..HEAD.len() {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = TITLE.to_owned();
    for line in table.lines() {
        let _ = writeln!(text, "{}", line.strip_prefix(' ').unwrap_or(&line).trim_end());
    }
    if has_star {
        text.push_str(STAR);
    }
    for (title, budget) in &attributed.budgets {
        if let Some(counted) = budget.counted.as_ref().filter(|counted| counted.unexplained() > 0) {
            let _ = writeln!(text, "besides {title}: {}", list(&counted.exits));
        }
        if let Some(Err(why)) = budget.splits {
            let _ = writeln!(text, "not split {title}: {why}");
        }
    }
    let (agree, all) = agreement(attributed);
    let _ = writeln!(
        text,
        "exits  as stated for {agree} of {all} operations for which a number is stated; {}",
        proof(attributed)
    );
    for note in &attributed.notes {
        let _ = writeln!(text, "note   {note}");
    }
    text
}

/// One vCPU's; `title` says which.
fn row(title: &str, exits: String, split: Option<Split>, one: &Measured) -> Vec<String> {
    let of = split.map_or(Scope::Samples, |split| split.of);
    let star = if of == Scope::Round { " *" } else { "" };
    let mut row = vec![format!("{title}{star}"), exits];
    row.extend(split.as_ref().map_or_else(|| vec!["-".to_owned(); 6], |split| columns(split).into()));
    row.push(typical(one, of).map_or_else(|| "-".to_owned(), grouped));
    row
}

/// Of several vCPUs: each column's mean, so that they add up to the whole's.
fn mean(splits: &Each<Split>) -> Option<Split> {
    let first = *splits.values().next()?;
    let mean = |of: fn(&Split) -> f64| splits.values().map(of).sum::<f64>() / splits.len() as f64;
    Some(Split {
        round_trip: mean(|split| split.round_trip),
        guest: mean(|split| split.guest),
        kvm: mean(|split| split.kvm),
        vmm: mean(|split| split.vmm),
        poll: mean(|split| split.poll),
        idle: mean(|split| split.idle),
        steal: mean(|split| split.steal),
        other: mean(|split| split.other),
        ..first
    })
}

/// Exits per operation: `1 cpuid`, `2 msr + 0.01 hlt`.
fn each(counted: &Counted) -> String {
    rates(counted.exits.iter(), counted.operations)
}

/// The same of the vCPUs that get the operation's interrupts, of one of them.
fn each_target(budget: &Budget) -> String {
    let Some(counted) = &budget.counted else { return "-".to_owned() };
    let mut sums: Vec<Reason> = Vec::new();
    for reason in counted.targets.values().flatten() {
        match sums.iter_mut().find(|sum| sum.name == reason.name) {
            Some(sum) => sum.count += reason.count,
            None => sums.push(reason.clone()),
        }
    }
    sums.sort_by_key(|sum| std::cmp::Reverse(sum.count));
    rates(sums.iter(), counted.operations * counted.targets.len().max(1) as u64)
}

fn rates<'a>(reasons: impl Iterator<Item = &'a Reason>, operations: u64) -> String {
    let operations = operations.max(1);
    let one = |reason: &Reason| match (reason.count % operations, reason.count / operations) {
        (0, each) => format!("{each} {}", reason.name),
        _ => format!("{:.3} {}", reason.count as f64 / operations as f64, reason.name),
    };
    let all: Vec<_> = reasons.map(one).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(" + ") }
}

fn list(reasons: &[Reason]) -> String {
    let all: Vec<_> = reasons.iter().map(|reason| format!("{} x {}", reason.count, reason.name)).collect();
    all.join(", ")
}

fn columns(split: &Split) -> [String; 6] {
    [split.guest, split.kvm, split.vmm, split.poll, split.off_cpu(), split.round_trip].map(cycles)
}

/// Cycles with their thousands apart; a difference may be negative.
fn cycles(value: f64) -> String {
    if value < 0.0 { format!("-{}", grouped(-value)) } else { grouped(value) }
}

/// Of how many operations the count is the stated one, of how many there could be.
fn agreement(attributed: &Attributed) -> (usize, usize) {
    let verdicts: Vec<_> =
        attributed.budgets.values().filter_map(|one| one.counted.as_ref()?.agrees()).collect();
    (verdicts.iter().filter(|agrees| **agrees).count(), verdicts.len())
}

fn proof(attributed: &Attributed) -> String {
    match attributed.proof.verdict() {
        Verdict::Proven => "KVM's own count agrees".to_owned(),
        Verdict::Unchecked => match &attributed.proof.kvm_stat {
            KvmStat::Unknown(why) => format!("KVM's own count is not known: {why}"),
            _ => "KVM's own count is not known".to_owned(),
        },
        Verdict::Doubtful(doubts) => format!("DOUBTFUL: {}", doubts.join("; ")),
    }
}

/// Adds the members to a document of this report.
pub(super) fn add(document: &mut Value, report: &Report, attributed: &Attributed) {
    for (index, one) in report.results.iter().enumerate() {
        if let Some(budget) = attributed.budgets.get(&one.spec.title()) {
            document["results"][index]["budget"] = member(budget, one);
        }
    }
    let (agree, all) = agreement(attributed);
    let proof = &attributed.proof;
    document["attribution"] = json!({
        "source": attributed.source,
        "as_stated": agree,
        "stated": all,
        "proof": {"counted": proof.counted, "kvm_stat": kvm_stat(&proof.kvm_stat), "missed": proof.missed},
        "notes": attributed.notes,
    });
}

fn kvm_stat(stat: &KvmStat) -> Value {
    match stat {
        KvmStat::Between { least, most } => json!([least, most]),
        _ => Value::Null,
    }
}

fn member(budget: &Budget, one: &Measured) -> Value {
    let reasons = |list: &[Reason]| {
        let one = |one: &Reason| json!({"reason": one.name, "class": one.class.id(), "count": one.count});
        list.iter().map(one).collect::<Value>()
    };
    let counted = budget.counted.as_ref().map(|counted| {
        json!({
            "operations": counted.operations,
            "exits": reasons(&counted.exits),
            "host": reasons(&counted.background),
            "stated": counted.stated.map(|(class, each)| json!({"class": class, "each": each})),
            "agrees": counted.agrees(),
            "unexplained": counted.unexplained(),
        })
    });
    let splits = budget.split();
    let split = |split: &Split| split_member(split, typical(one, split.of));
    let exits = budget.counted.as_ref().map(|counted| &counted.targets);
    let vcpus = exits.into_iter().flat_map(|exits| exits.keys());
    let vcpus: BTreeSet<u32> =
        vcpus.chain(splits.into_iter().flat_map(|splits| splits.targets.keys())).copied().collect();
    let target = |vcpu: &u32| {
        json!({
            "vcpu": vcpu,
            "exits": exits.map(|exits| reasons(exits.get(vcpu).map_or(&[], Vec::as_slice))),
            "split": splits.and_then(|splits| splits.targets.get(vcpu)).map(split),
        })
    };
    json!({
        "unit": "cycles per operation",
        "counted": counted,
        "split": splits.map(|splits| split(&splits.measuring)),
        "not_split": budget.splits.as_ref().and_then(|splits| splits.as_ref().err()),
        "targets": vcpus.iter().map(target).collect::<Value>(),
    })
}

fn split_member(split: &Split, untraced: Option<f64>) -> Value {
    json!({
        "of": match split.of {
            Scope::Samples => "samples",
            Scope::Round => "round",
        },
        "operations": split.operations,
        "guest_and_switch": split.guest,
        "kvm": split.kvm,
        "vmm": split.vmm,
        "poll": split.poll,
        "off_cpu": split.off_cpu(),
        "idle": split.idle,
        "steal": split.steal,
        "other": split.other,
        "round_trip": split.round_trip,
        "whole": split.whole,
        "guest_in_ledger": split.guest_in_ledger,
        "untraced": untraced,
    })
}
