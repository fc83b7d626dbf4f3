//! The machine on which figures were measured: without it they cannot be compared.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::kernel_log::KernelLog;
use crate::pv::{self, FEATURES, Traces, Use};
use crate::{cpu, nature};

/// What a field of `environment` means when reports are compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Weight {
    /// Where it differs, the figures are of different machines.
    Decides,
    /// The same, beyond a share of it: it is measured.
    DecidesWithin(f64),
    /// It may differ from run to run, or is a guess.
    Varies,
}

use Weight::{Decides, DecidesWithin, Varies};

/// Every field, as a JSON pointer into `environment`, and whether reports that differ in it can be compared.
///
/// What makes an exit dearer or cheaper decides. What is only known to root, or on some kernels, decides where both
/// reports know it.
pub const FIELDS: &[(&str, Weight)] = &[
    ("/kind", Decides),
    ("/hypervisor", Decides),
    ("/kvm_features", Decides),
    ("/kvm_hints", Decides),
    ("/guess", Varies),
    ("/exit_costs", Varies),
    ("/cpu", Decides),
    ("/microcode", Decides),
    ("/cpus", Decides),
    ("/cpus_allowed", Varies),
    ("/kernel", Decides),
    ("/cmdline", Decides),
    ("/clocksource", Decides),
    ("/cpuidle_driver", Decides),
    ("/cpuidle_governor", Decides),
    ("/guest_halt_poll_ns", Decides),
    ("/apic", Decides),
    ("/pv", Decides),
    ("/mitigations", Decides),
    ("/thp", Decides),
    // Calibration at boot differs by some 10 ppm from boot to boot.
    ("/tsc/hz", DecidesWithin(0.001)),
    ("/tsc/invariant", Decides),
    ("/tsc/source", Varies),
    ("/tsc/error_ppm", Varies),
    ("/tsc/untrusted", Varies),
];

/// Words of the kernel's command line that name disks, consoles and files.
const WORDS_LEFT_OUT: &[&str] = &[
    "BOOT_IMAGE=",
    "root=",
    "rootflags=",
    "resume=",
    "initrd=",
    "console=",
    "init=",
    "rdinit=",
    "systemd.",
    "rd.",
];

/// A file's text without what surrounds it; None where there is none.
pub fn text(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Everything that may change what an exit costs, as far as a guest can see it. The counter, `tsc`, comes later.
pub fn fingerprint() -> Value {
    let cpuinfo = text("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.split('\t').next() == Some(name))?;
        line.split_once(": ").map(|(_, value)| value.to_owned())
    };
    let cmdline = text("/proc/cmdline").unwrap_or_default();
    let driver = text("/sys/devices/system/cpu/cpuidle/current_driver");
    let log = KernelLog::read();
    let log = log.as_ref().map_err(String::as_str);
    let offered = pv::offered();
    let traces = Traces {
        log,
        cmdline: &cmdline,
        interrupts: &text("/proc/interrupts").unwrap_or_default(),
        stat: "",
        cpuidle_driver: None,
    };
    // Only what the log tells once and for all: counters grow.
    let pv = log.is_ok_and(|log| log.is_whole).then(|| {
        let is_used = |feature: &&pv::Feature| {
            offered.is_some_and(|offered| feature.is_in(offered))
                && matches!(feature.is_used(&Traces { interrupts: "", ..traces }), Use::Yes(_))
        };
        FEATURES.iter().filter(is_used).map(|feature| feature.name).collect::<Vec<_>>()
    });
    let nature = nature::find(&nature::Signs {
        hypervisor: cpu::hypervisor(),
        cmdline: &cmdline,
        cpu: &field("model name").unwrap_or_default(),
        log: log.ok(),
        cpuid_cycles: cpu::hypervisor().map(|_| nature::cpuid_cycles()),
    });
    json!({
        "kind": nature.kind,
        "guess": nature.guess,
        "exit_costs": nature.exit_costs,
        "hypervisor": cpu::hypervisor(),
        "kvm_features": offered.map(|offered| format!("{:#x}", offered.features)),
        "kvm_hints": offered.map(|offered| format!("{:#x}", offered.hints)),
        "pv": pv,
        "cpu": field("model name"),
        "microcode": field("microcode"),
        "cpus": cpuinfo.lines().filter(|line| line.split('\t').next() == Some("processor")).count(),
        "cpus_allowed": cpu::allowed().map(|cpus| cpus.len()).unwrap_or(0),
        "kernel": text("/proc/sys/kernel/osrelease"),
        "cmdline": cmdline,
        "clocksource": text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "cpuidle_driver": driver,
        "cpuidle_governor": text("/sys/devices/system/cpu/cpuidle/current_governor")
            .or_else(|| text("/sys/devices/system/cpu/cpuidle/current_governor_ro")),
        "guest_halt_poll_ns": text("/sys/module/haltpoll/parameters/guest_halt_poll_ns")
            .and_then(|text| text.parse::<u64>().ok()),
        "apic": apic_mode(log.ok(), &cpuinfo),
        "mitigations": mitigations(),
        "thp": text("/sys/kernel/mm/transparent_hugepage/enabled").as_deref().and_then(chosen),
    })
}

/// How the local APIC is addressed, in the kernel's words; `xapic` also where it has no x2APIC.
pub fn apic_mode(log: Option<&KernelLog>, cpuinfo: &str) -> Option<&'static str> {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"))?;
    if !flags.split_ascii_whitespace().any(|flag| flag == "x2apic") {
        return Some("xapic");
    }
    let log = log?;
    // arch/x86/kernel/apic/apic.c: "x2apic enabled", "x2apic: enabled by BIOS, switching to x2apic ops".
    if log.find("x2apic enabled").or_else(|| log.find("switching to x2apic ops")).is_some() {
        return Some("x2apic");
    }
    log.is_whole.then_some("xapic")
}

/// The word in brackets.
pub fn chosen(text: &str) -> Option<String> {
    Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())
}

/// What the kernel does about each weakness of the processor.
pub fn mitigations() -> Option<Map<String, Value>> {
    let all = fs::read_dir("/sys/devices/system/cpu/vulnerabilities").ok()?;
    let one = |entry: fs::DirEntry| Some((entry.file_name().into_string().ok()?, text(entry.path())?.into()));
    Some(all.flatten().filter_map(one).collect())
}

/// The words of a command line that may change what an exit costs, sorted.
pub fn words_that_count(cmdline: &str) -> Vec<&str> {
    // What follows the dashes is the first program's.
    let words = cmdline.split_ascii_whitespace().take_while(|word| *word != "--");
    let mut words: Vec<_> =
        words.filter(|word| !WORDS_LEFT_OUT.iter().any(|prefix| word.starts_with(prefix))).collect();
    words.sort_unstable();
    words.dedup();
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_its_weight() {
        let found = fingerprint();
        for name in found.as_object().unwrap().keys() {
            assert!(FIELDS.iter().any(|(field, _)| field.strip_prefix('/') == Some(name)), "{name}");
        }
        for (field, _) in FIELDS.iter().filter(|(field, _)| !field.starts_with("/tsc/")) {
            assert!(found.pointer(field).is_some(), "{field}");
        }
    }

    #[test]
    fn disks_and_consoles_do_not_count() {
        let cmdline = "BOOT_IMAGE=/vmlinuz-6.1 root=UUID=1 quiet idle=poll console=ttyS0 -- --port 5";
        assert_eq!(words_that_count(cmdline), ["idle=poll", "quiet"]);
    }

    #[test]
    fn the_apic_s_mode_is_what_the_kernel_said() {
        let log = |line: &str, is_whole| KernelLog { lines: vec![line.into()], is_whole };
        let cpuinfo = "processor\t: 0\nflags\t\t: fpu x2apic\n";
        assert_eq!(apic_mode(Some(&log("x2apic enabled", false)), cpuinfo), Some("x2apic"));
        assert_eq!(apic_mode(Some(&log("quiet", true)), cpuinfo), Some("xapic"));
        assert_eq!(apic_mode(Some(&log("quiet", false)), cpuinfo), None);
        assert_eq!(apic_mode(None, cpuinfo), None);
        assert_eq!(apic_mode(None, "flags\t\t: fpu\n"), Some("xapic"));
    }
}
