//! What kind of machine this is: hardware, a guest of KVM, or one where figures are not what an exit costs.

use std::arch::x86_64::__cpuid;
use std::hint::black_box;

use serde::Serialize;

use crate::kernel_log::KernelLog;
use crate::shared::bracket;

/// What shows it.
pub struct Signs<'a> {
    /// CPUID's signature.
    pub hypervisor: Option<String>,
    /// The kernel's command line.
    pub cmdline: &'a str,
    /// The processor's name.
    pub cpu: &'a str,
    /// The kernel's log, where it can be read.
    pub log: Option<&'a KernelLog>,
    /// The least that a CPUID takes, TSC cycles.
    pub cpuid_cycles: Option<u64>,
}

/// What it seems to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nature {
    /// `bare metal`, `guest`, or `emulated`: by software, without hardware virtualization.
    pub kind: &'static str,
    /// What else is likely, and what speaks for it.
    pub guess: Vec<String>,
    /// Whether figures can be called costs of exits at all: not on bare metal, not in an emulator.
    pub exit_costs: bool,
}

/// CPUID's round trip takes a processor with hardware virtualization 800 to 3,000 cycles since 2008, measurements by generation
/// in O. Agesen et al., Software Techniques for Avoiding Hardware Virtualization Exits, ATC 2012, and 1,200 on today's. In a nested
/// guest each exit is at least two, and some 10,000 cycles.
const NESTED: u64 = 6_000;

/// Without a trip out of the guest it takes some 100 cycles.
const NO_EXIT: u64 = 400;

/// Decides.
pub fn find(signs: &Signs) -> Nature {
    let Some(hypervisor) = &signs.hypervisor else {
        return Nature { kind: "bare metal", guess: Vec::new(), exit_costs: false };
    };
    // target/i386/kvm and accel/tcg of QEMU: signature, and the name of its processors.
    if hypervisor.starts_with("TCG") || signs.cpu.starts_with("QEMU TCG CPU") {
        let guess = vec![format!("QEMU's emulator: CPUID says {hypervisor:?}")];
        return Nature { kind: "emulated", guess, exit_costs: false };
    }
    let mut guess = Vec::new();
    let cycles = signs.cpuid_cycles.unwrap_or(0);
    let pvm = signs
        .cmdline
        .split_ascii_whitespace()
        .find(|word| word.to_ascii_lowercase().contains("pvm"))
        .map(|word| format!("{word:?} is on the command line"))
        .or_else(|| {
            signs.log.and_then(|log| log.find("pvm-guest")).map(|line| format!("the kernel said {line:?}"))
        });
    if let Some(why) = pvm {
        guess.push(format!("PVM (virtual machines by page tables) may be involved: {why}"));
    }
    if cycles >= NESTED {
        guess.push(format!(
            "probably nested or PVM: a CPUID takes {cycles} cycles at least, on a hypervisor of its own hardware 1,000 to 3,000"
        ));
    } else if cycles < NO_EXIT && signs.cpuid_cycles.is_some() {
        guess.push(format!("CPUID may not leave the guest: it takes {cycles} cycles"));
    }
    // arch/x86/mm/mem_encrypt.c
    if let Some(line) = signs.log.and_then(|log| log.find("Memory Encryption Features active")) {
        guess.push(format!(
            "an encrypted guest, which asks its hypervisor through #VC or #VE: the kernel said {line:?}"
        ));
    }
    Nature { kind: "guest", guess, exit_costs: true }
}

/// The least of some CPUIDs, so that no interrupt counts.
pub fn cpuid_cycles() -> u64 {
    let once = || {
        bracket::time(|| {
            black_box(__cpuid(black_box(0)));
        })
        .cycles
    };
    (0..200).map(|_| once()).min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_guest_has_costs_of_exits() {
        let signs = |hypervisor: Option<&str>, cpu, cmdline, cpuid_cycles| Signs {
            hypervisor: hypervisor.map(str::to_owned),
            cmdline,
            cpu,
            log: None,
            cpuid_cycles,
        };
        let metal = find(&signs(None, "AMD EPYC", "", None));
        assert_eq!((metal.kind, metal.exit_costs), ("bare metal", false));
        let tcg = find(&signs(Some("TCGTCGTCGTCG"), "QEMU TCG CPU version 2.5+", "", Some(90)));
        assert_eq!((tcg.kind, tcg.exit_costs), ("emulated", false));
        let plain = find(&signs(Some("KVMKVMKVM"), "AMD EPYC", "quiet", Some(1_300)));
        assert_eq!((plain.kind, plain.exit_costs, plain.guess.len()), ("guest", true, 0));
        let nested = find(&signs(Some("KVMKVMKVM"), "AMD EPYC", "nested_pvm=1", Some(9_800)));
        assert_eq!(nested.guess.len(), 2, "{nested:?}");
    }
}
