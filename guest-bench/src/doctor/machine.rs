//! What kind of machine it is, and settings of it that change what exits cost.

use serde_json::{Value, json};

use super::{Certainty, Finding, Section, Severity, System};
use crate::environment::{apic_mode, chosen};
use crate::{cpu, nature};

pub(super) fn examine(system: &System) -> Section {
    let mut section = Section::new("machine");
    let cpuinfo = system.read("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map(|(_, name)| name).unwrap_or_default();
    let nature = nature::find(&nature::Signs {
        hypervisor: cpu::hypervisor(),
        cmdline: &system.read("/proc/cmdline").unwrap_or_default(),
        cpu: model,
        log: system.log.as_ref().ok(),
        cpuid_cycles: cpu::hypervisor().map(|_| nature::cpuid_cycles()),
    });
    section.fact("kind", nature.kind);
    section.fact("guess", nature.guess);
    section.fact("exit_costs", nature.exit_costs);
    if !nature.exit_costs {
        section.findings.push(Finding {
            severity: Severity::Info,
            certainty: Certainty::Likely,
            what: "nothing here costs exits of KVM".into(),
            evidence: match cpu::hypervisor() {
                Some(signature) => format!("CPUID says {signature:?}, an emulator"),
                None => "CPUID shows no hypervisor".into(),
            },
            costs: "none; what other findings say of exits holds for guests of KVM".into(),
            remedy: "run this in the guest that is meant".into(),
        });
    }
    section.fact("hypervisor", cpu::hypervisor());
    section.fact("cpu", model);
    section.fact("kernel", system.read("/proc/sys/kernel/osrelease"));
    let apic = apic_mode(system.log.as_ref().ok(), &cpuinfo);
    section.fact("apic", apic);
    if apic.is_none()
        && let Err(why) = &system.log
    {
        section.unknown("the local APIC's mode", why.clone());
    }
    let thp = system.read("/sys/kernel/mm/transparent_hugepage/enabled").as_deref().and_then(chosen);
    section.fact("transparent_hugepages", thp.clone());
    section.fact(
        "timer_slack_ns",
        system.read("/proc/self/timerslack_ns").and_then(|text| text.parse::<u64>().ok()),
    );
    section.fact(
        "nohz_full",
        system.read("/sys/devices/system/cpu/nohz_full").filter(|text| !text.is_empty() && text != "(null)"),
    );
    section.fact("mitigations", mitigations(system));
    if apic == Some("xapic") && nature.exit_costs {
        section.findings.push(Finding {
            severity: Severity::Warning,
            certainty: Certainty::Likely,
            what: "the local APIC is addressed through memory (xAPIC)".into(),
            evidence: "the kernel did not say that it turned on x2APIC, or the processor has none".into(),
            costs: "each interrupt sent and each timer set is a page fault of the guest's memory that KVM has to decode, dearer than x2APIC's MSR write; less with APICv or AVIC".into(),
            remedy: "have the VMM offer x2apic, and leave nox2apic off the kernel's command line".into(),
        });
    }
    if thp.as_deref() == Some("never") {
        section.findings.push(Finding {
            severity: Severity::Info,
            certainty: Certainty::Possible,
            what: "transparent huge pages are off".into(),
            evidence: "transparent_hugepage/enabled is never".into(),
            costs: "TLB misses, each of which walks two sets of page tables in a guest; no exits once the host has the memory".into(),
            remedy: "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, and measure".into(),
        });
    }
    section
}

fn mitigations(system: &System) -> Value {
    let directory = system.root.join("sys/devices/system/cpu/vulnerabilities");
    let Ok(all) = std::fs::read_dir(directory) else { return Value::Null };
    let one = |entry: std::fs::DirEntry| {
        let text = crate::environment::text(entry.path()).filter(|text| text != "Not affected")?;
        Some((entry.file_name().into_string().ok()?, Value::from(text)))
    };
    json!(all.flatten().filter_map(one).collect::<serde_json::Map<_, _>>())
}
