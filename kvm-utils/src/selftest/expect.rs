//! Which exits an operation makes on which vendor, and whether what was counted agrees.

use std::collections::{BTreeMap, BTreeSet};

use super::host::Host;
use super::plan::Operation;
use super::session::PhaseReport;
use crate::decode::Isa;

/// VMX basic exit reasons: kernel, arch/x86/include/uapi/asm/vmx.h.
mod vmx {
    pub const EXCEPTION_NMI: u32 = 0;
    pub const EXTERNAL_INTERRUPT: u32 = 1;
    pub const INTERRUPT_WINDOW: u32 = 7;
    pub const NMI_WINDOW: u32 = 8;
    pub const CPUID: u32 = 10;
    pub const HLT: u32 = 12;
    pub const INVD: u32 = 13;
    pub const VMCALL: u32 = 18;
    pub const CR_ACCESS: u32 = 28;
    pub const DR_ACCESS: u32 = 29;
    pub const IO_INSTRUCTION: u32 = 30;
    pub const MSR_READ: u32 = 31;
    pub const MSR_WRITE: u32 = 32;
    pub const APIC_ACCESS: u32 = 44;
    pub const EPT_VIOLATION: u32 = 48;
    pub const EPT_MISCONFIG: u32 = 49;
    pub const PREEMPTION_TIMER: u32 = 52;
    pub const WBINVD: u32 = 54;
    pub const XSETBV: u32 = 55;
    pub const APIC_WRITE: u32 = 56;
}

/// SVM exit codes: kernel, arch/x86/include/uapi/asm/svm.h.
mod svm {
    pub const READ_CR4: u32 = 0x004;
    pub const WRITE_CR0: u32 = 0x010;
    pub const WRITE_CR4: u32 = 0x014;
    pub const READ_DR7: u32 = 0x027;
    pub const UD_EXCEPTION: u32 = 0x046;
    pub const INTERRUPT: u32 = 0x060;
    pub const NMI: u32 = 0x061;
    pub const VINTR: u32 = 0x064;
    pub const CR0_SELECTIVE_WRITE: u32 = 0x065;
    pub const CPUID: u32 = 0x072;
    pub const INVD: u32 = 0x076;
    pub const HLT: u32 = 0x078;
    pub const IO: u32 = 0x07b;
    pub const MSR: u32 = 0x07c;
    pub const VMMCALL: u32 = 0x081;
    pub const WBINVD: u32 = 0x089;
    pub const XSETBV: u32 = 0x08d;
    pub const IDLE_HLT: u32 = 0x0a6;
    pub const NPF: u32 = 0x400;
    pub const AVIC_UNACCELERATED: u32 = 0x402;
}

/// Accesses to the LAPIC's page, depending on how much of it the processor virtualizes.
const LAPIC_VMX: &[u32] = &[vmx::APIC_ACCESS, vmx::APIC_WRITE, vmx::EPT_MISCONFIG, vmx::EPT_VIOLATION];
/// The same on AMD.
const LAPIC_SVM: &[u32] = &[svm::NPF, svm::AVIC_UNACCELERATED];

/// Exits that the host adds at any time: its own interrupts and KVM's bookkeeping of interrupt delivery.
#[must_use]
pub fn background(isa: Isa) -> &'static [u32] {
    match isa {
        Isa::Vmx => &[
            vmx::EXCEPTION_NMI,
            vmx::EXTERNAL_INTERRUPT,
            vmx::INTERRUPT_WINDOW,
            vmx::NMI_WINDOW,
            vmx::PREEMPTION_TIMER,
        ],
        Isa::Svm => &[svm::INTERRUPT, svm::NMI, svm::VINTR],
        Isa::Other(_) => &[],
    }
}

/// An address in the local APIC's page at its reset address.
fn in_lapic(address: u32) -> bool {
    address & !0xfff == 0xfee0_0000
}

/// Whether an operation can be asked of this host and its exits are known; else why not. Of a KVM that is neither
/// kvm_intel nor kvm_amd only the simplest can be asked, and [`exits`] expects nothing.
pub fn support(host: &Host, operation: Operation) -> Result<(), String> {
    match operation {
        // Enough to see whether such a KVM traces exits at all.
        Operation::Cpuid { .. } | Operation::PortIn { .. } | Operation::PortOut { .. } => Ok(()),
        _ if matches!(host.isa, Isa::Other(_)) => {
            Err("this host's KVM is neither kvm_intel nor kvm_amd".to_owned())
        }
        Operation::MmioRead { .. } | Operation::MmioWrite { .. } | Operation::TouchFresh
            if !host.nested_paging =>
        {
            Err("without nested paging (EPT, NPT) memory accesses exit as page faults".to_owned())
        }
        Operation::ReadCr4 if host.isa == Isa::Vmx => Err("reading CR4 does not exit with VMX".to_owned()),
        // Seen with 7.2 and no longer with 10.0.
        Operation::ReadCr4 if host.tcg => {
            Err("QEMU's software emulation does not always intercept reads of CR4".to_owned())
        }
        Operation::SendIpi { .. } if host.virtual_apic => {
            Err("with APICv or AVIC interrupts between vCPUs may not exit".to_owned())
        }
        Operation::Xsetbv if host.tcg => {
            Err("QEMU's software emulation does not intercept XSETBV".to_owned())
        }
        Operation::Xsetbv if !host.xsave => Err("this processor has no XSAVE".to_owned()),
        _ => Ok(()),
    }
}

/// So many exits in one of these codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Exit reasons without flags; which of them depends on processor and kernel. Together they make `count`.
    pub codes: BTreeSet<u32>,
    /// How many.
    pub count: u64,
    /// The other count that is right, if KVM may let the guest try the instruction again before it emulates it.
    pub or_count: Option<u64>,
    /// Each exit with one of these codes in the same window may have caused one more. Empty: the count is exact.
    pub more_with: BTreeSet<u32>,
}

fn exactly(codes: &[u32], count: u64) -> Expected {
    Expected { codes: codes.iter().copied().collect(), count, or_count: None, more_with: BTreeSet::new() }
}

/// The exits of an operation that was executed `executed` times in a step of `count`.
#[must_use]
pub fn exits(host: &Host, operation: Operation, executed: u64, count: u64) -> Vec<Expected> {
    let by = |intel: &[u32], amd: &[u32]| match host.isa {
        Isa::Vmx => exactly(intel, executed),
        Isa::Svm => exactly(amd, executed),
        Isa::Other(_) => exactly(&[], 0),
    };
    let all = match operation {
        Operation::Cpuid { .. } | Operation::SpinCpuid => vec![by(&[vmx::CPUID], &[svm::CPUID])],
        Operation::PortIn { .. } | Operation::PortOut { .. } => vec![by(&[vmx::IO_INSTRUCTION], &[svm::IO])],
        // Read ahead at once (`emulator_pio_in_emulated`, arch/x86/kvm/x86.c).
        Operation::PortInString { .. } => vec![by(&[vmx::IO_INSTRUCTION], &[svm::IO])],
        Operation::PortOutString { bytes, .. } => {
            // One exit as long as the kernel takes the bytes, one for each that it hands to user space.
            let mut out = by(&[vmx::IO_INSTRUCTION], &[svm::IO]);
            out.or_count = Some(u64::from(bytes) * executed);
            vec![out]
        }
        Operation::MmioRead { address } if in_lapic(address) => {
            let mut read = by(LAPIC_VMX, LAPIC_SVM);
            if host.isa == Isa::Vmx {
                // Where the APIC page is not mapped because APICv is off or inhibited, each read is an EPT violation,
                // which some kernels first answer by letting the guest try again (`EMULTYPE_ALLOW_RETRY_PF`,
                // arch/x86/kvm/x86.c): seen with 6.1, not with 6.12.
                read.or_count = Some(2 * executed);
            }
            vec![read]
        }
        Operation::MmioWrite { address, .. } if in_lapic(address) => vec![by(LAPIC_VMX, LAPIC_SVM)],
        // a violation where KVM cannot mark pages as device memory (kvm.mmio_caching=0)
        Operation::MmioRead { .. } | Operation::MmioWrite { .. } => {
            vec![by(&[vmx::EPT_MISCONFIG, vmx::EPT_VIOLATION], &[svm::NPF])]
        }
        Operation::ReadMsr { .. } => vec![by(&[vmx::MSR_READ], &[svm::MSR])],
        Operation::WriteMsr { .. } | Operation::SendIpi { .. } => vec![by(&[vmx::MSR_WRITE], &[svm::MSR])],
        Operation::Hypercall { .. } => vec![by(&[vmx::VMCALL], &[svm::VMMCALL])],
        Operation::HaltTimer { .. } => {
            let mut arm = by(&[vmx::MSR_WRITE], &[svm::MSR]);
            arm.count = count;
            vec![by(&[vmx::HLT], &[svm::HLT, svm::IDLE_HLT]), arm]
        }
        Operation::HaltMessage => vec![by(&[vmx::HLT], &[svm::HLT, svm::IDLE_HLT])],
        Operation::TouchFresh => vec![by(&[vmx::EPT_VIOLATION], &[svm::NPF])],
        Operation::WriteCr0 => vec![by(&[vmx::CR_ACCESS], &[svm::CR0_SELECTIVE_WRITE, svm::WRITE_CR0])],
        Operation::WriteCr4 => vec![by(&[vmx::CR_ACCESS], &[svm::WRITE_CR4])],
        Operation::ReadCr4 => vec![by(&[], &[svm::READ_CR4])],
        Operation::ReadDr7 => {
            // KVM's answer to the exit is to stop intercepting until the next exit, and to enter again. If a host
            // interrupt exits before the instruction has run, it is intercepted once more.
            let mut read = by(&[vmx::DR_ACCESS], &[svm::READ_DR7]);
            read.more_with = background(host.isa).iter().copied().collect();
            vec![read, by(&[vmx::CPUID], &[svm::CPUID])]
        }
        Operation::Wbinvd => vec![by(&[vmx::WBINVD], &[svm::WBINVD])],
        // QEMU's software emulation reports the neighbouring code
        Operation::Invd if host.tcg => vec![by(&[vmx::INVD], &[svm::INVD, svm::WBINVD])],
        Operation::Invd => vec![by(&[vmx::INVD], &[svm::INVD])],
        Operation::Xsetbv => vec![by(&[vmx::XSETBV], &[svm::XSETBV])],
        Operation::Ud2 => vec![by(&[vmx::EXCEPTION_NMI], &[svm::UD_EXCEPTION])],
        Operation::SpinQuiet | Operation::AwaitInterrupts => Vec::new(),
    };
    all.into_iter().filter(|expected| !expected.codes.is_empty()).collect()
}

/// What a finished phase must have caused: its steps as executed, the port write that ends each vCPU's batch, and
/// the ends of interrupts that needed a write.
#[must_use]
pub fn expected(host: &Host, report: &PhaseReport) -> Vec<Expected> {
    let mut all = Vec::new();
    for vcpu in &report.vcpus {
        for step in &vcpu.steps {
            all.extend(exits(host, step.operation, step.executed, step.count));
        }
        all.extend(exits(host, Operation::PortOut { port: kvm_bench::protocol::DONE_PORT, value: 0 }, 1, 1));
        if vcpu.eoi_writes > 0 && !host.virtual_apic {
            let write = if vcpu.x2apic {
                Operation::WriteMsr { index: 0x80b, value: 0 }
            } else {
                Operation::MmioWrite { address: 0xfee0_00b0, value: 0 }
            };
            all.extend(exits(host, write, vcpu.eoi_writes, vcpu.eoi_writes));
        }
    }
    merge(all)
}

/// Adds up what cannot be told apart: expectations that share a code become one.
#[must_use]
pub fn merge(all: impl IntoIterator<Item = Expected>) -> Vec<Expected> {
    let mut merged: Vec<Expected> = Vec::new();
    for mut next in all {
        // An earlier one may bring in codes that overlap with yet others.
        while let Some(at) = merged.iter().position(|known| !known.codes.is_disjoint(&next.codes)) {
            let known = merged.swap_remove(at);
            let others = |one: &Expected| one.or_count.unwrap_or(one.count);
            let or_count = others(&next) + others(&known);
            next.count += known.count;
            next.or_count = Some(or_count).filter(|&or_count| or_count != next.count);
            next.codes.extend(known.codes);
            next.more_with.extend(known.more_with);
        }
        merged.push(next);
    }
    merged.sort_by_key(|expected| expected.codes.first().copied());
    merged
}

/// One line of a [`Comparison`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What was expected; its count is the one of the two that agrees, if there are two.
    pub expected: Expected,
    /// What was counted in its codes.
    pub counted: u64,
    /// The same by code, without zeros: which of the possible reasons it was.
    pub by_code: BTreeMap<u32, u64>,
    /// The highest count that still agrees.
    pub at_most: u64,
}

impl Row {
    /// Whether the count agrees.
    #[must_use]
    pub fn agrees(&self) -> bool {
        (self.expected.count..=self.at_most).contains(&self.counted)
    }
}

/// Expected and counted side by side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// One row per expectation.
    pub rows: Vec<Row>,
    /// Counted exits that the host adds at any time, by code.
    pub background: BTreeMap<u32, u64>,
    /// Counted exits that nothing explains, by code.
    pub unexplained: BTreeMap<u32, u64>,
}

impl Comparison {
    /// Compares expectations that share no codes (see [`merge`]) with counts per code without flags.
    #[must_use]
    pub fn new(isa: Isa, expected: &[Expected], counted: &BTreeMap<u32, u64>) -> Self {
        let mut comparison = Self::default();
        let mut rest: BTreeMap<u32, u64> = counted.clone();
        rest.retain(|_, count| *count > 0);
        let in_codes = |codes: &BTreeSet<u32>| -> BTreeMap<u32, u64> {
            let known = codes.iter().filter_map(|code| Some((*code, *counted.get(code)?)));
            known.filter(|(_, count)| *count > 0).collect()
        };
        let sum = |codes: &BTreeSet<u32>| in_codes(codes).into_values().sum::<u64>();
        for expected in expected {
            rest.retain(|code, _| !expected.codes.contains(code));
            let counted = sum(&expected.codes);
            let mut expected = expected.clone();
            if expected.or_count == Some(counted) {
                expected.count = counted;
            }
            let at_most = expected.count + sum(&expected.more_with);
            let by_code = in_codes(&expected.codes);
            comparison.rows.push(Row { expected, counted, by_code, at_most });
        }
        let known = background(isa);
        (comparison.background, comparison.unexplained) =
            rest.into_iter().partition(|(code, _)| known.contains(code));
        comparison
    }

    /// Whether every row agrees and nothing is unexplained.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.rows.iter().all(Row::agrees) && self.unexplained.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMD: Host =
        Host { isa: Isa::Svm, nested_paging: true, virtual_apic: false, xsave: true, tcg: false };
    const INTEL: Host =
        Host { isa: Isa::Vmx, nested_paging: true, virtual_apic: false, xsave: true, tcg: false };

    #[test]
    fn overlapping_expectations_add_up() {
        let merged = merge([exactly(&[49], 2), exactly(&[10], 5), exactly(&[48], 3), exactly(&[48, 49], 7)]);
        assert_eq!(merged, [exactly(&[10], 5), exactly(&[48, 49], 12)]);
    }

    #[test]
    fn one_exit_too_few_too_many_or_unknown_disagrees() {
        let expected = merge(exits(&AMD, Operation::Cpuid { leaf: 0 }, 3, 3));
        let compare =
            |counts: &[(u32, u64)]| Comparison::new(Isa::Svm, &expected, &counts.iter().copied().collect());
        assert!(compare(&[(0x72, 3)]).agrees());
        assert!(compare(&[(0x72, 3), (0x60, 9), (0x7b, 0)]).agrees());
        assert!(!compare(&[(0x72, 2)]).agrees());
        assert!(!compare(&[(0x72, 4), (0x60, 9)]).agrees());
        assert_eq!(compare(&[(0x72, 3), (0x7b, 1)]).unexplained, BTreeMap::from([(0x7b, 1)]));
        assert!(!compare(&[]).agrees());
    }

    #[test]
    fn a_debug_register_read_may_repeat_once_per_interrupt() {
        let expected = merge(exits(&INTEL, Operation::ReadDr7, 10, 10));
        let compare = |reads, interrupts| {
            Comparison::new(Isa::Vmx, &expected, &BTreeMap::from([(10, 10), (29, reads), (1, interrupts)]))
                .agrees()
        };
        assert!(compare(10, 0) && compare(12, 2));
        assert!(!compare(13, 2) && !compare(9, 2));
    }

    #[test]
    fn a_lapic_read_exits_once_or_twice_but_not_in_between() {
        let operation = Operation::MmioRead { address: 0xfee0_0390 };
        let expected = merge(exits(&INTEL, operation, 7, 7).into_iter().chain([exactly(&[49], 2)]));
        let agrees =
            |count| Comparison::new(Isa::Vmx, &expected, &BTreeMap::from([(48, count), (49, 2)])).agrees();
        assert!(agrees(7) && agrees(14));
        assert!(!agrees(8) && !agrees(13) && !agrees(15));
        assert!(exits(&AMD, operation, 7, 7).iter().all(|expected| expected.or_count.is_none()));
    }

    #[test]
    fn halting_counts_halts_and_timers_apart() {
        let expected = exits(&INTEL, Operation::HaltTimer { delay: std::time::Duration::ZERO }, 12, 10);
        assert_eq!(expected, [exactly(&[vmx::HLT], 12), exactly(&[vmx::MSR_WRITE], 10)]);
    }
}
