//! Interrupts per second, kind and CPU. Timer interrupts are armed by an exit, and those between vCPUs sent by one, unless the
//! hardware does it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Certainty, Finding, Section, Severity, System};

/// Interrupts per second and CPU from which a kind is worth a word, with what it may be.
struct Kind {
    name: &'static str,
    from: f64,
    what: &'static str,
    costs: &'static str,
    remedy: &'static str,
}

/// A tick is at most 1,000 per second; 10,000 exits of some 1,500 cycles take half a percent of a CPU on hardware, and several nested.
const KINDS: &[Kind] = &[
    Kind {
        name: "LOC",
        from: 2_000.0,
        what: "many timer interrupts",
        costs: "each is armed by a write of TSC_DEADLINE, an exit, often several writes for one that fires",
        remedy: "find who sets short timers: perf trace -e timer:hrtimer_start, or on the host kvm-utils wrmsr",
    },
    Kind {
        name: "RES",
        from: 5_000.0,
        what: "many wake-ups of other vCPUs",
        costs: "each is an exit of the sender (without IPI virtualization or AVIC) and wakes or interrupts the target",
        remedy: "keep threads that wake each other on one vCPU, or let idle vCPUs poll (haltpoll)",
    },
    Kind {
        name: "CAL",
        from: 5_000.0,
        what: "many function calls to other vCPUs",
        costs: "each is an exit of the sender (without IPI virtualization or AVIC), who waits for the target",
        remedy: "find who calls: perf trace -e ipi:*; membarrier, perf and munmap are usual causes",
    },
    Kind {
        name: "TLB",
        from: 5_000.0,
        what: "many TLB flushes of other vCPUs",
        costs: "each interrupts the vCPUs that run threads of the process, and who flushes waits for them",
        remedy: "find who unmaps memory in programs with several threads: malloc's trimming and madvise are usual causes",
    },
    Kind {
        name: "NMI",
        from: 10.0,
        what: "non-maskable interrupts",
        costs: "each is injected by KVM; those of the PMU are followed by several exits that read and write its registers",
        remedy: "see who profiles, below",
    },
];

type Counts = BTreeMap<(String, String), u64>;

/// Every counter of /proc/interrupts by kind and CPU; those of devices together, as `devices`.
fn counts(text: &str) -> Counts {
    let mut lines = text.lines();
    let cpus: Vec<&str> = lines.next().unwrap_or_default().split_ascii_whitespace().collect();
    let mut all = Counts::new();
    for line in lines {
        let Some((name, rest)) = line.split_once(':') else { continue };
        let name = name.trim();
        let kind = if name.bytes().all(|byte| byte.is_ascii_digit()) { "devices" } else { name };
        // ERR and MIS have one number, of no CPU.
        let numbers: Vec<u64> = rest.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
        if numbers.len() < cpus.len() {
            continue;
        }
        for (cpu, count) in cpus.iter().zip(numbers) {
            *all.entry((kind.to_owned(), cpu.to_ascii_lowercase())).or_insert(0) += count;
        }
    }
    all
}

pub(super) fn examine(system: &System, interval: Duration) -> Section {
    let mut section = Section::new("interrupts");
    let Some(before) = system.read("/proc/interrupts") else {
        section.unknown("interrupts", "/proc/interrupts is not there; look from outside of the container");
        return section;
    };
    let start = Instant::now();
    std::thread::sleep(interval);
    let after = system.read("/proc/interrupts").unwrap_or_default();
    judge(&mut section, &counts(&before), &counts(&after), start.elapsed());
    section
}

fn judge(section: &mut Section, before: &Counts, after: &Counts, length: Duration) {
    let seconds = length.as_secs_f64().max(1e-3);
    section.fact("interval_s", (seconds * 1e3).round() / 1e3);
    let mut rates: BTreeMap<&str, BTreeMap<&str, f64>> = BTreeMap::new();
    for ((kind, cpu), count) in after {
        let before = before.get(&(kind.clone(), cpu.clone())).copied().unwrap_or(*count);
        let rate = count.saturating_sub(before) as f64 / seconds;
        if rate > 0.0 {
            rates.entry(kind).or_default().insert(cpu, rate.round());
        }
    }
    for (kind, cpus) in &rates {
        section.fact(kind, json!(cpus));
    }
    for kind in KINDS {
        let most = rates.get(kind.name).into_iter().flatten().max_by(|a, b| a.1.total_cmp(b.1));
        let Some((cpu, rate)) = most.filter(|(_, rate)| **rate >= kind.from) else { continue };
        section.findings.push(Finding {
            severity: Severity::Warning,
            certainty: Certainty::Seen,
            what: kind.what.into(),
            evidence: format!("{rate:.0} per second of {} on {cpu} within {seconds:.1} s", kind.name),
            costs: kind.costs.into(),
            remedy: kind.remedy.into(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_cpu_and_devices_are_one_kind() {
        let text = |loc: u64, disk: u64| {
            format!(
                "           CPU0       CPU2\n 24:  {disk}  0  IO-APIC 5-edge x\n 25: {disk} 0 PCI-MSI y\nLOC: {loc} 7 Local timer interrupts\nERR: 0\n"
            )
        };
        let mut section = Section::new("interrupts");
        judge(&mut section, &counts(&text(1_000, 10)), &counts(&text(7_000, 20)), Duration::from_secs(2));
        assert_eq!(section.facts["LOC"], json!({"cpu0": 3000.0}));
        assert_eq!(section.facts["devices"], json!({"cpu0": 10.0}));
        assert_eq!(section.findings.len(), 1);
        assert!(section.findings[0].evidence.starts_with("3000 per second of LOC on cpu0"), "{section:?}");
    }
}
