//! The terminal is taken and given back, however it ends: the screen in a process of its own on a pseudoterminal.

use std::{
    fs::File,
    io::{PipeWriter, Read, Write},
    num::NonZero,
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use kvm_utils::cmd::top::{End, Pace, show};
use rustix::{
    event::{PollFd, PollFlags, poll},
    termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr},
};

use crate::{demo::Demo, fleet::Fleet};

/// In the process of its own: in which interval to panic, or 0.
const CHILD: &str = "KVM_UTILS_TEST_SCREEN";
/// Its exit code where the terminal is gone.
const LOST: i32 = 7;
/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The process of its own; does nothing where it is run with all others.
#[test]
fn in_a_process_of_its_own() {
    let Ok(panic_after) = std::env::var(CHILD) else { return };
    let mut demo = Demo::new(Fleet::new(7));
    demo.panic_after = panic_after.parse().ok().filter(|interval| *interval > 0);
    let pace = Pace { interval: Duration::from_millis(50), duration: None };
    match show(&mut demo, &pace).unwrap() {
        End::Done => println!("ended well"),
        End::Lost => std::process::exit(LOST),
    }
}

struct Pty {
    child: Child,
    master: File,
    before: Termios,
    screen: Arc<(Mutex<vt100::Parser>, Condvar)>,
    /// Reads for the screen until the pipe is closed.
    reader: Option<(JoinHandle<()>, PipeWriter)>,
}

impl Pty {
    fn start(panic_after: u32) -> Self {
        let (mut master, mut slave) = (0, 0);
        let size = libc::winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: all pointers are valid or null.
        let opened =
            unsafe { libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null(), &size) };
        assert_eq!(opened, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: both were just opened and belong to nobody else.
        let (master, slave) = unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        for fd in [&master, &slave] {
            rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC).unwrap();
        }
        let before = tcgetattr(&slave).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "terminal::in_a_process_of_its_own", "--nocapture"])
            .env(CHILD, panic_after.to_string())
            .env("LC_ALL", "C.UTF-8")
            .env("RUST_BACKTRACE", "0")
            .env_remove("NO_COLOR")
            .env("TERM", "xterm")
            .stdin(Stdio::from(slave.try_clone().unwrap()))
            .stdout(Stdio::from(slave.try_clone().unwrap()))
            .stderr(Stdio::from(slave.try_clone().unwrap()));
        // SAFETY: both may be called between fork and exec.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        drop((command, slave));
        let of = |number| NonZero::new(number).unwrap();
        let screen = Arc::new((Mutex::new(vt100::Parser::new(of(24), of(80), 0)), Condvar::new()));
        let master = File::from(master);
        let (mut reader, shared) = (master.try_clone().unwrap(), Arc::clone(&screen));
        let (hung_up, hang_up) = std::io::pipe().unwrap();
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4096];
            loop {
                let mut fds = [PollFd::new(&reader, PollFlags::IN), PollFd::new(&hung_up, PollFlags::IN)];
                poll(&mut fds, None).unwrap();
                let over = !fds[1].revents().is_empty();
                let Ok(length @ 1..) = (if over { Ok(0) } else { reader.read(&mut bytes) }) else { return };
                shared.0.lock().unwrap().process(&bytes[..length]);
                shared.1.notify_all();
            }
        });
        Self { child, master, before, screen, reader: Some((reader, hang_up)) }
    }

    /// Waits until the screen is as it is to be.
    fn await_screen(&self, what: &str, is: impl Fn(&vt100::Screen) -> bool) {
        let (screen, changed) = &*self.screen;
        let screen = screen.lock().unwrap();
        let (screen, waited) =
            changed.wait_timeout_while(screen, PATIENCE, |screen| !is(screen.screen())).unwrap();
        assert!(!waited.timed_out(), "waited for {what}:\n{}", screen.screen().contents());
    }

    fn await_text(&self, text: &str) {
        self.await_screen(text, |screen| screen.contents().contains(text));
    }

    fn types(&mut self, bytes: &str) {
        self.master.write_all(bytes.as_bytes()).unwrap();
    }

    fn signal(&self, signal: i32) {
        // SAFETY: no memory is involved.
        assert_eq!(unsafe { libc::kill(self.child.id().cast_signed(), signal) }, 0);
    }

    fn settings(&self) -> Termios {
        tcgetattr(&self.master).unwrap()
    }

    fn await_end(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "it does not end");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Reads no more: the terminal stands still.
    fn stand_still(&mut self) {
        if let Some((reader, end)) = self.reader.take() {
            drop(end);
            reader.join().unwrap();
        }
    }

    /// Closes our end: for the other the terminal is gone.
    fn hang_up(&mut self) {
        self.stand_still();
        self.master = File::open("/dev/null").unwrap();
    }

    /// It is all as it was before.
    fn assert_given_back(&self) {
        self.await_screen("the screen of before", |screen| {
            !screen.alternate_screen() && !screen.hide_cursor()
        });
        let (before, now) = (&self.before, self.settings());
        assert_eq!(
            (now.input_modes, now.output_modes, now.local_modes, now.control_modes),
            (before.input_modes, before.output_modes, before.local_modes, before.control_modes)
        );
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // It has usually ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn taken_and_given_back_at_the_end() {
    let mut pty = Pty::start(0);
    pty.await_text("WHERE TIME GOES");
    let shown = pty.screen.0.lock().unwrap();
    assert!(shown.screen().alternate_screen() && shown.screen().hide_cursor());
    drop(shown);
    assert!(!pty.settings().local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG));
    pty.types("\u{1b}[B\r");
    pty.await_text("VMs › web-1");
    pty.types("q");
    pty.await_text("ended well");
    assert!(pty.await_end().success());
    pty.assert_given_back();
}

#[test]
fn given_back_after_signals() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT] {
        let mut pty = Pty::start(0);
        pty.await_text("WHERE TIME GOES");
        pty.signal(signal);
        pty.await_text("ended well");
        assert!(pty.await_end().success());
        pty.assert_given_back();
    }
}

#[test]
fn given_back_after_a_panic_whose_message_can_be_read() {
    let mut pty = Pty::start(3);
    pty.await_text("as was asked for");
    assert!(!pty.await_end().success());
    pty.assert_given_back();
}

#[test]
fn keys_of_the_line_discipline_act() {
    let mut pty = Pty::start(0);
    pty.await_text("WHERE TIME GOES");
    // Nobody could continue it here, so it goes on.
    pty.types("\u{1a}");
    pty.types("?");
    pty.await_text("What it shows");
    pty.signal(libc::SIGTSTP);
    pty.types("?l");
    pty.await_text("exits of all vCPUs");
    pty.types("\u{3}");
    pty.await_text("ended well");
    assert!(pty.await_end().success());
    pty.assert_given_back();
}

#[test]
fn stopped_by_force_it_takes_the_terminal_anew_when_it_goes_on() {
    let mut pty = Pty::start(0);
    pty.await_text("WHERE TIME GOES");
    pty.signal(libc::SIGSTOP);
    let stopped = || -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pty.child.id())).unwrap();
        stat.rsplit(')').next().unwrap().trim_start().starts_with('T')
    };
    while !stopped() {
        thread::sleep(Duration::from_millis(10));
    }
    // A shell would now have the terminal as it likes it.
    pty.screen.0.lock().unwrap().process(b"\x1b[?1049l\x1b[?25h$ ");
    tcsetattr(&pty.master, OptionalActions::Now, &pty.before).unwrap();
    pty.signal(libc::SIGCONT);
    pty.await_screen("its own screen", |screen| screen.alternate_screen() && screen.hide_cursor());
    pty.await_text("WHERE TIME GOES");
    let began = Instant::now();
    while pty.settings().local_modes.contains(LocalModes::ICANON) {
        assert!(began.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(10));
    }
    pty.types("q");
    pty.await_text("ended well");
    assert!(pty.await_end().success());
    pty.assert_given_back();
}

#[test]
fn ends_with_its_terminal() {
    let mut pty = Pty::start(0);
    pty.await_text("WHERE TIME GOES");
    pty.hang_up();
    let status = pty.await_end();
    assert_eq!((status.code(), status.signal()), (Some(LOST), None));
}

#[test]
fn ends_when_told_to_though_the_terminal_takes_nothing() {
    let mut pty = Pty::start(0);
    pty.await_text("WHERE TIME GOES");
    pty.stand_still();
    // Whole pictures, until they fill what lies between us and its thread for that waits in write(2).
    pty.types(&"\u{c}".repeat(300));
    let task = format!("/proc/{}/task", pty.child.id());
    let writes = || {
        let mut threads = std::fs::read_dir(&task).unwrap().flatten().map(|thread| thread.path());
        let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap_or_default();
        let screen = threads.find(|thread| read(thread.join("comm")).trim() == "screen").unwrap();
        read(screen.join("syscall")).starts_with(&format!("{} ", libc::SYS_write))
    };
    let began = Instant::now();
    let mut times = 0;
    while times < 20 {
        times = if writes() { times + 1 } else { 0 };
        assert!(began.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(20));
    }
    pty.signal(libc::SIGTERM);
    let status = pty.await_end();
    assert_eq!((status.code(), status.signal()), (Some(LOST), None));
}
