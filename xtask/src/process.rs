//! Starting other programs: lookup, captured output, errors that name the program and what it said.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::process::{Signal, set_parent_process_death_signal};

/// System directories that a user's PATH often lacks (depmod, modprobe).
const SYSTEM_DIRS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// The file that runs as `program`, looked up in PATH and then in the system directories.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(SYSTEM_DIRS.iter().map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

/// A command for a system tool, found like [`find`] does; its messages are in English so that they can be read.
pub(crate) fn tool(program: &str) -> Command {
    let mut command = Command::new(find(program).unwrap_or_else(|| program.into()));
    command.env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    command
}

/// Makes the kernel send `signal` to the command when the thread that starts it ends, so that even
/// SIGKILL of this process leaves nothing running.
pub(crate) fn tie(command: &mut Command, signal: Signal) {
    let parent = rustix::process::getpid();
    let tie = move || {
        set_parent_process_death_signal(Some(signal))?;
        // The parent may have died between fork and the call above; then no signal would ever come.
        if rustix::process::getppid() != Some(parent) {
            return Err(Errno::SRCH.into());
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec; it makes two async-signal-safe system calls (prctl,
    // getppid) and neither allocates nor takes a lock.
    unsafe { command.pre_exec(tie) };
}

/// Runs a command to its end and returns its stdout; a failure carries its stderr.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {}", name(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed ({}): {}", name(command), output.status, stderr.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{} did not print UTF-8", name(command)))
}

/// Runs a command that talks to the user itself.
pub(crate) fn show(command: &mut Command) -> Result<()> {
    tie(command, Signal::TERM);
    let status = command.status().with_context(|| format!("cannot start {}", name(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", name(command));
    }
    Ok(())
}

/// The command's program and first arguments, as an error message shows them.
pub(crate) fn name(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    for argument in command.get_args().take(3) {
        name.push(' ');
        name.push_str(&argument.to_string_lossy());
    }
    name
}
