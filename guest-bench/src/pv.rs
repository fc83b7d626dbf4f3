//! What KVM offers a guest beyond the hardware, and what this kernel makes of it.

use std::arch::x86_64::__cpuid;

use serde::Serialize;

use crate::cpu;
use crate::kernel_log::KernelLog;

/// One of KVM's paravirtual features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Bit in EAX of KVM's second leaf: arch/x86/include/uapi/asm/kvm_para.h.
    pub bit: u32,
    /// Its usual name.
    pub name: &'static str,
    /// What the kernel says when it uses it, in any case of letters (arch/x86/kernel/kvm.c, kvmclock.c).
    said: Option<&'static str>,
    /// What it is good for.
    pub about: &'static str,
}

const fn feature(bit: u32, name: &'static str, said: Option<&'static str>, about: &'static str) -> Feature {
    Feature { bit, name, said, about }
}

/// All that are known.
pub const FEATURES: &[Feature] = &[
    feature(0, "kvm-clock (old)", None, "time without exits, by the first MSRs"),
    feature(1, "no I/O delay", None, "no writes to port 0x80 after port I/O"),
    feature(2, "MMU operations", None, "obsolete"),
    feature(3, "kvm-clock", Some("kvm-clock: using msrs"), "time without exits"),
    feature(4, "async page faults (old)", None, "obsolete"),
    feature(5, "steal time", None, "how long the host kept a vCPU from running"),
    feature(
        6,
        "PV EOI",
        Some("kvm_guest_apic_eoi_write"),
        "ends of interrupts without exits, where there is no APICv or AVIC",
    ),
    feature(7, "PV unhalt", Some("PV spinlocks enabled"), "who waits for a lock halts instead of spinning"),
    feature(
        9,
        "PV TLB flush",
        Some("setup pv remote tlb flush"),
        "no flush is sent to vCPUs that do not run",
    ),
    feature(10, "async page faults as exits", None, "for nested guests"),
    feature(11, "PV IPI", Some("setup pv ipis"), "one hypercall for interrupts to many vCPUs"),
    feature(12, "poll control", None, "the guest can turn off polling by the host"),
    feature(
        13,
        "PV sched yield",
        Some("setup pv sched yield"),
        "who interrupts a vCPU that does not run lets it run",
    ),
    feature(14, "async page faults", None, "other threads run while the host fetches a page"),
    feature(15, "extended MSI destinations", None, "more than 255 vCPUs without an IOMMU"),
    feature(16, "map GPA range", None, "for encrypted guests"),
    feature(17, "migration control", None, "for encrypted guests"),
    feature(24, "stable clock", None, "kvm-clock needs no correction between vCPUs"),
];

/// What CPUID shows of KVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offered {
    /// EAX: [`FEATURES`].
    pub features: u32,
    /// EDX; bit 0: vCPUs are never kept from running (`KVM_HINTS_REALTIME`).
    pub hints: u32,
}

/// KVM's leaves are the first or, behind Hyper-V's, some multiple of 0x100 further (arch/x86/include/asm/processor.h,
/// `hypervisor_cpuid_base`).
pub fn offered() -> Option<Offered> {
    cpu::hypervisor()?;
    let base = (0x4000_0000..0x4001_0000).step_by(0x100).find(|base| {
        let leaf = __cpuid(*base);
        [leaf.ebx, leaf.ecx, leaf.edx].map(u32::to_le_bytes).concat() == b"KVMKVMKVM\0\0\0"
    })?;
    let leaf = __cpuid(base + 1);
    Some(Offered { features: leaf.eax, hints: leaf.edx })
}

/// Whether the kernel uses a feature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// It does, as this shows.
    Yes(String),
    /// It does not, as this shows.
    No(String),
    /// Nothing tells.
    Unknown(String),
}

/// What may show that a feature is used.
pub struct Traces<'a> {
    /// The kernel's log, or why it cannot be read.
    pub log: Result<&'a KernelLog, &'a str>,
    /// The kernel's command line.
    pub cmdline: &'a str,
    /// /proc/interrupts
    pub interrupts: &'a str,
    /// /proc/stat
    pub stat: &'a str,
    /// The cpuidle driver in use.
    pub cpuidle_driver: Option<&'a str>,
}

impl Feature {
    /// Whether KVM offers it.
    pub fn is_in(&self, offered: Offered) -> bool {
        offered.features >> self.bit & 1 != 0
    }

    /// Whether the kernel uses it, as far as something shows it.
    pub fn is_used(&self, traces: &Traces) -> Use {
        let off = |word: &str| traces.cmdline.split_ascii_whitespace().any(|one| one == word);
        match self.bit {
            3 if off("no-kvmclock") => return Use::No("no-kvmclock is on the command line".into()),
            5 if off("no-steal-acc") => return Use::No("no-steal-acc is on the command line".into()),
            5 if has_steal(traces.stat) => return Use::Yes("/proc/stat counts stolen time".into()),
            7 if off("nopvspin") => return Use::No("nopvspin is on the command line".into()),
            12 => {
                return match traces.cpuidle_driver {
                    Some("haltpoll") => Use::Yes("the cpuidle driver is haltpoll".into()),
                    Some(driver) => Use::No(format!("the cpuidle driver is {driver}, not haltpoll")),
                    None => Use::No("there is no cpuidle driver".into()),
                };
            }
            14 if off("no-kvmapf") => return Use::No("no-kvmapf is on the command line".into()),
            14 if counted(traces.interrupts, "HYP") > 0 => {
                return Use::Yes("/proc/interrupts counts HYP interrupts".into());
            }
            _ => {}
        }
        match (self.said, traces.log) {
            (None, _) => Use::Unknown("nothing that this program may read shows it".into()),
            (Some(_), Err(why)) => Use::Unknown(why.to_owned()),
            (Some(said), Ok(log)) => match log.find(said) {
                Some(line) => Use::Yes(format!("the kernel said {line:?}")),
                // Kernels before 6.5 set it without a word.
                None if self.bit == 6 => Use::Unknown("the kernel said nothing, as older ones do".into()),
                None if log.is_whole => Use::No("the kernel did not say so when it booted".into()),
                None => Use::Unknown("the kernel's log does not reach back to the boot".into()),
            },
        }
    }
}

/// Stolen time of all CPUs: Documentation/filesystems/proc.rst, 1.7.
fn has_steal(stat: &str) -> bool {
    let all = stat.lines().find(|line| line.starts_with("cpu "));
    all.and_then(|line| line.split_ascii_whitespace().nth(8)?.parse::<u64>().ok())
        .is_some_and(|steal| steal > 0)
}

/// All of a kind of interrupt.
fn counted(interrupts: &str, kind: &str) -> u64 {
    let line = interrupts.lines().find(|line| line.trim_start().split(':').next() == Some(kind));
    let numbers = line.unwrap_or_default().split_ascii_whitespace().skip(1);
    numbers.map_while(|word| word.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> &'static Feature {
        FEATURES.iter().find(|feature| feature.name == name).unwrap()
    }

    #[test]
    fn a_feature_is_used_only_where_something_shows_it() {
        let log = KernelLog {
            lines: vec!["kvm-guest: setup PV IPIs".into(), "kvm-guest: KVM setup pv remote TLB flush".into()],
            is_whole: true,
        };
        let traces = |log, cmdline| Traces {
            log,
            cmdline,
            interrupts: "      CPU0 CPU1\nHYP:  0  3  Hypervisor callback interrupts\n",
            stat: "cpu  1 2 3 4 5 6 7 0 0 0\n",
            cpuidle_driver: None,
        };
        let used = |name| named(name).is_used(&traces(Ok(&log), "quiet"));
        assert!(matches!(used("PV IPI"), Use::Yes(_)));
        assert!(matches!(used("PV TLB flush"), Use::Yes(_)));
        assert!(matches!(used("async page faults"), Use::Yes(_)));
        assert!(matches!(used("PV unhalt"), Use::No(_)));
        assert!(matches!(used("steal time"), Use::Unknown(_)));
        assert!(matches!(used("PV EOI"), Use::Unknown(_)));
        assert!(matches!(used("poll control"), Use::No(_)));
        let late = KernelLog { is_whole: false, ..KernelLog::default() };
        assert!(matches!(named("PV IPI").is_used(&traces(Ok(&late), "")), Use::Unknown(_)));
        assert!(matches!(named("PV IPI").is_used(&traces(Err("no right"), "")), Use::Unknown(_)));
        assert!(matches!(named("kvm-clock").is_used(&traces(Err(""), "no-kvmclock")), Use::No(_)));
    }
}
