//! What a PVH guest is told: `struct hvm_start_info` of xen/include/public/arch-x86/hvm/start_info.h.

use super::Error;
use super::elf::Image;
use crate::selftest::memory::{GuestMemory, PAGE};

/// `XEN_HVM_START_MAGIC_VALUE`
const MAGIC: u32 = 0x336e_c578;
/// The version that has a memory map.
const VERSION: u32 = 1;
/// `XEN_HVM_MEMMAP_TYPE_RAM`
const RAM: u32 = 1;

/// Guest-physical addresses of what the guest is told, in the last pages below [`LOW_END`].
pub(super) const START_INFO: u64 = 0x9_0000;
const MEMORY_MAP: u64 = START_INFO + 0x100;
const COMMAND_LINE: u64 = START_INFO + PAGE;
/// Memory below 1 MiB ends here, as on any PC: the BIOS' data area follows.
const LOW_END: u64 = 0x9_fc00;
/// And goes on here.
const HIGH_BEGIN: u64 = 0x10_0000;

/// The longest command line, bytes.
const COMMAND_LINE_MAX: usize = (LOW_END - COMMAND_LINE) as usize - 1;

/// Writes program, memory map and command line. Only while no vCPU runs.
pub(super) fn fill(memory: &mut GuestMemory, image: &Image<'_>, command_line: &str) -> Result<(), Error> {
    for segment in &image.segments {
        let outside =
            segment.address < HIGH_BEGIN || segment.address.saturating_add(segment.size) > memory.size();
        if outside || segment.bytes.len() as u64 > segment.size {
            return Err(Error::Elf("a segment lies outside of the guest's memory"));
        }
        memory.write(segment.address, segment.bytes)?;
    }
    if command_line.len() > COMMAND_LINE_MAX {
        return Err(Error::CommandLine { bytes: command_line.len(), most: COMMAND_LINE_MAX });
    }
    memory.write(COMMAND_LINE, command_line.as_bytes())?;
    let ranges = [(0, LOW_END), (HIGH_BEGIN, memory.size() - HIGH_BEGIN)];
    let mut map = Vec::new();
    for (address, size) in ranges {
        map.extend(address.to_le_bytes());
        map.extend(size.to_le_bytes());
        map.extend(RAM.to_le_bytes());
        map.extend(0_u32.to_le_bytes());
    }
    memory.write(MEMORY_MAP, &map)?;
    let mut info = Vec::new();
    info.extend(MAGIC.to_le_bytes());
    info.extend(VERSION.to_le_bytes());
    // flags and nr_modules
    info.extend(0_u64.to_le_bytes());
    // modlist_paddr, cmdline_paddr, rsdp_paddr
    for address in [0, COMMAND_LINE, 0] {
        info.extend(address.to_le_bytes());
    }
    info.extend(MEMORY_MAP.to_le_bytes());
    info.extend((ranges.len() as u32).to_le_bytes());
    info.extend(0_u32.to_le_bytes());
    Ok(memory.write(START_INFO, &info)?)
}
