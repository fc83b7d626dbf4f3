//! Names of hypercalls, of the three interfaces that KVM offers.

/// Whose interface the guest calls by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flavour {
    /// KVM's own: the event `kvm_hypercall`.
    Kvm,
    /// Hyper-V's: the event `kvm_hv_hypercall`.
    HyperV,
    /// Xen's: the event `kvm_xen_hypercall`.
    Xen,
}

/// One hypercall.
struct Hypercall {
    number: u64,
    name: &'static str,
}

/// Keeps the tables one line per hypercall.
const fn row(number: u64, name: &'static str) -> Hypercall {
    Hypercall { number, name }
}

/// The kernel's include/uapi/linux/kvm_para.h. Sorted by number (a test says so), like the other tables.
const KVM: &[Hypercall] = &[
    row(1, "KVM_HC_VAPIC_POLL_IRQ"),
    row(2, "KVM_HC_MMU_OP"),
    row(3, "KVM_HC_FEATURES"),
    row(4, "KVM_HC_PPC_MAP_MAGIC_PAGE"),
    row(5, "KVM_HC_KICK_CPU"),
    row(6, "KVM_HC_MIPS_GET_CLOCK_FREQ"),
    row(7, "KVM_HC_MIPS_EXIT_VM"),
    row(8, "KVM_HC_MIPS_CONSOLE_OUTPUT"),
    row(9, "KVM_HC_CLOCK_PAIRING"),
    row(10, "KVM_HC_SEND_IPI"),
    row(11, "KVM_HC_SCHED_YIELD"),
    row(12, "KVM_HC_MAP_GPA_RANGE"),
];

/// Call codes: the kernel's include/hyperv/hvgdk_mini.h, extended ones hvgdk_ext.h.
const HYPER_V: &[Hypercall] = &[
    row(0x0002, "HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE"),
    row(0x0003, "HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST"),
    row(0x0004, "HVCALL_GET_LOGICAL_PROCESSOR_RUN_TIME"),
    row(0x0008, "HVCALL_NOTIFY_LONG_SPIN_WAIT"),
    row(0x000b, "HVCALL_SEND_IPI"),
    row(0x000f, "HVCALL_ENABLE_VP_VTL"),
    row(0x0013, "HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX"),
    row(0x0014, "HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX"),
    row(0x0015, "HVCALL_SEND_IPI_EX"),
    row(0x0040, "HVCALL_CREATE_PARTITION"),
    row(0x0041, "HVCALL_INITIALIZE_PARTITION"),
    row(0x0042, "HVCALL_FINALIZE_PARTITION"),
    row(0x0043, "HVCALL_DELETE_PARTITION"),
    row(0x0044, "HVCALL_GET_PARTITION_PROPERTY"),
    row(0x0045, "HVCALL_SET_PARTITION_PROPERTY"),
    row(0x0046, "HVCALL_GET_PARTITION_ID"),
    row(0x0048, "HVCALL_DEPOSIT_MEMORY"),
    row(0x0049, "HVCALL_WITHDRAW_MEMORY"),
    row(0x004b, "HVCALL_MAP_GPA_PAGES"),
    row(0x004c, "HVCALL_UNMAP_GPA_PAGES"),
    row(0x004d, "HVCALL_INSTALL_INTERCEPT"),
    row(0x004e, "HVCALL_CREATE_VP"),
    row(0x004f, "HVCALL_DELETE_VP"),
    row(0x0050, "HVCALL_GET_VP_REGISTERS"),
    row(0x0051, "HVCALL_SET_VP_REGISTERS"),
    row(0x0052, "HVCALL_TRANSLATE_VIRTUAL_ADDRESS"),
    row(0x0056, "HVCALL_CLEAR_VIRTUAL_INTERRUPT"),
    row(0x0058, "HVCALL_DELETE_PORT"),
    row(0x005b, "HVCALL_DISCONNECT_PORT"),
    row(0x005c, "HVCALL_POST_MESSAGE"),
    row(0x005d, "HVCALL_SIGNAL_EVENT"),
    row(0x0069, "HVCALL_POST_DEBUG_DATA"),
    row(0x006a, "HVCALL_RETRIEVE_DEBUG_DATA"),
    row(0x006b, "HVCALL_RESET_DEBUG_SESSION"),
    row(0x006c, "HVCALL_MAP_STATS_PAGE"),
    row(0x006d, "HVCALL_UNMAP_STATS_PAGE"),
    row(0x006f, "HVCALL_SET_SYSTEM_PROPERTY"),
    row(0x0076, "HVCALL_ADD_LOGICAL_PROCESSOR"),
    row(0x007b, "HVCALL_GET_SYSTEM_PROPERTY"),
    row(0x007c, "HVCALL_MAP_DEVICE_INTERRUPT"),
    row(0x007d, "HVCALL_UNMAP_DEVICE_INTERRUPT"),
    row(0x007e, "HVCALL_RETARGET_INTERRUPT"),
    row(0x0084, "HVCALL_ENTER_SLEEP_STATE"),
    row(0x0087, "HVCALL_NOTIFY_PARTITION_EVENT"),
    row(0x008b, "HVCALL_NOTIFY_PORT_RING_EMPTY"),
    row(0x0091, "HVCALL_REGISTER_INTERCEPT_RESULT"),
    row(0x0094, "HVCALL_ASSERT_VIRTUAL_INTERRUPT"),
    row(0x0095, "HVCALL_CREATE_PORT"),
    row(0x0096, "HVCALL_CONNECT_PORT"),
    row(0x0099, "HVCALL_START_VP"),
    row(0x009a, "HVCALL_GET_VP_INDEX_FROM_APIC_ID"),
    row(0x00af, "HVCALL_FLUSH_GUEST_PHYSICAL_ADDRESS_SPACE"),
    row(0x00b0, "HVCALL_FLUSH_GUEST_PHYSICAL_ADDRESS_LIST"),
    row(0x00c0, "HVCALL_SIGNAL_EVENT_DIRECT"),
    row(0x00c1, "HVCALL_POST_MESSAGE_DIRECT"),
    row(0x00c2, "HVCALL_DISPATCH_VP"),
    row(0x00c9, "HVCALL_GET_GPA_PAGES_ACCESS_STATES"),
    row(0x00d7, "HVCALL_ACQUIRE_SPARSE_SPA_PAGE_HOST_ACCESS"),
    row(0x00d8, "HVCALL_RELEASE_SPARSE_SPA_PAGE_HOST_ACCESS"),
    row(0x00db, "HVCALL_MODIFY_SPARSE_GPA_PAGE_HOST_VISIBILITY"),
    row(0x00e1, "HVCALL_MAP_VP_STATE_PAGE"),
    row(0x00e2, "HVCALL_UNMAP_VP_STATE_PAGE"),
    row(0x00e3, "HVCALL_GET_VP_STATE"),
    row(0x00e4, "HVCALL_SET_VP_STATE"),
    row(0x00f4, "HVCALL_GET_VP_CPUID_VALUES"),
    row(0x0101, "HVCALL_GET_PARTITION_PROPERTY_EX"),
    row(0x0106, "HVCALL_MMIO_READ"),
    row(0x0107, "HVCALL_MMIO_WRITE"),
    row(0x010f, "HVCALL_DISABLE_HYP_EX"),
    row(0x0131, "HVCALL_MAP_STATS_PAGE2"),
    row(0x8001, "HV_EXT_CALL_QUERY_CAPABILITIES"),
    row(0x8003, "HV_EXT_CALL_MEMORY_HEAT_HINT"),
];

/// The kernel's include/xen/interface/xen.h, without `__HYPERVISOR_`.
const XEN: &[Hypercall] = &[
    row(0, "set_trap_table"),
    row(1, "mmu_update"),
    row(2, "set_gdt"),
    row(3, "stack_switch"),
    row(4, "set_callbacks"),
    row(5, "fpu_taskswitch"),
    row(6, "sched_op_compat"),
    row(7, "platform_op"),
    row(8, "set_debugreg"),
    row(9, "get_debugreg"),
    row(10, "update_descriptor"),
    row(12, "memory_op"),
    row(13, "multicall"),
    row(14, "update_va_mapping"),
    row(15, "set_timer_op"),
    row(16, "event_channel_op_compat"),
    row(17, "xen_version"),
    row(18, "console_io"),
    row(19, "physdev_op_compat"),
    row(20, "grant_table_op"),
    row(21, "vm_assist"),
    row(22, "update_va_mapping_otherdomain"),
    row(23, "iret"),
    row(24, "vcpu_op"),
    row(25, "set_segment_base"),
    row(26, "mmuext_op"),
    row(27, "xsm_op"),
    row(28, "nmi_op"),
    row(29, "sched_op"),
    row(30, "callback_op"),
    row(31, "xenoprof_op"),
    row(32, "event_channel_op"),
    row(33, "physdev_op"),
    row(34, "hvm_op"),
    row(35, "sysctl"),
    row(36, "domctl"),
    row(37, "kexec_op"),
    row(38, "tmem_op"),
    row(39, "xc_reserved_op"),
    row(40, "xenpmu_op"),
    row(41, "dm_op"),
    row(48, "arch_0"),
    row(49, "arch_1"),
    row(50, "arch_2"),
    row(51, "arch_3"),
    row(52, "arch_4"),
    row(53, "arch_5"),
    row(54, "arch_6"),
    row(55, "arch_7"),
];

/// The name of a hypercall, as the kernel spells it.
///
/// For Hyper-V `number` may be the whole input value: its lower 16 bits are the call code (TLFS, "Hypercall Inputs").
#[must_use]
pub fn name(flavour: Flavour, number: u64) -> Option<&'static str> {
    let (table, number) = match flavour {
        Flavour::Kvm => (KVM, number),
        Flavour::HyperV => (HYPER_V, number & 0xffff),
        Flavour::Xen => (XEN, number),
    };
    let at = table.binary_search_by_key(&number, |row| row.number).ok()?;
    table.get(at).map(|row| row.name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn tables_are_sorted_and_their_names_distinct() {
        for table in [KVM, HYPER_V, XEN] {
            assert!(table.is_sorted_by(|a, b| a.number < b.number));
            let names: HashSet<_> = table.iter().map(|row| row.name).collect();
            assert_eq!(names.len(), table.len());
        }
    }

    #[test]
    fn calls_of_paravirtual_guests_have_names() {
        for (number, expected) in
            [(5, "KVM_HC_KICK_CPU"), (10, "KVM_HC_SEND_IPI"), (11, "KVM_HC_SCHED_YIELD")]
        {
            assert_eq!(name(Flavour::Kvm, number), Some(expected));
        }
        for (number, expected) in [
            (0x02, "HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE"),
            (0x08, "HVCALL_NOTIFY_LONG_SPIN_WAIT"),
            (0x0b, "HVCALL_SEND_IPI"),
            (0x15, "HVCALL_SEND_IPI_EX"),
            (0x5c, "HVCALL_POST_MESSAGE"),
            (0x5d, "HVCALL_SIGNAL_EVENT"),
            (0x8001, "HV_EXT_CALL_QUERY_CAPABILITIES"),
        ] {
            assert_eq!(name(Flavour::HyperV, number), Some(expected));
        }
        for (number, expected) in
            [(24, "vcpu_op"), (29, "sched_op"), (32, "event_channel_op"), (15, "set_timer_op")]
        {
            assert_eq!(name(Flavour::Xen, number), Some(expected));
        }
    }

    #[test]
    fn one_number_is_three_things() {
        let names = [Flavour::Kvm, Flavour::HyperV, Flavour::Xen].map(|flavour| name(flavour, 2));
        assert_eq!(
            names,
            [Some("KVM_HC_MMU_OP"), Some("HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE"), Some("set_gdt")]
        );
    }

    #[test]
    fn the_upper_bits_of_hyper_vs_input_are_no_part_of_the_code() {
        // Fast, one repetition, from the first on.
        assert_eq!(name(Flavour::HyperV, 0x0000_0001_0001_0003), Some("HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST"));
        assert_eq!(name(Flavour::Kvm, 0x1_0000_000a), None);
        assert_eq!(name(Flavour::Xen, 0x1_0000_001d), None);
    }

    #[test]
    fn unknown_calls_have_no_name() {
        for flavour in [Flavour::Kvm, Flavour::HyperV, Flavour::Xen] {
            assert_eq!(name(flavour, 0x7ff0), None);
            assert_eq!(name(flavour, u64::MAX), None);
        }
        assert_eq!(name(Flavour::Kvm, 0), None);
        assert_eq!(name(Flavour::Xen, 11), None);
    }
}
