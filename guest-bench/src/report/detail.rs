//! What stands below an operation's row: how it was done, what proves that it happened, and what else was measured.

use std::collections::{BTreeMap, BTreeSet};

use super::matrix;
use super::table::{grouped, time};
use crate::measure::round::Cause;
use crate::measure::supervisor::{AGAIN, Measured};
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
    how.extend(note("address").map(str::to_owned));
    how.extend(note("source").map(|source| format!("clock source {source}")));
    how.extend(note("slack").map(|slack| format!("timer slack {slack}")));
    how.extend(note("target").map(|target| format!("target {target}")));
    how.extend(note("until").map(str::to_owned));
    how.extend(note("lock").map(str::to_owned));
    how.extend(happened([measured]));
    let mut lines = if how.is_empty() { Vec::new() } else { vec![how.join("; ")] };
    lines.extend(ways(measured, hz, &notes));
    lines.extend(throughput(measured, note("senders").unwrap_or("1")));
    lines.extend(left_out(measured));
    lines.extend(note(AGAIN).map(|why| format!("measured twice; the first time: {why}")));
    lines
}

/// What was counted, of how much there should have been.
pub(super) fn happened<'a>(results: impl IntoIterator<Item = &'a Measured>) -> Option<String> {
    let mut kinds: BTreeMap<String, Count> = BTreeMap::new();
    let mut operations = 0;
    let mut is_sent = false;
    for measured in results {
        let evidence = stats::evidence(&measured.rounds);
        let samples: u64 = measured.rounds.iter().map(crate::measure::Round::samples).sum();
        let each = samples * u64::from(measured.ready.repeat);
        operations += each;
        is_sent |= measured.spec.op.starts_with("ipi:");
        for (name, moved) in &evidence {
            let Some((kind, cpu)) = name.split_once(" on CPU ") else { continue };
            let sum = kinds.entry(kind.to_owned()).or_default();
            sum.moved += moved;
            sum.expected += evidence.get(&format!("sent to CPU {cpu}")).copied().unwrap_or(each);
            sum.cpus.insert(cpu.to_owned());
        }
    }
    let words = kinds.into_iter().map(|(kind, count)| {
        let cpus = match count.cpus.len() {
            1 => String::new(),
            cpus => format!(" on {cpus} CPUs"),
        };
        let kind = if kind.chars().all(char::is_uppercase) { format!("interrupts ({kind})") } else { kind };
        let of = if is_sent { format!(" of {}", grouped(count.expected as f64)) } else { String::new() };
        format!("{kind} {}{of}{cpus}", grouped(count.moved as f64))
    });
    let words = words.collect::<Vec<_>>().join(", ");
    match is_sent {
        _ if words.is_empty() => None,
        true => Some(words),
        false => Some(format!("{words} for {} operations", grouped(operations as f64))),
    }
}

/// Of one kind.
#[derive(Debug, Default)]
struct Count {
    moved: u64,
    expected: u64,
    cpus: BTreeSet<String>,
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
    let is_told = measured.rounds.iter().any(|round| round.details.series.contains_key("one_way"));
    words.extend(notes.get("one_way").filter(|_| !is_told).map(|why| format!("one way not told: {why}")));
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

/// What stands below the heat map.
pub fn of_matrix(results: &[Measured]) -> String {
    let rows: Vec<_> = results.iter().filter(|one| one.spec.op == matrix::OP).collect();
    let notes = rows.iter().find_map(|row| stats::notes(&row.rounds).get("via").cloned());
    let via = notes.map_or(String::new(), |via| format!("via {via}; targets running; "));
    let happened = happened(rows).unwrap_or_default();
    format!("{via}{happened}\n")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::round::{Details, Round};
    use crate::measure::supervisor::Status;
    use crate::measure::worker::Ready;
    use crate::ops::Spec;

    fn measured(op: &str, round: Round) -> Measured {
        let ready = Ready { overhead: 50, repeat: 1, ..Ready::default() };
        Measured { spec: Spec::new(op), status: Status::Ok, ready, rounds: vec![round.clone(), round] }
    }

    fn words<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
        pairs.map(|(name, words)| (name.to_owned(), words.to_owned())).into()
    }

    #[test]
    fn an_interrupt_is_shown_with_its_way_and_its_proof() {
        let mut round =
            Round::of(&[(20_050, None), (20_050, None), (90_050, Some(Cause::Steal)), (20_050, None)]);
        round.evidence = BTreeMap::from([("CAL on CPU 1".to_owned(), 4)]);
        round.details = Details {
            series: BTreeMap::from([("one_way".to_owned(), vec![(2000, 4)])]),
            totals: BTreeMap::new(),
            notes: words([("via", "membarrier"), ("target", "running"), ("skew", "-3 +-50 cycles")]),
        };
        assert_eq!(
            lines(&measured("ipi:single", round), 1_000_000_000),
            [
                "via membarrier; target running; interrupts (CAL) 8 of 8",
                "one way p50 2,000 (2.00us); skew -3 +-50 cycles",
                "rejected 25.0 % steal",
            ]
        );
    }

    #[test]
    fn several_senders_are_shown_with_their_rate() {
        let mut round = Round::of(&[(20_050, None), (20_050, None)]);
        let counts = [("CAL on CPU 1", 3), ("CAL on CPU 65", 3), ("sent to CPU 1", 3), ("sent to CPU 65", 5)];
        round.evidence = counts.map(|(name, count)| (name.to_owned(), count)).into();
        let totals = [("interrupts", 8), ("elapsed_ns", 2_000_000), ("run_delay_ns", 500)];
        round.details.totals = totals.map(|(name, count)| (name.to_owned(), count)).into();
        round.details.notes = words([("cpus", "0 -> 1, 64 -> 65"), ("via", "membarrier"), ("senders", "2")]);
        assert_eq!(
            lines(&measured("ipi:mesh", round), 1_000_000_000),
            [
                "0 -> 1, 64 -> 65; via membarrier; interrupts (CAL) 12 of 16 on 2 CPUs",
                "4,000 interrupts/s from 2 senders; waited for a CPU of the guest 1.00us in 4.00ms",
            ]
        );
    }

    #[test]
    fn what_says_nothing_has_no_lines() {
        assert!(lines(&measured("cpuid", Round::of(&[(10_000, None)])), 1).is_empty());
    }
}
