//! The full screen in tmux, as a person uses it: from the VMs to the exits that a guest makes, and back to the shell.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use kvm_utils::decode::ExitReason;
use kvm_utils::selftest::expect::Expected;

use crate::check;
use crate::program::Guest;
use crate::registry::{Context, Test, Verdict};

pub const TESTS: &[Test] =
    &[Test { name: "top-in-tmux", needs_idle_kvm: false, timeout_s: 280, run: in_tmux }];

/// CPUIDs of each of two vCPUs: enough for the guest to be at it while somebody looks around.
const CPUIDS: u64 = 40_009;
/// Longer than anything takes on a busy emulator.
const PATIENCE: Duration = Duration::from_secs(60);

fn in_tmux(context: &Context) -> Result<Verdict> {
    let Some(kvm_utils) = &context.kvm_utils else {
        return Ok(Verdict::Skipped("--kvm-utils is not given".to_owned()));
    };
    let Some(tmux) = Tmux::start()? else {
        return Ok(Verdict::Skipped("there is no tmux".to_owned()));
    };
    let host = check::host()?;
    let mut guest = Guest::start(&["--op", &format!("cpuid={CPUIDS}"), "--vcpus", "2", "--limit", "200"])?;
    let settings = tmux.settings()?;
    let command = format!("{} top -i 500ms --pid {}", kvm_utils.display(), guest.pid());
    tmux.types(&[&command, "Enter"])?;
    tmux.await_text("no exits so far")?;
    ensure!(tmux.is_taken()?, "the screen is not another one");

    // All VMs, and the only one of them.
    guest.go()?;
    let vm = tmux.await_row(|row| row.name == "lab")?;
    ensure!(vm.selected, "{vm:?}");
    // Its vCPUs.
    tmux.types(&["Enter"])?;
    tmux.await_row(|row| row.name == "all" && row.selected)?;
    let vcpu = tmux.await_row(|row| row.name == "0" && row.numbers[0] > 0)?;
    ensure!(!vcpu.selected, "{vcpu:?}");
    tmux.types(&["Down", "Right"])?;
    // The reasons of its exits.
    tmux.await_text("vcpu 0 › reasons")?;
    let name = |expected: &Expected| {
        let code = expected.codes.first().copied().unwrap_or_default();
        ExitReason::new(host.isa, code).to_string()
    };
    let reason = tmux.await_row(|row| row.name.eq_ignore_ascii_case("cpuid") && row.numbers[0] > 0)?;
    ensure!(reason.numbers[0] <= CPUIDS, "{reason:?}");
    // A drill-down that does not run yet, started from here.
    tmux.types(&["/", "cpuid", "Enter", "Enter"])?;
    tmux.await_text("cpuid does not run")?;
    tmux.types(&["Enter"])?;
    tmux.await_text("cpuid is attached")?;
    tmux.await_row(|row| row.line.contains("0x0") && row.line.contains("found"))?;

    // Stopped and continued by the shell.
    tmux.types(&["C-z"])?;
    tmux.await_given_back()?;
    tmux.await_text("Stopped")?;
    tmux.types(&["fg", "Enter"])?;
    tmux.await_row(|row| row.line.contains("0x0"))?;
    ensure!(tmux.is_taken()?, "the screen is not another one");

    // The end: the summary has every exit.
    let expected = guest.phases()?;
    tmux.types(&["q"])?;
    tmux.await_given_back()?;
    for expected in &expected {
        let name = name(expected);
        let row = tmux.await_row(|row| row.name == name && row.line.contains('%'))?;
        ensure!(expected.count == 2 * CPUIDS, "{expected:?}");
        ensure!(row.numbers[0] == expected.count, "{name}: {} of {}", row.numbers[0], expected.count);
    }
    ensure!(tmux.settings()? == settings, "the terminal is not set as before");
    guest.end()?;

    // Told to end, it gives the terminal back as well.
    tmux.types(&["clear", "Enter"])?;
    tmux.types(&[&format!("{} top -i 500ms --no-time", kvm_utils.display()), "Enter"])?;
    tmux.await_text("no exits so far")?;
    tmux.types(&["?"])?;
    tmux.await_text("Enter, Right")?;
    tmux.end_foreground()?;
    tmux.await_given_back()?;
    tmux.await_text("no exits in")?;
    ensure!(tmux.settings()? == settings, "the terminal is not set as before");
    Ok(Verdict::Ok)
}

/// A tmux of its own with a shell in it.
struct Tmux {
    socket: String,
}

/// A line of a table.
#[derive(Debug)]
struct Row {
    selected: bool,
    /// The first word.
    name: String,
    /// Whole numbers in it.
    numbers: Vec<u64>,
    line: String,
}

impl Tmux {
    /// None where there is no tmux.
    fn start() -> Result<Option<Self>> {
        let tmux = Self { socket: format!("lab-top-{}", std::process::id()) };
        let shell = "env LC_ALL=C.UTF-8 PS1='$ ' HISTFILE= bash --norc --noprofile";
        let mut command =
            tmux.command(&["-u", "-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24"]);
        match command.arg(shell).env("LC_ALL", "C.UTF-8").status() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            status => ensure!(status.context("cannot run tmux")?.success(), "tmux does not start"),
        }
        Ok(Some(tmux))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.args(["-L", &self.socket]).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments).output().context("cannot run tmux")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "tmux {arguments:?}: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn types(&self, keys: &[&str]) -> Result<()> {
        self.run(&[&["send-keys"], keys].concat()).map(drop)
    }

    /// What is on the screen, and what left it at the top.
    fn shown(&self) -> Result<String> {
        self.run(&["capture-pane", "-p", "-S", "-200"])
    }

    /// Whether something draws on another screen, or hides the cursor.
    fn is_taken(&self) -> Result<bool> {
        let flags = self.run(&["display", "-p", "#{alternate_on} #{cursor_flag}"])?;
        match flags.trim() {
            "0 1" => Ok(false),
            _ => Ok(true),
        }
    }

    fn await_given_back(&self) -> Result<()> {
        let began = Instant::now();
        while self.is_taken()? {
            ensure!(began.elapsed() < PATIENCE, "the screen is still another one:\n{}", self.shown()?);
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn await_one<T>(&self, what: &str, mut find: impl FnMut(&str) -> Option<T>) -> Result<T> {
        let began = Instant::now();
        loop {
            let shown = self.shown()?;
            if let Some(found) = find(&shown) {
                return Ok(found);
            }
            ensure!(began.elapsed() < PATIENCE, "waited for {what}, shown is\n{shown}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn await_text(&self, text: &str) -> Result<()> {
        self.await_one(text, |shown| shown.contains(text).then_some(()))
    }

    fn await_row(&self, is: impl Fn(&Row) -> bool) -> Result<Row> {
        self.await_one("a row", |shown| shown.lines().filter_map(row).find(|row| is(row)))
    }

    /// How the terminal is set while the shell waits for a command.
    fn settings(&self) -> Result<String> {
        let prompt = |shown: &str| {
            let last = shown.lines().rfind(|line| !line.trim().is_empty())?;
            (last.trim() == "$").then_some(())
        };
        self.await_one("the prompt", prompt)?;
        let tty = self.run(&["display", "-p", "#{pane_tty}"])?;
        let output =
            Command::new("stty").args(["-F", tty.trim(), "-a"]).output().context("cannot run stty")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Sends SIGTERM to what the shell waits for.
    fn end_foreground(&self) -> Result<()> {
        let shell = self.run(&["display", "-p", "#{pane_pid}"])?;
        let shell = shell.trim();
        let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"))?;
        for child in children.split_whitespace() {
            let pid = rustix::process::Pid::from_raw(child.parse()?).context("no process")?;
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        Ok(())
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        // All that runs in it ends with it.
        let _ = self.run(&["kill-server"]);
    }
}

fn row(line: &str) -> Option<Row> {
    let words: Vec<&str> = line.trim_start_matches('>').split_whitespace().collect();
    let name = (*words.first()?).to_owned();
    let number = |word: &&str| word.replace(',', "").parse().ok();
    let numbers: Vec<u64> = words[1..].iter().filter_map(number).collect();
    (!numbers.is_empty()).then(|| Row {
        selected: line.starts_with('>'),
        name,
        numbers,
        line: line.to_owned(),
    })
}
