//! Guest memory: one anonymous mapping in which every nested page fault is predictable.

use std::ffi::c_void;
use std::io;
use std::ptr::{NonNull, null_mut};

use kvm_bench::protocol::Control;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::error::Error;

/// Bytes of a small page, the unit of guest memory here.
pub(crate) const PAGE: u64 = 4096;

/// Guest-physical memory from address 0 on.
///
/// What could add nested page faults is ruled out: huge pages (one fault for 512 pages), merging of equal pages (write
/// protection), sharing with a child process (copy on write).
#[derive(Debug)]
pub(crate) struct GuestMemory {
    base: NonNull<u8>,
    size: usize,
}

// SAFETY: the mapping belongs to this object and is valid in every thread; all access to it goes through atomics, or
// through `write` and `populate`, which their users call before any vCPU runs.
unsafe impl Send for GuestMemory {}
// SAFETY: as above.
unsafe impl Sync for GuestMemory {}

impl GuestMemory {
    /// Reserves `size` bytes. Nothing is populated yet.
    pub(crate) fn new(size: u64) -> Result<Self, Error> {
        let failed = |what| {
            move |errno: rustix::io::Errno| Error::Host {
                what,
                source: errno.into(),
                remedy: "free some memory, or ask for fewer vCPUs and pages",
            }
        };
        let size = usize::try_from(size).map_err(|_| Error::Plan(format!("{size} bytes of guest memory")))?;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let base = unsafe {
            rustix::mm::mmap_anonymous(
                null_mut(),
                size,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }
        .map_err(failed("map guest memory"))?;
        let Some(base) = NonNull::new(base.cast::<u8>()) else {
            return Err(failed("map guest memory")(rustix::io::Errno::NOMEM));
        };
        let memory = Self { base, size };
        // A kernel without huge pages or page merging refuses the advice, and needs none.
        for advice in [Advice::LinuxNoHugepage, Advice::LinuxUnmergeable] {
            let _ = memory.advise(advice);
        }
        memory.advise(Advice::LinuxDontFork).map_err(failed("keep guest memory from child processes"))?;
        Ok(memory)
    }

    fn advise(&self, advice: Advice) -> rustix::io::Result<()> {
        // SAFETY: the range is this object's mapping, and the advice given does not change its contents.
        unsafe { rustix::mm::madvise(self.base.as_ptr().cast::<c_void>(), self.size, advice) }
    }

    /// Address in this process.
    pub(crate) fn host_address(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    /// Bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size as u64
    }

    fn at(&self, address: u64, len: usize) -> Option<*mut u8> {
        let offset = usize::try_from(address).ok()?;
        let end = offset.checked_add(len)?;
        // SAFETY: offset is inside the mapping.
        (end <= self.size).then(|| unsafe { self.base.as_ptr().add(offset) })
    }

    fn outside(address: u64) -> Error {
        Error::Host {
            what: "write guest memory",
            source: io::Error::new(io::ErrorKind::InvalidInput, format!("address {address:#x} is outside")),
            remedy: "this is a bug in the memory layout, report it",
        }
    }

    /// Copies `bytes` to a guest-physical address. Only while no vCPU runs.
    pub(crate) fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Error> {
        let target = self.at(address, bytes.len()).ok_or_else(|| Self::outside(address))?;
        // SAFETY: the target range is inside the mapping, which `bytes` cannot overlap since `self` is borrowed mutably.
        unsafe { target.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// Gives every `stride` bytes from `start` to `end` a page of host memory, so that the guest's first access is
    /// one nested fault and not also a wait for the host. Only while no vCPU runs; the pages must be unused.
    pub(crate) fn populate(&mut self, start: u64, end: u64, stride: u64) -> Result<(), Error> {
        let mut address = start;
        while address < end {
            let target = self.at(address, 1).ok_or_else(|| Self::outside(address))?;
            // SAFETY: inside the mapping, as checked. Volatile, because only the page fault matters.
            unsafe { target.write_volatile(0) };
            address += stride;
        }
        Ok(())
    }

    /// The control page at a guest-physical address, shared with a running guest.
    pub(crate) fn control(&self, address: u64) -> Result<&Control, Error> {
        let at = self.at(address, size_of::<Control>()).filter(|_| address.is_multiple_of(PAGE));
        let at = at.ok_or_else(|| Self::outside(address))?;
        // SAFETY: inside the mapping and aligned; all fields are atomics, for which every bit pattern is valid, and
        // the reference lives no longer than the mapping.
        Ok(unsafe { &*at.cast::<Control>() })
    }
}

impl Drop for GuestMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping is this object's own, and nobody can hold a reference into it any more.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast::<c_void>(), self.size) };
    }
}
