//! The exit budget in the report: a table of its own for people, members of each result in JSON.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets};
use kvm_bench::report::{Report, table::grouped};
use serde_json::{Value, json};

use super::Attributed;
use crate::{
    bench::{Budget, Counted, Reason, Split, typical},
    model::{KvmStat, Verdict},
};

/// The columns; from the third to the one before `ROUND TRIP` they add up to it.
const HEAD: [&str; 9] =
    ["OPERATION", "EXITS EACH", "GUEST+SWITCH", "KVM", "VMM", "POLL", "OFF CPU", "ROUND TRIP", "UNTRACED"];

/// For people.
pub(super) fn table(report: &Report, attributed: &Attributed) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(HEAD);
    for one in &report.results {
        let title = one.spec.title();
        let Some(budget) = attributed.budgets.get(&title) else { continue };
        let mut row = vec![title, budget.counted.as_ref().map_or_else(|| "-".to_owned(), each)];
        row.extend(
            budget.split.as_ref().map_or_else(|| vec!["-".to_owned(); 6], |split| columns(split).into()),
        );
        row.push(typical(one).map_or_else(|| "-".to_owned(), grouped));
        table.add_row(row);
    }
    for index in 2..HEAD.len() {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = "\nwho takes it: cycles per operation, means of all samples of a typical round; GUEST+SWITCH is the round trip minus the rest\n".to_owned();
    for line in table.lines() {
        let _ = writeln!(text, "{}", line.strip_prefix(' ').unwrap_or(&line).trim_end());
    }
    for (title, counted) in
        attributed.budgets.iter().filter_map(|(title, one)| Some((title, one.counted.as_ref()?)))
    {
        if counted.unexplained() > 0 {
            let _ = writeln!(text, "besides {title}: {}", list(&counted.exits));
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

/// Exits per operation: `1 cpuid`, `2 msr + 0.01 hlt`.
fn each(counted: &Counted) -> String {
    let operations = counted.operations.max(1);
    let one = |reason: &Reason| match (reason.count % operations, reason.count / operations) {
        (0, each) => format!("{each} {}", reason.name),
        _ => format!("{:.3} {}", reason.count as f64 / operations as f64, reason.name),
    };
    let all: Vec<_> = counted.exits.iter().map(one).collect();
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
            document["results"][index]["budget"] = member(budget, typical(one));
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

fn member(budget: &Budget, untraced: Option<f64>) -> Value {
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
    let split = budget.split.as_ref().map(|split| {
        json!({
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
            "untraced": untraced,
        })
    });
    json!({"unit": "cycles per operation", "counted": counted, "split": split})
}
