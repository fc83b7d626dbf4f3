//! What the loader left: the command line, and where ACPI's tables begin.

use core::cell::UnsafeCell;
use core::ptr;

/// `XEN_HVM_START_MAGIC_VALUE`, xen/include/public/arch-x86/hvm/start_info.h; the offsets below are of its structure.
const START_INFO_MAGIC: u32 = 0x336e_c578;
const START_INFO_CMDLINE: u64 = 24;
const START_INFO_RSDP: u64 = 32;
/// Offsets of the multiboot information, and the flag that says that there is a command line (specification 0.6.96, 3.3).
const MULTIBOOT_CMDLINE: u64 = 16;
const MULTIBOOT_HAS_CMDLINE: u32 = 1 << 2;

const ROOM: usize = 4096;

struct Line(UnsafeCell<[u8; ROOM]>);

// SAFETY: written once, before other vCPUs run.
unsafe impl Sync for Line {}

static LINE: Line = Line(UnsafeCell::new([0; ROOM]));

/// What the loader left.
#[derive(Clone, Copy)]
pub struct Boot {
    /// By PVH, else by multiboot.
    pub pvh: bool,
    /// Copied: what lies low in memory is overwritten later.
    pub command_line: &'static [u8],
    /// Physical address of ACPI's root pointer, 0 if it has to be searched for.
    pub rsdp: u64,
}

/// Reads physical memory, which is mapped one to one up to 4 GiB; nothing lies beyond that could be read.
pub fn read<T: Copy + Default>(address: u64) -> T {
    if address == 0 || address >= 4 << 30 {
        return T::default();
    }
    // SAFETY: mapped, and every bit pattern is valid for the integers that the callers read.
    unsafe { ptr::read_volatile(ptr::with_exposed_provenance::<T>(address as usize)) }
}

/// Reads the loader's structure.
pub fn read_info(pvh: bool, info: u64) -> Boot {
    let (line, rsdp) = if pvh {
        if read::<u32>(info) == START_INFO_MAGIC {
            (read::<u64>(info + START_INFO_CMDLINE), read::<u64>(info + START_INFO_RSDP))
        } else {
            (0, 0)
        }
    } else if read::<u32>(info) & MULTIBOOT_HAS_CMDLINE != 0 {
        (u64::from(read::<u32>(info + MULTIBOOT_CMDLINE)), 0)
    } else {
        (0, 0)
    };
    // SAFETY: this runs once, before anybody has a reference.
    let copy = unsafe { &mut *LINE.0.get() };
    let mut len = 0;
    while line != 0 && len < ROOM {
        match read::<u8>(line + len as u64) {
            0 => break,
            byte => copy[len] = byte,
        }
        len += 1;
    }
    Boot { pvh, command_line: copy.get(..len).unwrap_or_default(), rsdp }
}
