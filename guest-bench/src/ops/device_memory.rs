//! A page of a device's memory, mapped to be read: with sysfs' file of a PCI BAR, or with `/dev/mem`.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::Refusal;

const PAGE: u64 = 4096;

/// A mapped page. It is not unmapped while a target that uses it lives.
#[derive(Debug)]
pub(super) struct Page {
    start: *mut libc::c_void,
    /// Of the word to read.
    offset: usize,
}

impl Page {
    /// The page of `file` that holds the byte at `offset`.
    pub(super) fn map(file: &Path, offset: u64) -> io::Result<Self> {
        // O_SYNC: /dev/mem then maps it uncached (drivers/char/mem.c, uncached_access).
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_SYNC).open(file)?;
        let length = PAGE as usize;
        // SAFETY: a new mapping where the kernel chooses; it is only read, as words that lie within.
        let start = unsafe {
            mmap(
                ptr::null_mut(),
                length,
                ProtFlags::READ,
                MapFlags::SHARED,
                opened.as_fd(),
                offset & !(PAGE - 1),
            )
        }?;
        Ok(Self { start, offset: (offset % PAGE) as usize })
    }

    /// Of `/dev/mem`, at a physical address.
    pub(super) fn physical(address: u64) -> Result<Self, Refusal> {
        Self::map(Path::new("/dev/mem"), address).map_err(|error| {
            let hint = match error.raw_os_error() {
                Some(libc::ENOENT) => "use a kernel with CONFIG_DEVMEM, or the payload: `kvm-utils bench` on the host",
                Some(libc::EACCES) => "run it as root",
                _ => {
                    "run it as root with CAP_SYS_RAWIO, without kernel lockdown; if a driver has the range, boot with \
                     iomem=relaxed"
                }
            };
            Refusal::new(format!("/dev/mem does not give {address:#x}: {error}"), hint)
        })
    }

    /// The word's address, aligned for `T`.
    pub(super) fn word<T>(&self) -> Result<*const T, Refusal> {
        let size = size_of::<T>();
        if !self.offset.is_multiple_of(size) {
            return Err(Refusal::new(
                format!("offset {:#x} in its page is not a multiple of {size}", self.offset),
                "give an aligned address, or a smaller --size",
            ));
        }
        Ok(self.start.cast::<u8>().cast_const().wrapping_add(self.offset).cast())
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: `map` made it, and nobody uses it any more.
        let _ = unsafe { munmap(self.start, PAGE as usize) };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn words_are_read_where_they_lie() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..2048_u32).flat_map(u32::to_le_bytes).collect();
        file.write_all(&bytes).unwrap();
        let page = Page::map(file.path(), 4096 + 40).unwrap();
        // SAFETY: the file has that word.
        assert_eq!(unsafe { page.word::<u32>().unwrap().read_volatile() }, 1024 + 10);
        let page = Page::map(file.path(), 4096 + 42).unwrap();
        assert!(page.word::<u32>().is_err());
        assert!(page.word::<u16>().is_ok());
    }
}
