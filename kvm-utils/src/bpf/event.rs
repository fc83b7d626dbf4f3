//! The events that feed drill-downs: tracepoints of KVM that say nothing of the vCPU. Each has two programs in
//! kvm-utils-ebpf/src/hook, one for the raw tracepoint and one for the classic one.

use kvm_utils_common::event::{ABSENT, descriptor, pack};

use super::layout::{EventFormat, FormatError, Slot};

/// One tracepoint.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Event {
    /// Its name.
    pub name: &'static str,
    /// The program for the raw tracepoint (empty where there is none), and the one for the classic.
    pub programs: [&'static str; 2],
    /// The global that tells the classic program where the fields lie.
    pub global: &'static str,
    /// Fields of the classic record, in the program's order. One that ends with `?` may be missing, and reads as 0 then; one
    /// that had another name in other kernels is written `NAME|OTHER`.
    pub fields: &'static [&'static str],
    /// Bytes of each argument of the raw tracepoint in the prototype that the raw program is made for.
    pub arguments: &'static [u32],
    /// The kernel may lack it: then nothing is attached.
    pub optional: bool,
}

/// How an event is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Raw tracepoint.
    Raw,
    /// Classic tracepoint.
    Classic,
}

/// Accesses to model-specific registers.
pub static MSR: Event = Event {
    name: "kvm_msr",
    programs: ["kvm_msr_raw", "kvm_msr_tp"],
    global: "MSR_FIELDS",
    fields: &["write", "ecx", "data", "exception?"],
    arguments: &[4, 4, 8, 1],
    optional: false,
};

/// Answers to CPUID.
pub static CPUID: Event = Event {
    name: "kvm_cpuid",
    programs: ["kvm_cpuid_raw", "kvm_cpuid_tp"],
    global: "CPUID_FIELDS",
    fields: &["function", "index?", "found", "used_max_basic?"],
    arguments: &[4, 4, 8, 8, 8, 8, 1, 1],
    optional: false,
};

/// Calls of guests to KVM.
pub static HYPERCALL: Event = Event {
    name: "kvm_hypercall",
    programs: ["kvm_hypercall_raw", "kvm_hypercall_tp"],
    global: "HYPERCALL_FIELDS",
    fields: &["nr", "a0", "a1"],
    arguments: &[8, 8, 8, 8, 8],
    optional: false,
};

/// Calls through Hyper-V's interface; a kernel may be built without it.
pub static HV_HYPERCALL: Event = Event {
    name: "kvm_hv_hypercall",
    programs: ["kvm_hv_hypercall_raw", "kvm_hv_hypercall_tp"],
    global: "HV_HYPERCALL_FIELDS",
    fields: &["code", "fast", "rep_cnt"],
    arguments: &[2, 1, 2, 2, 2, 8, 8],
    optional: true,
};

/// Calls through Xen's interface, which KVM has since 5.12 unless built without it.
pub static XEN_HYPERCALL: Event = Event {
    name: "kvm_xen_hypercall",
    programs: ["kvm_xen_hypercall_raw", "kvm_xen_hypercall_tp"],
    global: "XEN_HYPERCALL_FIELDS",
    fields: &["nr"],
    arguments: &[1, 8, 8, 8, 8, 8, 8, 8],
    optional: true,
};

/// Accesses to ports.
pub static PIO: Event = Event {
    name: "kvm_pio",
    programs: ["kvm_pio_raw", "kvm_pio_tp"],
    global: "PIO_FIELDS",
    fields: &["rw", "port", "size", "count"],
    arguments: &[4, 4, 4, 4, 8],
    optional: false,
};

/// Accesses to memory that is no memory.
pub static MMIO: Event = Event {
    name: "kvm_mmio",
    programs: ["kvm_mmio_raw", "kvm_mmio_tp"],
    global: "MMIO_FIELDS",
    fields: &["type", "len", "gpa"],
    arguments: &[4, 4, 8, 8],
    optional: false,
};

/// Writes that do no more than ring an ioeventfd.
pub static FAST_MMIO: Event = Event {
    name: "kvm_fast_mmio",
    programs: ["kvm_fast_mmio_raw", "kvm_fast_mmio_tp"],
    global: "FAST_MMIO_FIELDS",
    fields: &["gpa"],
    arguments: &[8],
    optional: true,
};

/// Returns of the ioctl KVM_RUN.
pub static USERSPACE_EXIT: Event = Event {
    name: "kvm_userspace_exit",
    programs: ["kvm_userspace_exit_raw", "kvm_userspace_exit_tp"],
    global: "USERSPACE_EXIT_FIELDS",
    fields: &["reason", "errno"],
    arguments: &[4, 4],
    optional: false,
};

/// A halt is over.
pub static VCPU_WAKEUP: Event = Event {
    name: "kvm_vcpu_wakeup",
    programs: ["kvm_vcpu_wakeup_raw", "kvm_vcpu_wakeup_tp"],
    global: "VCPU_WAKEUP_FIELDS",
    fields: &["ns", "waited", "valid?"],
    arguments: &[8, 1, 1],
    optional: false,
};

/// KVM chooses to poll longer or shorter before it blocks a vCPU that halts.
pub static HALT_POLL: Event = Event {
    name: "kvm_halt_poll_ns",
    programs: ["kvm_halt_poll_raw", "kvm_halt_poll_tp"],
    global: "HALT_POLL_FIELDS",
    fields: &["grow", "new", "old"],
    arguments: &[1, 4, 4, 4],
    optional: false,
};

/// A CPU goes from one thread to another. The raw program knows the prototype without the last argument as well.
pub static SCHED_SWITCH: Event = Event {
    name: "sched_switch",
    programs: ["sched_switch_raw", "sched_switch_tp"],
    global: "SCHED_SWITCH_FIELDS",
    fields: &["prev_pid", "prev_state", "next_pid"],
    arguments: &[1, 8, 8, 4],
    optional: false,
};

/// A thread that was blocked may run again.
pub static SCHED_WAKEUP: Event = Event {
    name: "sched_wakeup",
    programs: ["sched_wakeup_raw", "sched_wakeup_tp"],
    global: "SCHED_WAKEUP_FIELDS",
    fields: &["pid"],
    arguments: &[8],
    optional: false,
};

/// What an interrupt goes through, as `kvm-utils irq` counts it.
pub mod irq {
    use super::Event;

    /// An event that kernels may lack, with the names of its programs and its global.
    macro_rules! events {
        ($($(#[$doc:meta])* $id:ident: $name:literal, $global:literal, $fields:expr, $arguments:expr;)*) => {
            $(
                $(#[$doc])*
                pub static $id: Event = Event {
                    name: $name,
                    programs: [concat!($name, "_raw"), concat!($name, "_tp")],
                    global: $global,
                    fields: &$fields,
                    arguments: &$arguments,
                    optional: true,
                };
            )*
        };
    }

    /// Those that may come in an interrupt of the host.
    pub static IN_INTERRUPTS: [&Event; 7] = [&ACCEPTED, &POSTED, &MSI, &IOAPIC, &IOAPIC_AGAIN, &PIC, &GSI];

    events! {
        /// An interrupt is put into the guest.
        INJECTED: "kvm_inj_virq", "INJ_VIRQ_FIELDS", ["vector|irq", "soft?", "reinjected?"], [4, 1, 1];
        /// An exception is.
        EXCEPTION: "kvm_inj_exception", "INJ_EXCEPTION_FIELDS", ["exception", "reinjected?"], [4, 1, 4, 1];
        /// End of interrupt.
        EOI: "kvm_eoi", "EOI_FIELDS", ["vector"], [8, 4];
        /// The same without an exit.
        PV_EOI: "kvm_pv_eoi", "PV_EOI_FIELDS", ["vector"], [8, 4];
        /// An interrupt from vCPU to vCPU.
        IPI: "kvm_apic_ipi", "APIC_IPI_FIELDS", ["icr_low", "dest_id"], [4, 4];
        /// A local APIC takes an interrupt.
        ACCEPTED: "kvm_apic_accept_irq", "ACCEPT_IRQ_FIELDS", ["apicid", "dm", "tm", "vec"], [4, 2, 2, 1];
        /// The processor's virtual APIC gets it.
        POSTED: "kvm_apicv_accept_irq", "APICV_ACCEPT_IRQ_FIELDS", ["apicid", "dm", "tm", "vec"], [4, 2, 2, 1];
        /// A message.
        MSI: "kvm_msi_set_irq", "MSI_FIELDS", ["address", "data"], [8, 8];
        /// A pin of the I/O APIC.
        IOAPIC: "kvm_ioapic_set_irq", "IOAPIC_FIELDS", ["e", "pin", "coalesced?"], [8, 4, 1];
        /// The same once more.
        IOAPIC_AGAIN: "kvm_ioapic_delayed_eoi_inj", "IOAPIC_AGAIN_FIELDS", ["e"], [8];
        /// A pin of the 8259 pair.
        PIC: "kvm_pic_set_irq", "PIC_FIELDS", ["chip", "pin", "imr", "coalesced?"], [1, 1, 1, 1, 1];
        /// A line changes.
        GSI: "kvm_set_irq", "SET_IRQ_FIELDS", ["gsi", "level", "irq_source_id"], [4, 4, 4];
        /// A pin's interrupt is over.
        ACK: "kvm_ack_irq", "ACK_IRQ_FIELDS", ["irqchip", "pin"], [4, 4];
        /// System management mode.
        SMM: "kvm_smm_transition", "SMM_FIELDS", ["entering"], [4, 8, 1];
        /// The same under its older name.
        ENTER_SMM: "kvm_enter_smm", "ENTER_SMM_FIELDS", ["entering"], [4, 8, 1];
        /// A device's interrupts are posted from now on, or no more.
        ROUTE: "kvm_pi_irte_update", "ROUTE_FIELDS", ["host_irq", "gsi", "gvec", "set"], [4, 4, 4, 4, 8, 1];
    }
}

/// Exits, for the noun rip: the classic record whatever the source.
pub static EXIT_RIP: Event = Event {
    name: "kvm_exit",
    programs: ["", "kvm_exit_rip_tp"],
    global: "EXIT_RIP_FIELDS",
    fields: &["exit_reason", "guest_rip", "isa", "vcpu_id?"],
    arguments: &[],
    optional: false,
};

/// Nested page faults; newer kernels pass the vCPU first.
pub static PAGE_FAULT: Event = Event {
    name: "kvm_page_fault",
    programs: ["kvm_page_fault_raw", "kvm_page_fault_tp"],
    global: "PAGE_FAULT_FIELDS",
    fields: &["fault_address", "error_code"],
    arguments: &[8, 8, 8],
    optional: false,
};

/// Accesses to devices' memory, for the noun fault.
pub static FAULT_MMIO: Event = Event {
    name: "kvm_mmio",
    programs: ["fault_mmio_raw", "fault_mmio_tp"],
    global: "FAULT_MMIO_FIELDS",
    fields: &["type", "gpa"],
    arguments: &[4, 4, 8, 8],
    optional: false,
};

impl Event {
    /// Its programs, without the raw one where there is none.
    #[must_use]
    pub const fn programs(&self) -> &[&'static str] {
        let [raw, classic] = &self.programs;
        if raw.is_empty() { std::slice::from_ref(classic) } else { &self.programs }
    }

    /// The group of the tracepoint; all of KVM's are named after it.
    #[must_use]
    pub fn group(&self) -> &'static str {
        if self.name.starts_with("sched_") { "sched" } else { "kvm" }
    }

    /// Whether it may come in an interrupt of the host, and thus on a thread that has nothing to do with it.
    #[must_use]
    pub fn in_interrupts(&self) -> bool {
        irq::IN_INTERRUPTS.contains(&self)
    }

    /// What the classic program must be told of this kernel's record.
    ///
    /// # Errors
    ///
    /// If the text is no format, of another event, or lacks a field that cannot be missed.
    pub fn descriptors(&self, format: &str) -> Result<u64, FormatError> {
        let format = EventFormat::parse(format)?;
        format.expect_event(self.name)?;
        let mut all = Vec::new();
        for field in self.fields {
            let names = field.trim_end_matches('?');
            all.push(match names.split('|').find_map(|name| format.field(name)) {
                None if names != *field => ABSENT,
                None => return Err(FormatError::MissingField { event: self.name, field: names }),
                Some(found) => Slot::of(found)
                    .ok()
                    .and_then(|slot| descriptor(slot.offset, slot.size))
                    .ok_or(FormatError::WrongSize { event: self.name, field: names, size: found.size })?,
            });
        }
        Ok(pack(&all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_utils_common::event::{RECORD_BYTES, field};

    const FORMAT: &str = "name: kvm_msr\nID: 1500\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
        \tfield:unsigned write;\toffset:8;\tsize:4;\tsigned:0;\n\
        \tfield:u32 ecx;\toffset:12;\tsize:4;\tsigned:0;\n\
        \tfield:u64 data;\toffset:16;\tsize:8;\tsigned:0;\n\
        \tfield:u8 exception;\toffset:24;\tsize:1;\tsigned:0;\n\n\
        print fmt: \"\"\n";

    #[test]
    fn the_programs_are_told_where_this_kernels_fields_lie() {
        let word = MSR.descriptors(FORMAT).unwrap();
        let mut record = [0_u32; RECORD_BYTES / 4];
        (record[2], record[3], record[4], record[5], record[6]) = (1, 0x6e0, 7, 1, 0xff01);
        let read: Vec<u64> = (0..4).map(|i| field(&record, word, i)).collect();
        assert_eq!(read, [1, 0x6e0, 0x1_0000_0007, 1]);
    }

    #[test]
    fn a_field_may_have_another_name() {
        let format = |name: &str, field: &str| FORMAT.replace("kvm_msr", name).replace("ecx", field);
        let at = irq::INJECTED.descriptors(&format("kvm_inj_virq", "irq")).unwrap();
        assert_eq!(
            Ok(at),
            irq::INJECTED.descriptors(&format("kvm_inj_virq", "vector")).map_err(|e| e.to_string())
        );
        assert_eq!(at, u64::from(descriptor(12, 4).unwrap()));
    }

    #[test]
    fn a_field_may_be_missing_only_where_that_is_said() {
        let without = |name: &str| {
            FORMAT
                .lines()
                .filter(|line| !line.contains(name))
                .map(|line| format!("{line}\n"))
                .collect::<String>()
        };
        assert!(MSR.descriptors(&without("exception")).is_ok());
        assert!(matches!(
            MSR.descriptors(&without("ecx")),
            Err(FormatError::MissingField { field: "ecx", .. })
        ));
        assert!(MSR.descriptors(&FORMAT.replace("kvm_msr", "kvm_pio")).is_err());
    }
}
