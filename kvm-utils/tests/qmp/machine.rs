//! QEMU processes that hold a machine and never run it.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{
        net::{UnixListener, UnixStream},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use kvm_utils::host::{
    SysRoot,
    qmp::{DeviceMap, Monitor, NoMap},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal, kill_process, set_parent_process_death_signal},
};
use tempfile::TempDir;

use crate::harness::{Outcome, Skip};

const QEMU: &str = "qemu-system-x86_64";
/// What makes QEMU listen and not wait.
pub const OFF: &str = "server=on,wait=off";
/// QEMU starts in a fraction of this, bytes arrive in a fraction of that.
const PATIENCE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

/// To have QEMU.
pub fn needs_qemu() -> Outcome {
    let found = Command::new(QEMU).arg("--version").output();
    match found {
        Ok(output) if output.status.success() => Ok(()),
        _ => Err(Skip(format!("needs {QEMU}"))),
    }
}

/// A QEMU; it ends when dropped, with its directory.
pub struct Machine {
    child: Child,
    directory: TempDir,
    /// A monitor that QEMU itself connected to: it tells when everything is set up.
    control: BufReader<UnixStream>,
}

impl Machine {
    /// Starts a `pc` with these arguments, `@` in them standing for its directory, and waits until it answers.
    pub fn start(arguments: &str) -> Self {
        let mut machine = Self::begin(arguments);
        machine.control("qmp_capabilities");
        machine
    }

    /// The same, but waits only until QEMU has come to its first monitor.
    pub fn begin(arguments: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path().to_str().expect("UTF-8").to_owned();
        let control = UnixListener::bind(directory.path().join("control")).expect("bound");
        let mut command = Command::new(QEMU);
        // The monitor in which QEMU is the client is none of those that may be asked.
        command.args(["-qmp", &format!("unix:{place}/control")]);
        command.args("-S -nodefaults -display none -M pc,accel=tcg -m 32".split(' '));
        command.args(arguments.split_whitespace().map(|argument| argument.replace('@', &place)));
        command.current_dir(directory.path()).stdin(Stdio::null());
        command.stderr(File::create(directory.path().join("log")).expect("a log"));
        // Also when a test is killed while its QEMU is frozen.
        let end = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
        // SAFETY: between fork and exec it makes one system call.
        unsafe { command.pre_exec(end) };
        let child = command.spawn().expect("QEMU starts");
        wait_for_input(&control);
        let (stream, _) = control.accept().expect("QEMU connects");
        Self { child, directory, control: BufReader::new(stream) }
    }

    /// Runs a command in a monitor that belongs to the test.
    pub fn control(&mut self, command: &str) -> String {
        let line = format!("{{\"execute\": \"{command}\"}}\n");
        self.control.get_mut().write_all(line.as_bytes()).expect("QEMU listens");
        loop {
            if self.control.buffer().is_empty() {
                wait_for_input(self.control.get_ref());
            }
            let mut answer = String::new();
            assert_ne!(self.control.read_line(&mut answer).expect("QEMU answers"), 0, "QEMU has ended");
            // The greeting and events come in between.
            if answer.contains("\"return\"") || answer.contains("\"error\"") {
                return answer;
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A file of its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Its monitor, with time enough on a machine that is busy with other things.
    pub fn open(&self, given: Option<&Path>) -> Result<Monitor, NoMap> {
        Monitor::open(&SysRoot::default(), self.pid(), given, Duration::from_secs(60))
    }

    /// What it says of its devices.
    pub fn map(&self) -> Result<DeviceMap, NoMap> {
        self.open(None)?.device_map()
    }

    /// The same, by a socket that the user names.
    pub fn map_at(&self, given: &Path) -> Result<DeviceMap, NoMap> {
        self.open(Some(given))?.device_map()
    }

    /// Stops it, as a hung one, or lets it go on.
    pub fn freeze(&self, frozen: bool) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, if frozen { Signal::STOP } else { Signal::CONT }).expect("a signal");
        let is_stopped = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("stat");
            stat.contains(") T ")
        };
        self.wait(|| is_stopped() == frozen);
    }

    /// The kernel's lines for its socket `name`: state and inode, as in /proc/net/unix.
    pub fn lines(&self, name: &str) -> Vec<String> {
        let path = self.path(name);
        let table = fs::read_to_string("/proc/net/unix").expect("the table");
        let end = format!(" {}", path.display());
        let state_and_inode =
            |line: &str| line.split_whitespace().skip(5).take(2).collect::<Vec<_>>().join(" ");
        table.lines().filter_map(|line| line.strip_suffix(&end)).map(state_and_inode).collect()
    }

    /// Waits until it listens at `name`.
    pub fn wait_until_there(&self, name: &str) {
        self.wait(|| !self.lines(name).is_empty());
    }

    /// Waits until QEMU has noticed that a client left `name`, so that only its listener is there.
    pub fn wait_until_free(&self, name: &str) {
        self.wait(|| self.lines(name).len() <= 1);
    }

    fn wait(&self, until: impl Fn() -> bool) {
        let began = Instant::now();
        while !until() {
            assert!(began.elapsed() < Duration::from_secs(60), "nothing happens");
            thread::yield_now();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("QEMU said: {}", fs::read_to_string(self.path("log")).unwrap_or_default());
        }
    }
}

/// Waits until there is something to accept or to read.
pub fn wait_for_input(from: &impl std::os::fd::AsFd) {
    let ready = poll(&mut [PollFd::new(from, PollFlags::IN)], Some(&PATIENCE)).expect("poll");
    assert_eq!(ready, 1, "nothing came");
}
