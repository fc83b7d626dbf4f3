//! How a thread in user mode makes the kernel send an interrupt to one CPU.
//!
//! None of these is made for it, and each has a way of not doing it: so whoever uses them counts the interrupts.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::thread::{
    Cpuid, MembarrierCommand, MembarrierQuery, membarrier, membarrier_cpu, membarrier_query,
};

use super::super::Refusal;
use super::super::helper::{Line, Spinner};
use crate::shared::bracket;

/// Ways by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// Reading a software perf event that belongs to the target CPU: the kernel reads it there, whatever runs there, and
    /// waits for that (kernel/events/core.c, `perf_event_read`).
    Perf,
    /// membarrier(PRIVATE_EXPEDITED_RSEQ, FLAG_CPU), since Linux 5.10: an interrupt if a thread of this process runs on the
    /// target, else nothing at all, and no error either (kernel/sched/membarrier.c).
    Membarrier,
    /// Reading IA32_TIME_STAMP_COUNTER of the target through its MSR device: an interrupt, RDMSR there, and a completion
    /// that the reader sleeps for (arch/x86/lib/msr-smp.c).
    Msr,
    /// A signal to a thread that runs on the target: the kernel kicks it and does not wait (kernel/sched/core.c,
    /// `kick_process`).
    Signal,
}

impl Via {
    /// Every one, with those first that are tried first.
    pub const ALL: [Self; 4] = [Self::Perf, Self::Membarrier, Self::Msr, Self::Signal];

    /// Its name in arguments.
    pub fn name(self) -> &'static str {
        match self {
            Self::Perf => "perf",
            Self::Membarrier => "membarrier",
            Self::Msr => "msr",
            Self::Signal => "signal",
        }
    }

    /// What it is, for the report.
    pub fn about(self) -> &'static str {
        match self {
            Self::Perf => "read of the target's perf event",
            Self::Membarrier => "membarrier",
            Self::Msr => "read of the target's MSR device: the interrupt, RDMSR and a completion",
            Self::Signal => "signal to the target's thread",
        }
    }

    /// The line of /proc/interrupts that counts its interrupts.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Signal => "RES",
            Self::Perf | Self::Membarrier | Self::Msr => "CAL",
        }
    }

    /// By its name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|via| via.name() == name)
    }
}

/// A way to one CPU, ready for use.
pub(super) struct Way {
    /// Which one.
    pub via: Via,
    /// The CPU.
    pub dst: usize,
    means: Means,
    /// To the thread that runs on the target, if one does.
    line: Option<Line>,
}

enum Means {
    Perf(OwnedFd),
    Membarrier(Cpuid),
    Msr(File),
    Signal { tid: u32, wait: bool },
}

impl Way {
    /// Prepares one.
    pub fn open(via: Via, dst: usize, wait: bool) -> Result<Self, Refusal> {
        let means = match via {
            Via::Perf => Means::Perf(perf_event(dst)?),
            Via::Membarrier => Means::Membarrier(register(dst)?),
            Via::Msr => Means::Msr(msr_device(dst)?),
            Via::Signal => {
                catch_signals();
                Means::Signal { tid: 0, wait }
            }
        };
        Ok(Self { via, dst, means, line: None })
    }

    /// The first that is there of those that reach the target: one that is halted has no thread to be found or signalled.
    pub fn choose(dst: usize, is_running: bool) -> Result<Self, Refusal> {
        let mut reasons = Vec::new();
        for via in [Via::Perf, Via::Membarrier, Via::Msr] {
            if via == Via::Membarrier && !is_running {
                continue;
            }
            match Self::open(via, dst, true) {
                Ok(way) => return Ok(way),
                Err(refusal) => reasons.push(refusal.reason),
            }
        }
        Err(Refusal::new(
            format!("there is no way to send an interrupt: {}", reasons.join("; ")),
            "run this as root",
        ))
    }

    /// Says which thread runs on the target; signals go to it.
    pub fn aim(&mut self, spinner: &Spinner) {
        if let Means::Signal { tid, .. } = &mut self.means {
            *tid = spinner.tid();
        }
        self.line = Some(spinner.line().clone());
    }

    /// Waits until the target's thread, if there is to be one, runs. Other work may have taken its CPU for a while.
    pub fn prepare(&self) -> Result<(), Refusal> {
        self.line.as_ref().map_or(Ok(()), Line::await_running)
    }

    /// Sends one, and waits for the answer where the way has one. False: the kernel returned an error.
    #[inline(always)]
    pub fn send(&self) -> bool {
        match &self.means {
            Means::Perf(event) => {
                let mut value = 0_u64;
                // SAFETY: the kernel writes at most 8 bytes to a u64 of this frame.
                unsafe { libc::read(event.as_raw_fd(), (&raw mut value).cast(), 8) == 8 }
            }
            Means::Membarrier(cpu) => membarrier_cpu(MembarrierCommand::PrivateExpeditedRseq, *cpu).is_ok(),
            Means::Msr(file) => file.read_at(&mut [0; 8], TSC).is_ok_and(|read| read == 8),
            Means::Signal { tid, wait } => {
                let before = handled(self.dst);
                signal(*tid) && (!wait || await_handled(self.dst, before + 1))
            }
        }
    }

    /// Sends one and returns when its target has handled it, outside of any bracket. `handled_before`: what [`handled`] gave.
    pub fn settle(&self, handled_before: u64) -> bool {
        match &self.means {
            Means::Signal { wait: false, .. } => await_handled(self.dst, handled_before + 1),
            _ => true,
        }
    }
}

/// perf_event_open's `perf_event_attr` as far as PERF_ATTR_SIZE_VER0: include/uapi/linux/perf_event.h.
const ATTR_SIZE: u64 = 64;
/// `type`
const PERF_TYPE_SOFTWARE: u64 = 1;
/// `config`: an event that counts nothing.
const PERF_COUNT_SW_DUMMY: u64 = 9;
/// `flags` of the call.
const PERF_FLAG_FD_CLOEXEC: u64 = 8;

fn perf_event(cpu: usize) -> Result<OwnedFd, Refusal> {
    let attr: [u64; 8] = [PERF_TYPE_SOFTWARE | ATTR_SIZE << 32, PERF_COUNT_SW_DUMMY, 0, 0, 0, 0, 0, 0];
    let cpu = libc::c_int::try_from(cpu).unwrap_or(libc::c_int::MAX);
    // SAFETY: the kernel reads 64 bytes of `attr`; -1 is any process, -1 no group.
    let fd =
        unsafe { libc::syscall(libc::SYS_perf_event_open, attr.as_ptr(), -1, cpu, -1, PERF_FLAG_FD_CLOEXEC) };
    let fd = libc::c_int::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(Refusal::new(
            format!("a perf event of CPU {cpu} is refused: {}", io::Error::last_os_error()),
            "run this as root, or set kernel.perf_event_paranoid to 0",
        ));
    }
    // SAFETY: the kernel has just made it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn register(cpu: usize) -> Result<Cpuid, Refusal> {
    let wanted = MembarrierQuery::PRIVATE_EXPEDITED_RSEQ | MembarrierQuery::REGISTER_PRIVATE_EXPEDITED_RSEQ;
    if !membarrier_query().contains(wanted) {
        return Err(Refusal::new(
            "this kernel's membarrier cannot interrupt one CPU (PRIVATE_EXPEDITED_RSEQ)",
            "use Linux 5.10 or later with CONFIG_RSEQ, or --via perf",
        ));
    }
    let failed =
        |error: rustix::io::Errno| Refusal::new(format!("membarrier fails: {error}"), "use --via perf");
    membarrier(MembarrierCommand::RegisterPrivateExpeditedRseq).map_err(failed)?;
    // SAFETY: the kernel refuses numbers that no CPU has.
    let cpu = unsafe { Cpuid::from_raw(u32::try_from(cpu).unwrap_or(u32::MAX)) };
    // Early kernels with the command know no FLAG_CPU.
    membarrier_cpu(MembarrierCommand::PrivateExpeditedRseq, cpu).map_err(failed)?;
    Ok(cpu)
}

/// Registers for membarrier(PRIVATE_EXPEDITED), which interrupts all CPUs on which threads of this process run.
pub(super) fn register_all() -> Result<(), Refusal> {
    let wanted = MembarrierQuery::PRIVATE_EXPEDITED | MembarrierQuery::REGISTER_PRIVATE_EXPEDITED;
    if !membarrier_query().contains(wanted) {
        return Err(Refusal::new(
            "this kernel's membarrier cannot interrupt all CPUs of a process (PRIVATE_EXPEDITED)",
            "use --via signal, or Linux 4.14 or later with CONFIG_MEMBARRIER",
        ));
    }
    membarrier(MembarrierCommand::RegisterPrivateExpedited)
        .map_err(|error| Refusal::new(format!("membarrier fails: {error}"), "use --via signal"))
}

/// IA32_TIME_STAMP_COUNTER: Intel SDM volume 4, table 2-2. Reading it is no exit as a rule, and harmless.
const TSC: u64 = 0x10;

fn msr_device(cpu: usize) -> Result<File, Refusal> {
    let path = format!("/dev/cpu/{cpu}/msr");
    let read = File::open(&path).and_then(|file| file.read_exact_at(&mut [0; 8], TSC).map(|()| file));
    read.map_err(|error| {
        Refusal::new(format!("{path}: {error}"), "load the module msr, and run this as root")
    })
}

/// As many CPUs as rustix's and glibc's sets have.
const CPUS: usize = 1024;

/// How many signals each CPU has handled.
static HANDLED: [AtomicU64; CPUS] = [const { AtomicU64::new(0) }; CPUS];
/// Whether handlers take the lock.
static LOCKING: AtomicBool = AtomicBool::new(false);
/// The lock they take.
static LOCK: AtomicBool = AtomicBool::new(false);

/// How many signals a CPU has handled so far.
pub(super) fn handled(cpu: usize) -> u64 {
    HANDLED.get(cpu).map_or(0, |count| count.load(Ordering::Acquire))
}

/// An answer that takes longer than this, cycles, does not come.
const PATIENCE: u64 = 5_000_000_000;

/// Waits until a CPU has handled so many signals; false when it does not.
pub(super) fn await_handled(cpu: usize, count: u64) -> bool {
    let start = bracket::start();
    while handled(cpu) < count {
        if bracket::start().wrapping_sub(start) > PATIENCE {
            return false;
        }
    }
    true
}

/// Makes every handler take and release one lock that they share.
pub(super) fn lock(is_wanted: bool) {
    LOCKING.store(is_wanted, Ordering::Release);
}

extern "C" fn on_signal(_: libc::c_int) {
    // Who holds the lock is in this handler, which nothing but the scheduler interrupts: it will let go.
    if LOCKING.load(Ordering::Acquire) {
        while LOCK.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            std::hint::spin_loop();
        }
        LOCK.store(false, Ordering::Release);
    }
    // TSC_AUX has the CPU: the thread is pinned.
    let (_, aux) = bracket::stop();
    if let Some(count) = HANDLED.get((aux & 0xfff) as usize) {
        count.fetch_add(1, Ordering::Release);
    }
}

fn number() -> libc::c_int {
    libc::SIGRTMIN() + 1
}

fn catch_signals() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        let handler: extern "C" fn(libc::c_int) = on_signal;
        // SAFETY: the handler uses atomics only; sigaction reads an action that is valid.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as libc::sighandler_t;
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(number(), &raw const action, std::ptr::null_mut());
        }
    });
}

/// Sends the signal to a thread of this process.
#[inline(always)]
pub(super) fn signal(tid: u32) -> bool {
    // SAFETY: it goes to this process only, which handles it.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, number()) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_have_names() {
        for via in Via::ALL {
            assert_eq!(Via::named(via.name()), Some(via));
        }
        assert_eq!(Via::named("pigeon"), None);
    }
}
