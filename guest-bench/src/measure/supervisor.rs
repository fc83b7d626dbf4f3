//! Asks workers for rounds, in an order that is shuffled anew in each, so that what changes slowly (clock frequency, a
//! neighbour) does not fall on one operation. A worker that crashes or hangs costs its own operation.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::round::Round;
use super::worker::{Answer, Ask, Ready, Task};
use crate::ops::{Spec, find};
use crate::shared::ops::Pace;

/// How much to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The CPU on which operations are done.
    pub cpu: usize,
    /// Frequency of the time-stamp counter.
    pub hz: u64,
    /// Rounds per operation.
    pub rounds: u32,
    /// Samples per operation in all; by its pace when None.
    pub samples: Option<u64>,
    /// Time per operation in all.
    pub time: Duration,
    /// Of the shuffled order.
    pub seed: u64,
}

/// Samples per operation when nothing else is said.
const SAMPLES: [(Pace, u64); 2] = [(Pace::Fast, 100_000), (Pace::Slow, 5_000)];

/// What is added to a worker's own limit before it is taken for hung.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a worker may take to put things back.
const GRACE: Duration = Duration::from_secs(2);

/// How an operation went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Measured.
    Ok,
    /// Measured, but it did not do what it should have.
    Suspect(String),
    /// It cannot be measured here; why, and what would help.
    Skipped(String, String),
    /// It went wrong.
    Failed(String),
}

/// One operation with all that was measured of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Which.
    pub spec: Spec,
    /// How it went.
    pub status: Status,
    /// How samples are to be read.
    pub ready: Ready,
    /// The rounds, also of one that failed later.
    pub rounds: Vec<Round>,
}

/// Measures them; says before each step which one and how much is done (0 to 1). `stop` ends it early with what there is.
///
/// # Errors
/// When workers cannot be started at all.
pub fn run(
    specs: &[Spec],
    plan: &Plan,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&Spec, f64),
) -> Result<Vec<Measured>> {
    let mut runs = Vec::new();
    let mut order = fastrand::Rng::with_seed(plan.seed);
    let steps = specs.len() * (plan.rounds as usize + 1);
    let mut done = 0;
    let mut tell = |spec: &Spec| {
        progress(spec, f64::from(done) / steps.max(1) as f64);
        done += 1;
    };
    for spec in specs {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        tell(spec);
        runs.push(Run::start(spec, plan.cpu, plan.hz, stop)?);
    }
    let mut turns: Vec<usize> = (0..runs.len()).collect();
    for _ in 0..plan.rounds {
        order.shuffle(&mut turns);
        for &turn in &turns {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let run = &mut runs[turn];
            tell(&run.measured.spec);
            run.round(plan, stop);
        }
    }
    Ok(runs.into_iter().map(Run::finish).collect())
}

/// Finds out which operations can be measured here, without measuring them.
///
/// # Errors
/// When workers cannot be started at all.
pub fn probe(specs: &[Spec], cpu: usize, hz: u64) -> Result<Vec<Measured>> {
    let never = AtomicBool::new(false);
    specs.iter().map(|spec| Ok(Run::start(spec, cpu, hz, &never)?.finish())).collect()
}

/// One operation under way.
struct Run {
    measured: Measured,
    /// Until it has failed or was refused.
    worker: Option<Worker>,
}

impl Run {
    fn start(spec: &Spec, cpu: usize, hz: u64, stop: &AtomicBool) -> Result<Self> {
        let measured =
            Measured { spec: spec.clone(), status: Status::Ok, ready: Ready::default(), rounds: Vec::new() };
        let mut run = Self { measured, worker: Some(Worker::spawn()?) };
        // A bad number is refused when the worker opens the operation.
        let cpu = spec.source().ok().flatten().unwrap_or(cpu);
        let task = Task { spec: spec.clone(), cpu, hz };
        run.exchange(&serde_json::to_string(&task)?, PATIENCE, stop);
        Ok(run)
    }

    fn round(&mut self, plan: &Plan, stop: &AtomicBool) {
        if self.worker.is_none() {
            return;
        }
        let pace = find(&self.measured.spec).map_or(Pace::Fast, |op| op.pace);
        let usual = SAMPLES.iter().find(|(one, _)| *one == pace).map_or(0, |(_, samples)| *samples);
        let samples = plan.samples.unwrap_or(usual).div_ceil(u64::from(plan.rounds.max(1))).max(1);
        let limit = plan.time / plan.rounds.max(1);
        let ask = Ask { samples, limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX) };
        if let Ok(line) = serde_json::to_string(&ask) {
            self.exchange(&line, limit + PATIENCE, stop);
        }
    }

    /// Sends a line and takes the answer.
    fn exchange(&mut self, line: &str, limit: Duration, stop: &AtomicBool) {
        let Some(mut worker) = self.worker.take() else { return };
        let measured = &mut self.measured;
        let failed = match worker.ask(line, limit, stop) {
            Heard::Answer(Answer::Ready(ready)) => {
                measured.ready = ready;
                None
            }
            Heard::Answer(Answer::Round(round)) => {
                if let (Some(doubt), Status::Ok) = (&round.doubt, &measured.status) {
                    measured.status = Status::Suspect(doubt.clone());
                }
                measured.rounds.push(round);
                None
            }
            Heard::Answer(Answer::Refused(refusal)) => Some(Status::Skipped(refusal.reason, refusal.hint)),
            Heard::Answer(Answer::Failed(why)) => Some(Status::Failed(why)),
            Heard::Stopped if measured.rounds.is_empty() => Some(Status::Skipped(
                "it was interrupted before its first round".into(),
                "let it run longer".into(),
            )),
            // What there is stays good.
            Heard::Stopped => Some(measured.status.clone()),
            Heard::Late => Some(Status::Failed(format!("it hung: no answer within {} s", limit.as_secs()))),
            Heard::Ended => Some(worker.how_it_ended()),
        };
        match failed {
            Some(status) => measured.status = status,
            None => self.worker = Some(worker),
        }
    }

    fn finish(self) -> Measured {
        self.measured
    }
}

/// What came from a worker.
enum Heard {
    Answer(Answer),
    /// The user wants to end.
    Stopped,
    /// Nothing within the limit.
    Late,
    /// Its output ended, or was no answer.
    Ended,
}

/// A worker's process. Dropping it lets it put back what it changed, and kills it if it does not end.
struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Worker {
    fn spawn() -> Result<Self> {
        // Not by its path, which may lead to another version by now, or through directories that are not for this user.
        let mut command = Command::new("/proc/self/exe");
        command.arg("worker").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child =
            command.spawn().context("cannot start a worker process (/proc/self/exe); mount /proc")?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            anyhow::bail!("a worker has no pipes");
        };
        let (send, answers) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, input: Some(input), answers })
    }

    fn ask(&mut self, line: &str, limit: Duration, stop: &AtomicBool) -> Heard {
        // Nobody reads when it has ended, which shows below.
        if let Some(input) = &mut self.input {
            let _ = writeln!(input, "{line}").and_then(|()| input.flush());
        }
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.answers.recv_timeout(left.min(Duration::from_millis(50))) {
                Ok(line) => return serde_json::from_str(&line).map_or(Heard::Ended, Heard::Answer),
                Err(RecvTimeoutError::Disconnected) => return Heard::Ended,
                Err(RecvTimeoutError::Timeout) if stop.load(Ordering::Relaxed) => return Heard::Stopped,
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Heard::Late,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn how_it_ended(&mut self) -> Status {
        let status = match self.child.wait() {
            Ok(status) => status,
            Err(error) => return Status::Failed(format!("its process is gone: {error}")),
        };
        Status::Failed(match status.signal() {
            // So does the wrong vendor's hypercall, or the right one without a hypervisor that wants any.
            Some(libc::SIGILL) => {
                return Status::Skipped(
                    "the instruction is not there (SIGILL)".into(),
                    "nothing helps: the processor, or its emulator, does not have it".into(),
                );
            }
            Some(libc::SIGSEGV) => "the processor or the kernel refused it (SIGSEGV)".into(),
            Some(libc::SIGBUS) => "nothing answers at the address (SIGBUS)".into(),
            _ => format!("its process ended: {status}"),
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The end of its input is the end of its work.
        self.input = None;
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(1)),
                _ => return,
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
