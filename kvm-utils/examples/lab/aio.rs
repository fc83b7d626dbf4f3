//! Reads from a disk whose end writes to an eventfd, by whoever ends them: the interrupt of the disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Bytes of a read; a multiple of any disk's blocks.
const SIZE: usize = 4096;

#[repr(C, align(4096))]
struct Buffer([u8; SIZE]);

/// `struct iocb`, include/uapi/linux/aio_abi.h, on a little-endian machine.
#[repr(C)]
#[derive(Default)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: i32,
    opcode: u16,
    priority: i16,
    fd: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    eventfd: u32,
}

/// `struct io_event`.
#[repr(C)]
#[derive(Default)]
struct Event {
    data: u64,
    object: u64,
    result: i64,
    result2: i64,
}

const IOCB_CMD_PREAD: u16 = 0;
const IOCB_FLAG_RESFD: u32 = 1;

/// A disk, open for reading past the page cache.
pub struct Reader {
    disk: File,
    context: u64,
}

impl Reader {
    pub fn open(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        let disk = options.read(true).custom_flags(libc::O_DIRECT).open(path);
        let disk = disk.with_context(|| format!("cannot open {}", path.display()))?;
        let mut context = 0_u64;
        // SAFETY: the kernel writes one word.
        if unsafe { libc::syscall(libc::SYS_io_setup, 1, &raw mut context) } < 0 {
            return Err(io::Error::last_os_error()).context("io_setup");
        }
        Ok(Self { disk, context })
    }

    /// Reads once, and waits for the end, which writes to the eventfd.
    pub fn read(&self, eventfd: &OwnedFd) -> Result<()> {
        let mut buffer = Box::new(Buffer([0; SIZE]));
        let mut block = Iocb {
            opcode: IOCB_CMD_PREAD,
            fd: self.disk.as_raw_fd() as u32,
            buffer: buffer.0.as_mut_ptr() as u64,
            bytes: SIZE as u64,
            flags: IOCB_FLAG_RESFD,
            eventfd: eventfd.as_raw_fd() as u32,
            ..Iocb::default()
        };
        let mut blocks = [&raw mut block];
        // SAFETY: the block and the buffer live until the read has ended, below.
        if unsafe { libc::syscall(libc::SYS_io_submit, self.context, 1, blocks.as_mut_ptr()) } != 1 {
            return Err(io::Error::last_os_error()).context("io_submit");
        }
        let mut event = Event::default();
        loop {
            // SAFETY: the kernel writes at most one event.
            let got = unsafe {
                libc::syscall(
                    libc::SYS_io_getevents,
                    self.context,
                    1,
                    1,
                    &raw mut event,
                    std::ptr::null::<()>(),
                )
            };
            match got {
                1 if event.result == SIZE as i64 => return Ok(()),
                1 => bail!("the read gave {}", event.result),
                _ => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error).context("io_getevents");
                    }
                }
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // SAFETY: no read is under way.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}
