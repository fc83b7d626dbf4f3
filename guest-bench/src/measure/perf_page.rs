//! The counter's frequency as the kernel tells it to who maps a perf event: `struct perf_event_mmap_page` in
//! include/uapi/linux/perf_event.h. It does so when its own scheduler clock is the TSC, not under kvm-clock.

use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::param::page_size;

/// `PERF_ATTR_SIZE_VER0`: what every kernel knows of `struct perf_event_attr`, as eight words.
const ATTRIBUTES: usize = 8;
/// First word: `PERF_TYPE_SOFTWARE` (1) and the size above it.
const SOFTWARE: u64 = 1 | ((ATTRIBUTES * 8) as u64) << 32;
/// Second word: `PERF_COUNT_SW_DUMMY`, which counts nothing.
const DUMMY: u64 = 9;
/// Sixth word: `disabled`, `exclude_kernel` and `exclude_hv`, so that anybody may open it.
const FLAGS: u64 = 1 | 1 << 5 | 1 << 6;

/// `PERF_FLAG_FD_CLOEXEC`
const CLOSE_ON_EXEC: u64 = 1 << 3;

/// `capabilities`: the word that holds `cap_user_time`, and its bit.
const CAPABILITIES: (usize, u64) = (40, 1 << 3);
/// `time_shift`, 16 bits.
const SHIFT: usize = 50;
/// `time_mult`, 32 bits.
const MULT: usize = 52;

/// Cycles per second, if the kernel tells: ns = cycles * mult >> shift.
pub fn frequency() -> Option<u64> {
    let event = open()?;
    let length = page_size();
    // SAFETY: a new mapping, read only, of the event's first page; nothing else is replaced.
    let page = unsafe {
        mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, event.as_fd(), 0).ok()?
    };
    let page = page.cast::<u8>();
    // SAFETY: the page is mapped and longer than these offsets, which are aligned for what is read. The kernel may write meanwhile, but
    // writes these once, when the event is mapped.
    let (capabilities, shift, mult) = unsafe {
        (
            page.add(CAPABILITIES.0).cast::<u64>().read_volatile(),
            page.add(SHIFT).cast::<u16>().read_volatile(),
            page.add(MULT).cast::<u32>().read_volatile(),
        )
    };
    // SAFETY: mapped above with this length, and used no more.
    let _ = unsafe { munmap(page.cast(), length) };
    (capabilities & CAPABILITIES.1 != 0).then(|| hz(shift, mult)).flatten()
}

fn open() -> Option<OwnedFd> {
    let mut attributes = [0_u64; ATTRIBUTES];
    attributes[0] = SOFTWARE;
    attributes[1] = DUMMY;
    attributes[5] = FLAGS;
    // SAFETY: perf_event_open reads as many bytes as the attributes say, which are there: of this thread, on any CPU, no group.
    let fd =
        unsafe { libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), 0, -1, -1, CLOSE_ON_EXEC) };
    // SAFETY: a new descriptor that nobody else has.
    i32::try_from(fd).ok().filter(|fd| *fd >= 0).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

fn hz(shift: u16, mult: u32) -> Option<u64> {
    if mult == 0 || shift > 63 {
        return None;
    }
    u64::try_from((1_000_000_000_u128 << shift) / u128::from(mult)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_a_frequency() {
        // 2,596.120 MHz as the kernel would say it: 2^31 / 2.59612 in 31 bits of shift.
        let mult = (f64::from(1_u32 << 31) / 2.596_12) as u32;
        assert!(hz(31, mult).unwrap().abs_diff(2_596_120_000) < 10);
        assert_eq!((hz(31, 0), hz(64, 1)), (None, None));
    }

    #[test]
    fn opening_it_needs_no_rights() {
        // Where a sandbox forbids perf events altogether there is none; a frequency must then be None.
        assert!(open().is_some() || frequency().is_none());
    }
}
