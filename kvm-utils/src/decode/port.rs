//! Names of the devices behind I/O ports that are the same on practically every PC and virtual machine.
//!
//! What VMMs place as they like (the BARs of PCI devices above all) has no name here. Ports that one machine type of QEMU
//! alone fixes say so; on other machines a PCI device may have them.
//!
//! Sources, where a comment names no other: QEMU's hw/i386/pc.c and the device's file, SeaBIOS's src/hw/.

/// One device's ports.
struct Ports {
    first: u16,
    last: u16,
    name: &'static str,
}

/// Keeps the table one line per device.
const fn ports(first: u16, last: u16, name: &'static str) -> Ports {
    Ports { first, last, name }
}

/// Sorted, without overlap (a test says so).
const PORTS: &[Ports] = &[
    // hw/dma/i8257.c
    ports(0x0000, 0x000f, "DMA 1"),
    // hw/i386/xen/xen_platform.c: guests of KVM's Xen emulation
    ports(0x0010, 0x001f, "Xen platform"),
    // kernel: arch/x86/kvm/i8259.c
    ports(0x0020, 0x0021, "PIC 1"),
    // MultiProcessor specification, "IMCR"; kernel: arch/x86/include/asm/pc-conf-reg.h
    ports(0x0022, 0x0023, "IMCR"),
    // kernel: drivers/hwmon/it87.c and others, which look for the chip
    ports(0x002e, 0x002f, "Super I/O"),
    // kernel: arch/x86/kvm/i8254.h
    ports(0x0040, 0x0040, "PIT counter 0"),
    ports(0x0041, 0x0041, "PIT counter 1"),
    ports(0x0042, 0x0042, "PIT counter 2"),
    ports(0x0043, 0x0043, "PIT control"),
    ports(0x004e, 0x004f, "Super I/O"),
    // hw/input/pckbd.c
    ports(0x0060, 0x0060, "keyboard data"),
    // Also the gate of PIT counter 2. Kernel: arch/x86/kvm/i8254.h
    ports(0x0061, 0x0061, "PC speaker"),
    // kernel: drivers/acpi/ec.c, from the ACPI tables
    ports(0x0062, 0x0062, "ACPI EC data"),
    ports(0x0064, 0x0064, "keyboard control"),
    ports(0x0066, 0x0066, "ACPI EC control"),
    // hw/rtc/mc146818rtc.c
    ports(0x0070, 0x0070, "CMOS/RTC index"),
    ports(0x0071, 0x0071, "CMOS/RTC data"),
    // hw/i386/vapic.c: TPR patching for 32-bit Windows
    ports(0x007e, 0x007f, "KVM vAPIC"),
    // kernel: arch/x86/kernel/io_delay.c
    ports(0x0080, 0x0080, "POST code, I/O delay"),
    ports(0x0081, 0x008f, "DMA page"),
    // hw/i386/port92.c
    ports(0x0092, 0x0092, "A20, fast reset"),
    ports(0x00a0, 0x00a1, "PIC 2"),
    // hw/isa/apm.c
    ports(0x00b2, 0x00b2, "SMI command (APM)"),
    ports(0x00b3, 0x00b3, "SMI status (APM)"),
    ports(0x00c0, 0x00df, "DMA 2"),
    // hw/char/debugcon.c
    ports(0x00e9, 0x00e9, "debug console"),
    // kernel: arch/x86/kernel/io_delay.c, io_delay=0xed
    ports(0x00ed, 0x00ed, "I/O delay"),
    // hw/i386/pc.c
    ports(0x00f0, 0x00f1, "FPU error"),
    // hw/ide/pci.c
    ports(0x0170, 0x0177, "IDE 2"),
    // hw/display/vga.c
    ports(0x01ce, 0x01d0, "VGA (VBE)"),
    ports(0x01f0, 0x01f7, "IDE 1"),
    // hw/char/parallel.c; 0x279 also: ISA plug and play
    ports(0x0278, 0x027f, "LPT2"),
    // hw/char/serial-isa.c
    ports(0x02e8, 0x02ef, "serial COM4"),
    ports(0x02f8, 0x02ff, "serial COM2"),
    ports(0x0376, 0x0376, "IDE 2 control"),
    ports(0x0378, 0x037f, "LPT1"),
    // hw/display/vga.c
    ports(0x03b0, 0x03bb, "VGA"),
    ports(0x03bc, 0x03be, "LPT3"),
    ports(0x03c0, 0x03df, "VGA"),
    ports(0x03e8, 0x03ef, "serial COM3"),
    // hw/block/fdc-isa.c
    ports(0x03f0, 0x03f5, "floppy"),
    ports(0x03f6, 0x03f6, "IDE 1 control"),
    ports(0x03f7, 0x03f7, "floppy"),
    ports(0x03f8, 0x03ff, "serial COM1"),
    // SeaBIOS: src/hw/serialio.c; OVMF, Cloud Hypervisor
    ports(0x0402, 0x0402, "firmware debug console"),
    // hw/dma/i8257.c, pageh-base
    ports(0x0481, 0x048b, "DMA page, high"),
    // kernel: arch/x86/kvm/i8259.c
    ports(0x04d0, 0x04d1, "ELCR"),
    // hw/misc/debugexit.c
    ports(0x0501, 0x0501, "debug exit"),
    // docs/specs/pvpanic.rst
    ports(0x0505, 0x0505, "pvpanic"),
    // docs/specs/fw_cfg.rst
    ports(0x0510, 0x0510, "fw_cfg selector"),
    ports(0x0511, 0x0511, "fw_cfg data"),
    ports(0x0514, 0x051b, "fw_cfg DMA"),
    // Power management at 0x600: q35; the i440FX machine too under SeaBIOS (src/fw/paravirt.c); offsets:
    // include/hw/southbridge/ich9.h. Cloud Hypervisor's PM timer is at 0x608 as well, its shutdown at 0x600.
    ports(0x0600, 0x0603, "ACPI PM1 event"),
    ports(0x0604, 0x0605, "ACPI PM1 control"),
    ports(0x0608, 0x060b, "ACPI PM timer"),
    ports(0x0620, 0x062f, "ACPI GPE0"),
    ports(0x0630, 0x0637, "SMI enable and status"),
    ports(0x0660, 0x067f, "TCO watchdog"),
    // SeaBIOS: 0x100 after power management (src/fw/pciinit.c)
    ports(0x0700, 0x073f, "SMBus"),
    // docs/specs/acpi_mem_hotplug.rst
    ports(0x0a00, 0x0a17, "ACPI memory hotplug"),
    // include/hw/mem/nvdimm.h
    ports(0x0a18, 0x0a1b, "ACPI NVDIMM"),
    // kernel: drivers/pnp/isapnp/core.c
    ports(0x0a79, 0x0a79, "ISA plug and play"),
    // hw/ipmi/isa_ipmi_kcs.c
    ports(0x0ca2, 0x0ca3, "IPMI KCS"),
    // include/hw/acpi/ich9.h
    ports(0x0cc0, 0x0cd7, "ACPI PCI hotplug (q35)"),
    // docs/specs/acpi_cpu_hotplug.rst
    ports(0x0cd8, 0x0cf7, "ACPI CPU hotplug (q35)"),
    // PCI Local Bus specification, "Configuration Mechanism"
    ports(0x0cf8, 0x0cf8, "PCI config address"),
    // include/hw/southbridge/ich9.h, piix.h
    ports(0x0cf9, 0x0cf9, "reset control"),
    ports(0x0cfa, 0x0cfb, "PCI config address"),
    ports(0x0cfc, 0x0cff, "PCI config data"),
    // hw/i386/vmport.c; kernel: arch/x86/include/asm/vmware.h
    ports(0x5658, 0x5659, "VMware backdoor"),
    // hw/acpi/piix4.c
    ports(0xae00, 0xae17, "ACPI PCI hotplug (i440FX)"),
    // docs/specs/acpi_cpu_hotplug.rst
    ports(0xaf00, 0xaf1f, "ACPI CPU hotplug (i440FX)"),
    // hw/acpi/piix4.c
    ports(0xafe0, 0xafe3, "ACPI GPE0 (i440FX)"),
    // Power management of the i440FX machine under OVMF (PIIX4_PMBA_VALUE), and of old ones under SeaBIOS.
    ports(0xb000, 0xb003, "ACPI PM1 event (i440FX)"),
    ports(0xb004, 0xb005, "ACPI PM1 control (i440FX)"),
    ports(0xb008, 0xb00b, "ACPI PM timer (i440FX)"),
    // hw/i386/pc_piix.c, smb_io_base
    ports(0xb100, 0xb13f, "SMBus (i440FX)"),
];

/// The device that answers at this I/O port, if the port is a well-known one.
#[must_use]
pub fn device(port: u16) -> Option<&'static str> {
    let at = PORTS.partition_point(|ports| ports.last < port);
    PORTS.get(at).filter(|ports| ports.first <= port).map(|ports| ports.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_without_overlap() {
        assert!(PORTS.iter().all(|ports| ports.first <= ports.last));
        assert!(PORTS.is_sorted_by(|a, b| a.last < b.first));
    }

    #[test]
    fn names_fit_a_column() {
        assert!(PORTS.iter().all(|ports| !ports.name.is_empty() && ports.name.len() <= 25));
    }

    #[test]
    fn the_ports_that_make_exits_have_names() {
        for (port, name) in [
            (0x20, "PIC 1"),
            (0xa1, "PIC 2"),
            (0x43, "PIT control"),
            (0x60, "keyboard data"),
            (0x64, "keyboard control"),
            (0x71, "CMOS/RTC data"),
            (0x80, "POST code, I/O delay"),
            (0x3f8, "serial COM1"),
            (0x3fd, "serial COM1"),
            (0x2f8, "serial COM2"),
            (0x1f7, "IDE 1"),
            (0x3f6, "IDE 1 control"),
            (0x3d5, "VGA"),
            (0x4d1, "ELCR"),
            (0x511, "fw_cfg data"),
            (0x608, "ACPI PM timer"),
            (0xb008, "ACPI PM timer (i440FX)"),
            (0x0cf8, "PCI config address"),
            (0x0cf9, "reset control"),
            (0x0cfe, "PCI config data"),
            (0x5658, "VMware backdoor"),
            (0xaf00, "ACPI CPU hotplug (i440FX)"),
            (0x0cd8, "ACPI CPU hotplug (q35)"),
        ] {
            assert_eq!(device(port), Some(name), "{port:#x}");
        }
    }

    #[test]
    fn ports_without_an_owner_have_no_name() {
        // Between devices, after the last one, and where VMMs put the BARs of PCI devices.
        for port in [
            0x24,
            0x63,
            0x65,
            0x3f5 + 0x100,
            0x606,
            0x607,
            0x60c,
            0xb006,
            0xb140,
            0xc000,
            0xc050,
            0x6000,
            0xffff,
        ] {
            assert_eq!(device(port), None, "{port:#x}");
        }
    }

    #[test]
    fn every_port_of_the_table_is_found() {
        for ports in PORTS {
            assert!(
                (ports.first..=ports.last).all(|port| device(port) == Some(ports.name)),
                "{}",
                ports.name
            );
        }
    }
}
