//! Threads that help with an operation on other CPUs. They run between `begin` and `end` of a round only.
//!
//! A thread inherits the affinity of the one that makes it, and perhaps its real-time class: if its maker waited for it by
//! spinning, it might never run. So each moves to its CPU first of all, and its maker sleeps until it has done so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::thread::gettid;

use super::Refusal;
use crate::cpu;
use crate::measure::skew::{self, Skew};
use crate::shared::bracket;

/// A thread on a CPU of its own; ended and waited for when dropped.
pub(super) struct Helper {
    /// Its CPU.
    pub cpu: usize,
    /// Its thread id.
    pub tid: u32,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Helper {
    /// Starts it. `body` gets the flag that tells it to end, and must look at it again and again.
    pub fn start(cpu: usize, body: impl FnOnce(&AtomicBool) + Send + 'static) -> Result<Self, Refusal> {
        let stop = Arc::new(AtomicBool::new(false));
        let its_stop = Arc::clone(&stop);
        let (tell, told) = mpsc::channel();
        let thread = std::thread::Builder::new().spawn(move || {
            let pinned = cpu::pin(cpu);
            let is_pinned = pinned.is_ok();
            let tid = u32::try_from(gettid().as_raw_nonzero().get()).unwrap_or(0);
            if tell.send(pinned.map(|()| tid)).is_ok() && is_pinned {
                body(&its_stop);
            }
        });
        let failed = |error: std::io::Error| {
            Refusal::new(
                format!("cannot run a thread on CPU {cpu}: {error}"),
                "choose online CPUs of this cpuset, and see `ulimit -u`",
            )
        };
        let thread = thread.map_err(failed)?;
        let tid = told.recv().map_err(|_| failed(std::io::ErrorKind::Other.into()))?.map_err(failed)?;
        Ok(Self { cpu, tid, stop, thread: Some(thread) })
    }

    /// Tells it to end, without waiting.
    pub fn tell_to_end(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.tell_to_end();
        if let Some(thread) = self.thread.take() {
            // A panic of its own has been told by the runtime.
            let _ = thread.join();
        }
    }
}

/// What is on cache lines of its own: 128 bytes, because processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Apart<T>(pub T);

/// A time in which a spinning thread did not run, by the counter of its CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    /// Last reading before.
    pub from: u64,
    /// First reading after.
    pub to: u64,
}

#[derive(Debug, Default)]
struct Shared {
    /// Counts the questions of what the time is.
    question: Apart<AtomicU64>,
    /// Number of the question answered last, and the answer.
    answer: Apart<(AtomicU64, AtomicU64)>,
    /// How many gaps there were, and the last one.
    gap: Apart<(AtomicU64, AtomicU64, AtomicU64)>,
}

/// A thread that spins in user mode, reads the counter all the time, notes when it was interrupted, and answers what time it
/// is: as a target it is running, and its notes tell when an interrupt came and when it had been handled.
pub(super) struct Spinner {
    helper: Helper,
    line: Line,
}

/// What a spinner and the one thread that asks it have in common.
#[derive(Clone, Debug)]
pub(super) struct Line {
    cpu: usize,
    shared: Arc<Shared>,
}

/// A gap is longer than so many usual turns of the loop.
const TURNS: u64 = 8;
/// And never shorter than this, cycles: no interrupt is as quick.
const GAP: u64 = 300;
/// How long the answer to a question may take, cycles: a spinner that lost its CPU gets it back within some slices of the
/// scheduler.
const ANSWER: u64 = 3_000_000_000;
/// Questions for one estimate of the skew, and how long they may take: two vCPUs that share one CPU of the host answer one per
/// slice of its scheduler.
const QUESTIONS: usize = 2000;
const QUESTIONS_TIME: Duration = Duration::from_millis(50);

impl Spinner {
    /// Starts it; it spins when this returns.
    pub fn start(cpu: usize) -> Result<Self, Refusal> {
        let shared = Arc::<Shared>::default();
        let its = Arc::clone(&shared);
        let helper = Helper::start(cpu, move |stop| spin(&its, stop))?;
        let line = Line { cpu, shared };
        // It runs when it answers. If it does not, other threads keep it from its CPU, and evidence will show.
        let _ = line.ask();
        Ok(Self { helper, line })
    }

    /// The line to it, for one thread.
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// Its thread id.
    pub fn tid(&self) -> u32 {
        self.helper.tid
    }

    /// Its CPU.
    pub fn cpu(&self) -> usize {
        self.helper.cpu
    }
}

impl Line {
    /// Waits until the spinner runs, because it may have lost its CPU to another thread. Several threads may ask this.
    ///
    /// # Errors
    /// When it does not get it back.
    pub fn await_running(&self) -> Result<(), Refusal> {
        self.ask().map(|_| ()).ok_or_else(|| {
            Refusal::new(
                format!("the thread on CPU {} gets no time there", self.cpu),
                "see what else runs there, with a real-time priority perhaps",
            )
        })
    }

    /// One question: time here, time there, time here; None when there is no answer in time. The times belong together
    /// if one thread asks.
    fn ask(&self) -> Option<(u64, u64, u64)> {
        let before = bracket::start();
        let number = self.shared.question.0.fetch_add(1, Ordering::Release) + 1;
        loop {
            let done = self.shared.answer.0.0.load(Ordering::Acquire) >= number;
            let after = bracket::start();
            if done {
                return Some((before, self.shared.answer.0.1.load(Ordering::Relaxed), after));
            }
            if after.wrapping_sub(before) > ANSWER {
                return None;
            }
        }
    }

    /// How far its counter is ahead of the one here.
    pub fn skew(&self) -> Option<Skew> {
        let mut answers = Vec::with_capacity(QUESTIONS);
        let since = Instant::now();
        while answers.len() < QUESTIONS && (answers.is_empty() || since.elapsed() < QUESTIONS_TIME) {
            answers.push(self.ask()?);
        }
        skew::of(&answers)
    }

    /// How many gaps there have been.
    pub fn gaps(&self) -> u64 {
        self.shared.gap.0.0.load(Ordering::Acquire)
    }

    /// The last gap, when there is one more than `seen` and it is known before this many cycles have passed.
    pub fn gap_after(&self, seen: u64, patience: u64) -> Option<Gap> {
        let start = bracket::start();
        while self.gaps() == seen {
            if bracket::start().wrapping_sub(start) > patience {
                return None;
            }
        }
        let gap = &self.shared.gap.0;
        // The writer may be about to note another one: what is read must belong together.
        let number = gap.0.load(Ordering::Acquire);
        let both = Gap { from: gap.1.load(Ordering::Acquire), to: gap.2.load(Ordering::Acquire) };
        (gap.0.load(Ordering::Acquire) == number && both.from < both.to).then_some(both)
    }
}

/// How long a turn of the loop takes at least, cycles: the shortest of many.
fn turn() -> u64 {
    let turns = (0..1000).map(|_| {
        let start = bracket::start();
        bracket::start().wrapping_sub(start)
    });
    turns.min().unwrap_or(0)
}

fn spin(shared: &Shared, stop: &AtomicBool) {
    let limit = (turn() * TURNS).max(GAP);
    let mut answered = 0;
    let mut last = bracket::start();
    while !stop.load(Ordering::Relaxed) {
        let asked = shared.question.0.load(Ordering::Acquire);
        let mut now = bracket::start();
        if asked != answered {
            shared.answer.0.1.store(now, Ordering::Relaxed);
            shared.answer.0.0.store(asked, Ordering::Release);
            answered = asked;
            now = bracket::start();
        } else if now.wrapping_sub(last) > limit {
            let (number, from, to) = &shared.gap.0;
            from.store(last, Ordering::Release);
            to.store(now, Ordering::Release);
            number.fetch_add(1, Ordering::Release);
            // Taking the line from its reader is no gap.
            now = bracket::start();
        }
        last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spinner_answers_notes_gaps_and_ends() {
        let cpus = cpu::allowed().unwrap();
        let here = cpus[0];
        cpu::pin(here).unwrap();
        // With one CPU it gets its turns all the same.
        let spinner = Spinner::start(*cpus.last().unwrap()).unwrap();
        let (before, _, after) = spinner.line.ask().expect("no answer");
        assert!(before < after);
        // The timer's interrupts, or this thread's turns: there are gaps.
        let gap = spinner.line.gap_after(spinner.line.gaps(), 20_000_000_000).expect("no gap");
        assert!(gap.to - gap.from > GAP, "{gap:?}");
    }

    #[test]
    fn a_cpu_that_is_not_there_is_refused() {
        assert!(Spinner::start(usize::MAX).is_err());
        assert!(Spinner::start(1023).is_err());
    }
}
