//! What is where in a guest: QEMU's own answer, parsed from `info mtree -f`.
//!
//! The command prints every flat view, that is an address space as the guest sees it, with all overlaps resolved and
//! each range named after the region of memory or the device that answers there (mtree_print_flatview,
//! system/memory.c). Address spaces that look the same share a view; which number a view has says nothing.

use serde::{Deserialize, Serialize};

use crate::host::process::printable;

/// The name of the address space that holds I/O ports (memory_map_init, system/physmem.c).
const PORTS: &str = "I/O";
/// The first vCPU's memory (cpu_address_space_init, the same file).
const CPU_MEMORY: &str = "cpu-memory-0";
/// The machine's memory (the same place).
const MEMORY: &str = "memory";
/// What follows a range that the accelerator has as guest memory (its class's name, accel/kvm/kvm-all.c).
const ACCELERATED: &str = " KVM";

/// What answers at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// `ram`: memory; `nv-ram`, memory that keeps its content, counts as well.
    Ram,
    /// `rom`: memory that the guest cannot write.
    Rom,
    /// `romd`: reads like memory, writes reach a device (flash).
    RomDevice,
    /// `ramd`: a device's memory that the guest reaches directly (a passed-through PCI device).
    RamDevice,
    /// `i/o`: every access reaches a device.
    Io,
    /// A word that is unknown here.
    Other,
}

impl Kind {
    fn parse(word: &str) -> Self {
        match word.strip_prefix("nv-").unwrap_or(word) {
            "ram" => Self::Ram,
            "rom" => Self::Rom,
            "romd" => Self::RomDevice,
            "ramd" => Self::RamDevice,
            "i/o" => Self::Io,
            _ => Self::Other,
        }
    }
}

/// The names of devices by I/O port and guest-physical address, at the moment QEMU was asked: a guest moves devices
/// (PCI BARs), and devices come and go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMap {
    ports: Ranges,
    memory: Ranges,
}

impl DeviceMap {
    /// Parses what `info mtree -f` printed; `None` if there is neither a view of ports nor one of memory in it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (mut ports, mut cpu_memory, mut memory) = (None, None, None);
        let mut view = View::default();
        for line in text.lines() {
            if line.starts_with("FlatView #") {
                view = View::default();
            } else if let Some(name) = line.strip_prefix(" AS \"").and_then(|rest| rest.split_once('"')) {
                match name.0 {
                    PORTS => view.is_ports = true,
                    CPU_MEMORY => view.is_cpu_memory = true,
                    MEMORY => view.is_memory = true,
                    _ => {}
                }
            } else if let Some(root) = line.strip_prefix(" Root memory region: ") {
                root.clone_into(&mut view.root);
            } else if let Some(range) = Range::parse(line) {
                for (is_it, place) in [
                    (view.is_ports, &mut ports),
                    (view.is_cpu_memory, &mut cpu_memory),
                    (view.is_memory, &mut memory),
                ] {
                    if is_it {
                        place.get_or_insert_with(Vec::new).extend(view.device(&range));
                    }
                }
            }
        }
        if ports.is_none() && cpu_memory.is_none() && memory.is_none() {
            return None;
        }
        Some(Self {
            ports: Ranges::new(ports.unwrap_or_default()),
            memory: Ranges::new(cpu_memory.or(memory).unwrap_or_default()),
        })
    }

    /// The device at an I/O port; `None` where there is none.
    #[must_use]
    pub fn port(&self, port: u16) -> Option<&str> {
        self.ports.find(port.into()).map(|range| range.name.as_str())
    }

    /// What is at a guest-physical address (of the first vCPU, outside of SMM), and of which kind; `None` where there
    /// is nothing.
    #[must_use]
    pub fn gpa(&self, address: u64) -> Option<(&str, Kind)> {
        self.memory.find(address).map(|range| (range.name.as_str(), range.kind))
    }
}

/// The head of the view that is being read.
#[derive(Default)]
struct View {
    is_ports: bool,
    is_cpu_memory: bool,
    is_memory: bool,
    root: String,
}

impl View {
    /// The range, unless it is only the address space itself, which answers where nothing else does.
    fn device(&self, range: &Range) -> Option<Range> {
        (range.name != self.root || range.offset != range.first).then(|| range.clone())
    }
}

/// A line: `  FIRST-LAST (prio N, KIND): NAME[ @OFFSET][ KVM]`, numbers of 16 hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Range {
    first: u64,
    last: u64,
    kind: Kind,
    /// May hold blanks, brackets and colons.
    name: String,
    /// How far into the region called `name` the range begins.
    offset: u64,
}

impl Range {
    fn parse(line: &str) -> Option<Self> {
        let (span, rest) = line.trim_start().split_once(" (prio ")?;
        let (first, last) = span.split_once('-')?;
        let (first, last) = (hex16(first)?, hex16(last)?);
        let (kind, mut name) = rest.split_once(", ")?.1.split_once("): ")?;
        // Once for each address space that shares the view.
        while let Some(shorter) = name.strip_suffix(ACCELERATED) {
            name = shorter;
        }
        let mut offset = 0;
        if let Some((shorter, digits)) = name.rsplit_once(" @")
            && let Some(number) = hex16(digits)
        {
            (name, offset) = (shorter, number);
        }
        let name = printable(name.as_bytes());
        (first <= last).then_some(Self { first, last, kind: Kind::parse(kind), name, offset })
    }
}

fn hex16(digits: &str) -> Option<u64> {
    let are_digits = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    are_digits.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// Ranges that do not overlap, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Ranges(Vec<Range>);

impl Ranges {
    fn new(mut ranges: Vec<Range>) -> Self {
        ranges.sort_by_key(|range| range.first);
        Self(ranges)
    }

    fn find(&self, address: u64) -> Option<&Range> {
        let after = self.0.partition_point(|range| range.first <= address);
        self.0.get(after.checked_sub(1)?).filter(|range| address <= range.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    macro_rules! fixture {
        ($name:literal) => {
            include_str!(concat!("../../../tests/fixtures/mtree/", $name))
        };
    }

    /// A machine that ran its firmware, printed by QEMU 7.2 and 10.0.
    fn of(old: &str, new: &str) -> [DeviceMap; 2] {
        [old, new].map(|text| DeviceMap::parse(text).expect("a map"))
    }

    #[track_caller]
    fn ports(map: &DeviceMap, expected: &[(u16, Option<&str>)]) {
        for (port, name) in expected {
            assert_eq!(map.port(*port), *name, "port {port:#x}");
        }
    }

    #[track_caller]
    fn memory(map: &DeviceMap, expected: &[(u64, Option<(&str, Kind)>)]) {
        for (address, what) in expected {
            assert_eq!(map.gpa(*address), *what, "address {address:#x}");
        }
    }

    #[test]
    fn pc() {
        for map in of(fixture!("7.2/pc.txt"), fixture!("10.0/pc.txt")) {
            ports(
                &map,
                &[
                    (0x40, Some("pit")),
                    (0x43, Some("pit")),
                    (0x44, None),
                    (0x60, Some("i8042-data")),
                    (0x64, Some("i8042-cmd")),
                    (0x70, Some("rtc-index")),
                    (0x71, Some("rtc")),
                    (0x3f8, Some("serial")),
                    (0xcf8, Some("pci-conf-idx")),
                    (0xcfa, Some("pci-conf-idx")),
                    (0xcfc, Some("pci-conf-data")),
                    // SeaBIOS moves it there from 0xb008.
                    (0x608, Some("acpi-tmr")),
                    (0x60b, Some("acpi-tmr")),
                    (0x60c, None),
                    (0xffff, None),
                ],
            );
            memory(
                &map,
                &[
                    (0, Some(("pc.ram", Kind::Ram))),
                    (0xb_8000, Some(("vga-lowmem", Kind::Io))),
                    (0x7ff_ffff, Some(("pc.ram", Kind::Ram))),
                    (0x800_0000, None),
                    (0xfec0_0000, Some(("ioapic", Kind::Io))),
                    (0xfed0_00f0, Some(("hpet", Kind::Io))),
                    (0xfee0_0300, Some(("apic-msi", Kind::Io))),
                    (0xffff_fff0, Some(("pc.bios", Kind::Rom))),
                    (0x1_0000_0000, None),
                    (u64::MAX, None),
                ],
            );
        }
    }

    #[test]
    fn q35() {
        for map in of(fixture!("7.2/q35.txt"), fixture!("10.0/q35.txt")) {
            ports(
                &map,
                &[
                    (0x607, None),
                    (0x608, Some("acpi-tmr")),
                    (0x60b, Some("acpi-tmr")),
                    (0x60c, None),
                    (0xcf9, Some("lpc-reset-control")),
                    (0xc040, Some("virtio-pci")),
                ],
            );
            memory(
                &map,
                &[
                    (0xb000_0000, Some(("pcie-mmcfg-mmio", Kind::Io))),
                    (0xfe00_0000, Some(("virtio-pci-common-virtio-net", Kind::Io))),
                    (0xfe00_3ffc, Some(("virtio-pci-notify-virtio-net", Kind::Io))),
                    (0xfe00_4000, None),
                ],
            );
        }
    }

    #[test]
    fn microvm() {
        for map in of(fixture!("7.2/microvm.txt"), fixture!("10.0/microvm.txt")) {
            // This view of ports begins with the address space itself, at offset 0.
            ports(&map, &[(0, None), (0x1f, None), (0x20, Some("pic")), (0x3f8, Some("serial"))]);
            memory(&map, &[(0xfeb0_0000, Some(("virtio-mmio", Kind::Io)))]);
        }
    }

    #[test]
    fn kinds_and_what_kvm_has() {
        for map in of(fixture!("7.2/kvm.txt"), fixture!("10.0/kvm.txt")) {
            ports(&map, &[(0x20, Some("kvm-pic")), (0x40, Some("kvm-pit"))]);
            memory(
                &map,
                &[
                    (0x1000, Some(("pc.ram", Kind::Ram))),
                    (0x10_0000, Some(("pc.ram", Kind::Ram))),
                    (0xc_0000, Some(("pc.rom", Kind::Rom))),
                    (0xffc0_0000, Some(("system.flash0", Kind::RomDevice))),
                    // An NVDIMM: `nv-ram`.
                    (0x1_0000_0000, Some(("m", Kind::Ram))),
                ],
            );
        }
    }

    #[test]
    fn names_may_hold_anything() {
        let name = |text: &str| Range::parse(text).map(|range| (range.name, range.kind, range.offset));
        let line = |rest: &str| format!("  00000000febf0450-00000000febf045f (prio 0, {rest}");
        assert_eq!(name(&line("i/o): usb3 port #1")), Some(("usb3 port #1".to_owned(), Kind::Io, 0)));
        assert_eq!(
            name(&line("ramd): 0000:01:00.0 BAR 0 mmaps[0] KVM KVM")),
            Some(("0000:01:00.0 BAR 0 mmaps[0]".to_owned(), Kind::RamDevice, 0))
        );
        assert_eq!(
            name(&line("rom): /rom@etc/acpi/tables @0000000000020000 KVM")),
            Some(("/rom@etc/acpi/tables".to_owned(), Kind::Rom, 0x2_0000))
        );
        assert_eq!(name(&line("i/o): a (b): c @12")), Some(("a (b): c @12".to_owned(), Kind::Io, 0)));
        assert_eq!(name(&line("container): io")), Some(("io".to_owned(), Kind::Other, 0)));
        assert_eq!(name(&line("i/o): a\u{1b}[2Jb")), Some(("a?[2Jb".to_owned(), Kind::Io, 0)));
        assert_eq!(name("  00000000febf0450-00000000febf0400 (prio 0, i/o): backwards"), None);
    }

    #[test]
    fn the_first_vcpu_s_memory_comes_before_the_machine_s() {
        let view = |space: &str, name: &str| {
            format!(
                "FlatView #0\n AS \"{space}\", root: r\n Root memory region: r\n  \
                 0000000000000000-0000000000000fff (prio 0, ram): {name}\n\n"
            )
        };
        let found = |text: String| DeviceMap::parse(&text)?.gpa(0).map(|(name, _)| name.to_owned());
        let (cpu, machine) = (view("cpu-memory-0", "cpu"), view("memory", "machine"));
        assert_eq!(found(format!("{cpu}{machine}")).as_deref(), Some("cpu"));
        assert_eq!(found(format!("{machine}{cpu}")).as_deref(), Some("cpu"));
        assert_eq!(found(machine).as_deref(), Some("machine"));
        assert_eq!(found(view("cpu-smm-0", "smm")), None);
    }

    #[test]
    fn other_text_is_no_map() {
        for text in ["", "unknown command: 'info mtree'", "FlatView #0\n AS \"mch\", root: x\n"] {
            assert_eq!(DeviceMap::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in any::<String>(), port: u16, address: u64) {
            if let Some(map) = DeviceMap::parse(&text) {
                let _ = (map.port(port), map.gpa(address));
            }
        }

        #[test]
        fn a_map_cut_and_damaged_anywhere_is_survived(
            at in 0_usize..6000, with in "[ -~\n\"]{0,20}", port: u16, address: u64
        ) {
            let text = fixture!("10.0/kvm.txt");
            let at = at.min(text.len());
            let text = format!("{}{with}{}", &text[..at], &text[at..]);
            if let Some(map) = DeviceMap::parse(&text) {
                let _ = (map.port(port), map.gpa(address));
            }
        }
    }
}
