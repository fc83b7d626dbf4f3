//! Other programs that tests start: guests in processes of their own.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use kvm_utils::selftest::expect::{self, Expected};
use serde_json::Value;

/// Lets the kernel end the program should this one be killed for taking too long.
pub fn dies_with_us(command: &mut Command) {
    // SAFETY: prctl may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

/// A `lab vm` in another process. It works when told to.
pub struct Guest {
    child: Child,
    input: Option<ChildStdin>,
    events: BufReader<ChildStdout>,
    /// Threads of the vCPUs of each virtual machine.
    pub threads: Vec<Vec<i32>>,
}

impl Guest {
    /// Starts it and waits until its virtual machines are warmed up.
    pub fn start(options: &[&str]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["vm", "--wait-stdin"]).args(options).stdin(Stdio::piped()).stdout(Stdio::piped());
        dies_with_us(&mut command);
        let mut child = command.spawn().context("cannot start a guest")?;
        let input = child.stdin.take();
        let events = BufReader::new(child.stdout.take().context("no pipe from the guest")?);
        let mut guest = Self { child, input, events, threads: Vec::new() };
        let ready = guest.event()?;
        ensure!(ready["event"] == "ready", "expected the guest to be ready, not {ready}");
        guest.threads = serde_json::from_value(ready["threads"].clone())?;
        Ok(guest)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn event(&mut self) -> Result<Value> {
        let mut line = String::new();
        ensure!(self.events.read_line(&mut line)? > 0, "the guest ended early");
        Ok(serde_json::from_str(&line)?)
    }

    /// Tells it to go on.
    pub fn go(&mut self) -> Result<()> {
        self.input.as_mut().context("the guest's input is closed")?.write_all(b"\n")?;
        Ok(())
    }

    /// Waits until the next phase is done, and returns what it must have caused; none when all are done.
    pub fn phase(&mut self) -> Result<Option<Vec<Expected>>> {
        let event = self.event()?;
        match event["event"].as_str() {
            Some("phase") => expected(&event["expected"]).map(Some),
            Some("done") => Ok(None),
            _ => bail!("unexpected event of a guest: {event}"),
        }
    }

    /// Waits until all phases are done, and returns what they must have caused.
    pub fn phases(&mut self) -> Result<Vec<Expected>> {
        let mut all = Vec::new();
        while let Some(phase) = self.phase()? {
            all.extend(phase);
        }
        Ok(expect::merge(all))
    }

    /// Ends it in the usual way.
    pub fn end(mut self) -> Result<ExitStatus> {
        self.input = None;
        let status = self.child.wait()?;
        ensure!(status.success(), "a guest ended with {status}");
        Ok(status)
    }

    /// Kills it, whatever it is doing.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It has usually ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn expected(list: &Value) -> Result<Vec<Expected>> {
    let one = |value: &Value| -> Result<Expected> {
        Ok(Expected {
            codes: serde_json::from_value(value["codes"].clone())?,
            count: serde_json::from_value(value["count"].clone())?,
            or_count: None,
            more_with: serde_json::from_value(value["more_with"].clone())?,
        })
    };
    list.as_array().context("a phase that cannot be predicted")?.iter().map(one).collect()
}
