//! Names of the devices behind guest-physical addresses.
//!
//! Little is fixed: the PC's interrupt controllers, timer and TPM, and the window of old graphics cards. The rest below
//! 4 GiB differs by VMM and machine type; its names say so, and a name with `or` leaves open which one it is. Above
//! 4 GiB nothing is fixed, so nothing there has a name.
//!
//! Sources, where a comment names no other: QEMU's include/hw/.

/// One device's addresses.
struct Region {
    first: u64,
    last: u64,
    name: &'static str,
}

/// Keeps the table one line per device.
const fn region(first: u64, last: u64, name: &'static str) -> Region {
    Region { first, last, name }
}

/// Sorted, without overlap (a test says so).
const REGIONS: &[Region] = &[
    // hw/display/vga.c
    region(0x000a_0000, 0x000b_ffff, "VGA window"),
    // pci-host/q35.h, PAM. VMMs that start a kernel directly have RAM here, some with ACPI tables.
    region(0x000c_0000, 0x000d_ffff, "option ROM area"),
    region(0x000e_0000, 0x000f_ffff, "BIOS area"),
    // pci-host/q35.h, MCH_HOST_BRIDGE_PCIEXBAR_DEFAULT; RAM on the i440FX machine.
    region(0xb000_0000, 0xbfff_ffff, "RAM or PCIe ECAM (q35)"),
    // Firecracker: src/vmm/src/arch/x86_64/layout.rs, 3 GiB today, 3.25 GiB in versions up to 1.9 at least.
    region(0xc000_0000, 0xc00f_ffff, "virtio-mmio (Firecracker) or PCI"),
    // QEMU's i440FX machine has up to 3.5 GiB of RAM below 4 GiB (hw/i386/pc_piix.c).
    region(0xc010_0000, 0xcfff_ffff, "RAM or PCI hole"),
    region(0xd000_0000, 0xd00f_ffff, "virtio-mmio (Firecracker) or PCI"),
    region(0xd010_0000, 0xd2ff_ffff, "RAM or PCI hole"),
    // kvmtool: x86/include/kvm/kvm-arch.h, KVM_VIRTIO_MMIO_AREA
    region(0xd300_0000, 0xd30f_ffff, "virtio-mmio (kvmtool) or PCI"),
    region(0xd310_0000, 0xdfff_ffff, "RAM or PCI hole"),
    // ECAM: 0xe0000000 in i386/microvm.h, 0xe8000000 in Cloud Hypervisor's arch/src/x86_64/layout.rs
    region(0xe000_0000, 0xf7ff_ffff, "PCI hole or PCIe ECAM"),
    region(0xf800_0000, 0xfe9f_ffff, "PCI hole"),
    // i386/microvm.h
    region(0xfea0_0000, 0xfea0_0fff, "ACPI GED (microvm) or PCI"),
    region(0xfea0_1000, 0xfeaf_ffff, "PCI hole"),
    // i386/microvm.h: up to 24 devices of 512 bytes
    region(0xfeb0_0000, 0xfeb0_2fff, "virtio-mmio (microvm) or PCI"),
    region(0xfeb0_3000, 0xfebf_ffff, "PCI hole"),
    // Kernel: arch/x86/include/asm/apicdef.h, IO_APIC_DEFAULT_PHYS_BASE
    region(IOAPIC, IOAPIC + 0xfff, "IOAPIC"),
    // intc/ioapic.h, IO_APIC_SECONDARY_ADDRESS
    region(0xfec1_0000, 0xfec1_0fff, "IOAPIC 2 (microvm)"),
    // timer/hpet.h
    region(HPET, HPET + 0x3ff, "HPET"),
    // SeaBIOS: src/fw/dev-q35.h, ICH9_LPC_RCBA_ADDR
    region(0xfed1_c000, 0xfed1_ffff, "ICH9 registers (q35)"),
    // acpi/tpm.h
    region(0xfed4_0000, 0xfed4_4fff, "TPM"),
    region(0xfed4_5000, 0xfed4_53ff, "TPM PPI (QEMU)"),
    // hw/i386/amd_iommu.h, i386/intel_iommu.h
    region(0xfed8_0000, 0xfed8_3fff, "AMD IOMMU (QEMU)"),
    region(0xfed9_0000, 0xfed9_0fff, "Intel IOMMU (QEMU)"),
    // Kernel: arch/x86/include/asm/apicdef.h, APIC_DEFAULT_PHYS_BASE
    region(LAPIC, LAPIC + 0xfff, "LAPIC"),
    // Where devices write their messages; a CPU has no business here.
    region(LAPIC + 0x1000, 0xfeef_ffff, "MSI window"),
    // KVM's own pages on Intel without unrestricted guest. target/i386/kvm/kvm.c, KVM_IDENTITY_BASE
    region(0xfeff_c000, 0xfeff_ffff, "KVM identity map, TSS (QEMU)"),
    // hw/i386/pc_sysfw.c: flash ends at 4 GiB, up to 16 MiB of it.
    region(0xff00_0000, 0xffff_ffff, "firmware flash"),
];

const IOAPIC: u64 = 0xfec0_0000;
const HPET: u64 = 0xfed0_0000;
const LAPIC: u64 = 0xfee0_0000;

/// The device at this guest-physical address, with its register where the device is the same everywhere.
#[must_use]
pub fn device(address: u64) -> Option<&'static str> {
    let at = REGIONS.partition_point(|region| region.last < address);
    let region = REGIONS.get(at).filter(|region| region.first <= address)?;
    let offset = address - region.first;
    Some(match region.first {
        LAPIC => lapic(offset),
        IOAPIC => ioapic(offset),
        HPET => hpet(offset),
        _ => region.name,
    })
}

/// Whether the device at this address is one whose registers are the same everywhere.
#[must_use]
pub fn has_registers(address: u64) -> bool {
    let at = REGIONS.partition_point(|region| region.last < address);
    let region = REGIONS.get(at).filter(|region| region.first <= address);
    region.is_some_and(|region| matches!(region.first, LAPIC | IOAPIC | HPET))
}

/// The device that has this guest-physical address, without its register.
#[must_use]
pub fn region_of(address: u64) -> Option<&'static str> {
    let at = REGIONS.partition_point(|region| region.last < address);
    REGIONS.get(at).filter(|region| region.first <= address).map(|region| region.name)
}

/// Intel SDM vol. 3, "The Local APIC Block Diagram", table "Local APIC Register Address Map"; from 0x400 AMD APM vol. 2,
/// "APIC Registers". Registers are 16 bytes apart.
const fn lapic(offset: u64) -> &'static str {
    match offset & !0xf {
        0x020 => "LAPIC ID",
        0x030 => "LAPIC version",
        0x080 => "LAPIC TPR",
        0x090 => "LAPIC APR",
        0x0a0 => "LAPIC PPR",
        0x0b0 => "LAPIC EOI",
        0x0c0 => "LAPIC RRD",
        0x0d0 => "LAPIC LDR",
        0x0e0 => "LAPIC DFR",
        0x0f0 => "LAPIC SVR",
        0x100..=0x170 => "LAPIC ISR",
        0x180..=0x1f0 => "LAPIC TMR",
        0x200..=0x270 => "LAPIC IRR",
        0x280 => "LAPIC ESR",
        0x2f0 => "LAPIC LVT CMCI",
        0x300 => "LAPIC ICR low",
        0x310 => "LAPIC ICR high",
        0x320 => "LAPIC LVT timer",
        0x330 => "LAPIC LVT thermal",
        0x340 => "LAPIC LVT PMI",
        0x350 => "LAPIC LVT LINT0",
        0x360 => "LAPIC LVT LINT1",
        0x370 => "LAPIC LVT error",
        0x380 => "LAPIC initial count",
        0x390 => "LAPIC current count",
        0x3e0 => "LAPIC divide config",
        0x400 => "LAPIC extended feature",
        0x410 => "LAPIC extended control",
        0x420 => "LAPIC SEOI",
        0x480..=0x4f0 => "LAPIC IER",
        0x500..=0x530 => "LAPIC extended LVT",
        _ => "LAPIC",
    }
}

/// 82093AA data sheet, "I/O APIC Memory Mapped Registers"; EOI is of version 0x20 and later (`IOAPIC_EOI` of QEMU's
/// hw/intc/ioapic_internal.h).
const fn ioapic(offset: u64) -> &'static str {
    match offset {
        0x00 => "IOAPIC select",
        0x10 => "IOAPIC window",
        0x40 => "IOAPIC EOI",
        _ => "IOAPIC",
    }
}

/// IA-PC HPET specification, "Register Overview"; timers from 0x100, 32 bytes each.
const fn hpet(offset: u64) -> &'static str {
    match (offset & !7, offset & 0x18) {
        (0x000, _) => "HPET capabilities",
        (0x010, _) => "HPET config",
        (0x020, _) => "HPET status",
        (0x0f0, _) => "HPET counter",
        (0x100.., 0x00) => "HPET timer config",
        (0x100.., 0x08) => "HPET timer comparator",
        (0x100.., 0x10) => "HPET timer route",
        _ => "HPET",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_without_overlap() {
        assert!(REGIONS.iter().all(|region| region.first < region.last));
        assert!(REGIONS.is_sorted_by(|a, b| a.last < b.first));
    }

    #[test]
    fn every_region_is_found_at_both_ends() {
        for region in REGIONS {
            for address in [region.first, region.last] {
                let name = device(address).unwrap_or_default();
                assert!(name.starts_with(region.name), "{address:#x}: {name}");
            }
            assert_ne!(device(region.last + 1), Some(region.name));
        }
    }

    #[test]
    fn names_fit_a_column() {
        assert!(REGIONS.iter().all(|region| !region.name.is_empty() && region.name.len() <= 32));
    }

    #[test]
    fn registers_of_the_interrupt_controllers_and_the_timer_have_names() {
        for (address, name) in [
            (0xfee0_00b0, "LAPIC EOI"),
            (0xfee0_0300, "LAPIC ICR low"),
            (0xfee0_0310, "LAPIC ICR high"),
            (0xfee0_0380, "LAPIC initial count"),
            (0xfee0_0390, "LAPIC current count"),
            (0xfee0_0080, "LAPIC TPR"),
            (0xfee0_0083, "LAPIC TPR"),
            (0xfee0_0170, "LAPIC ISR"),
            (0xfee0_0180, "LAPIC TMR"),
            (0xfee0_0000, "LAPIC"),
            (0xfee0_0ff0, "LAPIC"),
            (0xfec0_0000, "IOAPIC select"),
            (0xfec0_0010, "IOAPIC window"),
            (0xfec0_0040, "IOAPIC EOI"),
            (0xfec0_0020, "IOAPIC"),
            (0xfed0_0000, "HPET capabilities"),
            (0xfed0_0010, "HPET config"),
            (0xfed0_00f0, "HPET counter"),
            (0xfed0_00f4, "HPET counter"),
            (0xfed0_0100, "HPET timer config"),
            (0xfed0_0128, "HPET timer comparator"),
            (0xfed0_0150, "HPET timer route"),
            (0xfed0_0118, "HPET"),
            (0xfed0_0030, "HPET"),
        ] {
            assert_eq!(device(address), Some(name), "{address:#x}");
        }
    }

    #[test]
    fn other_devices_have_names_too() {
        for (address, name) in [
            (0x000b_8000, "VGA window"),
            (0xfed4_0014, "TPM"),
            (0xfeb0_0050, "virtio-mmio (microvm) or PCI"),
            (0xc000_1050, "virtio-mmio (Firecracker) or PCI"),
            (0xd000_0050, "virtio-mmio (Firecracker) or PCI"),
            (0xb000_8004, "RAM or PCIe ECAM (q35)"),
            (0xfebd_4000, "PCI hole"),
            (0xffff_fff0, "firmware flash"),
            (0xfee0_1004, "MSI window"),
        ] {
            assert_eq!(device(address), Some(name), "{address:#x}");
        }
    }

    #[test]
    fn ram_and_what_lies_above_4_gib_have_none() {
        for address in [
            0,
            0x7c00,
            0x0009_ffff,
            0x0010_0000,
            0x7fff_ffff,
            0xafff_ffff,
            0x1_0000_0000,
            0x38_0000_0000,
            u64::MAX,
        ] {
            assert_eq!(device(address), None, "{address:#x}");
        }
    }
}
