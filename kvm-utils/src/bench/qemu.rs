//! The same guest under QEMU, whose user space then is a part of what is measured.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use rustix::fs::{MemfdFlags, memfd_create};

use super::run::LOOK;
use super::{Config, End, Error, Observer, Options};
use crate::selftest::Error as VmError;

/// Memory of the guest, MiB.
const MEMORY_MIB: &str = "128";

/// Runs the program under the QEMU at `path`, with KVM.
///
/// # Errors
///
/// When QEMU cannot be run or ends with an error, and what the guest or the observer did that ends it early.
pub fn run_in_qemu(
    elf: &[u8],
    path: &str,
    config: &Config,
    options: &Options<'_>,
    observer: &mut dyn Observer,
) -> Result<End, Error> {
    let no_file =
        |source| VmError::Host { what: "make a file in memory", source, remedy: "free some memory" };
    // Inherited by QEMU, which opens it by its name in /proc: so there is no file to be left behind.
    let file =
        memfd_create("kvm-bench-payload", MemfdFlags::empty()).map_err(|errno| no_file(errno.into()))?;
    let mut file = std::fs::File::from(file);
    file.write_all(elf).map_err(no_file)?;
    let kernel = format!("/proc/self/fd/{}", file.as_raw_fd());
    let cannot = |source| Error::Qemu { program: path.to_owned(), source };
    let mut child = Command::new(path)
        .args([
            "-accel",
            "kvm",
            "-cpu",
            "host",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ])
        .args(["-smp", &config.vcpus.to_string(), "-m", MEMORY_MIB, "-serial", "stdio"])
        .args(["-kernel", &kernel, "-append", &config.command_line])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(cannot)?;
    let (Some(output), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(VmError::Worker.into());
    };
    let mut child = Running(child);
    let (send, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    let errors = thread::spawn(move || {
        let mut text = String::new();
        // What can be read of it is said.
        let _ = BufReader::new(errors).read_to_string(&mut text);
        text
    });
    let mut heard = Instant::now();
    loop {
        match lines.recv_timeout(LOOK) {
            Ok(line) => {
                heard = Instant::now();
                observer.line(line.trim_end_matches('\r'))?;
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if options.stop.load(Ordering::Relaxed) => {
                return Ok(End::Stopped);
            }
            Err(RecvTimeoutError::Timeout) if heard.elapsed() > options.patience => {
                return Err(Error::Silent { patience: options.patience, after: String::new() });
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
    let status = child.0.wait().map_err(cannot)?;
    if status.success() {
        return Ok(End::Off);
    }
    let message = errors.join().unwrap_or_default();
    let message = match message.trim().lines().collect::<Vec<_>>().join("; ") {
        nothing if nothing.is_empty() => "it said nothing".to_owned(),
        message => message,
    };
    Err(Error::QemuEnded { status, message })
}

/// A child that is ended when nobody waits for it any more.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has usually ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
