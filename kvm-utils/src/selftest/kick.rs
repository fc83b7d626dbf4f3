//! Taking a vCPU out of `KVM_RUN` from another thread, without a window in which the request is lost.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::{NonNull, null_mut};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kvm_bindings::kvm_run;
use rustix::mm::{MapFlags, ProtFlags};

use super::error::Error;

/// A mapping of its own of the page that a vCPU shares with KVM, for `immediate_exit`: while it is set, `KVM_RUN`
/// returns at once with EINTR (kernel, Documentation/virt/kvm/api.rst).
#[derive(Debug)]
struct RunPage(NonNull<u8>);

const RUN_PAGE_SIZE: usize = 4096;

// SAFETY: the only access is to one atomic byte.
unsafe impl Send for RunPage {}
// SAFETY: as above.
unsafe impl Sync for RunPage {}

impl RunPage {
    fn map(vcpu: &impl AsRawFd) -> io::Result<Self> {
        // SAFETY: the descriptor is open for as long as its owner is borrowed.
        let fd = unsafe { rustix::fd::BorrowedFd::borrow_raw(vcpu.as_raw_fd()) };
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses; a vCPU's first page is its `kvm_run`.
        let page =
            unsafe { rustix::mm::mmap(null_mut(), RUN_PAGE_SIZE, flags, MapFlags::SHARED, fd.as_fd(), 0) }?;
        NonNull::new(page.cast()).map(Self).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    fn immediate_exit(&self) -> &AtomicU8 {
        let offset = std::mem::offset_of!(kvm_run, immediate_exit);
        // SAFETY: inside the mapping, which lives as long as the reference. KVM reads the byte and never writes it.
        unsafe { AtomicU8::from_ptr(self.0.as_ptr().add(offset)) }
    }
}

impl Drop for RunPage {
    fn drop(&mut self) {
        // SAFETY: the mapping is this object's own.
        let _ = unsafe { rustix::mm::munmap(self.0.as_ptr().cast(), RUN_PAGE_SIZE) };
    }
}

/// One vCPU's stop request. Shared by the thread that runs it and those that may stop it.
#[derive(Debug)]
pub struct Kick {
    page: RunPage,
    requested: AtomicBool,
    /// Thread that is running the vCPU now.
    thread: Mutex<Option<libc::pid_t>>,
}

impl Kick {
    pub(crate) fn new(vcpu: &impl AsRawFd) -> Result<Self, Error> {
        let failed =
            |what| move |source| Error::Host { what, source, remedy: "check `ulimit -v` and free memory" };
        install_handler().map_err(failed("install a signal handler"))?;
        let page = RunPage::map(vcpu).map_err(failed("map a vCPU's shared page"))?;
        Ok(Self { page, requested: AtomicBool::new(false), thread: Mutex::new(None) })
    }

    fn thread(&self) -> MutexGuard<'_, Option<libc::pid_t>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the vCPU leave `KVM_RUN` as soon as it can, now or the next time it is run.
    pub fn kick(&self) {
        self.requested.store(true, Ordering::SeqCst);
        self.page.immediate_exit().store(1, Ordering::SeqCst);
        if let Some(thread) = *self.thread() {
            // SAFETY: sends a signal that has a handler to a thread of this process, which cannot end while it is
            // registered here, since it takes the lock to leave.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal()) };
        }
    }

    /// Whether [`kick`](Self::kick) was called.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.requested.load(Ordering::SeqCst)
    }

    /// Forgets the request, so that the vCPU can run again.
    pub fn clear(&self) {
        self.requested.store(false, Ordering::SeqCst);
        self.page.immediate_exit().store(0, Ordering::SeqCst);
    }

    /// Registers the calling thread as the one that runs the vCPU.
    pub(crate) fn enter(&self) -> Running<'_> {
        // SAFETY: has no preconditions.
        *self.thread() = Some(unsafe { libc::gettid() });
        Running(self)
    }
}

/// Unregisters the thread when it stops running the vCPU.
pub(crate) struct Running<'a>(&'a Kick);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        *self.0.thread() = None;
    }
}

fn signal() -> libc::c_int {
    libc::SIGRTMIN() + 4
}

/// A handler that does nothing but exist, without SA_RESTART: so the signal interrupts `KVM_RUN` and kills nobody.
fn install_handler() -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    static INSTALLED: OnceLock<i32> = OnceLock::new();
    let errno = *INSTALLED.get_or_init(|| {
        // SAFETY: an all-zero sigaction is valid: no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: the handler is async-signal-safe, as it does nothing.
        match unsafe { libc::sigaction(signal(), &raw const action, null_mut()) } {
            0 => 0,
            _ => io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL),
        }
    });
    if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) }
}
