//! As much of ACPI as it takes to find the PM timer.

use crate::boot::{Boot, read};

/// Where the root pointer lies when nobody tells: ACPI specification 6.5, 5.2.5.1.
const SEARCH: (u64, u64) = (0xe_0000, 0x10_0000);
const RSDP: u64 = u64::from_le_bytes(*b"RSD PTR ");
const FADT: u32 = u32::from_le_bytes(*b"FACP");
const HEADER: u64 = 36;
/// Offset of PM_TMR_BLK in the FADT: 5.2.9, table 5.9.
const PM_TMR_BLK: u64 = 76;

/// The port of the PM timer.
pub fn pm_timer(boot: &Boot) -> Option<u16> {
    let rsdp = if read::<u64>(boot.rsdp) == RSDP { boot.rsdp } else { search()? };
    let revision = read::<u8>(rsdp + 15);
    let wide = revision >= 2 && read::<u64>(rsdp + 24) != 0;
    let (root, size) =
        if wide { (read::<u64>(rsdp + 24), 8) } else { (u64::from(read::<u32>(rsdp + 16)), 4) };
    let length = u64::from(read::<u32>(root + 4)).min(4096);
    let mut at = root + HEADER;
    while root != 0 && at + size <= root + length {
        let table = if wide { read::<u64>(at) } else { u64::from(read::<u32>(at)) };
        if table != 0 && read::<u32>(table) == FADT {
            let port = read::<u32>(table + PM_TMR_BLK);
            return u16::try_from(port).ok().filter(|&port| port != 0);
        }
        at += size;
    }
    None
}

fn search() -> Option<u64> {
    let mut at = SEARCH.0;
    while at < SEARCH.1 {
        if read::<u64>(at) == RSDP {
            return Some(at);
        }
        at += 16;
    }
    None
}
