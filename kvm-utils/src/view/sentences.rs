//! What people's views say around the numbers, in the same words everywhere. Texts of the host's or a guest's are in them as
//! they are: make them safe before showing them.

use super::units;
use crate::model::{KvmStat, Proof, Report, Vm};

/// `qemu 4711`, or `pid 4711` where the monitor is unknown.
#[must_use]
pub fn process(vm: &Vm) -> String {
    format!("{} {}", if vm.vmm == "unknown" { "pid" } else { vm.vmm.as_str() }, vm.pid)
}

/// `time in exits 11.9 %, waiting 60.1 %`, as far as they are known.
#[must_use]
pub fn shares(vm: &Vm) -> Option<String> {
    let share = |what: &str, share: Option<f64>| Some(format!("{what} {}", units::percent(share?, " ")));
    let shares = [share("time in exits", vm.busy_share), share("waiting", vm.waiting_share)];
    let shares: Vec<String> = shares.into_iter().flatten().collect();
    (!shares.is_empty()).then(|| shares.join(", "))
}

/// `22,480 exits, 2,248/s`.
#[must_use]
pub fn events(n: u64, report: &Report) -> String {
    let (one, many) = report.counting;
    let per_second = units::rate(n as f64 / report.interval.as_secs_f64());
    format!("{}, {per_second}/s", units::counted(n, one, many))
}

/// Instruction set and length of the interval.
#[must_use]
pub fn span(report: &Report) -> [String; 2] {
    let length = units::interval(report.interval.as_secs_f64());
    [report.host.isa.clone(), if report.summary { format!("whole run {length}") } else { length }]
}

/// What the programs themselves took, once it is known.
#[must_use]
pub fn own_cost(proof: &Proof) -> Option<String> {
    Some(format!("our cost {} of a CPU", units::percent(proof.own_cost?, " ")))
}

/// What to say when there is nothing to show.
#[must_use]
pub fn nothing(report: &Report) -> String {
    format!(
        "no {} in {}: no VM ran, or none that the options select",
        report.counting.1,
        units::interval(report.interval.as_secs_f64())
    )
}

/// The numbers of a proof, one item each.
#[must_use]
pub fn proof(proof: &Proof) -> Vec<String> {
    let mut items = vec![compared(proof)];
    items.push(format!("missed {}", proof.missed.map_or_else(|| "unknown".to_owned(), units::count)));
    if proof.kvm_stat != KvmStat::NotKept {
        items.push(format!("unpaired {}", units::count(proof.unpaired)));
        items.push(format!("in progress {}", units::count(proof.in_progress)));
    }
    if proof.entries_without_exit > 0 {
        items.push(format!("entries without exit {}", units::count(proof.entries_without_exit)));
    }
    items
}

/// Why KVM's count cannot be compared, if so.
#[must_use]
pub fn unsure(proof: &Proof) -> Option<String> {
    match &proof.kvm_stat {
        KvmStat::Unknown(why) => Some(format!("KVM's own statistic is unknown: {why}")),
        KvmStat::Between { .. } | KvmStat::NotKept => None,
    }
}

/// What one must know to read the numbers.
#[must_use]
pub fn notes(report: &Report) -> Vec<String> {
    let without = report.proof.histograms_full;
    let percentiles = (without > 0).then(|| {
        format!(
            "{} of a vCPU without percentiles, no histogram was left",
            units::counted(without, "reason", "reasons")
        )
    });
    percentiles.into_iter().chain(report.notes.iter().cloned()).collect()
}

/// Our count beside KVM's.
fn compared(proof: &Proof) -> String {
    let counted = format!("counted {}", units::count(proof.counted));
    match proof.kvm_stat {
        KvmStat::NotKept => counted,
        KvmStat::Unknown(_) => format!("{counted}, kvm unknown"),
        KvmStat::Between { least, most } if least == most => {
            let sign = if proof.counted == least { "=" } else { "!=" };
            format!("{counted} {sign} kvm {}", units::count(least))
        }
        KvmStat::Between { least, most } => {
            let sign = if (least..=most).contains(&proof.counted) { "within" } else { "not within" };
            format!("{counted} {sign} kvm {} to {}", units::count(least), units::count(most))
        }
    }
}
