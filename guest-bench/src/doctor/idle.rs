//! What an idle vCPU does: halt, which is an exit, or poll first.

use super::{Certainty, Finding, Section, Severity, System};

const CPUIDLE: &str = "/sys/devices/system/cpu/cpuidle";
/// drivers/cpuidle/governors/haltpoll.c
const PARAMETERS: &str = "/sys/module/haltpoll/parameters";
/// Bit 12, `KVM_FEATURE_POLL_CONTROL`.
const POLL_CONTROL: u32 = 1 << 12;

pub(super) fn examine(system: &System) -> Section {
    let mut section = Section::new("idle");
    // Kernels without cpuidle have no such directory; that only says so where there is one of CPUs.
    if system.read("/sys/devices/system/cpu/online").is_none() {
        section
            .unknown("cpuidle", "sysfs is not mounted here; mount it, or look from outside of the container");
        return section;
    }
    let known = |text: Option<String>| text.filter(|text| text != "none");
    let driver = known(system.read(&format!("{CPUIDLE}/current_driver")));
    let governor = system
        .read(&format!("{CPUIDLE}/current_governor"))
        .or_else(|| system.read(&format!("{CPUIDLE}/current_governor_ro")));
    section.fact("driver", driver.clone());
    section.fact("governor", known(governor.clone()));
    for name in
        ["guest_halt_poll_ns", "guest_halt_poll_grow", "guest_halt_poll_grow_start", "guest_halt_poll_shrink"]
    {
        let value = system.read(&format!("{PARAMETERS}/{name}")).and_then(|text| text.parse::<u64>().ok());
        section.fact(name, value);
    }
    let mut states = Vec::new();
    for number in 0..10 {
        let Some(name) = system.read(&format!("/sys/devices/system/cpu/cpu0/cpuidle/state{number}/name"))
        else {
            break;
        };
        states.push(name);
    }
    section.fact("states", states);
    let asked = system.cmdline().into_iter().find(|word| word.starts_with("idle="));
    section.fact("command_line", asked.clone());
    let offers = system.offered.is_some_and(|offered| offered.features & POLL_CONTROL != 0);
    let limit = section.facts["guest_halt_poll_ns"].as_u64();
    if asked.as_deref() == Some("idle=poll") {
        section.findings.push(Finding {
            severity: Severity::Info,
            certainty: Certainty::Seen,
            what: "idle vCPUs never halt".into(),
            evidence: "idle=poll is on the kernel's command line".into(),
            costs: "a CPU of the host for each vCPU, always; wake-ups cost no exit".into(),
            remedy: "nothing if latency is what counts; else take it off, and use the haltpoll driver".into(),
        });
    } else if driver.as_deref() == Some("haltpoll") && limit == Some(0) {
        let evidence = "the cpuidle driver is haltpoll, guest_halt_poll_ns is 0";
        section.findings.push(Finding {
            severity: Severity::Warning,
            certainty: Certainty::Likely,
            what: "the guest is in charge of halt polling, and does not poll".into(),
            evidence: if offers { format!("{evidence}; KVM offers poll control, by which this driver turns off the host's polling") } else { evidence.into() },
            costs: "each short sleep is an exit and a full wake-up on the host: `kvm-bench wake` measures it".into(),
            remedy: format!("echo 200000 > {PARAMETERS}/guest_halt_poll_ns if latency counts more than the host's CPU time"),
        });
    } else if driver.as_deref() == Some("haltpoll")
        && governor.as_deref().is_some_and(|one| one != "haltpoll")
    {
        section.findings.push(Finding {
            severity: Severity::Warning,
            certainty: Certainty::Likely,
            what: "the haltpoll driver is used with another governor".into(),
            evidence: format!("current_governor is {}", governor.unwrap_or_default()),
            costs: "the host's polling is off, and the guest's window does not adapt".into(),
            remedy: "boot with cpuidle.governor=haltpoll".into(),
        });
    } else if driver.is_none() && offers && asked.is_none() {
        section.findings.push(Finding {
            severity: Severity::Info,
            certainty: Certainty::Possible,
            what: "idle vCPUs halt at once; only the host polls".into(),
            evidence: "there is no cpuidle driver; KVM offers poll control".into(),
            costs: "each short sleep is an exit; what the host polls is its own time".into(),
            remedy: "where short sleeps count: modprobe cpuidle-haltpoll (force=1 where KVM's realtime hint is missing)".into(),
        });
    }
    section
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::made_up;

    #[test]
    fn polling_turned_off_on_both_sides_is_found() {
        let found = |driver: &str, limit: &str, cmdline: &str| {
            let files = [
                ("sys/devices/system/cpu/cpuidle/current_driver", driver),
                ("sys/devices/system/cpu/cpuidle/current_governor", "haltpoll\n"),
                ("sys/module/haltpoll/parameters/guest_halt_poll_ns", limit),
                ("proc/cmdline", cmdline),
                ("sys/devices/system/cpu/online", "0-1\n"),
            ];
            let (_directory, system) = made_up(&files, &[], POLL_CONTROL);
            examine(&system).findings.into_iter().map(|finding| finding.what).collect::<Vec<_>>()
        };
        let (_directory, hidden) = made_up(&[], &[], POLL_CONTROL);
        assert_eq!((examine(&hidden).findings.len(), examine(&hidden).unknown.len()), (0, 1));
        assert!(found("haltpoll\n", "0\n", "")[0].contains("does not poll"));
        assert_eq!(found("haltpoll\n", "200000\n", ""), Vec::<String>::new());
        assert!(found("none\n", "200000\n", "")[0].contains("halt at once"));
        assert!(found("none\n", "200000\n", "idle=poll")[0].contains("never halt"));
    }
}
