//! Running an emulator: what it prints, how long it may take, and its certain end.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal};

use super::Output;
use crate::cleanup::Group;
use crate::process::{name, tie};
use crate::ui;

/// How an emulator's run ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It ended by itself.
    Exited(ExitStatus),
    /// It was killed because a limit was reached, which this says.
    Killed(String),
}

/// How long an emulator may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// From its start to its end.
    pub(crate) whole: Duration,
    /// From one output to the next: an emulated machine may stand still.
    pub(crate) silence: Duration,
}

impl Limits {
    /// It may say nothing as long as it runs.
    pub(crate) fn whole(whole: Duration) -> Self {
        Self { whole, silence: whole }
    }

    /// How long to wait for the next output, and what to say when none comes.
    fn next(&self, start: Instant) -> (Duration, String) {
        let left = self.whole.saturating_sub(start.elapsed());
        if left <= self.silence {
            (left, format!("was killed after {}: the command did not end", ui::elapsed(self.whole)))
        } else {
            (self.silence, format!("was killed: it printed nothing for {}", ui::elapsed(self.silence)))
        }
    }
}

/// Runs the emulator to its end and hands on what it prints on stdout. It gets a process group of its own,
/// out of reach of the terminal's Ctrl-C, and dies with this process.
///
/// # Errors
/// When it cannot be started or when nobody takes what it prints; it is gone then too.
pub(crate) fn run(mut command: Command, limits: Limits, output: &mut Output<'_>) -> Result<End> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
    let mut emulator = Emulator::start(&mut command)?;
    let chunks = emulator.chunks()?;
    let start = Instant::now();
    let mut lines = Lines::default();
    loop {
        let (wait, reason) = limits.next(start);
        match chunks.recv_timeout(wait) {
            Ok(chunk) => hand_on(&chunk?, &mut lines, output)?,
            Err(RecvTimeoutError::Timeout) => return Ok(End::Killed(reason)),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    if let Output::Lines(sink) = output {
        lines.rest().map_or(Ok(()), |line| sink(&line))?;
    }
    emulator.wait().map(End::Exited)
}

/// Runs the emulator with this process's own terminal, for a person.
pub(crate) fn interact(mut command: Command) -> Result<End> {
    command.stdin(Stdio::inherit()).stdout(Stdio::inherit());
    Emulator::start(&mut command)?.wait().map(End::Exited)
}

fn hand_on(chunk: &[u8], lines: &mut Lines, output: &mut Output<'_>) -> io::Result<()> {
    match output {
        Output::Lines(sink) => lines.push(chunk).into_iter().try_for_each(|line| sink(&line)),
        Output::Stdout | Output::Terminal(_) => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(chunk)?;
            stdout.flush()
        }
    }
}

/// A started emulator; dropping it kills it.
struct Emulator {
    child: Child,
    // Taken when the child has been waited for: its number may then be another's.
    group: Option<Group>,
}

impl Emulator {
    fn start(command: &mut Command) -> Result<Self> {
        tie(command, Signal::KILL);
        let child = command.spawn().with_context(|| format!("cannot start {}", name(command)))?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw).map(Group::of);
        Ok(Self { child, group })
    }

    /// What it prints, as it comes. The channel closes at the end of its output.
    fn chunks(&mut self) -> Result<Receiver<io::Result<Vec<u8>>>> {
        let mut stdout = self.child.stdout.take().context("the emulator has no stdout")?;
        let (send, receive) = mpsc::sync_channel(16);
        std::thread::Builder::new().name("emulator".into()).spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let chunk = match stdout.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(length) => Ok(buffer[..length].to_vec()),
                    Err(error) => Err(error),
                };
                let failed = chunk.is_err();
                if send.send(chunk).is_err() || failed {
                    break;
                }
            }
        })?;
        Ok(receive)
    }

    fn wait(&mut self) -> Result<ExitStatus> {
        let status = self.child.wait().context("cannot wait for the emulator")?;
        if let Some(group) = self.group.take() {
            group.release();
        }
        Ok(status)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        if self.group.take().is_some() {
            // The group's guard has killed it; nobody but us can collect it.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Cuts a stream into lines.
#[derive(Default)]
struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    fn push(&mut self, chunk: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for part in chunk.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(part);
            if part.ends_with(b"\n") {
                lines.extend(self.rest());
            }
        }
        lines
    }

    /// The line that has not ended, when there is one.
    fn rest(&mut self) -> Option<String> {
        if self.partial.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.partial);
        Some(String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned())
    }
}

/// The last lines of a console, without escape sequences and empty lines, as an error shows them.
pub(crate) fn tail(console: &[u8], lines: usize) -> String {
    let text = String::from_utf8_lossy(console);
    let mut tail = VecDeque::new();
    for line in text.lines().map(strip_escapes).filter(|line| !line.trim().is_empty()) {
        if tail.len() == lines {
            tail.pop_front();
        }
        tail.push_back(format!("  {}", line.trim_end()));
    }
    if tail.is_empty() { "  (nothing)".to_owned() } else { Vec::from(tail).join("\n") }
}

/// Removes terminal control sequences (ECMA-48: ESC, and CSI up to its final byte) and control characters.
fn strip_escapes(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            if chars.next() == Some('[') {
                chars.by_ref().find(|c| ('\u{40}'..='\u{7e}').contains(c));
            }
        } else if c == '\t' || !c.is_control() {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Limits = Limits { whole: Duration::from_secs(60), silence: Duration::from_secs(60) };

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn collect(script: &str, limits: Limits) -> (Result<End>, Vec<String>) {
        let mut lines = Vec::new();
        let mut sink = |line: &str| {
            lines.push(line.to_owned());
            Ok(())
        };
        let end = run(shell(script), limits, &mut Output::Lines(&mut sink));
        (end, lines)
    }

    #[test]
    fn lines_arrive_whole_and_the_last_needs_no_end() {
        let (end, lines) = collect("printf 'a\\nb\\r\\n'; printf c; exit 3", MINUTE);
        assert!(matches!(end.unwrap(), End::Exited(status) if status.code() == Some(3)));
        assert_eq!(lines, ["a", "b", "c"]);
    }

    #[test]
    fn a_hanging_emulator_is_killed_with_its_helpers() {
        let start = Instant::now();
        let (end, lines) = collect("sleep 61 & echo $!; wait", Limits::whole(Duration::from_millis(400)));
        assert!(matches!(end.unwrap(), End::Killed(why) if why.contains("did not end")));
        assert!(start.elapsed() < Duration::from_secs(30));
        let helper = std::path::Path::new("/proc").join(&lines[0]).join("cmdline");
        let gone = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            std::fs::read(&helper).map_or(true, |cmdline| cmdline.is_empty())
        });
        assert!(gone, "the helper {} survived", lines[0]);
    }

    #[test]
    fn an_emulator_that_stands_still_is_killed_and_one_that_speaks_is_not() {
        let limits = Limits { silence: Duration::from_millis(400), ..MINUTE };
        let script = "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done; sleep 61";
        let (end, lines) = collect(script, limits);
        assert!(matches!(end.unwrap(), End::Killed(why) if why.contains("printed nothing")));
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn a_closed_output_ends_the_run() {
        let mut sink = |_: &str| Err(io::Error::from(io::ErrorKind::BrokenPipe));
        let end = run(shell("while echo x; do :; done"), MINUTE, &mut Output::Lines(&mut sink));
        assert!(end.is_err());
    }

    #[test]
    fn the_tail_is_plain_text() {
        let console = b"\x1b[2J\x1b[1;1HSeaBIOS\r\n\r\n[ 1.0] one\r\n[ 2.0] \x1b[31mtwo\x1b[0m\r\n";
        assert_eq!(tail(b"\r\n", 2), "  (nothing)");
        assert_eq!(tail(console, 2), "  [ 1.0] one\n  [ 2.0] two");
    }
}
