//! Who uses the processor's counters: each switch between profiled threads writes registers that KVM emulates.

use std::collections::BTreeMap;
use std::fs;

use serde_json::json;

use super::{Certainty, Finding, Section, Severity, System};

pub(super) fn examine(system: &System) -> Section {
    let mut section = Section::new("profilers");
    let number = |path: &str| system.read(path).and_then(|text| text.parse::<i64>().ok());
    section.fact("perf_event_paranoid", number("/proc/sys/kernel/perf_event_paranoid"));
    let watchdog = number("/proc/sys/kernel/nmi_watchdog");
    section.fact("nmi_watchdog", watchdog);
    let (users, hidden) = users(system);
    section.fact("perf_event_users", json!(users));
    if hidden > 0 {
        section.unknown(
            "perf events of other users' processes",
            format!("{hidden} processes do not show their files; run this as root"),
        );
    }
    if watchdog == Some(1) {
        section.findings.push(Finding {
            severity: Severity::Info,
            certainty: Certainty::Seen,
            what: "the kernel's NMI watchdog uses a hardware counter".into(),
            evidence: "kernel.nmi_watchdog is 1".into(),
            costs: "an NMI per vCPU every 10 s or so with several exits, and a counter less for others"
                .into(),
            remedy: "sysctl kernel.nmi_watchdog=0; KVM's guests have it off by themselves".into(),
        });
    }
    if !users.is_empty() {
        let names: Vec<String> = users.iter().map(|(name, count)| format!("{name} ({count})")).collect();
        section.findings.push(Finding {
            severity: Severity::Info,
            certainty: Certainty::Possible,
            what: "programs have perf events open".into(),
            evidence: format!("descriptors of perf events: {}", names.join(", ")),
            costs: "with hardware events, writes of counter registers at context switches and interrupts, each an exit unless the host passes its counters through; with software events nothing".into(),
            remedy: "stop them, and see whether the exits stop: on the host, kvm-utils msr".into(),
        });
    }
    section
}

/// How many descriptors of perf events programs have, by the program's name, and how many processes do not tell.
fn users(system: &System) -> (BTreeMap<String, usize>, usize) {
    let (mut users, mut hidden) = (BTreeMap::new(), 0);
    let Ok(processes) = fs::read_dir(system.root.join("proc")) else { return (users, hidden) };
    let is_process =
        |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit);
    for process in processes.flatten().filter(is_process) {
        let files = match fs::read_dir(process.path().join("fd")) {
            Ok(files) => files,
            Err(error) => {
                // It may have ended, too.
                hidden += usize::from(error.kind() == std::io::ErrorKind::PermissionDenied);
                continue;
            }
        };
        let is_event = |file: &fs::DirEntry| {
            fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == "anon_inode:[perf_event]")
        };
        let count = files.flatten().filter(is_event).count();
        if count > 0 {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            *users.entry(name.trim().to_owned()).or_insert(0) += count;
        }
    }
    (users, hidden)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::made_up;

    #[test]
    fn descriptors_of_perf_events_are_counted_by_program() {
        let files =
            [("proc/42/comm", "perf\n"), ("proc/42/fd/x", ""), ("proc/sys/kernel/nmi_watchdog", "1\n")];
        let (directory, system) = made_up(&files, &[], 0);
        for name in ["3", "4"] {
            let link = directory.path().join("proc/42/fd").join(name);
            std::os::unix::fs::symlink("anon_inode:[perf_event]", link).unwrap();
        }
        let section = examine(&system);
        assert_eq!(section.facts["perf_event_users"], json!({"perf": 2}));
        assert_eq!(section.findings.len(), 2);
    }
}
