//! The process that measures one operation: `kvm-bench worker`. It speaks JSON lines on its standard input and output.

use std::io::{self, BufRead, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use super::disturbance::{Disturbances, judge};
use super::overhead::{self, Overhead};
use super::round::Round;
use super::yardstick::Yardstick;
use crate::cpu;
use crate::ops::{self, Place, Refusal, Spec, Target};
use crate::shared::bracket::Sample;
use crate::shared::ops::Pace;
use crate::stats::Scale;

/// What a worker is to do; its first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The operation.
    pub spec: Spec,
    /// Where to do it.
    pub cpu: usize,
    /// Frequency of the time-stamp counter.
    pub hz: u64,
}

/// Asks for one round; each further line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Samples to take.
    pub samples: u64,
    /// When to stop in any case, milliseconds.
    pub limit_ms: u64,
}

/// A worker's answer to each line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is prepared and warm.
    Ready(Ready),
    /// One round.
    Round(Round),
    /// It cannot be measured here.
    Refused(Refusal),
    /// It went wrong.
    Failed(String),
}

/// How its samples are to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// What the empty bracket costs, TSC cycles: in each sample.
    pub overhead: u64,
    /// What the way to the operation costs beside it, TSC cycles: in each sample, a system call's for one.
    #[serde(default)]
    pub way: u64,
    /// In which steps the counter moves, TSC cycles.
    pub quantum: u64,
    /// How many operations a sample holds.
    pub repeat: u32,
    /// Operations done before the first sample, to warm up.
    #[serde(default)]
    pub warm_up: u64,
}

/// Samples between two looks at what may have disturbed them.
const CHUNK: usize = 1000;
/// How long a chunk may take; the first samples tell how many fit.
const CHUNK_TIME: Duration = Duration::from_millis(10);
/// Warm-up: so many operations or so long, whichever is more.
const WARM_UP: (usize, Duration) = (1000, Duration::from_millis(50));
/// What takes longer than this is warmed up one by one.
const SLOW: Duration = Duration::from_millis(1);
/// An operation that takes fewer steps of the counter than this is repeated inside the bracket,
const STEPS: u64 = 20;
/// until it takes so many: a step is then 1 % of a sample.
const STEPS_REPEATED: u64 = 100;
/// At most so often.
const REPEAT_MAX: u64 = 64;

/// Runs the worker.
///
/// # Errors
/// When nobody speaks to it as expected.
pub fn main() -> Result<()> {
    // The supervisor gets Ctrl-C and decides; without it there is nothing to do.
    // SAFETY: ignoring a signal changes nothing else.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut lines = io::stdin().lock().lines();
    let task: Task = serde_json::from_str(&lines.next().context("no task")??)?;
    let mut worker = match Worker::open(&task) {
        Ok(worker) => worker,
        Err(refusal) => return say(&Answer::Refused(refusal)),
    };
    say(&Answer::Ready(worker.ready))?;
    for line in lines {
        match worker.round(serde_json::from_str(&line?)?) {
            Ok(round) => say(&Answer::Round(round))?,
            Err(failure) => return say(&Answer::Failed(failure.to_string())),
        }
    }
    Ok(())
}

fn say(answer: &Answer) -> Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, answer)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

struct Worker {
    target: Box<dyn Target>,
    cpu: usize,
    ready: Ready,
    chunk: usize,
    /// Samples of what sleeps are taken one by one, so that one that waits long for a CPU delays no answer by more than itself.
    is_slow: bool,
    /// Nothing but the bracket is to be taken off a sample, so that it may hold several operations.
    is_bracket_alone: bool,
    yardstick: Option<Yardstick>,
}

impl Worker {
    fn open(task: &Task) -> Result<Self, Refusal> {
        let place = Place::new(task.cpu, task.hz).map_err(|error| {
            Refusal::new(format!("the kernel does not say which CPUs may be used: {error}"), "nothing helps")
        })?;
        cpu::pin(task.cpu).map_err(|error| {
            Refusal::new(
                format!("cannot run on CPU {}: {error}", task.cpu),
                "choose an online CPU of the cpuset with --cpu",
            )
        })?;
        let op = ops::find(&task.spec)?;
        let target = ops::open(&task.spec, place)?;
        let Overhead { cycles, quantum } = overhead::measure();
        let way = target.way();
        let overhead = if op.name == "null" || way.is_none() { 0 } else { cycles };
        let ready = Ready { overhead, way: way.unwrap_or(0), quantum, repeat: 1, warm_up: 0 };
        let is_bracket_alone = way == Some(0);
        let yardstick = Yardstick::of(op);
        let is_slow = op.pace == Pace::Slow;
        let cpu = task.cpu;
        let mut worker = Self { target, cpu, ready, chunk: CHUNK, is_slow, is_bracket_alone, yardstick };
        worker.target.begin()?;
        let warm = worker.warm_up(op.pace);
        worker.target.end();
        warm?;
        Ok(worker)
    }

    /// Warms up, and finds how many operations a bracket and how many samples a chunk shall hold.
    fn warm_up(&mut self, pace: Pace) -> Result<(), Refusal> {
        let (operations, time) = match pace {
            Pace::Fast => WARM_UP,
            Pace::Slow => (20, WARM_UP.1),
        };
        // What makes its rounds by itself has nothing to be warmed up.
        if self.target.watch(time, u64::MAX).is_some() {
            return Ok(());
        }
        let mut samples = [Sample::default(); 20];
        let mut cycles = Vec::new();
        let start = Instant::now();
        while cycles.len() < operations || start.elapsed() < time {
            // What takes long is not to be waited for so often.
            let is_slow =
                pace == Pace::Slow || start.elapsed() >= SLOW * u32::try_from(cycles.len()).unwrap_or(1);
            let samples = &mut samples[..if is_slow { 1 } else { 20 }];
            self.target.fill(samples, 1)?;
            cycles.extend(samples.iter().map(|sample| sample.cycles));
            // What is much slower than thought need not be done a thousand times.
            if start.elapsed() > time * 10 {
                break;
            }
        }
        self.ready.warm_up = cycles.len() as u64;
        let each = start.elapsed() / u32::try_from(cycles.len()).unwrap_or(u32::MAX).max(1);
        let fit = CHUNK_TIME.as_nanos() / each.as_nanos().max(1);
        self.chunk =
            usize::try_from(fit).unwrap_or(CHUNK).clamp(if each > CHUNK_TIME { 1 } else { 10 }, CHUNK);
        cycles.sort_unstable();
        let median = cycles.get(cycles.len() / 2).copied().unwrap_or(0).saturating_sub(self.ready.overhead);
        let may_repeat = pace == Pace::Fast && self.is_bracket_alone && self.ready.overhead > 0;
        if may_repeat && median < STEPS * self.ready.quantum {
            let enough = STEPS_REPEATED * self.ready.quantum;
            self.ready.repeat = u32::try_from(enough.div_ceil(median.max(1)).min(REPEAT_MAX)).unwrap_or(1);
        }
        Ok(())
    }

    /// How many of the samples were taken: all, unless they are taken one by one and the time is up.
    fn fill(&mut self, samples: &mut [Sample], limit: Instant) -> Result<usize, Refusal> {
        if !self.is_slow {
            return self.target.fill(samples, self.ready.repeat).map(|()| samples.len());
        }
        for (taken, sample) in samples.iter_mut().enumerate() {
            if taken > 0 && Instant::now() >= limit {
                return Ok(taken);
            }
            self.target.fill(std::slice::from_mut(sample), self.ready.repeat)?;
        }
        Ok(samples.len())
    }

    fn round(&mut self, ask: Ask) -> Result<Round, Refusal> {
        self.target.begin()?;
        // Helpers may take a while to start: the time is that of the samples.
        let limit = Instant::now() + Duration::from_millis(ask.limit_ms);
        if let Some(round) = self.target.watch(Duration::from_millis(ask.limit_ms), ask.samples) {
            self.target.end();
            return round;
        }
        let before = self.target.evidence();
        let mut judged = Vec::new();
        let mut buffer = vec![Sample::default(); self.chunk];
        let mut result = Ok(());
        while (judged.len() as u64) < ask.samples && Instant::now() < limit && result.is_ok() {
            let left = usize::try_from(ask.samples - judged.len() as u64).unwrap_or(usize::MAX);
            let chunk = &mut buffer[..left.min(self.chunk)];
            let then = Disturbances::now(self.cpu);
            let since = Instant::now();
            let taken = self.fill(chunk, limit);
            let chunk = &mut chunk[..*taken.as_ref().unwrap_or(&0)];
            result = taken.map(|_| ());
            // It took far longer than in the warm-up: what it waits for is not there, and the limit is to be kept.
            if since.elapsed() > CHUNK_TIME * 20 {
                self.chunk = (self.chunk / 2).max(1);
            }
            if result.is_ok() {
                let seen = Disturbances::now(self.cpu).since(then);
                judged.extend(judge(chunk, seen, self.cpu, self.target.sleeps()));
            }
        }
        let after = self.target.evidence();
        let details = self.target.details();
        self.target.end();
        result?;
        let mut round = Round { details, ..Round::of(&judged) };
        round.evidence = after
            .into_iter()
            .map(|(name, count)| {
                let before = before.get(&name).copied().unwrap_or(0);
                (name, count.saturating_sub(before))
            })
            .collect();
        let operations = round.samples() * u64::from(self.ready.repeat);
        round.doubt = self.target.doubt(operations, &round.evidence);
        if let (None, Some(yardstick)) = (&round.doubt, self.yardstick) {
            round.doubt = yardstick.doubt(&round.clean, Scale::Net(self.ready));
        }
        Ok(round)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each sample takes far longer than it did in the warm-up.
    struct Late;

    impl Target for Late {
        fn fill(&mut self, samples: &mut [Sample], _: u32) -> Result<(), Refusal> {
            for _ in samples {
                std::thread::sleep(Duration::from_millis(30));
            }
            Ok(())
        }
    }

    #[test]
    fn what_sleeps_keeps_the_limit_to_a_sample() {
        let ready = Ready { repeat: 1, ..Ready::default() };
        let is_slow = true;
        let mut worker = Worker {
            target: Box::new(Late),
            cpu: 0,
            ready,
            chunk: 10,
            is_slow,
            is_bracket_alone: true,
            yardstick: None,
        };
        let samples = worker.round(Ask { samples: 100, limit_ms: 50 }).unwrap().samples();
        assert!((1..=2).contains(&samples), "{samples}");
    }
}
