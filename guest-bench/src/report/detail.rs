//! What stands below an operation's row: how it was done, what proves that it happened, and what else was measured.

use std::collections::BTreeMap;

use super::table::{grouped, time};
use crate::measure::round::Cause;
use crate::measure::supervisor::Measured;
use crate::stats::{self, Scale, Summary};

/// Lines for one operation; none for those that say nothing beside their samples.
pub(super) fn lines(measured: &Measured, hz: u64) -> Vec<String> {
    let rounds = &measured.rounds;
    let notes = stats::notes(rounds);
    if notes.is_empty() {
        return Vec::new();
    }
    let note = |name: &str| notes.get(name).map(String::as_str);
    let mut how: Vec<String> = Vec::new();
    how.extend(note("cpus").filter(|_| !measured.spec.title().contains("->")).map(str::to_owned));
    how.extend(note("via").map(|via| format!("via {via}")));
    how.extend(note("target").map(|target| format!("target {target}")));
    how.extend(note("until").map(str::to_owned));
    how.extend(note("lock").map(str::to_owned));
    how.extend(happened(measured));
    let mut lines = vec![how.join("; ")];
    lines.extend(ways(measured, hz, &notes));
    lines.extend(throughput(measured, note("senders").unwrap_or("1")));
    lines.extend(left_out(measured));
    lines
}

/// Interrupts that were counted, of how many there should have been.
fn happened(measured: &Measured) -> Option<String> {
    let evidence = stats::evidence(&measured.rounds);
    let samples: u64 = measured.rounds.iter().map(crate::measure::Round::samples).sum();
    let operations = samples * u64::from(measured.ready.repeat);
    let mut kinds: BTreeMap<&str, (u64, u64, usize)> = BTreeMap::new();
    for (name, moved) in &evidence {
        let Some((kind, cpu)) = name.split_once(" on CPU ") else { continue };
        let expected = evidence.get(&format!("sent to CPU {cpu}")).copied().unwrap_or(operations);
        let sum = kinds.entry(kind).or_default();
        *sum = (sum.0 + moved, sum.1 + expected, sum.2 + 1);
    }
    let words = kinds.into_iter().map(|(kind, (moved, expected, cpus))| {
        let cpus = if cpus > 1 { format!(" on {cpus} CPUs") } else { String::new() };
        format!("{} {} of {}{cpus}", title(kind), grouped(moved as f64), grouped(expected as f64))
    });
    let words: Vec<_> = words.collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// Lines of /proc/interrupts by what they count.
fn title(kind: &str) -> &str {
    match kind {
        "CAL" => "interrupts (CAL)",
        "RES" => "interrupts (RES)",
        "TLB" => "interrupts (TLB)",
        other => other,
    }
}

/// Other distributions.
fn ways(measured: &Measured, hz: u64, notes: &BTreeMap<String, String>) -> Option<String> {
    let mut words = Vec::new();
    for (name, rounds) in stats::series(&measured.rounds) {
        let Some(p50) = Summary::of(&rounds, Scale::Raw).and_then(|summary| summary.p50) else { continue };
        let name = name.replace('_', " ");
        words.push(format!("{name} p50 {} ({})", grouped(p50), time(p50 / hz.max(1) as f64)));
    }
    // A mesh of many pairs is for programs to read.
    if words.len() > 8 {
        words = vec![words[0].clone(), format!("and {} more, in JSON", words.len() - 1)];
    }
    words.extend(notes.get("one_way").map(|why| format!("one way not told: {why}")));
    words.extend(notes.get("skew").map(|skew| format!("skew {skew}")));
    (!words.is_empty()).then(|| words.join("; "))
}

/// Of those that count their interrupts and their time.
fn throughput(measured: &Measured, senders: &str) -> Option<String> {
    let totals = stats::totals(&measured.rounds);
    let rate = stats::rate(&totals)?;
    let each = if senders == "1" { "1 sender".to_owned() } else { format!("{senders} senders") };
    let delay = totals.get("run_delay_ns").copied().unwrap_or(0) as f64 / 1e9;
    let elapsed = totals.get("elapsed_ns").copied().unwrap_or(0) as f64 / 1e9;
    Some(format!(
        "{} interrupts/s from {each}; waited for a CPU of the guest {} in {}",
        grouped(rate.round()),
        time(delay),
        time(elapsed)
    ))
}

fn left_out(measured: &Measured) -> Option<String> {
    let rejected = stats::rejected(&measured.rounds);
    let samples: u64 = measured.rounds.iter().map(crate::measure::Round::samples).sum();
    let words = rejected.into_iter().map(|(cause, count)| {
        let name = match cause {
            Cause::Steal => "steal",
            Cause::Preempted => "preempted",
            Cause::Interrupted => "interrupted",
            Cause::Migrated => "migrated",
            Cause::Wrapped => "counter went back",
        };
        format!("{:.1} % {name}", count as f64 * 100.0 / samples.max(1) as f64)
    });
    let words: Vec<_> = words.collect();
    (!words.is_empty()).then(|| format!("rejected {}", words.join(", ")))
}
