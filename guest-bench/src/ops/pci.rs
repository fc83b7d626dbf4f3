//! PCI devices as sysfs shows them: Documentation/PCI/sysfs-pci.rst.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::Refusal;

/// Where sysfs lists them.
pub(super) const DEVICES: &str = "/sys/bus/pci/devices";

/// `IORESOURCE_MEM`, include/linux/ioport.h.
const MEMORY: u64 = 0x200;
/// `IORESOURCE_PREFETCH`
const PREFETCH: u64 = 0x2000;

/// One device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    /// `0000:00:02.0`
    pub(super) name: String,
    /// Vendor's number.
    pub(super) vendor: u64,
    /// Base class, subclass and interface, 8 bits each.
    pub(super) class: u64,
    /// Its base address registers, as they are numbered.
    pub(super) bars: Vec<Option<Bar>>,
    directory: PathBuf,
}

/// A range of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bar {
    /// First physical address.
    pub(super) start: u64,
    /// Bytes.
    pub(super) len: u64,
    /// Reads have no side effects.
    pub(super) is_prefetchable: bool,
}

/// All of a machine, by address.
pub(super) fn devices(root: &Path) -> Vec<Device> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut devices: Vec<_> = entries.filter_map(|entry| Device::read(&entry.path())).collect();
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    devices
}

impl Device {
    fn read(directory: &Path) -> Option<Self> {
        let number = |file: &str| hexadecimal(fs::read_to_string(directory.join(file)).ok()?.trim());
        let resource = fs::read_to_string(directory.join("resource")).ok()?;
        Some(Self {
            name: directory.file_name()?.to_str()?.to_owned(),
            vendor: number("vendor")?,
            class: number("class")?,
            bars: resource.lines().take(6).map(bar).collect(),
            directory: directory.to_owned(),
        })
    }

    /// A BAR that is memory.
    pub(super) fn bar(&self, number: u64) -> Result<Bar, Refusal> {
        let bar = usize::try_from(number).ok().and_then(|number| *self.bars.get(number)?);
        bar.ok_or_else(|| {
            let there: Vec<_> = (0..6).filter(|&n| self.bars.get(n).is_some_and(Option::is_some)).collect();
            Refusal::new(
                format!("{} has no memory behind BAR {number}", self.name),
                format!("it has it behind {there:?} of 0 to 5"),
            )
        })
    }

    /// The file to map a BAR with.
    pub(super) fn resource(&self, bar: u64) -> PathBuf {
        self.directory.join(format!("resource{bar}"))
    }

    /// Of a virtio device: BAR and offset of its common configuration, virtio 1.2, 4.1.4. None if there is no such thing,
    /// an error if this user may not know.
    pub(super) fn virtio_common(&self) -> Result<Option<(u64, u64)>, Refusal> {
        let mut space = [0; 256];
        let config = self.directory.join("config");
        let length = File::open(config).and_then(|file| file.read_at(&mut space, 0)).unwrap_or(0);
        if length < space.len() {
            return Err(Refusal::new(
                format!("the kernel shows {length} of 256 bytes of {}'s configuration", self.name),
                "run it as root with CAP_SYS_ADMIN",
            ));
        }
        Ok(common_configuration(&space))
    }
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// A line of `resource`: start, end, flags.
fn bar(line: &str) -> Option<Bar> {
    let mut numbers = line.split_ascii_whitespace().map_while(hexadecimal);
    let (start, end, flags) = (numbers.next()?, numbers.next()?, numbers.next()?);
    let is_there = flags & MEMORY != 0 && start != 0 && end > start;
    is_there.then(|| Bar { start, len: end - start + 1, is_prefetchable: flags & PREFETCH != 0 })
}

/// Walks the capabilities (PCI 3.0, 6.7) for the vendor's own one (9) of the type "common configuration" (1).
fn common_configuration(space: &[u8; 256]) -> Option<(u64, u64)> {
    let byte = |at: usize| space.get(at).copied().unwrap_or(0);
    if byte(0x06) & 0x10 == 0 {
        return None;
    }
    let mut at = usize::from(byte(0x34) & !3);
    // There is room for 48; a list that returns to itself ends all the same.
    for _ in 0..48 {
        if at < 0x40 {
            return None;
        }
        if byte(at) == 9 && byte(at + 3) == 1 {
            let offset = [8, 9, 10, 11].map(|more| byte(at + more));
            return Some((byte(at + 4).into(), u32::from_le_bytes(offset).into()));
        }
        at = usize::from(byte(at + 1) & !3);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `resource` of QEMU's VGA: prefetchable memory, a hole, registers, and the expansion ROM.
    const VGA: &str = "0x00000000fd000000 0x00000000fdffffff 0x0000000000042208\n\
        0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
        0x00000000febd0000 0x00000000febd0fff 0x0000000000040200\n\
        0x000000000000c040 0x000000000000c05f 0x0000000000040101\n\
        0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
        0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
        0x00000000000c0000 0x00000000000dffff 0x0000000000000212\n";

    #[test]
    fn devices_are_read_from_sysfs() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("0000:00:02.0");
        fs::create_dir(&directory).unwrap();
        for (file, text) in [("vendor", "0x1234\n"), ("class", "0x030000\n"), ("resource", VGA)] {
            fs::write(directory.join(file), text).unwrap();
        }
        fs::create_dir(root.path().join("nonsense")).unwrap();
        let devices = devices(root.path());
        assert_eq!(devices.len(), 1);
        let vga = &devices[0];
        assert_eq!((vga.name.as_str(), vga.vendor, vga.class), ("0000:00:02.0", 0x1234, 0x03_0000));
        let memory = Bar { start: 0xfd00_0000, len: 0x100_0000, is_prefetchable: true };
        assert_eq!(vga.bar(0), Ok(memory));
        assert_eq!(vga.bar(2).map(|bar| bar.len), Ok(0x1000));
        // A hole, a range of ports, and numbers that BARs do not have.
        for number in [1, 3, 6, u64::MAX] {
            let refusal = vga.bar(number).unwrap_err();
            assert!(refusal.hint.contains("[0, 2]"), "{refusal:?}");
        }
        assert!(vga.virtio_common().is_err());
    }

    #[test]
    fn the_common_configuration_is_found_among_capabilities() {
        let mut space = [0; 256];
        assert_eq!(common_configuration(&space), None);
        space[0x06] = 0x10;
        space[0x34] = 0x98;
        space[0x98..0x9a].copy_from_slice(&[0x11, 0x84]); // MSI-X
        space[0x84..0x90].copy_from_slice(&[9, 0x60, 16, 2, 4, 0, 0, 0, 0, 0x30, 0, 0]); // notifications
        space[0x60..0x6c].copy_from_slice(&[9, 0, 16, 1, 4, 0, 0, 0, 0, 0x10, 0, 0]); // common
        assert_eq!(common_configuration(&space), Some((4, 0x1000)));
        space[0x63] = 3;
        assert_eq!(common_configuration(&space), None);
        // A list that never ends.
        space[0x61] = 0x98;
        assert_eq!(common_configuration(&space), None);
    }
}
