//! Leaving nothing behind: on SIGINT, SIGTERM and SIGHUP the started emulators die, temporary
//! directories go and the terminal gets its settings back, then the signal takes its usual effect.

use std::io::Read;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

const SIGNALS: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// The write end of the pipe that takes signal numbers from the handler to the thread; -1 before `install`.
static PIPE: AtomicI32 = AtomicI32::new(-1);

static REGISTRY: Mutex<Registry> = Mutex::new(Registry { groups: Vec::new(), dirs: Vec::new(), tty: None });

struct Registry {
    groups: Vec<Pid>,
    dirs: Vec<PathBuf>,
    tty: Option<Termios>,
}

impl Registry {
    fn lock() -> MutexGuard<'static, Self> {
        REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clean(&self) {
        for group in &self.groups {
            let _ = kill_process_group(*group, Signal::KILL);
        }
        for dir in &self.dirs {
            let _ = std::fs::remove_dir_all(dir);
        }
        if let Some(settings) = &self.tty {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, settings);
        }
    }
}

extern "C" fn forward(signal: libc::c_int) {
    // At most 64 fits; the handler may call nothing but async-signal-safe functions.
    let byte = signal as u8;
    // SAFETY: write(2) and the address of this thread's errno are async-signal-safe; the buffer is one live byte, the
    // descriptor stays open for ever, and errno is put back for the code that was interrupted.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        libc::write(PIPE.load(Ordering::Relaxed), (&raw const byte).cast(), 1);
        *errno = before;
    }
}

/// Catches the signals for the rest of the process's life. Started programs get the default action back at exec.
pub(crate) fn install() -> Result<()> {
    let (mut read, write) = std::io::pipe().context("cannot make the signal pipe")?;
    PIPE.store(write.as_raw_fd(), Ordering::Relaxed);
    // Leaked on purpose: the handler needs it until the process ends.
    let _ = write.into_raw_fd();
    for signal in SIGNALS {
        set_action(signal, forward as *const () as libc::sighandler_t)?;
    }
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let mut byte = [0];
        if read.read_exact(&mut byte).is_ok() {
            Registry::lock().clean();
            let signal = i32::from(byte[0]);
            let _ = set_action(signal, libc::SIG_DFL);
            // SAFETY: kill(2) on the own process with a valid signal has no memory effects.
            unsafe { libc::kill(libc::getpid(), signal) };
        }
    })?;
    Ok(())
}

fn set_action(signal: libc::c_int, handler: libc::sighandler_t) -> Result<()> {
    // SAFETY: an all-zero sigaction is a valid value: no flags, an empty mask, the default handler.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: `action` is initialised and lives through the call; the old action is not asked for.
    if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } != 0 {
        return Err(std::io::Error::last_os_error()).context("cannot catch signals");
    }
    Ok(())
}

/// A process group that dies with this process; dropping the guard kills what is left of it.
pub(crate) struct Group(Pid);

impl Group {
    /// Registers the group that `leader` leads.
    pub(crate) fn of(leader: Pid) -> Self {
        Registry::lock().groups.push(leader);
        Self(leader)
    }

    /// Lets go of a group whose leader has been waited for: the number may be another's from now on.
    pub(crate) fn release(self) {
        self.forget();
        std::mem::forget(self);
    }

    fn forget(&self) {
        Registry::lock().groups.retain(|group| *group != self.0);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = kill_process_group(self.0, Signal::KILL);
        self.forget();
    }
}

/// A directory that goes when the guard or the process does.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    /// Creates `path` and answers for its removal.
    pub(crate) fn create(path: PathBuf) -> Result<Self> {
        let mut registry = Registry::lock();
        std::fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        registry.dirs.push(path.clone());
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
        Registry::lock().dirs.retain(|dir| *dir != self.0);
    }
}

/// The settings of the terminal on stdin, given back when the guard goes. QEMU sets it raw and cannot
/// restore it when it is killed.
pub(crate) struct TtyGuard;

impl TtyGuard {
    pub(crate) fn save() -> Self {
        if let Ok(settings) = tcgetattr(std::io::stdin()) {
            Registry::lock().tty = Some(settings);
        }
        Self
    }
}

impl Drop for TtyGuard {
    fn drop(&mut self) {
        if let Some(settings) = Registry::lock().tty.take() {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &settings);
        }
    }
}
