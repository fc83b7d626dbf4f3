//! Vendor-neutral classes of exits, so that an Intel and an AMD host compare, and a line of advice for each.

use std::fmt;

macro_rules! classes {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $help:literal;)*) => {
        /// What kind of thing made the guest leave, the same word on every vendor. Stable: part of the JSON schema.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Class {
            $($(#[$doc])* $name,)*
        }

        impl Class {
            /// Every class.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The stable identifier, e.g. `msr-read`.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }

            /// One line: what it means and what usually helps.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$name => $help,)* }
            }
        }
    };
}

classes! {
    /// Port I/O.
    Io = "io", "port I/O by the guest; virtio in place of emulated devices, kvm-clock in place of the ACPI PM timer avoid it";
    /// An access to emulated memory-mapped registers. On SVM most of it hides in [`Class::Ept`], as `npf`.
    Mmio = "mmio", "access to emulated device registers; ioeventfd or vhost for virtio, fewer doorbells, x2APIC help";
    /// RDMSR.
    MsrRead = "msr-read", "the guest read a model-specific register that KVM emulates; see which one it was";
    /// WRMSR.
    MsrWrite = "msr-write", "the guest wrote a model-specific register: mostly timer (TSC_DEADLINE) and interrupts (x2APIC ICR)";
    /// RDMSR or WRMSR: SVM's exit code does not tell which.
    Msr = "msr", "the guest read or wrote a model-specific register: mostly timer and x2APIC interrupts";
    /// CPUID.
    Cpuid = "cpuid", "CPUID always exits; software that asks often (serialization, feature checks) should keep the answer";
    /// The guest halted: its time is waiting.
    Hlt = "hlt", "the guest was idle, this time is waiting; halt polling trades host CPU time for faster wake-ups";
    /// A host interrupt arrived while the guest ran.
    Interrupt = "interrupt", "a host interrupt came in: timer ticks, devices, IPIs; keep them off the vCPUs' CPUs (irq affinity, nohz_full)";
    /// The guest became ready for an interrupt or NMI that waited.
    IrqWindow = "irq-window", "KVM waited for the guest to enable interrupts; APICv or AVIC delivers without this exit";
    /// A host NMI.
    Nmi = "nmi", "a host NMI came in while the guest ran: mostly perf sampling or the hard-lockup watchdog";
    /// A nested page fault: EPT violation, `npf`.
    Ept = "ept", "guest memory was not mapped yet or was protected; hugepages and preallocation help, on AMD this includes device registers";
    /// The log of dirtied pages was full.
    PageLog = "page-log", "the log of dirty pages was full: a migration or snapshot is tracking memory";
    /// VMCALL, VMMCALL, TDCALL.
    Hypercall = "hypercall", "the guest called the hypervisor: paravirtual kicks and IPIs, Hyper-V calls, TDX calls";
    /// A SEV-ES guest asked through its GHCB; the event does not tell what for.
    Vmgexit = "vmgexit", "a SEV-ES or SEV-SNP guest asked the hypervisor; what it asked for is in kvm_vmgexit_enter";
    /// The guest spun on PAUSE.
    Pause = "pause", "the guest spins on a lock whose holder may not run; too many vCPUs per CPU, or tune ple_window";
    /// MONITOR, MWAIT and relatives. KVM runs them as no-ops: this is work, not waiting.
    Mwait = "mwait", "MWAIT is run as a no-op; let the guest use HLT, or enable cpu-pm so that it does not exit";
    /// Control registers.
    Cr = "cr", "access to a control register: mode switches, task priority (CR8), or paging without EPT/NPT";
    /// Debug registers.
    Dr = "dr", "access to a debug register: a debugger or hardware breakpoints are in use in the guest";
    /// An exception that KVM intercepts. VMX reports host NMIs here too.
    Exception = "exception", "an intercepted exception: #PF without EPT/NPT, #UD, #DB, #AC; on Intel also host NMIs";
    /// WBINVD, INVD.
    Wbinvd = "wbinvd", "the guest flushes caches; expected with passed-through devices and at boot";
    /// XSETBV.
    Xsetbv = "xsetbv", "the guest sets XCR0; rare outside boot, every context switch in some nested or Windows guests";
    /// The local APIC's registers, accelerated or not.
    Apic = "apic", "access to the local APIC that could not be accelerated; x2APIC with APICv or AVIC avoids most";
    /// The VMX preemption timer ran out.
    Timer = "timer", "the guest's timer expired while it ran (VMX preemption timer): normal ticks";
    /// RDTSC, RDTSCP.
    Rdtsc = "rdtsc", "reading the time stamp counter exits: TSC scaling or offsetting is missing, or a guest hypervisor asks for it";
    /// RDPMC.
    Rdpmc = "rdpmc", "the guest reads performance counters: perf runs inside it";
    /// INVLPG, INVPCID.
    Invlpg = "invlpg", "the guest flushes TLB entries and EPT/NPT is off, or it runs nested";
    /// LGDT, SIDT and the like.
    Descriptor = "descriptor", "access to a descriptor-table register: UMIP emulation or introspection";
    /// The guest runs a hypervisor.
    Nested = "nested", "the guest is a hypervisor itself; its own exits cost these";
    /// A hardware task switch.
    TaskSwitch = "task-switch", "a hardware task switch, seen with 32-bit guests";
    /// System management mode.
    Smm = "smm", "system management mode: an SMI, or the guest's firmware returning from one";
    /// INIT and SIPI signals.
    Init = "init", "an INIT or start-up signal: a CPU of the host or of a nested guest is being started";
    /// Triple fault or shutdown.
    Shutdown = "shutdown", "the guest crashed beyond repair (triple fault) or resets itself that way";
    /// VM entry failed or the guest state is invalid.
    EntryFailed = "entry-failed", "the CPU refused to enter the guest: a KVM bug or broken guest state, see the kernel log";
    /// A bus or split lock.
    BusLock = "bus-lock", "a locked access across cache lines in the guest slows the whole machine; find the program in the guest";
    /// The guest blocked events for longer than the notify window.
    Notify = "notify", "the guest blocked interrupts beyond the notify window: a denial of service or a CPU bug at work";
    /// Single steps and debug traps.
    Debug = "debug", "single-stepping or a debug trap: a debugger is attached to the guest";
    /// Other instructions that exit.
    Instruction = "instruction", "an instruction that seldom exits (RDRAND, ENCLS, XSAVES, PUSHF, ...); KVM was asked to intercept it";
    /// Reasons that have no class here.
    Other = "other", "a reason this version does not know; the number is in the vendor's manual";
}

impl Class {
    /// The drill-down that tells more about exits of this class, by its noun; none where a count is all there is.
    #[must_use]
    pub const fn drilldown(self) -> Option<&'static str> {
        match self {
            Self::Io | Self::Mmio => Some("io"),
            Self::MsrRead | Self::MsrWrite | Self::Msr => Some("msr"),
            Self::Cpuid => Some("cpuid"),
            Self::Hypercall => Some("hypercall"),
            Self::Hlt => Some("halt"),
            Self::Interrupt | Self::IrqWindow | Self::Apic => Some("irq"),
            _ => None,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id())
    }
}
