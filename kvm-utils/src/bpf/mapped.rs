//! A BPF array map as memory: read without a system call per element.

use std::{io, marker::PhantomData, os::fd::AsFd, ptr::NonNull};

use rustix::mm::{MapFlags, ProtFlags};

/// A memory-mapped `BPF_MAP_TYPE_ARRAY` made with `BPF_F_MMAPABLE`, or anonymous memory of the same shape.
///
/// The kernel writes to it at any time, so elements are only handed out as pointers, to be read field by field with
/// volatile reads.
pub struct Mapped<T> {
    base: NonNull<u8>,
    bytes: usize,
    stride: usize,
    len: u32,
    _of: PhantomData<*mut T>,
}

// SAFETY: the mapping belongs to no thread, and access goes through raw pointers whose users state their own rules.
unsafe impl<T> Send for Mapped<T> {}

impl<T> Mapped<T> {
    /// Elements lie 8-aligned one behind the other (kernel/bpf/arraymap.c, `array->elem_size`).
    const STRIDE: usize = size_of::<T>().next_multiple_of(8);

    /// Maps the `len` elements of the array map `map`.
    ///
    /// # Errors
    ///
    /// What mmap(2) says, `EPERM` for a map without `BPF_F_MMAPABLE` for instance.
    pub fn map(map: impl AsFd, len: u32) -> io::Result<Self> {
        let bytes = Self::bytes(len);
        // SAFETY: a new shared mapping at an address of the kernel's choice.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                map,
                0,
            )
        }?;
        Self::new(base, bytes, len)
    }

    /// Zeroed memory of `len` elements that no program writes to: for tests and benchmarks of the readers.
    ///
    /// # Errors
    ///
    /// What mmap(2) says.
    pub fn anonymous(len: u32) -> io::Result<Self> {
        let bytes = Self::bytes(len);
        // SAFETY: a new private mapping at an address of the kernel's choice.
        let base = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        Self::new(base, bytes, len)
    }

    fn bytes(len: u32) -> usize {
        (Self::STRIDE * len as usize).next_multiple_of(rustix::param::page_size())
    }

    fn new(base: *mut std::ffi::c_void, bytes: usize, len: u32) -> io::Result<Self> {
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, bytes, stride: Self::STRIDE, len, _of: PhantomData })
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Element `index`, valid for reads and writes as long as `self` lives; `None` past the end.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<*mut T> {
        if index >= self.len {
            return None;
        }
        // SAFETY: within the mapping, as `index < len`.
        Some(unsafe { self.base.as_ptr().add(self.stride * index as usize) }.cast())
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made by `map` or `anonymous`; no pointer outlives `self` by contract. An error
        // would leave it mapped, which harms nobody.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}
