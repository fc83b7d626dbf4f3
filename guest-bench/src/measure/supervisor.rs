//! Asks workers for rounds, in an order that is shuffled anew in each, so that what changes slowly (clock frequency, a
//! neighbour) does not fall on one operation. A worker that crashes or hangs costs its own operation.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::round::{Cause, Pairs, Round};
use super::worker::{Answer, Ask, Ready, Task};
use crate::ops::{Spec, find};
use crate::shared::ops::Pace;
use crate::stats;

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
    /// Measure once more what is suspect or failed by its own words: something else that ran meanwhile may be the cause. A
    /// worker that crashed or hung is not started again.
    pub again: bool,
}

/// So many operations are measured once more, at most: where more went wrong the machine is to blame, and time is short.
const MOST_AGAIN: usize = 8;

/// Name of the note that says why an operation was measured twice.
pub const AGAIN: &str = "measured_twice";

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

impl Measured {
    /// When all rounds are there: says so if every sample was disturbed, for then figures are of disturbed ones.
    #[must_use]
    pub fn conclude(mut self) -> Self {
        let any = |of: fn(&Round) -> &Pairs| self.rounds.iter().any(|round| !of(round).is_empty());
        if self.status == Status::Ok && any(|round| &round.all) && !any(|round| &round.clean) {
            let causes: Vec<_> = stats::rejected(&self.rounds).into_keys().map(Cause::words).collect();
            self.status = Status::Suspect(format!(
                "every sample was disturbed ({}): figures are of these; measure when less runs on the host and in the guest",
                causes.join(", ")
            ));
        }
        self
    }

    /// It was measured before, in vain. What counts is this second time, unless there is nothing to show of it.
    fn twice(&mut self, first: Self) {
        let (Status::Suspect(before) | Status::Failed(before)) = &first.status else { return };
        let before = before.clone();
        match &mut self.status {
            Status::Ok => {}
            Status::Suspect(why) => *why = format!("{why} (measured twice; the first time: {before})"),
            Status::Failed(why) if first.rounds.is_empty() => {
                *why = format!("{why} (measured twice; the first time: {before})");
            }
            Status::Failed(why) | Status::Skipped(why, _) => {
                let both = format!("{before} (measured again: {why})");
                *self = first;
                if let Status::Suspect(why) | Status::Failed(why) = &mut self.status {
                    *why = both;
                }
                return;
            }
        }
        for round in &mut self.rounds {
            round.details.notes.insert(AGAIN.to_owned(), before.clone());
        }
    }
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
    let gave_up: Vec<bool> = runs.iter().map(|run| run.gave_up).collect();
    let mut results: Vec<_> = runs.into_iter().map(Run::finish).collect();
    if plan.again {
        let both = results.iter_mut().zip(gave_up);
        let odd = both.filter(|(one, gave_up)| *gave_up || matches!(one.status, Status::Suspect(_)));
        for (one, _) in odd.take(MOST_AGAIN) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            progress(&one.spec, 1.0);
            let mut run = Run::start(&one.spec, plan.cpu, plan.hz, stop)?;
            for _ in 0..plan.rounds {
                run.round(plan, stop);
            }
            // What was ended in its middle is worse than what there is.
            if !stop.load(Ordering::Relaxed) {
                let first = std::mem::replace(one, run.finish());
                one.twice(first);
            }
        }
    }
    Ok(results)
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
    /// It failed by its own words, in good order.
    gave_up: bool,
}

impl Run {
    fn start(spec: &Spec, cpu: usize, hz: u64, stop: &AtomicBool) -> Result<Self> {
        let measured =
            Measured { spec: spec.clone(), status: Status::Ok, ready: Ready::default(), rounds: Vec::new() };
        let mut run = Self { measured, worker: Some(Worker::spawn()?), gave_up: false };
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
            Heard::Answer(answer) => match *answer {
                Answer::Ready(ready) => {
                    measured.ready = ready;
                    None
                }
                Answer::Round(round) => {
                    if let (Some(doubt), Status::Ok) = (&round.doubt, &measured.status) {
                        measured.status = Status::Suspect(doubt.clone());
                    }
                    measured.rounds.push(round);
                    None
                }
                Answer::Refused(refusal) => Some(Status::Skipped(refusal.reason, refusal.hint)),
                Answer::Failed(why) => {
                    self.gave_up = true;
                    Some(Status::Failed(why))
                }
            },
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
        self.measured.conclude()
    }
}

/// What came from a worker.
enum Heard {
    Answer(Box<Answer>),
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
                Ok(line) => {
                    return serde_json::from_str(&line)
                        .map_or(Heard::Ended, |answer| Heard::Answer(Box::new(answer)));
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(status: Status, samples: &[u64]) -> Measured {
        let rounds = samples.iter().map(|&cycles| Round::of(&[(cycles, None)])).collect();
        Measured { spec: Spec::new("ipi:single"), status, ready: Ready::default(), rounds }
    }

    fn twice(first: Measured, second: Measured) -> Measured {
        let mut second = second;
        second.twice(first);
        second
    }

    fn suspect(why: &str) -> Status {
        Status::Suspect(why.to_owned())
    }

    #[test]
    fn what_is_right_the_second_time_counts_and_says_so() {
        let one = twice(measured(suspect("few interrupts"), &[100, 100]), measured(Status::Ok, &[200, 200]));
        assert_eq!((&one.status, one.rounds[0].all.as_slice()), (&Status::Ok, &[(200, 1)][..]));
        assert!(one.rounds.iter().all(|round| round.details.notes[AGAIN] == "few interrupts"));
    }

    #[test]
    fn what_is_wrong_twice_says_both() {
        let one = twice(measured(suspect("first"), &[100]), measured(suspect("second"), &[200]));
        assert_eq!(one.status, suspect("second (measured twice; the first time: first)"));
        let failed = |why: &str| measured(Status::Failed(why.to_owned()), &[]);
        let one = twice(failed("it hung"), failed("it is gone"));
        assert_eq!(
            one.status,
            Status::Failed("it is gone (measured twice; the first time: it hung)".to_owned())
        );
    }

    #[test]
    fn figures_are_not_lost_to_a_second_time_without_any() {
        let failed = measured(Status::Failed("it hung".to_owned()), &[]);
        let one = twice(measured(suspect("first"), &[100]), failed);
        assert_eq!((one.status, one.rounds.len()), (suspect("first (measured again: it hung)"), 1));
        let refused = measured(Status::Skipped("no".to_owned(), "none".to_owned()), &[]);
        let one = twice(measured(suspect("first"), &[100]), refused);
        assert_eq!((one.status, one.rounds.len()), (suspect("first (measured again: no)"), 1));
    }
}
