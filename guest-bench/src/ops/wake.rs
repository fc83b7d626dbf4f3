//! Waking a thread that sleeps on another CPU: from the call to the moment when it runs.
//!
//! How long it has slept decides what is found there: an idle loop that polls, a host that polls for the vCPU, or a vCPU
//! that is halted. So each length of sleep is an operation of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::{EventfdFlags, eventfd};

use super::helper::{Apart, Helper, Spinner};
use super::{Noun, Opened, Place, Refusal, Spec, Target, witness};
use crate::measure::round::{Details, histogram, pairs};
use crate::measure::skew::Skew;
use crate::shared::bracket::{self, Sample};

pub(super) const NOUN: Noun = Noun { name: "wake", usual, open };

/// Lengths of sleep that show the usual limits of polling, microseconds.
pub const SLEEPS: [u64; 5] = [0, 10, 50, 200, 1000];
/// One of them, for all kinds.
const SLEEP: u64 = 50;

fn usual() -> Vec<Spec> {
    let futex = SLEEPS.map(|sleep| Spec::new("wake:futex").with("sleep_us", sleep));
    let others = ["eventfd", "pipe"].map(|one| Spec::new(&format!("wake:{one}")).with("sleep_us", SLEEP));
    futex.into_iter().chain(others).collect()
}

fn open(spec: &Spec, place: Place) -> Opened {
    let dst = super::pair(&place.allowed(), place.cpu, spec.cpu("dst")?, "any");
    let Some((_, dst)) = dst else {
        return Err(Refusal::new(
            format!("it takes two CPUs, and only {:?} may be used", place.allowed()),
            "give the guest a second vCPU, or the process a larger cpuset",
        ));
    };
    let make = match spec.op.as_str() {
        "wake:futex" => Means::futex,
        "wake:eventfd" => Means::eventfd,
        _ => Means::pipe,
    };
    Ok(Box::new(Wake {
        shared: Arc::new(Shared::new(make)?),
        make,
        src: place.cpu,
        dst,
        sleep: Duration::from_micros(spec.number("sleep_us", SLEEP)?),
        is_round_trip: spec.is_set("round_trip"),
        skew: None,
        sleeper: None,
        one_way: histogram(),
        overhead: crate::measure::overhead::measure().cycles,
    }))
}

/// What one thread sleeps on and another wakes it with.
enum Means {
    /// 1 when it has been woken.
    Futex(AtomicU32),
    Eventfd(OwnedFd),
    Pipe {
        read: OwnedFd,
        write: OwnedFd,
    },
}

impl Means {
    fn futex() -> io::Result<Self> {
        Ok(Self::Futex(AtomicU32::new(0)))
    }

    fn eventfd() -> io::Result<Self> {
        Ok(Self::Eventfd(eventfd(0, EventfdFlags::CLOEXEC)?))
    }

    fn pipe() -> io::Result<Self> {
        let (read, write) = io::pipe()?;
        Ok(Self::Pipe { read: read.into(), write: write.into() })
    }

    /// Sleeps until it is woken.
    #[inline(always)]
    fn wait(&self) -> bool {
        let mut buffer = [0_u8; 8];
        match self {
            Self::Futex(word) => {
                while word.swap(0, Ordering::Acquire) == 0 {
                    futex(word, libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, 0);
                }
                true
            }
            // SAFETY: at most 8 bytes go to a buffer of 8.
            Self::Eventfd(fd) => unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), 8) == 8 },
            // SAFETY: as above, 1 byte.
            Self::Pipe { read, .. } => unsafe {
                libc::read(read.as_raw_fd(), buffer.as_mut_ptr().cast(), 1) == 1
            },
        }
    }

    /// Wakes who sleeps, or who is about to.
    #[inline(always)]
    fn wake(&self) -> bool {
        let one = 1_u64.to_ne_bytes();
        match self {
            Self::Futex(word) => {
                word.store(1, Ordering::Release);
                futex(word, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1) >= 0
            }
            // SAFETY: 8 bytes of a buffer of 8.
            Self::Eventfd(fd) => unsafe { libc::write(fd.as_raw_fd(), one.as_ptr().cast(), 8) == 8 },
            // SAFETY: as above, 1 byte.
            Self::Pipe { write, .. } => unsafe {
                libc::write(write.as_raw_fd(), one.as_ptr().cast(), 1) == 1
            },
        }
    }
}

/// The kernel's futex call without a timeout.
#[inline(always)]
fn futex(word: &AtomicU32, operation: libc::c_int, value: u32) -> libc::c_long {
    // SAFETY: the word outlives the call; these operations use no other argument but a timeout, which is absent.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, std::ptr::null::<libc::timespec>())
    }
}

struct Shared {
    /// Wakes the sleeper.
    there: Means,
    /// Wakes the one that measures, if it sleeps.
    back: Means,
    /// How often the sleeper has been about to sleep.
    asleep: Apart<AtomicU64>,
    /// How often it has run again, and its counter at that moment.
    awake: Apart<(AtomicU64, AtomicU64)>,
    is_round_trip: AtomicBool,
}

impl Shared {
    fn new(make: fn() -> io::Result<Means>) -> Result<Self, Refusal> {
        let make = || {
            make().map_err(|error| Refusal::new(format!("no file descriptor: {error}"), "see `ulimit -n`"))
        };
        Ok(Self {
            there: make()?,
            back: make()?,
            asleep: Apart::default(),
            awake: Apart::default(),
            is_round_trip: AtomicBool::new(false),
        })
    }
}

fn sleep(shared: &Shared, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        shared.asleep.0.fetch_add(1, Ordering::Release);
        if !shared.there.wait() || stop.load(Ordering::Acquire) {
            return;
        }
        let now = bracket::start();
        shared.awake.0.1.store(now, Ordering::Relaxed);
        shared.awake.0.0.fetch_add(1, Ordering::Release);
        if shared.is_round_trip.load(Ordering::Relaxed) && !shared.back.wake() {
            return;
        }
    }
}

/// The thread that sleeps.
struct Sleeper {
    helper: Helper,
    shared: Arc<Shared>,
    /// Its /proc/self/task/TID/stat and status.
    stat: File,
    status: File,
}

impl Sleeper {
    fn start(cpu: usize, shared: &Arc<Shared>) -> Result<Self, Refusal> {
        let its = Arc::clone(shared);
        let helper = Helper::start(cpu, move |stop| sleep(&its, stop))?;
        let open = |name: &str| {
            File::open(format!("/proc/self/task/{}/{name}", helper.tid)).map_err(|error| {
                Refusal::new(format!("/proc tells nothing of threads: {error}"), "mount /proc")
            })
        };
        let (stat, status) = (open("stat"), open("status"));
        let sleeper = stat.and_then(|stat| Ok((stat, status?)));
        match sleeper {
            Ok((stat, status)) => Ok(Self { helper, shared: Arc::clone(shared), stat, status }),
            Err(refusal) => {
                helper.tell_to_end();
                shared.there.wake();
                Err(refusal)
            }
        }
    }

    /// Whether the scheduler has it asleep: Documentation/filesystems/proc.rst, table 1-4, `state`.
    fn is_asleep(&self) -> bool {
        let mut buffer = [0; 128];
        let read = self.stat.read_at(&mut buffer, 0).unwrap_or(0);
        // The name before it is in parentheses, and is this program's.
        let state = buffer[..read].iter().rposition(|&byte| byte == b')').and_then(|at| buffer.get(at + 2));
        state == Some(&b'S')
    }

    /// How often it has given up its CPU by itself.
    fn sleeps(&self) -> Option<u64> {
        let mut buffer = [0; 4096];
        let read = self.status.read_at(&mut buffer, 0).ok()?;
        let text = String::from_utf8_lossy(&buffer[..read]);
        let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse().ok()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        // It must see the flag when it wakes.
        self.helper.tell_to_end();
        self.shared.there.wake();
    }
}

struct Wake {
    /// Anew in each round, so that no wake of the last one is left over.
    shared: Arc<Shared>,
    make: fn() -> io::Result<Means>,
    src: usize,
    dst: usize,
    sleep: Duration,
    is_round_trip: bool,
    skew: Option<Skew>,
    sleeper: Option<Sleeper>,
    one_way: Histogram<u64>,
    overhead: u64,
}

/// How long the sleeper may take to fall asleep or to run.
const PATIENCE: Duration = Duration::from_secs(5);

fn late(cpu: usize) -> Refusal {
    Refusal::new(format!("the thread on CPU {cpu} does not run"), "see what else runs there")
}

impl Wake {
    /// Waits until the sleeper has slept for as long as it shall. `number`: which sleep.
    fn let_sleep(&self, sleeper: &Sleeper, number: u64) -> Result<(), Refusal> {
        let since = Instant::now();
        while self.shared.asleep.0.load(Ordering::Acquire) < number || !sleeper.is_asleep() {
            if since.elapsed() > PATIENCE {
                return Err(late(self.dst));
            }
        }
        let asleep = Instant::now();
        while asleep.elapsed() < self.sleep {
            std::hint::spin_loop();
        }
        Ok(())
    }

    /// Waits until it has run so many times. The usual case is a few reads of a cache line.
    #[inline(always)]
    fn await_run(&self, number: u64) -> bool {
        let mut turns = 0_u32;
        let mut since = None;
        while self.shared.awake.0.0.load(Ordering::Acquire) < number {
            turns += 1;
            if turns == 1 << 16 {
                turns = 0;
                if since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                    return false;
                }
            }
        }
        true
    }
}

impl Target for Wake {
    fn begin(&mut self) -> Result<(), Refusal> {
        self.one_way.reset();
        // First a thread that spins there, to compare the counters.
        self.skew = Skew::better(self.skew, Spinner::start(self.dst)?.line().skew());
        self.shared = Arc::new(Shared::new(self.make)?);
        self.shared.is_round_trip.store(self.is_round_trip, Ordering::Relaxed);
        self.sleeper = Some(Sleeper::start(self.dst, &self.shared)?);
        Ok(())
    }

    fn end(&mut self) {
        self.sleeper = None;
    }

    fn fill(&mut self, samples: &mut [Sample], repeat: u32) -> Result<(), Refusal> {
        for sample in samples {
            *sample = Sample::default();
            for _ in 0..repeat {
                let Some(sleeper) = &self.sleeper else { return Err(late(self.dst)) };
                let number = self.shared.awake.0.0.load(Ordering::Acquire) + 1;
                self.let_sleep(sleeper, number)?;
                let start = bracket::start();
                let mut is_ok = self.shared.there.wake();
                is_ok &= if self.is_round_trip { self.shared.back.wait() } else { self.await_run(number) };
                let (stop, aux) = bracket::stop();
                if !is_ok {
                    let error = io::Error::last_os_error();
                    return Err(Refusal::new(
                        format!("the thread on CPU {} was not woken: {error}", self.dst),
                        "see what else runs there",
                    ));
                }
                if let Some(skew) = self.skew {
                    let there = self.shared.awake.0.1.load(Ordering::Relaxed);
                    if let Some(way) = skew.from_here(start, there) {
                        self.one_way.saturating_record(way.saturating_sub(self.overhead / 2));
                    }
                }
                let cycles = stop.wrapping_sub(start);
                *sample = Sample { cycles: sample.cycles.wrapping_add(cycles), aux };
            }
        }
        Ok(())
    }

    fn sleeps(&self) -> bool {
        self.is_round_trip
    }

    fn evidence(&mut self) -> BTreeMap<String, u64> {
        let mut counted = witness::interrupts(&["CAL", "RES"], &[self.dst]);
        let sleeps = self.sleeper.as_ref().and_then(Sleeper::sleeps);
        counted.extend(sleeps.map(|sleeps| (witness::name("sleeps", self.dst), sleeps)));
        if let Some(idle) = witness::idle(self.dst) {
            counted.insert(witness::name("halts", self.dst), idle.halts);
            counted.insert(witness::name("idles", self.dst), idle.idles);
        }
        counted
    }

    fn details(&mut self) -> Details {
        let mut details = Details::default();
        details.notes.insert("cpus".into(), format!("{} -> {}", self.src, self.dst));
        let until = if self.is_round_trip {
            "until it has woken this one in turn"
        } else {
            "until it runs, seen through memory"
        };
        details.notes.insert("until".into(), until.into());
        let Some(skew) = self.skew else { return details };
        details.notes.insert("skew".into(), skew.words());
        if self.one_way.is_empty() {
            return details;
        }
        if skew.allows(self.one_way.value_at_quantile(0.5) as f64) {
            details.series.insert("one_way".into(), pairs(&self.one_way));
        } else {
            details.notes.insert("one_way".into(), "the counters' skew is not known to 5 % of it".into());
        }
        details
    }

    fn doubt(&self, operations: u64, counted: &BTreeMap<String, u64>) -> Option<String> {
        let count = |name: &str| counted.get(&witness::name(name, self.dst)).copied();
        let is_few = |count: &u64, share: f64| (*count as f64) < operations as f64 * share;
        if let Some(slept) = count("sleeps").filter(|count| is_few(count, 0.99)) {
            return Some(format!(
                "the thread on CPU {} slept {slept} times for {operations} wakes: the others found it awake",
                self.dst
            ));
        }
        // Without a wait it may not have come to the idle loop.
        let idles = count("idles").filter(|count| !self.sleep.is_zero() && is_few(count, 0.9))?;
        Some(format!(
            "CPU {} was idle {idles} times for {operations} wakes: other work runs there, so that it needed no waking",
            self.dst
        ))
    }
}
