//! The one list of operations that can be measured, in a Linux guest, in the freestanding payload, or in both.

/// How long one operation takes, which decides how many samples are worth taking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Up to some ten microseconds.
    Fast,
    /// It sleeps, wakes somebody or waits for a timer.
    Slow,
}

/// What an operation may do to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// Nothing that stays.
    Safe,
    /// It writes a register, and puts back what was there.
    Writes,
    /// It may lose data or stop the machine.
    Destructive,
}

/// The exits that one operation makes under KVM without help of the hardware (APICv, AVIC, posted interrupts, ...).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exits {
    /// None, or none that is certain.
    None,
    /// So many of the vendor-neutral class that `kvm-utils exits` shows.
    Each(&'static str, u32),
    /// They depend on the machine, as this says.
    Depends(&'static str),
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op {
    /// Its name in reports, `noun` or `noun:variant`.
    pub name: &'static str,
    /// What is measured.
    pub about: &'static str,
    /// `kvm-bench` measures it in a Linux guest.
    pub in_linux: bool,
    /// The freestanding payload measures it.
    pub in_payload: bool,
    /// How long it takes.
    pub pace: Pace,
    /// What it may do to the machine.
    pub care: Care,
    /// What it should make KVM do.
    pub exits: Exits,
}

impl Op {
    /// The first part of the name: the subcommand.
    pub fn noun(&self) -> &'static str {
        self.name.split_once(':').map_or(self.name, |(noun, _)| noun)
    }
}

const fn op(name: &'static str, about: &'static str, exits: Exits) -> Op {
    Op { name, about, in_linux: true, in_payload: true, pace: Pace::Fast, care: Care::Safe, exits }
}

/// Only the Linux program can.
const fn linux(op: Op) -> Op {
    Op { in_payload: false, ..op }
}

/// Only the payload can: it takes ring 0.
const fn payload(op: Op) -> Op {
    Op { in_linux: false, ..op }
}

const fn slow(op: Op) -> Op {
    Op { pace: Pace::Slow, ..op }
}

const fn writes(op: Op) -> Op {
    Op { care: Care::Writes, ..op }
}

const fn destructive(op: Op) -> Op {
    Op { care: Care::Destructive, ..op }
}

use Exits::{Depends, Each, None as NoExit};

/// Every operation, in the order of reports.
pub const OPS: &[Op] = &[
    op("null", "nothing: what the bracket itself costs", NoExit),
    op("cpuid", "CPUID, which KVM always intercepts", Each("cpuid", 1)),
    op("hypercall", "a hypercall with a number that KVM does not know", Each("hypercall", 1)),
    op("pio:kernel-in", "read of port 0x4d0 (ELCR), which KVM emulates in the kernel", Each("io", 1)),
    writes(op("pio:kernel-out", "write to port 0x4d0 (ELCR) of what it holds", Each("io", 1))),
    op("pio:pic", "read of port 0x21, the mask of the first 8259", Each("io", 1)),
    op("pio:pit", "read of port 0x40, the count of the 8254", Each("io", 1)),
    op("pio:user-in", "read of port 0x1234, at which no device answers: the VMM is asked", Each("io", 1)),
    writes(op("pio:user-out", "write to port 0x1234, at which no device answers", Each("io", 1))),
    op("pio:keyboard", "read of port 0x64, the status of the 8042, which the VMM emulates", Each("io", 1)),
    op("pio:pmtimer", "read of the ACPI PM timer, which the VMM emulates", Each("io", 1)),
    linux(op("pio:port", "read of any port", Each("io", 1))),
    payload(op(
        "pio:notify",
        "write to a port that is an eventfd of the VMM's (ioeventfd), as devices are notified",
        Each("io", 1),
    )),
    op("mmio:ioapic", "read of the IOAPIC's index register", Each("ept", 1)),
    op("mmio:lapic", "read of the local APIC's version in xAPIC mode", Depends("none with APICv or AVIC")),
    op("mmio:hpet", "read of the HPET's main counter", Each("ept", 1)),
    linux(op(
        "mmio:virtio",
        "read of a virtio device's common configuration, which the VMM emulates",
        Each("ept", 1),
    )),
    linux(op("mmio:vram", "read of a graphics card's memory, which is plain memory as a rule", NoExit)),
    op("mmio:pci-hole", "read of an address in the PCI hole that no device has", Each("ept", 1)),
    linux(op("mmio:addr", "read of any physical address or PCI BAR", Depends("what is there"))),
    payload(op(
        "mmio:notify",
        "write to an address that is an eventfd of the VMM's (ioeventfd), as virtio devices are notified",
        Each("ept", 1),
    )),
    op("msr:read", "RDMSR", Depends("the MSR bitmap, which lets some pass")),
    writes(op(
        "msr:write",
        "WRMSR of what the register holds",
        Depends("the MSR bitmap, which lets some pass"),
    )),
    payload(op("cr:cr0-wp", "write of CR0 with WP inverted", Depends("the vendor"))),
    payload(op("cr:cr4-pge", "write of CR4 with PGE inverted", Depends("the vendor"))),
    payload(op("cr:cr8-read", "read of CR8", Depends("none with TPR shadow or V_TPR"))),
    payload(op("cr:cr8-write", "write of CR8", Depends("none with TPR shadow or V_TPR"))),
    payload(op("cr:dr7", "read of DR7", Depends("KVM stops intercepting it until the next exit"))),
    payload(destructive(op("wbinvd", "WBINVD", Depends("none with non-coherent DMA")))),
    payload(destructive(op(
        "invd",
        "INVD: KVM does nothing, any other loses what caches hold",
        Each("wbinvd", 1),
    ))),
    payload(op("pause", "PAUSE", Depends("pause-loop exiting"))),
    linux(op("syscall", "getppid, the shortest system call", NoExit)),
    linux(op(
        "clock:gettime",
        "clock_gettime(CLOCK_MONOTONIC) with the clock source in use",
        Depends("the source"),
    )),
    linux(op("clock:gettimeofday", "gettimeofday with the clock source in use", Depends("the source"))),
    linux(writes(op("clock:source", "clock_gettime with each clock source in turn", Depends("the source")))),
    payload(op("timer:arm", "WRMSR TSC_DEADLINE, far ahead", Each("msr-write", 1))),
    payload(slow(op(
        "timer:fire",
        "from the deadline to its interrupt's handler",
        Depends("how the timer is emulated"),
    ))),
    linux(op(
        "timer:set",
        "timerfd_settime, 100 us ahead",
        Depends("how the timer is emulated, and whether an earlier one is set"),
    )),
    linux(slow(op("timer:timerfd", "lateness of a timerfd", Depends("idle, and the timer's hardware")))),
    linux(slow(op(
        "timer:nanosleep",
        "lateness of clock_nanosleep",
        Depends("idle, and the timer's hardware"),
    ))),
    op(
        "ipi:self",
        "an interrupt to oneself: until its handler has run; with Linux the baseline without one",
        Depends("APICv, AVIC"),
    ),
    payload(op(
        "ipi:send",
        "the ICR write of an interrupt to another vCPU",
        Depends("IPI virtualization, AVIC"),
    )),
    op(
        "ipi:single",
        "an interrupt to another vCPU that runs: until it has answered",
        Depends("IPI virtualization, AVIC"),
    ),
    slow(op(
        "ipi:halted",
        "an interrupt to another vCPU that is halted: until it has answered",
        Depends("as ipi:single, and halt polling"),
    )),
    linux(op("ipi:mesh", "pairs of vCPUs at the same time", Depends("as ipi:single"))),
    linux(op(
        "ipi:matrix",
        "an interrupt from one vCPU to each other one that runs: until it has answered",
        Depends("as ipi:single"),
    )),
    op("ipi:broadcast", "an interrupt to all others: until all have answered", Depends("as ipi:single")),
    payload(op("eoi", "the end-of-interrupt write", Depends("none with APICv, AVIC or PV EOI"))),
    payload(slow(op("hlt", "HLT, woken by a timer at once", Depends("idle")))),
    linux(op(
        "tlb:madvise",
        "madvise(DONTNEED) of a page that other threads have in their TLBs",
        Depends("as ipi:single"),
    )),
    linux(op("tlb:munmap", "munmap of such a page", Depends("as ipi:single"))),
    linux(op("tlb:mprotect", "mprotect of such a page, and back", Depends("as ipi:single"))),
    linux(slow(op(
        "wake:futex",
        "a thread on another vCPU woken by a futex: until it runs",
        Depends("idle"),
    ))),
    linux(slow(op("wake:eventfd", "the same by an eventfd", Depends("idle")))),
    linux(slow(op("wake:pipe", "the same by a pipe", Depends("idle")))),
    linux(op("fault:4k", "first touch of a page of 4 KiB", Depends("whether the host has the page"))),
    linux(op("fault:2m", "first touch of a page of 2 MiB", Depends("whether the host has the page"))),
    op("jitter", "gaps that a spinning vCPU sees", NoExit),
];

/// The operation of this name.
pub fn find(name: &str) -> Option<&'static Op> {
    OPS.iter().find(|op| op.name == name)
}
