//! What KVM offers beyond the hardware, and what the kernel makes of it.

use serde_json::json;

use super::{Certainty, Finding, Section, Severity, System};
use crate::pv::{FEATURES, Traces, Use};

/// `KVM_HINTS_REALTIME`: some features are then left alone on purpose.
const REALTIME: u32 = 1;

/// Features whose absence costs something, with what it costs.
const MISSED: &[(&str, &str)] = &[
    (
        "steal time",
        "nobody in the guest sees when the host keeps a vCPU from running, this program's rejections included",
    ),
    ("PV unhalt", "vCPUs spin for locks whose owners do not run (pause-loop exits)"),
    ("PV TLB flush", "TLB flushes wait for vCPUs that do not run"),
    ("PV IPI", "an interrupt to many vCPUs is an exit for each of them"),
    ("kvm-clock", "without a trusted TSC there is no clock that costs no exits"),
];

pub(super) fn examine(system: &System) -> Section {
    let mut section = Section::new("paravirtualization");
    let Some(offered) = system.offered else {
        section.fact("kvm", false);
        return section;
    };
    section.fact("kvm", true);
    section.fact("features", format!("{:#x}", offered.features));
    section.fact("realtime_hint", offered.hints & REALTIME != 0);
    let cmdline = system.read("/proc/cmdline").unwrap_or_default();
    let driver = system.read("/sys/devices/system/cpu/cpuidle/current_driver");
    let (interrupts, stat) = (system.read("/proc/interrupts"), system.read("/proc/stat"));
    let traces = Traces {
        log: system.log.as_ref().map_err(String::as_str),
        cmdline: &cmdline,
        interrupts: interrupts.as_deref().unwrap_or_default(),
        stat: stat.as_deref().unwrap_or_default(),
        cpuidle_driver: driver.as_deref().filter(|driver| *driver != "none"),
    };
    for feature in FEATURES {
        let is_offered = feature.is_in(offered);
        let used =
            if is_offered { feature.is_used(&traces) } else { Use::No("KVM does not offer it".into()) };
        let (is_used, why) = match &used {
            Use::Yes(why) => (Some(true), why),
            Use::No(why) => (Some(false), why),
            Use::Unknown(why) => (None, why),
        };
        if is_offered || is_used != Some(false) {
            section.fact(
                feature.name,
                json!({"offered": is_offered, "used": is_used, "why": why, "about": feature.about}),
            );
        }
        let Some((_, costs)) = MISSED.iter().find(|(name, _)| *name == feature.name) else { continue };
        let finding = |certainty, what: String, evidence: &str, remedy: &str| Finding {
            severity: Severity::Info,
            certainty,
            what,
            evidence: evidence.to_owned(),
            costs: (*costs).to_owned(),
            remedy: remedy.to_owned(),
        };
        if !is_offered {
            section.findings.push(finding(
                Certainty::Seen,
                format!("KVM does not offer {}", feature.name),
                &format!("bit {} of CPUID's KVM features is clear", feature.bit),
                "have the VMM offer it, unless it was turned off because vCPUs have CPUs of their own or the hardware does it",
            ));
        } else if let (Use::No(why), true) = (&used, offered.hints & REALTIME == 0) {
            section.findings.push(finding(
                Certainty::Likely,
                format!("{} is offered and not used", feature.name),
                why,
                "take its switch off the kernel's command line, or use a kernel built with KVM guest support; a guest with one vCPU or MWAIT does not need it",
            ));
        }
    }
    if let Err(why) = &system.log {
        section.unknown("which of KVM's features the kernel uses", why.clone());
    }
    section
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::made_up;

    #[test]
    fn offered_and_not_used_is_told_with_the_reason() {
        let log = ["kvm-clock: Using msrs 4b564d01 and 4b564d00", "kvm-guest: KVM setup pv remote TLB flush"];
        let files = [("proc/cmdline", "nopvspin"), ("proc/stat", "cpu  1 2 3 4 5 6 7 8 0 0\n")];
        let all = 1 << 3 | 1 << 5 | 1 << 7 | 1 << 9;
        let (_directory, system) = made_up(&files, &log, all);
        let section = examine(&system);
        let what: Vec<_> = section.findings.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(what, ["PV unhalt is offered and not used", "KVM does not offer PV IPI"]);
        assert!(section.findings[0].evidence.contains("nopvspin"));
        assert_eq!(section.facts["PV TLB flush"]["used"], true);
        assert_eq!(section.facts["steal time"]["used"], true);
    }
}
