//! Who has which addresses: `/proc/ioports` and `/proc/iomem` (kernel/resource.c), a tree by indentation.

use std::fs;

use super::Refusal;

/// A range and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// First address.
    pub(super) start: u64,
    /// Last address.
    pub(super) end: u64,
    /// The owner.
    pub(super) name: String,
    /// How many ranges enclose it.
    depth: usize,
}

impl Claim {
    fn holds(&self, address: u64) -> bool {
        (self.start..=self.end).contains(&address)
    }

    /// A bridge's window, or what the firmware says of the whole machine: nobody answers there by itself.
    fn is_window(&self) -> bool {
        self.name.starts_with("PCI Bus ")
    }
}

/// One of the two lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claims(Vec<Claim>);

impl Claims {
    /// `/proc/ioports`
    pub(super) fn ports() -> Result<Self, Refusal> {
        Self::read("/proc/ioports")
    }

    /// `/proc/iomem`
    pub(super) fn memory() -> Result<Self, Refusal> {
        Self::read("/proc/iomem")
    }

    fn read(path: &str) -> Result<Self, Refusal> {
        let text = fs::read_to_string(path).map_err(|error| {
            Refusal::new(format!("{path} cannot be read: {error}"), "mount /proc, or name the address")
        })?;
        let claims = Self::parse(&text);
        // Without CAP_SYS_ADMIN the kernel shows zeros for all of them.
        if claims.0.iter().all(|claim| claim.end == 0) {
            return Err(Refusal::new(format!("{path} shows no addresses to this user"), "run it as root"));
        }
        Ok(claims)
    }

    fn parse(text: &str) -> Self {
        let claim = |line: &str| {
            let indent = line.len() - line.trim_start().len();
            let (range, name) = line.trim().split_once(" : ")?;
            let (start, end) = range.split_once('-')?;
            let number = |digits| u64::from_str_radix(digits, 16).ok();
            Some(Claim { start: number(start)?, end: number(end)?, name: name.to_owned(), depth: indent / 2 })
        };
        Self(text.lines().filter_map(claim).collect())
    }

    /// The first range of an owner.
    pub(super) fn of(&self, name: &str) -> Option<&Claim> {
        self.0.iter().find(|claim| claim.name == name)
    }

    /// The innermost range that holds an address.
    pub(super) fn owner(&self, address: u64) -> Option<&Claim> {
        self.0.iter().filter(|claim| claim.holds(address)).max_by_key(|claim| claim.depth)
    }

    /// Who answers at an address, if anybody is known to.
    pub(super) fn device_at(&self, address: u64) -> Option<&str> {
        self.owner(address).filter(|claim| !claim.is_window()).map(|claim| claim.name.as_str())
    }

    /// A page within a window of the PCI host bridge that nobody has: the middle of the largest such gap below 4 GiB, or
    /// else anywhere.
    pub(super) fn hole(&self) -> Option<u64> {
        let gaps: Vec<(u64, u64)> = (0..self.0.len())
            .filter(|&index| self.0[index].is_window() && self.0[index].depth == 0)
            .flat_map(|index| self.gaps(index))
            .collect();
        let largest =
            |gaps: &mut dyn Iterator<Item = (u64, u64)>| gaps.max_by_key(|(start, end)| end - start);
        let below = largest(&mut gaps.iter().copied().filter(|(_, end)| *end < 1 << 32 && *end >= 1 << 20));
        let (start, end) = below.or_else(|| largest(&mut gaps.iter().copied()))?;
        let page = (start + (end - start) / 2) & !0xfff;
        (page >= start && page + 0xfff <= end).then_some(page)
    }

    /// What the ranges within a range leave free.
    fn gaps(&self, index: usize) -> Vec<(u64, u64)> {
        let window = &self.0[index];
        let mut free = window.start;
        let mut gaps = Vec::new();
        for inner in self.0[index + 1..].iter().take_while(|inner| inner.depth > window.depth) {
            // A bus behind a bridge keeps its window to itself.
            if inner.depth == window.depth + 1 {
                if inner.start > free {
                    gaps.push((free, inner.start - 1));
                }
                free = free.max(inner.end.saturating_add(1));
            }
        }
        if free <= window.end {
            gaps.push((free, window.end));
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From a guest of Firecracker.
    const PORTS: &str = "0000-0cf7 : PCI Bus 0000:00\n  0000-001f : dma1\n  0020-0021 : pic1\n  0060-0060 : keyboard\n\
        \x20 0064-0064 : keyboard\n0cf8-0cff : PCI conf1\n0d00-ffff : PCI Bus 0000:00\n";

    /// From QEMU's pc with Debian.
    const MEMORY: &str = "00000000-00000fff : Reserved\n00001000-0009fbff : System RAM\n\
        80000000-febfffff : PCI Bus 0000:00\n  fd000000-fdffffff : 0000:00:02.0\n    fd000000-fdffffff : bochs-drm\n\
        \x20 feb00000-feb0ffff : 0000:00:03.0\nfec00000-fec003ff : IOAPIC 0\nfed00000-fed003ff : HPET 0\n\
        \x20 fed00000-fed003ff : PNP0103:00\nfee00000-fee00fff : Local APIC\n\
        140000000-1bfffffff : PCI Bus 0000:00\n";

    #[test]
    fn the_innermost_claim_owns_an_address() {
        let ports = Claims::parse(PORTS);
        assert_eq!(ports.device_at(0x64), Some("keyboard"));
        assert_eq!(ports.device_at(0x1234), None);
        assert_eq!(ports.device_at(0x62), None);
        assert_eq!(ports.device_at(0xcf8), Some("PCI conf1"));
        assert_eq!(ports.owner(0x1234).map(|claim| claim.start), Some(0xd00));
        let memory = Claims::parse(MEMORY);
        assert_eq!(memory.device_at(0xfd00_0010), Some("bochs-drm"));
        assert_eq!(
            memory.of("IOAPIC 0").map(|claim| (claim.start, claim.end)),
            Some((0xfec0_0000, 0xfec0_03ff))
        );
        assert_eq!(memory.of("HPET 0").map(|claim| claim.start), Some(0xfed0_0000));
        assert_eq!(memory.of("HPET 1"), None);
    }

    #[test]
    fn a_hole_belongs_to_nobody() {
        let memory = Claims::parse(MEMORY);
        let hole = memory.hole().unwrap();
        assert_eq!(hole & 0xfff, 0);
        assert!((0x8000_0000..0xfd00_0000).contains(&hole), "{hole:#x}");
        assert_eq!(memory.device_at(hole), None);
        // Only a window above 4 GiB, and one that is full.
        let high = "140000000-1bfffffff : PCI Bus 0000:00\n  140000000-17fffffff : 0000:00:01.0\n";
        let hole = Claims::parse(high).hole().unwrap();
        assert!((0x1_8000_0000..0x1_c000_0000).contains(&hole), "{hole:#x}");
        let full = "80000000-8fffffff : PCI Bus 0000:00\n  80000000-8fffffff : 0000:00:01.0\n";
        assert_eq!(Claims::parse(full).hole(), None);
        assert_eq!(Claims::parse("").hole(), None);
    }

    #[test]
    fn a_bus_behind_a_bridge_is_no_hole() {
        let text = "80000000-8fffffff : PCI Bus 0000:00\n  80000000-8effffff : PCI Bus 0000:01\n\
            \x20   80000000-80000fff : 0000:01:00.0\n";
        let hole = Claims::parse(text).hole().unwrap();
        assert!(hole >= 0x8f00_0000, "{hole:#x}");
    }

    #[test]
    fn lines_that_make_no_sense_are_left_out() {
        assert_eq!(Claims::parse("nonsense\nxx-yy : z\n 12 : a\n"), Claims(Vec::new()));
    }
}
