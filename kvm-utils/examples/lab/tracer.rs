//! Driving the tracer under test as a user does: start it, wait until it is attached, end it, read its reports.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::drilldown::Summary;
use crate::program;
use crate::registry::{Context, Verdict};
use crate::report::Report;

/// How the tracer is to learn of exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Raw,
    Classic,
}

impl Source {
    /// The value of `--source`.
    pub fn option(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Classic => "tracepoint",
        }
    }
}

/// Raw tracepoints need the layout of KVM's structures, which the kernel gives with the modules' BTF (since 5.11).
pub fn has_module_btf() -> bool {
    std::path::Path::new("/sys/kernel/btf/kvm").exists()
}

/// Runs a test that needs the tracer.
pub fn test(context: &Context, source: Source, run: fn(&Context, Source) -> Result<()>) -> Result<Verdict> {
    if context.kvm_utils.is_none() {
        return Ok(Verdict::Skipped("--kvm-utils is not given".to_owned()));
    }
    run(context, source).map(|()| Verdict::Ok)
}

/// A command that runs the tracer.
pub fn command(context: &Context) -> Result<Command> {
    let mut command = Command::new(context.kvm_utils.as_ref().context("--kvm-utils is not given")?);
    command.stdin(Stdio::null());
    program::dies_with_us(&mut command);
    Ok(command)
}

/// A running `kvm-utils exits`, or another drill-down.
pub struct Tracer {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
    output: Option<JoinHandle<std::io::Result<String>>>,
}

/// How a run of the tracer ended.
pub struct Run {
    pub status: ExitStatus,
    /// Standard error.
    pub said: String,
    pub reports: Vec<Report>,
}

impl Tracer {
    /// Starts it with a summary in JSON and waits until it sees every exit.
    pub fn start(context: &Context, source: Source, options: &[&str]) -> Result<Self> {
        let mut tracer = Self::spawn(context, source, options)?;
        tracer.await_line("attached (")?;
        Ok(tracer)
    }

    /// Starts it without waiting.
    pub fn spawn(context: &Context, source: Source, options: &[&str]) -> Result<Self> {
        Self::spawn_noun(context, "exits", &[&["--source", source.option()], options].concat())
    }

    /// Starts a drill-down with a summary in JSON and waits until it counts.
    pub fn start_noun(context: &Context, noun: &str, source: Source, options: &[&str]) -> Result<Self> {
        let options = [&["--source", source.option()], options].concat();
        let mut tracer = Self::spawn_noun(context, noun, &options)?;
        tracer.await_line("attached (")?;
        Ok(tracer)
    }

    /// Starts a drill-down without waiting.
    pub fn spawn_noun(context: &Context, noun: &str, options: &[&str]) -> Result<Self> {
        Self::spawn_words(context, &[&[noun, "-o", "json", "--summary"], options].concat())
    }

    /// Starts any command that traces, without waiting.
    pub fn spawn_words(context: &Context, words: &[&str]) -> Result<Self> {
        let mut command = command(context)?;
        let mut child = command
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let mut stdout = child.stdout.take().context("no pipe for output")?;
        let stderr = child.stderr.take().context("no pipe for messages")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let output = thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        Ok(Self { child, lines, said: Vec::new(), output: Some(output) })
    }

    /// Waits until it says something that contains `text`.
    pub fn await_line(&mut self, text: &str) -> Result<()> {
        while let Ok(line) = self.lines.recv() {
            let found = line.contains(text);
            self.said.push(line);
            if found {
                return Ok(());
            }
        }
        bail!("the tracer ended without saying {text:?}, but: {}", self.said.join("; "))
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal).context("cannot send the tracer a signal")
    }

    /// Ends it as Ctrl-C does, and expects success. Returns the summary.
    pub fn stop(self) -> Result<Report> {
        self.signal(Signal::INT)?;
        self.finish()?.into_summary()
    }

    /// Ends it as Ctrl-C does, and expects success. Returns what it said.
    pub fn stop_saying(self) -> Result<String> {
        self.signal(Signal::INT)?;
        let (status, said, _) = self.end()?;
        ensure!(status.success(), "the tracer ended with {status}: {said}");
        Ok(said)
    }

    /// Ends a drill-down as Ctrl-C does, and expects success. Returns the summary.
    pub fn stop_noun(self) -> Result<Summary> {
        self.signal(Signal::INT)?;
        let (status, said, text) = self.end()?;
        ensure!(status.success(), "the tracer ended with {status}: {said}");
        Summary::parse(text.lines().last().with_context(|| format!("no report; {said}"))?)
    }

    /// The same for a source that shares what keeps its programs from running within each other: classic tracepoints do so
    /// with all programs and with look-ups in maps, so that a few runs may be skipped, which the report says.
    pub fn stop_noun_of(self, source: Source) -> Result<Summary> {
        if source == Source::Raw {
            return self.stop_noun();
        }
        let reports = self.stop_reports()?;
        Summary::parse_skipped(&reports.last().context("no report")?.to_string())
    }

    /// Ends a drill-down as Ctrl-C does, and expects success. Returns all its reports, the summary last.
    pub fn stop_reports(self) -> Result<Vec<serde_json::Value>> {
        self.signal(Signal::INT)?;
        let (status, said, text) = self.end()?;
        ensure!(status.success(), "the tracer ended with {status}: {said}");
        let parse = |line: &str| serde_json::from_str(line).with_context(|| format!("cannot read {line}"));
        text.lines().map(parse).collect()
    }

    /// Waits for its end.
    pub fn finish(self) -> Result<Run> {
        let (status, said, text) = self.end()?;
        let parse = |line: &str| serde_json::from_str(line).with_context(|| format!("cannot read {line}"));
        let reports = text.lines().map(parse).collect::<Result<_>>()?;
        Ok(Run { status, said, reports })
    }

    /// Waits for its end; gives what it said and what it printed.
    fn end(mut self) -> Result<(ExitStatus, String, String)> {
        let text = match self.output.take().map(JoinHandle::join) {
            Some(Ok(text)) => text.context("cannot read the tracer's output")?,
            _ => bail!("reading the tracer's output crashed"),
        };
        let status = self.child.wait()?;
        self.said.extend(self.lines.iter());
        Ok((status, self.said.join("\n"), text))
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It has usually ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Run {
    /// The summary of a run that ended well.
    pub fn into_summary(self) -> Result<Report> {
        ensure!(self.status.success(), "the tracer ended with {}: {}", self.status, self.said);
        self.into_any_summary()
    }

    /// The summary, however the run ended; it adds up, and so do the intervals before it.
    pub fn into_any_summary(mut self) -> Result<Report> {
        let summary = self.reports.pop().with_context(|| format!("no report; {}", self.said))?;
        summary.ensure_consistent()?;
        ensure!(!self.reports.iter().any(|report| report.summary), "a summary before the end");
        let intervals: u64 = self.reports.iter().map(|report| report.count).sum();
        ensure!(intervals <= summary.count, "intervals have {intervals} exits, the run {}", summary.count);
        Ok(summary)
    }
}
