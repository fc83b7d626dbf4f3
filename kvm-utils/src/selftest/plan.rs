//! What a guest is told to do: operations, each a known number of times, in phases between which one can look.

use std::fmt;
use std::time::Duration;

use kvm_bench::protocol::{self, Op};

use super::expect;
use super::host::Host;
use super::layout::{Layout, MMIO_HOLE, TOUCH_STRIDE};
use crate::decode::Class;

/// Something that makes a guest exit. What it becomes on each vendor is [`expect::exits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// CPUID.
    Cpuid {
        /// The leaf, in EAX.
        leaf: u32,
    },
    /// One byte from a port.
    PortIn {
        /// The port.
        port: u16,
    },
    /// One byte to a port.
    PortOut {
        /// The port.
        port: u16,
        /// The byte.
        value: u8,
    },
    /// Bytes from a port by one string instruction.
    PortInString {
        /// The port.
        port: u16,
        /// How many, at most a page.
        bytes: u16,
    },
    /// Bytes to a port by one string instruction.
    PortOutString {
        /// The port.
        port: u16,
        /// How many, at most a page.
        bytes: u16,
    },
    /// 32 bits from a guest-physical address.
    MmioRead {
        /// The address, below 4 GiB.
        address: u32,
    },
    /// 32 bits to a guest-physical address.
    MmioWrite {
        /// The address, below 4 GiB.
        address: u32,
        /// The word.
        value: u32,
    },
    /// RDMSR.
    ReadMsr {
        /// The register.
        index: u32,
    },
    /// WRMSR.
    WriteMsr {
        /// The register.
        index: u32,
        /// The value.
        value: u64,
    },
    /// VMCALL or VMMCALL, as the processor wants.
    Hypercall {
        /// The number, in RAX.
        number: u32,
    },
    /// HLT until the guest's own timer, armed by a WRMSR to TSC_DEADLINE, wakes it.
    HaltTimer {
        /// From arming to the interrupt.
        delay: Duration,
    },
    /// HLT until a message from the VMM or from another vCPU arrives.
    HaltMessage,
    /// The first write to a page of memory.
    TouchFresh,
    /// A write to CR0 that changes AM.
    WriteCr0,
    /// A write to CR4 that changes MCE.
    WriteCr4,
    /// A read of CR4.
    ReadCr4,
    /// A read of DR7, followed by a CPUID.
    ReadDr7,
    /// WBINVD.
    Wbinvd,
    /// INVD.
    Invd,
    /// XSETBV without a change.
    Xsetbv,
    /// An undefined instruction.
    Ud2,
    /// CPUID, leaf 0, until told to stop.
    SpinCpuid,
    /// Nothing that exits, until told to stop.
    SpinQuiet,
    /// A message to a vCPU (or to itself) through the x2APIC, waiting each time until it has arrived.
    SendIpi {
        /// The receiver.
        to: u32,
    },
    /// Waits with interrupts enabled, without halting, until so many messages have arrived.
    AwaitInterrupts,
}

/// What turning an [`Operation`] into numbers for the guest depends on.
pub(super) struct Resolve {
    pub(super) amd_processor: bool,
    pub(super) tsc_khz: u32,
    /// Next fresh page of the vCPU.
    pub(super) fresh: u64,
}

/// A step as the guest gets it.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawStep {
    pub(super) op: Op,
    pub(super) count: u64,
    pub(super) arg: u64,
    pub(super) value: u64,
}

impl Operation {
    /// Whether it goes on until [`stop`](super::Session::stop_spinning) instead of a number of times.
    #[must_use]
    pub fn spins(self) -> bool {
        matches!(self, Self::SpinCpuid | Self::SpinQuiet)
    }

    /// Whether it executes HLT, once per interrupt or about that often.
    #[must_use]
    pub fn halts(self) -> bool {
        matches!(self, Self::HaltTimer { .. } | Self::HaltMessage)
    }

    /// Whether it can only end when somebody else acts: such an operation is left out of the warm-up.
    #[must_use]
    pub fn waits_for_others(self) -> bool {
        matches!(self, Self::HaltMessage | Self::SendIpi { .. } | Self::AwaitInterrupts)
    }

    pub(super) fn resolve(self, count: u64, with: &mut Resolve) -> RawStep {
        let step = |op, arg, value| RawStep { op, count, arg, value };
        match self {
            Self::Cpuid { leaf } => step(Op::Cpuid, leaf.into(), 0),
            Self::PortIn { port } => step(Op::PortIn, port.into(), 0),
            Self::PortOut { port, value } => step(Op::PortOut, port.into(), value.into()),
            Self::PortInString { port, bytes } => step(Op::PortInString, port.into(), bytes.into()),
            Self::PortOutString { port, bytes } => step(Op::PortOutString, port.into(), bytes.into()),
            Self::MmioRead { address } => step(Op::MmioRead, address.into(), 0),
            Self::MmioWrite { address, value } => step(Op::MmioWrite, address.into(), value.into()),
            Self::ReadMsr { index } => step(Op::Rdmsr, index.into(), 0),
            Self::WriteMsr { index, value } => step(Op::Wrmsr, index.into(), value),
            Self::Hypercall { number } if with.amd_processor => step(Op::Vmmcall, number.into(), 0),
            Self::Hypercall { number } => step(Op::Vmcall, number.into(), 0),
            Self::HaltTimer { delay } => {
                let cycles = delay.as_nanos() * u128::from(with.tsc_khz) / 1_000_000;
                step(Op::HltTimer, u64::try_from(cycles).unwrap_or(u64::MAX), 0)
            }
            Self::HaltMessage => step(Op::HltMessage, 0, 0),
            Self::TouchFresh => {
                let first = with.fresh;
                with.fresh += count * TOUCH_STRIDE;
                step(Op::Touch, first, TOUCH_STRIDE)
            }
            Self::WriteCr0 => step(Op::Cr0Write, 0, 0),
            Self::WriteCr4 => step(Op::Cr4Write, 0, 0),
            Self::ReadCr4 => step(Op::Cr4Read, 0, 0),
            Self::ReadDr7 => step(Op::Dr7Read, 0, 0),
            Self::Wbinvd => step(Op::Wbinvd, 0, 0),
            Self::Invd => step(Op::Invd, 0, 0),
            Self::Xsetbv => step(Op::Xsetbv, 0, 0),
            Self::Ud2 => step(Op::Ud2, 0, 0),
            Self::SpinCpuid => step(Op::SpinCpuid, 0, 0),
            Self::SpinQuiet => step(Op::SpinQuiet, 0, 0),
            Self::SendIpi { to } => {
                let counter = std::mem::offset_of!(protocol::Control, interrupts) as u64;
                // fixed, edge, physical destination: Intel SDM volume 3, 12.6.1
                let command = u64::from(to) << 32 | 1 << 14 | u64::from(protocol::MESSAGE_VECTOR);
                step(Op::SendIpi, Layout::control(to) + counter, command)
            }
            Self::AwaitInterrupts => step(Op::AwaitInterrupts, 0, 0),
        }
    }
}

/// An operation and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What.
    pub operation: Operation,
    /// How often; ignored by what spins, except that 0 leaves it out.
    pub count: u64,
}

impl Step {
    /// `count` times `operation`.
    #[must_use]
    pub const fn new(operation: Operation, count: u64) -> Self {
        Self { operation, count }
    }
}

/// Who does what in a phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Every vCPU the same.
    Same(Vec<Step>),
    /// Each vCPU its own, by id; vCPUs beyond the end do nothing.
    Each(Vec<Vec<Step>>),
}

impl Work {
    /// The steps of one vCPU.
    #[must_use]
    pub fn of(&self, vcpu: u32) -> &[Step] {
        match self {
            Self::Same(steps) => steps,
            Self::Each(all) => all.get(vcpu as usize).map_or(&[], Vec::as_slice),
        }
    }
}

/// Part of a plan. Before and after it the guest is outside `KVM_RUN`: one can count, attach or detach there. A vCPU
/// ends it with one port write of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    /// A name for reports.
    pub name: String,
    /// The vendor-neutral class of the exits that the phase is about.
    pub class: Class,
    /// The steps.
    pub work: Work,
}

impl Phase {
    /// One operation, the same number of times on every vCPU.
    #[must_use]
    pub fn new(name: impl Into<String>, class: Class, operation: Operation, count: u64) -> Self {
        Self { name: name.into(), class, work: Work::Same(vec![Step::new(operation, count)]) }
    }
}

/// Phases, run one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to run.
    pub phases: Vec<Phase>,
    /// What this host cannot show, by name, and why.
    pub skipped: Vec<(String, String)>,
}

impl Plan {
    /// Fresh pages that a vCPU touches in the whole plan: the most of any.
    #[must_use]
    pub fn fresh_pages(&self, vcpus: u32) -> u64 {
        let of = |vcpu| {
            let steps = self.phases.iter().flat_map(|phase| phase.work.of(vcpu));
            steps.filter(|step| step.operation == Operation::TouchFresh).map(|step| step.count).sum()
        };
        (0..vcpus).map(of).max().unwrap_or(0)
    }
}

/// A kind of exit that can be asked for by name.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The name.
    pub name: &'static str,
    /// The class of its exits.
    pub class: Class,
    /// What makes them.
    pub operation: Operation,
    /// How many the selftest makes: a prime of its own, so that a mix-up shows.
    pub count: u64,
}

const fn entry(name: &'static str, class: Class, count: u64, operation: Operation) -> Entry {
    Entry { name, class, operation, count }
}

const IA32_APIC_BASE: u32 = 0x1b;
/// Written by every guest that wants to know its microcode revision; KVM ignores the value on both vendors.
const IA32_BIOS_SIGN_ID: u32 = 0x8b;
const IA32_TSC_DEADLINE: u32 = 0x6e0;
/// Data port (the interrupt mask) of the first 8259, which KVM emulates; Intel 8259A data sheet.
const PIC_MASK: u16 = 0x21;
/// Edge/level control register of the first 8259, which KVM emulates.
const ELCR: u16 = 0x4d0;
/// Where no device of KVM answers, so that user space has to.
const USER_PORT: u16 = 0x1234;
/// The timer's current count. Reading it exits with APICv and AVIC too (Intel SDM volume 3, 31.4.2; AMD APM volume 2,
/// table 15-22).
const LAPIC_CURRENT_COUNT: u32 = 0xfee0_0390;
/// The timer's divide configuration: writing 0 (divide by 2) changes nothing for a timer in deadline mode.
const LAPIC_DIVIDE: u32 = 0xfee0_03e0;
/// No hypercall of KVM has this number, so it answers -KVM_ENOSYS.
const NO_HYPERCALL: u32 = 0x4b56_4d55;

/// Everything that can be asked for, in the order in which the selftest does it.
pub const CATALOGUE: &[Entry] = &[
    entry("cpuid", Class::Cpuid, 1009, Operation::Cpuid { leaf: 0 }),
    entry("io-in-kernel", Class::Io, 211, Operation::PortIn { port: PIC_MASK }),
    entry("io-out-kernel", Class::Io, 223, Operation::PortOut { port: ELCR, value: 0 }),
    entry("io-in-user", Class::Io, 227, Operation::PortIn { port: USER_PORT }),
    entry("io-out-user", Class::Io, 229, Operation::PortOut { port: USER_PORT, value: 0x5a }),
    entry("mmio-read-user", Class::Mmio, 127, Operation::MmioRead { address: MMIO_HOLE as u32 }),
    entry("mmio-write-user", Class::Mmio, 131, Operation::MmioWrite { address: MMIO_HOLE as u32, value: 1 }),
    entry("lapic-read", Class::Apic, 137, Operation::MmioRead { address: LAPIC_CURRENT_COUNT }),
    entry("lapic-write", Class::Apic, 139, Operation::MmioWrite { address: LAPIC_DIVIDE, value: 0 }),
    entry("rdmsr", Class::MsrRead, 307, Operation::ReadMsr { index: IA32_APIC_BASE }),
    entry("wrmsr", Class::MsrWrite, 311, Operation::WriteMsr { index: IA32_BIOS_SIGN_ID, value: 0 }),
    entry("tsc-deadline", Class::MsrWrite, 313, Operation::WriteMsr { index: IA32_TSC_DEADLINE, value: 0 }),
    entry("hypercall", Class::Hypercall, 401, Operation::Hypercall { number: NO_HYPERCALL }),
    entry("hlt", Class::Hlt, 53, Operation::HaltTimer { delay: Duration::from_micros(200) }),
    entry("touch", Class::Ept, 251, Operation::TouchFresh),
    entry("cr0-write", Class::Cr, 101, Operation::WriteCr0),
    entry("cr4-write", Class::Cr, 103, Operation::WriteCr4),
    entry("cr4-read", Class::Cr, 107, Operation::ReadCr4),
    entry("dr7-read", Class::Dr, 109, Operation::ReadDr7),
    entry("wbinvd", Class::Wbinvd, 61, Operation::Wbinvd),
    entry("invd", Class::Wbinvd, 67, Operation::Invd),
    entry("xsetbv", Class::Xsetbv, 71, Operation::Xsetbv),
    entry("ud2", Class::Exception, 73, Operation::Ud2),
];

/// An `--op` that cannot be understood.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseStepError {
    /// No such name.
    #[error("there is no operation {name:?}; known are {}, and spin, quiet", names())]
    Name {
        /// As given.
        name: String,
    },
    /// The count is no number.
    #[error("{count:?} is no count; write it as in cpuid=1009")]
    Count {
        /// As given.
        count: String,
    },
}

fn names() -> String {
    let names: Vec<_> = CATALOGUE.iter().map(|entry| entry.name).collect();
    names.join(", ")
}

impl Phase {
    /// From `NAME` or `NAME=COUNT` with a name of the [`CATALOGUE`], or `spin` (CPUID until stopped) or `quiet` (no
    /// exits until stopped).
    pub fn parse(text: &str) -> Result<Self, ParseStepError> {
        let (name, count) = text.split_once('=').map_or((text, None), |(name, count)| (name, Some(count)));
        let number = |default| match count {
            Some(count) => count.parse().map_err(|_| ParseStepError::Count { count: count.to_owned() }),
            None => Ok(default),
        };
        if let Some(entry) = CATALOGUE.iter().find(|entry| entry.name == name) {
            return Ok(Self::new(name, entry.class, entry.operation, number(entry.count)?));
        }
        match name {
            "spin" => Ok(Self::new(name, Class::Cpuid, Operation::SpinCpuid, number(1)?)),
            "quiet" => Ok(Self::new(name, Class::Other, Operation::SpinQuiet, number(1)?)),
            _ => Err(ParseStepError::Name { name: name.to_owned() }),
        }
    }
}

/// The plan of the selftest: one phase per entry of the [`CATALOGUE`] that this host can show.
#[must_use]
pub fn standard(host: &Host) -> Plan {
    let mut plan = Plan::default();
    for entry in CATALOGUE {
        match expect::support(host, entry.operation) {
            Ok(()) => plan.phases.push(Phase::new(entry.name, entry.class, entry.operation, entry.count)),
            Err(reason) => plan.skipped.push((entry.name.to_owned(), reason)),
        }
    }
    plan
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpuid { leaf } => write!(f, "cpuid leaf {leaf:#x}"),
            Self::PortIn { port } => write!(f, "in from port {port:#x}"),
            Self::PortOut { port, .. } => write!(f, "out to port {port:#x}"),
            Self::PortInString { port, bytes } => write!(f, "ins of {bytes} bytes from port {port:#x}"),
            Self::PortOutString { port, bytes } => write!(f, "outs of {bytes} bytes to port {port:#x}"),
            Self::MmioRead { address } => write!(f, "read of {address:#x}"),
            Self::MmioWrite { address, .. } => write!(f, "write to {address:#x}"),
            Self::ReadMsr { index } => write!(f, "rdmsr {index:#x}"),
            Self::WriteMsr { index, .. } => write!(f, "wrmsr {index:#x}"),
            Self::Hypercall { number } => write!(f, "hypercall {number:#x}"),
            Self::HaltTimer { delay } => write!(f, "hlt with a timer of {delay:?}"),
            Self::HaltMessage => f.write_str("hlt until a message"),
            Self::TouchFresh => f.write_str("touch of fresh pages"),
            Self::WriteCr0 => f.write_str("write to CR0"),
            Self::WriteCr4 => f.write_str("write to CR4"),
            Self::ReadCr4 => f.write_str("read of CR4"),
            Self::ReadDr7 => f.write_str("read of DR7"),
            Self::Wbinvd => f.write_str("wbinvd"),
            Self::Invd => f.write_str("invd"),
            Self::Xsetbv => f.write_str("xsetbv"),
            Self::Ud2 => f.write_str("ud2"),
            Self::SpinCpuid => f.write_str("cpuid until stopped"),
            Self::SpinQuiet => f.write_str("spinning until stopped"),
            Self::SendIpi { to } => write!(f, "message to vCPU {to}"),
            Self::AwaitInterrupts => f.write_str("waiting for messages"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::decode::Isa;

    #[test]
    fn counts_are_distinct_primes_and_names_distinct() {
        let counts: BTreeSet<_> = CATALOGUE.iter().map(|entry| entry.count).collect();
        assert_eq!(counts.len(), CATALOGUE.len());
        for count in counts {
            assert!((2..count).take_while(|d| d * d <= count).all(|d| count % d != 0), "{count} is no prime");
        }
        let names: BTreeSet<_> = CATALOGUE.iter().map(|entry| entry.name).collect();
        assert_eq!(names.len(), CATALOGUE.len());
    }

    #[test]
    fn steps_are_parsed() {
        let phase = Phase::parse("cpuid=7").unwrap();
        assert_eq!(phase.work, Work::Same(vec![Step::new(Operation::Cpuid { leaf: 0 }, 7)]));
        assert!(matches!(Phase::parse("hlt").unwrap().work, Work::Same(steps) if steps[0].count == 53));
        assert!(Phase::parse("spin").is_ok());
        assert!(Phase::parse("cupid").unwrap_err().to_string().contains("cpuid"));
        assert!(Phase::parse("cpuid=many").unwrap_err().to_string().contains("many"));
    }

    #[test]
    fn a_host_without_nested_paging_skips_memory() {
        let host = Host { isa: Isa::Svm, nested_paging: false, virtual_apic: false, xsave: true, tcg: false };
        let plan = standard(&host);
        let skipped: Vec<_> = plan.skipped.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(skipped, ["mmio-read-user", "mmio-write-user", "lapic-read", "lapic-write", "touch"]);
        assert_eq!(plan.phases.len() + skipped.len(), CATALOGUE.len());
        assert_eq!(plan.fresh_pages(1), 0);
    }

    #[test]
    fn touched_pages_are_never_touched_again() {
        let mut with = Resolve { amd_processor: true, tsc_khz: 1_000_000, fresh: 0x40_0000 };
        let first = Operation::TouchFresh.resolve(3, &mut with);
        let second = Operation::TouchFresh.resolve(1, &mut with);
        assert_eq!((first.arg, second.arg), (0x40_0000, 0x40_0000 + 3 * TOUCH_STRIDE));
    }
}
