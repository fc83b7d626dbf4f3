//! How packets are paced: by timers, each of which is armed by an exit.

use serde_json::json;

use super::{Certainty, Finding, Section, Severity, System, qdisc};

pub(super) fn examine(system: &System) -> Section {
    let mut section = Section::new("network");
    let control = system.read("/proc/sys/net/ipv4/tcp_congestion_control");
    let usual = system.read("/proc/sys/net/core/default_qdisc");
    section.fact("congestion_control", control.clone());
    section.fact("default_qdisc", usual);
    // Of this network namespace, which a system made up for a test has not.
    let disciplines = if system.root == std::path::Path::new("/") { qdisc::all() } else { Ok(Vec::new()) };
    let disciplines = disciplines.unwrap_or_else(|error| {
        section
            .unknown("queueing disciplines", format!("the kernel does not tell ({error}); `tc qdisc` may"));
        Vec::new()
    });
    let named: Vec<_> =
        disciplines.iter().map(|one| json!({"device": one.device, "kind": one.kind})).collect();
    section.fact("qdiscs", named);
    judge(&mut section, control.as_deref(), &disciplines);
    section
}

fn judge(section: &mut Section, control: Option<&str>, disciplines: &[qdisc::Discipline]) {
    let fq: Vec<&str> =
        disciplines.iter().filter(|one| one.kind == "fq").map(|one| one.device.as_str()).collect();
    let is_bbr = control.is_some_and(|control| control.starts_with("bbr"));
    if !is_bbr && fq.is_empty() {
        return;
    }
    let (evidence, timers) = match (is_bbr, fq.is_empty()) {
        (true, false) => (
            format!("BBR is the default, and {} uses fq", fq.join(", ")),
            "fq sets a timer for the next packet due",
        ),
        (true, true) => (
            "BBR is the default, and no device uses fq".into(),
            "TCP paces by itself, with a timer for each busy connection",
        ),
        (false, _) => (
            format!("{} uses fq", fq.join(", ")),
            "fq sets a timer for the next packet due, of connections that are paced",
        ),
    };
    section.findings.push(Finding {
        severity: if is_bbr { Severity::Warning } else { Severity::Info },
        certainty: Certainty::Possible,
        what: "sending is paced by timers".into(),
        evidence,
        costs: format!("{timers}: while data are sent, up to tens of thousands of TSC_DEADLINE writes per second, each an exit"),
        remedy: "compare with sysctl net.ipv4.tcp_congestion_control=cubic (new connections only), and count TSC_DEADLINE writes on the host with kvm-utils wrmsr".into(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pacing_is_possible_not_certain() {
        let found = |control, kinds: &[&str]| {
            let disciplines: Vec<_> = kinds
                .iter()
                .map(|kind| qdisc::Discipline { device: "eth0".into(), kind: (*kind).into() })
                .collect();
            let mut section = Section::new("network");
            judge(&mut section, Some(control), &disciplines);
            section.findings.into_iter().next()
        };
        let both = found("bbr", &["mq", "fq"]).unwrap();
        assert_eq!((both.severity, both.certainty), (Severity::Warning, Certainty::Possible));
        assert!(both.evidence.contains("eth0 uses fq"));
        assert!(found("bbr", &["fq_codel"]).unwrap().costs.starts_with("TCP paces by itself"));
        assert_eq!(found("cubic", &["fq"]).unwrap().severity, Severity::Info);
        assert_eq!(found("cubic", &["fq_codel"]), None);
    }
}
