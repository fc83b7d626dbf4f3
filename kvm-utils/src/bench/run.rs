//! Running a machine to its end: a thread per vCPU, devices that hardly are any, and a watchdog.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use kvm_bench::shared::marks::MARK_PORT;
use kvm_ioctls::{VcpuExit, VcpuFd};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::Error;
use super::machine::Machine;
use super::serial::{self, Serial};
use crate::selftest::Error as VmError;
use crate::selftest::kick::Kick;

/// QEMU's isa-debug-exit where most people put it; a write ends the run.
const DEBUG_EXIT: u16 = 0xf4;
/// Command port of the 8042.
const KEYBOARD: u16 = 0x64;
/// Its command that pulses the reset line.
const RESET: u8 = 0xfe;

/// How often the watchdog looks whether it was told to stop.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// How a machine is run.
#[derive(Debug)]
pub struct Options<'a> {
    /// CPUs of the host: the first vCPU's, the second's, ...; those without may run anywhere.
    pub pin: &'a [usize],
    /// A guest that prints nothing for so long is ended.
    pub patience: Duration,
    /// Becomes true when the user wants to end it.
    pub stop: &'a AtomicBool,
}

/// Why a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It powered off or reset itself: so it has done what it wanted.
    Off,
    /// All its vCPUs shut down after an exception that could not be delivered, or it reset itself that way.
    Shutdown,
    /// The user wanted it.
    Stopped,
}

/// Sees what the guest does, on the thread of the first vCPU while that is outside of `KVM_RUN`.
pub trait Observer {
    /// The guest printed a line.
    ///
    /// # Errors
    /// When the run shall end.
    fn line(&mut self, line: &str) -> Result<(), Error>;

    /// The first vCPU wrote to [`MARK_PORT`](kvm_bench::shared::marks). It enters the guest again right after this returns.
    ///
    /// # Errors
    /// When the run shall end.
    fn mark(&mut self, mark: u32) -> Result<(), Error>;
}

/// What the threads share.
struct Shared<'a> {
    kicks: &'a [Kick],
    serial: Serial,
    /// When the guest last printed or marked something, ms after `began`.
    heard_ms: AtomicU64,
    began: Instant,
    end: Mutex<Option<Result<End, Error>>>,
}

impl Shared<'_> {
    /// Ends the run; the first cause counts.
    fn finish(&self, end: Result<End, Error>) {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(end);
        self.kicks.iter().for_each(Kick::kick);
    }

    fn hear(&self) {
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard_ms.store(ms, Ordering::Relaxed);
    }

    fn silence(&self) -> Duration {
        let heard = Duration::from_millis(self.heard_ms.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(heard)
    }
}

/// Runs it to its end. The first vCPU runs on the calling thread, and with it the observer.
///
/// # Errors
///
/// What the guest, KVM or the observer did that ends it early.
pub fn run(machine: &mut Machine, options: &Options<'_>, observer: &mut dyn Observer) -> Result<End, Error> {
    let Some((first, others)) = machine.vcpus.split_first_mut() else {
        return Err(VmError::Plan("a guest without vCPUs".to_owned()).into());
    };
    let shared = Shared {
        kicks: &machine.kicks,
        serial: Serial::default(),
        heard_ms: AtomicU64::new(0),
        began: Instant::now(),
        end: Mutex::new(None),
    };
    let _pinned = pin(options.pin.first())?;
    thread::scope(|scope| {
        let (alive, watched) = mpsc::channel();
        let shared = &shared;
        let started = thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn_scoped(scope, move || watch(shared, options, &watched))
            .map_err(no_thread);
        let mut started = started.map(|_| ());
        for (index, fd) in others.iter_mut().enumerate() {
            let id = index + 1;
            let cpu = options.pin.get(id);
            let body = move || match pin(cpu) {
                Ok(_pinned) => work(fd, id, shared, None),
                Err(error) => shared.finish(Err(error)),
            };
            let name = format!("vcpu-{id}");
            if started.is_ok() {
                started = thread::Builder::new()
                    .name(name)
                    .spawn_scoped(scope, body)
                    .map(|_| ())
                    .map_err(no_thread);
            }
        }
        match started {
            Ok(()) => work(first, 0, shared, Some(observer)),
            Err(error) => shared.finish(Err(error)),
        }
        drop(alive);
    });
    let end = shared.end.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut rest = shared.serial.take().into_iter().chain(shared.serial.take_rest());
    let heard = rest.try_for_each(|line| observer.line(&line));
    let end = end.unwrap_or(Err(VmError::Worker.into()))?;
    heard.map(|()| end)
}

fn no_thread(source: std::io::Error) -> Error {
    let remedy = "raise the limit of threads (ulimit -u, cgroup pids.max)";
    VmError::Host { what: "start a vCPU thread", source, remedy }.into()
}

/// Lets a thread run on all its CPUs again when dropped.
struct Pinned(Option<CpuSet>);

/// Pins the calling thread to a CPU, if one is given.
fn pin(cpu: Option<&usize>) -> Result<Pinned, Error> {
    let Some(&cpu) = cpu else { return Ok(Pinned(None)) };
    let failed = |source| VmError::Host {
        what: "pin a vCPU thread to a CPU",
        source,
        remedy: "choose CPUs that are online and allowed here (Cpus_allowed_list in /proc/self/status)",
    };
    let before = sched_getaffinity(None).map_err(|errno| failed(errno.into()))?;
    if cpu >= CpuSet::MAX_CPU {
        return Err(failed(std::io::ErrorKind::InvalidInput.into()).into());
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(|errno| failed(errno.into()))?;
    Ok(Pinned(Some(before)))
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // They were allowed before.
            let _ = sched_setaffinity(None, before);
        }
    }
}

/// Body of the watchdog: ends a guest that is silent, and one that the user is tired of.
fn watch(shared: &Shared<'_>, options: &Options<'_>, alive: &Receiver<()>) {
    while alive.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        if options.stop.load(Ordering::Relaxed) {
            shared.finish(Ok(End::Stopped));
        } else if shared.silence() > options.patience {
            shared.finish(Err(Error::Silent { patience: options.patience, after: String::new() }));
        }
    }
}

/// Body of a vCPU's thread.
fn work(fd: &mut VcpuFd, id: usize, shared: &Shared<'_>, mut observer: Option<&mut dyn Observer>) {
    let Some(kick) = shared.kicks.get(id) else { return };
    let _running = kick.enter();
    loop {
        if kick.is_requested() {
            return;
        }
        let seen = match fd.run() {
            Ok(exit) => Ok(answer(exit, shared)),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => Ok(Seen::Nothing),
            Err(error) => Err(VmError::kvm("run a vCPU")(error).into()),
        };
        let told = match (seen, &mut observer) {
            (Ok(Seen::End(end)), _) => {
                shared.finish(Ok(end));
                return;
            }
            (Ok(Seen::Unusual(exit)), _) => {
                let rip = fd.get_regs().map_or(0, |regs| regs.rip);
                Err(VmError::Exit { vcpu: u32::try_from(id).unwrap_or(u32::MAX), exit, rip }.into())
            }
            (Ok(Seen::Line), Some(observer)) => {
                shared.hear();
                shared.serial.take().iter().try_for_each(|line| observer.line(line))
            }
            (Ok(Seen::Mark(mark)), Some(observer)) => {
                shared.hear();
                observer.mark(mark)
            }
            (Ok(_), _) => Ok(()),
            (Err(error), _) => Err(error),
        };
        if let Err(error) = told {
            shared.finish(Err(error));
            return;
        }
    }
}

/// What came of an exit to user space.
enum Seen {
    /// It was answered.
    Nothing,
    /// A line was printed.
    Line,
    /// A mark was set.
    Mark(u32),
    /// The guest ends.
    End(End),
    /// What should not happen, in words.
    Unusual(String),
}

/// Answers for all devices: COM1, what ends the machine, and nothing else.
fn answer(exit: VcpuExit<'_>, shared: &Shared<'_>) -> Seen {
    match exit {
        VcpuExit::IoOut(MARK_PORT, data) => {
            data.try_into().map_or(Seen::Nothing, |mark| Seen::Mark(u32::from_le_bytes(mark)))
        }
        VcpuExit::IoOut(port, data) if serial::is_com1(port) => {
            if shared.serial.write(port, data) {
                Seen::Line
            } else {
                Seen::Nothing
            }
        }
        VcpuExit::IoOut(DEBUG_EXIT, _) => Seen::End(End::Off),
        VcpuExit::IoOut(KEYBOARD, [RESET]) => Seen::End(End::Off),
        VcpuExit::IoIn(port, data) if serial::is_com1(port) => {
            data.fill(shared.serial.read(port));
            Seen::Nothing
        }
        // What nobody answers floats, as on a bus without a device.
        VcpuExit::IoIn(_, data) | VcpuExit::MmioRead(_, data) => {
            data.fill(0xff);
            Seen::Nothing
        }
        VcpuExit::IoOut(..) | VcpuExit::MmioWrite(..) | VcpuExit::Intr | VcpuExit::IrqWindowOpen => {
            Seen::Nothing
        }
        VcpuExit::Shutdown => Seen::End(End::Shutdown),
        VcpuExit::Hlt | VcpuExit::SystemEvent(..) => Seen::End(End::Off),
        VcpuExit::InternalError => Seen::Unusual("an internal error of KVM".to_owned()),
        exit => Seen::Unusual(format!("{exit:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, elf};
    use super::*;

    /// Sees everything and says nothing.
    #[derive(Default)]
    struct Ears {
        lines: Vec<String>,
        marks: Vec<u32>,
    }

    impl Observer for Ears {
        fn line(&mut self, line: &str) -> Result<(), Error> {
            self.lines.push(line.to_owned());
            Ok(())
        }

        fn mark(&mut self, mark: u32) -> Result<(), Error> {
            self.marks.push(mark);
            Ok(())
        }
    }

    /// Runs 32-bit code; None, and a word why, where there is no KVM to run it.
    fn heard(code: &[u8], patience: Duration) -> Option<(Result<End, Error>, Ears)> {
        let config = Config { vcpus: 2, command_line: String::new() };
        let mut machine = match Machine::new(&elf::tests::file(code, 0x2000, 18), &config) {
            Ok(machine) => machine,
            Err(error) => {
                eprintln!("not tested: {error}");
                return None;
            }
        };
        let mut ears = Ears::default();
        let options = Options { pin: &[], patience, stop: &AtomicBool::new(false) };
        Some((run(&mut machine, &options, &mut ears), ears))
    }

    /// `mov dx, port; mov al, value; out dx, al`
    fn out(port: u16, value: u8) -> Vec<u8> {
        let [low, high] = port.to_le_bytes();
        vec![0x66, 0xba, low, high, 0xb0, value, 0xee]
    }

    /// `mov dx, port; mov eax, mark; out dx, eax`
    fn mark(mark: u8) -> Vec<u8> {
        let [low, high] = MARK_PORT.to_le_bytes();
        vec![0x66, 0xba, low, high, 0xb8, mark, 0, 0, 0, 0xef]
    }

    /// `mov dx, port; in al, dx; mov dx, 0x3f8; out dx, al`
    fn say_what_is_at(port: u16) -> Vec<u8> {
        let [low, high] = port.to_le_bytes();
        vec![0x66, 0xba, low, high, 0xec, 0x66, 0xba, 0xf8, 0x03, 0xee]
    }

    #[test]
    fn a_guest_prints_marks_and_ends() {
        let letters = |text: &str| text.bytes().flat_map(|byte| out(0x3f8, byte)).collect::<Vec<_>>();
        let code = [
            letters("a\n"),
            mark(7),
            say_what_is_at(0x1234),
            say_what_is_at(0x3fd),
            mark(0),
            letters("\nrest"),
            out(DEBUG_EXIT, 0),
        ];
        let Some((end, ears)) = heard(&code.concat(), Duration::from_secs(20)) else { return };
        assert_eq!(end.unwrap(), End::Off);
        assert_eq!(ears.marks, [7, 0]);
        // Nothing answers at 0x1234: 0xff, which is no text.
        assert_eq!(ears.lines, ["a", "\u{fffd}`", "rest"]);
    }

    #[test]
    fn what_ends_a_guest_is_told_apart() {
        let patience = Duration::from_millis(300);
        let reset = out(KEYBOARD, RESET);
        let Some((end, _)) = heard(&reset, Duration::from_secs(20)) else { return };
        assert_eq!(end.unwrap(), End::Off);
        // `ud2` without a table of handlers.
        let (end, _) = heard(&[0x0f, 0x0b], Duration::from_secs(20)).unwrap();
        assert_eq!(end.unwrap(), End::Shutdown);
        // For ever: `jmp $`, and `cli; hlt`, in which KVM waits in the kernel.
        for endless in [&[0xeb, 0xfe][..], &[0xfa, 0xf4, 0xeb, 0xfd]] {
            let (end, _) = heard(endless, patience).unwrap();
            assert!(matches!(end, Err(Error::Silent { .. })), "{end:?}");
        }
    }

    #[test]
    fn notifications_are_events_and_come_to_no_vmm() {
        use super::super::{NOTIFY_ADDRESS, NOTIFY_PORT};
        let words = format!(
            "ops=pio:notify,mmio:notify samples=211 rounds=1 notify_port={NOTIFY_PORT} notify_address={NOTIFY_ADDRESS}"
        );
        let config = Config { vcpus: 1, command_line: words };
        let Ok(mut machine) = Machine::new(kvm_bench::payload::BENCH_ELF, &config) else { return };
        let mut ears = Ears::default();
        let options = Options { pin: &[0], patience: Duration::from_secs(20), stop: &AtomicBool::new(false) };
        assert_eq!(run(&mut machine, &options, &mut ears).unwrap(), End::Off);
        // More: each is tried, and warms up.
        let counts = machine.notifications().unwrap();
        assert!(counts.iter().all(|count| *count > 211), "{counts:?} {:?}", ears.lines);
        assert_eq!(machine.notifications().unwrap(), [0, 0]);
    }

    #[test]
    fn the_payload_says_that_it_is_done() {
        let config = Config { vcpus: 1, command_line: "ops=null samples=10 rounds=1".to_owned() };
        let Ok(mut machine) = Machine::new(kvm_bench::payload::BENCH_ELF, &config) else { return };
        let mut ears = Ears::default();
        let options = Options { pin: &[0], patience: Duration::from_secs(20), stop: &AtomicBool::new(false) };
        assert_eq!(run(&mut machine, &options, &mut ears).unwrap(), End::Off);
        assert_eq!(ears.lines.last().map(String::as_str), Some("{\"done\":true}"), "{:?}", ears.lines);
    }
}
