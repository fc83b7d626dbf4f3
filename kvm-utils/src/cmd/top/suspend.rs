//! Stopping, as Ctrl-Z does it.

use std::{io, mem::MaybeUninit, ptr};

/// Stops this process until it is continued, with `group` after all others of its job. The kernel does nothing where
/// nobody could continue it: in a job without a shell.
///
/// # Errors
///
/// When the signal's action cannot be changed.
pub fn stop(group: bool) -> io::Result<()> {
    // Our own handler would only ask for what is being done.
    let ours = action(libc::SIG_IGN)?;
    if group {
        // SAFETY: no memory is involved.
        unsafe { libc::kill(0, libc::SIGTSTP) };
    }
    action(libc::SIG_DFL)?;
    // SAFETY: no memory is involved. To this thread, so that it returns when the process has been continued.
    unsafe { libc::raise(libc::SIGTSTP) };
    // SAFETY: `ours` is what sigaction returned.
    let result = unsafe { libc::sigaction(libc::SIGTSTP, &raw const ours, ptr::null_mut()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets what SIGTSTP does and returns what it did.
fn action(handler: libc::sighandler_t) -> io::Result<libc::sigaction> {
    // SAFETY: all zeros are a sigaction without flags and with an empty mask.
    let mut new: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    new.sa_sigaction = handler;
    let mut old = new;
    // SAFETY: both are valid, and the handlers are the two that are no functions.
    let result = unsafe { libc::sigaction(libc::SIGTSTP, &raw const new, &raw mut old) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(old) }
}
