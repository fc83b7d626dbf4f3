//! Interrupts that other CPUs took, as the kernel counts them: whether what should interrupt them did.

use std::collections::BTreeMap;
use std::fs;

use crate::measure::disturbance::interrupts_of;

/// What counts as all of them: a chunk's last interrupt may be handled after the count.
const ENOUGH: f64 = 0.99;

/// The name under which a count appears as evidence.
pub(super) fn name(kind: &str, cpu: usize) -> String {
    format!("{kind} on CPU {cpu}")
}

/// Interrupts of these kinds on these CPUs up to now.
pub(super) fn interrupts(kinds: &[&str], cpus: &[usize]) -> BTreeMap<String, u64> {
    let text = fs::read_to_string("/proc/interrupts").unwrap_or_default();
    let each = cpus.iter().flat_map(|&cpu| kinds.iter().map(move |&kind| (kind, cpu)));
    each.filter_map(|(kind, cpu)| Some((name(kind, cpu), interrupts_of(&text, kind, cpu)?))).collect()
}

/// Why it is doubtful that so many interrupts reached a CPU; None if they did.
pub(super) fn doubt(
    counted: &BTreeMap<String, u64>,
    kind: &str,
    cpu: usize,
    expected: u64,
) -> Option<String> {
    let name = name(kind, cpu);
    match counted.get(&name) {
        None => Some(format!(
            "/proc/interrupts has no {kind} of CPU {cpu}, so that nobody knows whether it was interrupted"
        )),
        Some(&moved) if (moved as f64) < expected as f64 * ENOUGH => Some(format!(
            "CPU {cpu} took {moved} interrupts ({kind} in /proc/interrupts) for {expected} operations"
        )),
        Some(_) => None,
    }
}

/// How often a CPU has been idle: Documentation/admin-guide/pm/cpuidle.rst, `usage` of its states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Idle {
    /// Times that it was halted: in all states but the one that polls.
    pub halts: u64,
    /// Times in any state.
    pub idles: u64,
}

/// Up to now, if the kernel has a cpuidle driver, which counts that.
pub(super) fn idle(cpu: usize) -> Option<Idle> {
    let mut idle = None;
    for state in fs::read_dir(format!("/sys/devices/system/cpu/cpu{cpu}/cpuidle")).ok()?.flatten() {
        let read = |name: &str| fs::read_to_string(state.path().join(name)).ok();
        let (Some(name), Some(usage)) = (read("name"), read("usage")) else { continue };
        let usage = usage.trim().parse::<u64>().ok()?;
        let sum: &mut Idle = idle.get_or_insert_default();
        sum.idles += usage;
        if name.trim() != "POLL" {
            sum.halts += usage;
        }
    }
    idle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_interrupts_and_unknown_ones_are_doubted_with_the_numbers() {
        let counted = BTreeMap::from([("CAL on CPU 3".to_owned(), 990)]);
        assert_eq!(doubt(&counted, "CAL", 3, 1000), None);
        let few = doubt(&counted, "CAL", 3, 1001).unwrap();
        assert_eq!(few, "CPU 3 took 990 interrupts (CAL in /proc/interrupts) for 1001 operations");
        assert!(doubt(&counted, "CAL", 2, 0).unwrap().contains("no CAL of CPU 2"));
    }
}
