//! The clock source: the difference between no exit and a trip to the VMM for each question for the time.

use super::{Certainty, Finding, Section, Severity, System};

const DIRECTORY: &str = "/sys/devices/system/clocksource/clocksource0";

/// Flags of /proc/cpuinfo that decide whether the kernel takes the TSC for a clock (arch/x86/kernel/tsc.c).
const FLAGS: &[&str] = &[
    "constant_tsc",
    "nonstop_tsc",
    "tsc_known_freq",
    "tsc_reliable",
    "tsc_adjust",
    "tsc_deadline_timer",
    "rdtscp",
];

/// What the kernel says when it gives up on a clock: kernel/time/clocksource.c, arch/x86/kernel/tsc.c and tsc_sync.c.
const GIVEN_UP: &[&str] = &[
    "Marking clocksource 'tsc' as unstable",
    "Marking TSC unstable",
    "TSC found unstable",
    "TSC doesn't count with P0 frequency",
    "tsc: Fast TSC calibration failed",
    "clocksource: timekeeping watchdog",
];

/// Bit 24, `KVM_FEATURE_CLOCKSOURCE_STABLE_BIT`.
const STABLE: u32 = 1 << 24;

pub(super) fn examine(system: &System) -> Section {
    let mut section = Section::new("clock");
    let flags = system.cpu_flags();
    let has: Vec<&str> = FLAGS.iter().copied().filter(|flag| flags.iter().any(|one| one == flag)).collect();
    section.fact("tsc_flags", has.clone());
    let available = system.read(&format!("{DIRECTORY}/available_clocksource")).unwrap_or_default();
    let available: Vec<&str> = available.split_ascii_whitespace().collect();
    section.fact("available", available.clone());
    let Some(current) = system.read(&format!("{DIRECTORY}/current_clocksource")) else {
        section.unknown(
            "clocksource",
            "sysfs is not mounted here; mount it, or look from outside of the container",
        );
        return section;
    };
    section.fact("clocksource", current.clone());
    let asked = system
        .cmdline()
        .into_iter()
        .find(|word| word.starts_with("clocksource=") || word.starts_with("tsc="));
    // What it said before it took the TSC after all does not matter.
    let given_up = system.said(GIVEN_UP).filter(|_| current != "tsc").map(str::to_owned);
    let why = match (&asked, &given_up, &system.log) {
        (Some(word), _, _) => Some(format!("{word} is on the kernel's command line")),
        (None, Some(line), _) => Some(format!("the kernel said {line:?}")),
        (None, None, Err(why)) if current != "tsc" => {
            section.unknown("why the kernel chose this clock source", why.clone());
            None
        }
        (None, None, _) => None,
    };
    section.fact("why", why.clone());
    let evidence = |more: &str| match &why {
        Some(why) => format!("current_clocksource is {current}{more}; {why}"),
        None => format!("current_clocksource is {current}{more}"),
    };
    let better =
        ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page"].into_iter().find(|one| available.contains(one));
    match current.as_str() {
        "acpi_pm" | "hpet" | "jiffies" | "refined-jiffies" | "pit" => section.findings.push(Finding {
            severity: Severity::Problem,
            certainty: if matches!(current.as_str(), "acpi_pm" | "hpet") { Certainty::Seen } else { Certainty::Likely },
            what: format!("the clock source is {current}"),
            evidence: evidence(""),
            costs: match current.as_str() {
                "acpi_pm" | "hpet" => "each question for the time is a system call and an exit to the VMM: `kvm-bench clock` measures it".into(),
                _ => "time moves in steps of a tick only".into(),
            },
            remedy: match better {
                Some(better) => format!("echo {better} > {DIRECTORY}/current_clocksource, and if the kernel gave up on it find out why first"),
                None => "have the host offer an invariant TSC (QEMU: -cpu host,+invtsc) or kvm-clock, and leave clocksource= off the kernel's command line".into(),
            },
        }),
        "kvm-clock" => {
            if system.offered.is_some_and(|offered| offered.features & STABLE == 0) {
                section.findings.push(Finding {
                    severity: Severity::Warning,
                    certainty: Certainty::Likely,
                    what: "kvm-clock may differ between vCPUs".into(),
                    evidence: evidence(", and KVM does not offer the stable clock (CPUID feature bit 24)"),
                    costs: "each question for the time is a system call instead of some 30 ns in user space; no exit".into(),
                    remedy: "on the host: the TSC has to be its clock source, and the vCPUs' TSCs in step".into(),
                });
            }
            if available.contains(&"tsc") && has.contains(&"nonstop_tsc") {
                section.findings.push(Finding {
                    severity: Severity::Info,
                    certainty: Certainty::Seen,
                    what: "kvm-clock is used though the TSC could be".into(),
                    evidence: evidence(", available are kvm-clock and tsc, the TSC is constant and does not stop"),
                    costs: "a few ns for each question for the time; no exits".into(),
                    remedy: format!("nothing, or echo tsc > {DIRECTORY}/current_clocksource"),
                });
            }
        }
        _ => {}
    }
    if let Some(line) = given_up
        && !section.findings.iter().any(|finding| finding.severity == Severity::Problem)
    {
        section.findings.push(Finding {
            severity: Severity::Warning,
            certainty: Certainty::Seen,
            what: "the kernel gave up on the TSC, or doubted it".into(),
            evidence: format!("it said {line:?}"),
            costs: "another clock source, and cycles that are not time in this program's reports".into(),
            remedy: "look on the host for vCPUs that waited long for a CPU, for migration to a machine of another speed, and whether the TSC is its own clock source".into(),
        });
    }
    section
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::made_up;

    const CPUINFO: (&str, &str) =
        ("proc/cpuinfo", "flags\t\t: fpu constant_tsc nonstop_tsc tsc_known_freq\n");

    fn clock(current: &str, available: &str, cmdline: &str, log: &[&str]) -> Section {
        let files = [
            CPUINFO,
            ("proc/cmdline", cmdline),
            ("sys/devices/system/clocksource/clocksource0/current_clocksource", current),
            ("sys/devices/system/clocksource/clocksource0/available_clocksource", available),
        ];
        let (_directory, system) = made_up(&files, log, STABLE);
        examine(&system)
    }

    #[test]
    fn a_clock_that_exits_is_a_problem_with_its_cause() {
        let section = clock(
            "acpi_pm\n",
            "acpi_pm\n",
            "quiet",
            &["clocksource: Marking clocksource 'tsc' as unstable because the skew is too large:"],
        );
        let finding = &section.findings[0];
        assert_eq!((finding.severity, finding.certainty), (Severity::Problem, Certainty::Seen));
        assert!(finding.evidence.contains("skew is too large"), "{finding:?}");
        assert!(finding.remedy.contains("invtsc"), "{finding:?}");
        let section = clock("hpet\n", "tsc hpet acpi_pm\n", "clocksource=hpet", &[]);
        assert!(section.findings[0].evidence.contains("clocksource=hpet"));
        assert!(section.findings[0].remedy.contains("echo tsc"));
    }

    #[test]
    fn the_tsc_is_no_problem() {
        let section = clock("tsc\n", "tsc kvm-clock\n", "quiet", &["tsc: Detected 2596.120 MHz processor"]);
        assert_eq!(section.findings, []);
        assert_eq!(clock("kvm-clock\n", "tsc kvm-clock\n", "", &[]).findings[0].severity, Severity::Info);
    }
}
