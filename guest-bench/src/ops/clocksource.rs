//! The kernel's clock source: Documentation/ABI/testing/sysfs-devices-system-cpu does not name it, kernel/time/clocksource.c
//! does. Switching it changes what every program on the machine sees, so it is put back after each round, also when this
//! process is killed.

use std::fs::{self, OpenOptions};
use std::io::{self, PipeWriter, Write};
use std::os::fd::AsRawFd;

use super::Refusal;

const DIRECTORY: &str = "/sys/devices/system/clocksource/clocksource0";

/// The one in use.
pub(crate) fn current() -> Option<String> {
    fs::read_to_string(format!("{DIRECTORY}/current_clocksource")).ok().map(|name| name.trim().to_owned())
}

/// Those that can be chosen.
pub(crate) fn available() -> Vec<String> {
    let names = fs::read_to_string(format!("{DIRECTORY}/available_clocksource")).unwrap_or_default();
    names.split_ascii_whitespace().map(str::to_owned).collect()
}

/// Another source during rounds.
#[derive(Debug)]
pub(super) struct Switch {
    to: String,
    /// What was in use, and who puts it back if this process cannot.
    before: Option<(String, Guard)>,
}

impl Switch {
    /// Does not switch yet.
    pub(super) fn to(source: &str) -> Result<Self, Refusal> {
        let available = available();
        if !available.iter().any(|one| one == source) {
            return Err(Refusal::new(
                format!("there is no clock source {source}"),
                format!("there are {}", available.join(", ")),
            ));
        }
        let file = OpenOptions::new().write(true).open(format!("{DIRECTORY}/current_clocksource"));
        file.map_err(|error| refused(source, &error))?;
        Ok(Self { to: source.to_owned(), before: None })
    }

    pub(super) fn begin(&mut self) -> Result<(), Refusal> {
        let before =
            current().ok_or_else(|| Refusal::new("the clock source in use is not known", "mount /sys"))?;
        let guard = Guard::new(&before).map_err(|error| {
            Refusal::new(format!("nobody could put {before} back: {error}"), "allow more processes")
        })?;
        self.before = Some((before, guard));
        choose(&self.to).map_err(|error| refused(&self.to, &error))?;
        match current() {
            Some(now) if now == self.to => Ok(()),
            now => Err(Refusal::new(
                format!("the kernel keeps {} instead of {}", now.unwrap_or_default(), self.to),
                "see the kernel's log (dmesg) for why it distrusts this clock source",
            )),
        }
    }

    pub(super) fn end(&mut self) {
        if let Some((before, guard)) = self.before.take() {
            // What fails here the guard tries once more, and so it lives until then.
            let _ = choose(&before);
            drop(guard);
        }
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.end();
    }
}

fn choose(name: &str) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .open(format!("{DIRECTORY}/current_clocksource"))?
        .write_all(name.as_bytes())
}

fn refused(source: &str, error: &io::Error) -> Refusal {
    Refusal::new(
        format!("the clock source cannot be switched to {source}: {error}"),
        "run it as root, with /sys writable",
    )
}

/// A process that waits until this one has no use for it, or is dead, and writes the name then.
#[derive(Debug)]
struct Guard {
    child: libc::pid_t,
    /// Its end is what the child waits for.
    end: Option<PipeWriter>,
}

impl Guard {
    fn new(name: &str) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(format!("{DIRECTORY}/current_clocksource"))?;
        let (wait, end) = io::pipe()?;
        // SAFETY: the child makes system calls only, with memory that was made before.
        let child = unsafe { libc::fork() };
        match child {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                let mut byte = 0_u8;
                // SAFETY: as above; its own copies of what the parent has are closed, and it never returns.
                unsafe {
                    libc::setsid();
                    for fd in [0, 1, 2, end.as_raw_fd()] {
                        libc::close(fd);
                    }
                    // Returns when the last writing end is closed, whoever closes it.
                    libc::read(wait.as_raw_fd(), (&raw mut byte).cast(), 1);
                    libc::write(file.as_raw_fd(), name.as_ptr().cast(), name.len());
                    libc::_exit(0)
                }
            }
            child => Ok(Self { child, end: Some(end) }),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.end = None;
        // SAFETY: waits for a child of our own.
        unsafe { libc::waitpid(self.child, std::ptr::null_mut(), 0) };
    }
}
