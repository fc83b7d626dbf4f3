//! Recordings: what is read from a file is what was counted, however the recording ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use kvm_utils::bpf::source::SourceChoice;
use kvm_utils::cmd::options::Which;
use kvm_utils::cmd::watch::{Devices, Watch};
use kvm_utils::decode::Class;
use kvm_utils::drilldown::noun::NO_AIDS;
use kvm_utils::drilldown::registry::named;
use kvm_utils::drilldown::report::{Order, report};
use kvm_utils::drilldown::sample::Sample;
use kvm_utils::recording::wire::{End, Header};
use kvm_utils::recording::{Recorder, Recording, RecordingError};
use kvm_utils::selftest::{Config, Operation, Phase, Plan};
use kvm_utils::view::json;

use crate::check;
use crate::drilldown::Summary;
use crate::program::Guest;
use crate::reference::{Counter, Scope};
use crate::registry::{Context, Test, Verdict};
use crate::report::Report;
use crate::tracer::{self, Source};

tracer_tests! {
    "record-a-command", 120, a_command;
    "record-equals-live", 120, equals_live;
}

pub const TESTS: &[Test] = &[
    Test { name: "record-killed-fifty-times", needs_idle_kvm: false, timeout_s: 300, run: killed },
    Test { name: "record-on-a-full-disk", needs_idle_kvm: false, timeout_s: 120, run: full_disk },
    Test { name: "record-what-starts-no-vm", needs_idle_kvm: false, timeout_s: 60, run: no_vm },
];

/// A directory that is gone when the test is.
struct Place(PathBuf);

impl Place {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("lab-recording-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn file(&self) -> PathBuf {
        self.0.join("a.kvmrec")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The lab ends soon.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs `kvm-utils record` to its end.
fn record(context: &Context, file: &Path, options: &[&str]) -> Result<Output> {
    let mut command = tracer::command(context)?;
    Ok(command.args(["record", "-o"]).arg(file).args(options).output()?)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs `kvm-utils report` and gives its last line.
fn summary_of(context: &Context, file: &Path, noun: &str, options: &[&str]) -> Result<String> {
    let mut command = tracer::command(context)?;
    let output = command.arg("report").arg(file).args([noun, "-o", "json"]).args(options).output()?;
    ensure!(output.status.success(), "report: {}: {}", output.status, said(&output));
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().last().context("no report")?.to_owned())
}

/// A command that runs a guest: every exit of it is in the file, and none of another VM's.
fn a_command(context: &Context, source: Source) -> Result<()> {
    let host = check::host()?;
    let place = Place::new()?;
    let mut other = Guest::start(&["--op", "cpuid=2003"])?;
    let lab = std::env::current_exe()?;
    let lab = lab.to_str().context("the path of this program")?;
    let counter = Counter::all_reasons(&Scope::System, host.isa)?;
    let options = ["--with", "exits,cpuid,time", "-i", "100ms", "--source", source.option(), "--"];
    let guest = [lab, "vm", "--vcpus", "2", "--op", "cpuid=1009", "--op", "io-out-user=401"];
    let output = record(context, &place.file(), &[options.as_slice(), &guest].concat())?;
    let counted = counter.read()?;
    ensure!(output.status.success(), "{}: {}", output.status, said(&output));
    eprintln!("  {}", said(&output).trim().replace('\n', "; "));

    let exits: Report = serde_json::from_str(&summary_of(context, &place.file(), "exits", &[])?)?;
    exits.ensure_consistent()?;
    exits.ensure_undoubted()?;
    exits.ensure_equals(&counted)?;
    ensure!(exits.vms.len() == 1 && exits.vms[0].ended, "{:?}", exits.names());
    let cpuid = Summary::parse(&summary_of(context, &place.file(), "cpuid", &[])?)?;
    ensure!(cpuid.count() >= 2 * 1009, "{} CPUIDs", cpuid.count());

    // The intervals are those of a live run, and add up.
    let mut command = tracer::command(context)?;
    let output =
        command.arg("report").arg(place.file()).args(["exits", "--intervals", "-o", "json"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    let reports = text.lines().map(serde_json::from_str).collect::<Result<Vec<Report>, _>>()?;
    ensure!(reports.iter().all(|report| !report.summary), "a summary among the intervals");
    let sum: u64 = reports.iter().map(|report| report.count).sum();
    ensure!(sum == exits.count, "intervals have {sum} exits, all of it {}", exits.count);

    // It was there all the time, and had nothing to do with the command.
    other.go()?;
    other.phases()?;
    other.end()?;
    Ok(())
}

/// Number for number: each interval and the whole run, read from the file, are what a live view of the same moment shows.
fn equals_live(_: &Context, source: Source) -> Result<()> {
    let choice = match source {
        Source::Raw => SourceChoice::Raw,
        Source::Classic => SourceChoice::Tracepoint,
    };
    let names = ["exits", "io", "cpuid", "msr", "time", "halt", "irq"];
    let nouns: Vec<_> = names.into_iter().filter_map(named).collect();
    let mut watch = Watch::start(&Which::default(), &nouns, choice, Devices::WellKnown)?;
    let place = Place::new()?;
    let facts = kvm_utils::host::facts::gather(&kvm_utils::host::SysRoot::default());
    let header = Header { nouns: names.map(str::to_owned).to_vec(), facts, ..Header::default() };
    let mut recorder = Recorder::create(&place.file(), header)?;
    let mut live: Vec<Vec<Sample>> = Vec::new();
    let mut guests = [
        Guest::start(&["--vcpus", "2", "--op", "cpuid=1009", "--op", "io-out-user=401"])?,
        Guest::start(&["--op", "rdmsr=503", "--op", "io-in-user=211"])?,
    ];
    let mut run = Vec::new();
    for step in 0..5 {
        match step {
            0 | 1 => {
                guests[step].go()?;
                guests[step].phases()?;
            }
            3 => {
                // A VM that ends within the run; the tracer takes note.
                let [first, second] = guests;
                first.end()?;
                guests = [second, Guest::start(&["--op", "cpuid=307"])?];
                watch.housekeep()?;
            }
            _ => {}
        }
        let samples = if step == 4 {
            let (samples, whole) = watch.last_samples()?.into_iter().unzip();
            run = whole;
            samples
        } else {
            watch.samples()?
        };
        recorder.interval(&samples, [])?;
        live.push(samples);
    }
    recorder.finish(&End::default())?;
    drop(guests);

    let recording = Recording::open(&place.file())?;
    ensure!(recording.notes.is_empty() && recording.series.len() == names.len(), "{:?}", recording.notes);
    let shown = |sample: &Sample| json::line(&report(sample, &Order::of(sample.noun), &NO_AIDS, &|_, _| ()));
    let mut events = 0;
    for (nth, series) in recording.series.iter().enumerate() {
        ensure!(series.samples.len() == live.len(), "{} intervals", series.samples.len());
        let whole = series.whole().context("no intervals")?;
        let intervals = live.iter().map(|samples| &samples[nth]).zip(&series.samples);
        for (live, recorded) in intervals.chain([(&run[nth], &whole)]) {
            let (live, recorded) = (shown(live)?, shown(recorded)?);
            ensure!(live == recorded, "{}: live\n{live}\nrecorded\n{recorded}", series.noun.name);
        }
        events += report(&whole, &Order::of(series.noun), &NO_AIDS, &|_, _| ()).events;
    }
    ensure!(events > 2 * (2 * 1009 + 401), "only {events} events in all");
    Ok(())
}

/// A recorder under way.
struct Running(Child);

impl Running {
    fn start(context: &Context, file: &Path, options: &[&str]) -> Result<Self> {
        use std::io::{BufRead as _, BufReader};
        let mut command = tracer::command(context)?;
        command.args(["record", "-o"]).arg(file).args(options).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let mut lines = BufReader::new(child.stderr.take().context("no pipe")?).lines();
        for line in &mut lines {
            if line?.contains("attached (") {
                return Ok(Self(child));
            }
        }
        bail!("the recorder ended early: {}", child.wait()?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has usually ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Intervals in a file, also one that is being written.
fn intervals(file: &Path) -> Result<usize> {
    match Recording::open(file) {
        Ok(recording) => Ok(recording.series[0].samples.len()),
        Err(RecordingError::Empty(_)) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Killed at any moment: the file opens, and what was in it right before is in it.
fn killed(context: &Context) -> Result<Verdict> {
    if context.kvm_utils.is_none() {
        return Ok(Verdict::Skipped("--kvm-utils is not given".to_owned()));
    }
    let place = Place::new()?;
    let plan =
        Plan { phases: vec![Phase::new("spin", Class::Cpuid, Operation::SpinCpuid, 1)], skipped: Vec::new() };
    let mut guest = check::start(&plan, Config::default(), check::options())?;
    guest.begin_phase()?;
    let mut random = Random(0x6b76_6d75);
    let mut all = 0;
    for nth in 0..50 {
        let running = Running::start(context, &place.file(), &["-i", "5ms", "--with", "exits,cpuid"])?;
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        let before = intervals(&place.file())?;
        drop(running);
        let after = intervals(&place.file())?;
        ensure!(after >= before, "kill {nth}: {before} intervals before it, {after} after");
        all += after;
    }
    guest.stop_spinning(0)?;
    guest.finish_phase()?;
    eprintln!("  {all} intervals in 50 recordings");
    ensure!(all > 50, "no recording got anywhere: {all} intervals in all");
    Ok(Verdict::Ok)
}

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// The disk fills up: the recording ends with the cause, and what was written can be read.
fn full_disk(context: &Context) -> Result<Verdict> {
    if context.kvm_utils.is_none() {
        return Ok(Verdict::Skipped("--kvm-utils is not given".to_owned()));
    }
    let place = Place::new()?;
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=16k", "none"]).arg(&place.0).status();
    ensure!(mount.context("cannot start mount")?.success(), "cannot mount a small file system");
    let plan =
        Plan { phases: vec![Phase::new("spin", Class::Cpuid, Operation::SpinCpuid, 1)], skipped: Vec::new() };
    let mut guest = check::start(&plan, Config::default(), check::options())?;
    guest.begin_phase()?;
    let output = record(context, &place.file(), &["-i", "2ms", "-d", "60s"])?;
    guest.stop_spinning(0)?;
    guest.finish_phase()?;
    let said = said(&output);
    let there = Recording::open(&place.file());
    let unmount = Command::new("umount").arg("--lazy").arg(&place.0).status();
    ensure!(unmount.context("cannot start umount")?.success(), "cannot unmount");
    ensure!(output.status.code() == Some(3), "{}: {said}", output.status);
    ensure!(said.contains("No space left on device") && said.contains("can be read"), "{said}");
    let there = there?;
    ensure!(there.end.is_none() && there.series[0].samples.len() > 3, "{:?}", there.notes);
    eprintln!("  {} intervals on 16 KiB", there.series[0].samples.len());
    Ok(Verdict::Ok)
}

/// A command that starts no VM: its exit code is ours, and somebody is told that nothing was recorded.
fn no_vm(context: &Context) -> Result<Verdict> {
    if context.kvm_utils.is_none() {
        return Ok(Verdict::Skipped("--kvm-utils is not given".to_owned()));
    }
    let place = Place::new()?;
    let output = record(context, &place.file(), &["--", "sh", "-c", "exit 7"])?;
    ensure!(output.status.code() == Some(7), "{}: {}", output.status, said(&output));
    ensure!(said(&output).contains("started no VM itself"), "{}", said(&output));
    let missing = record(context, &place.file(), &["--", "no-such-program"])?;
    ensure!(missing.status.code() == Some(2), "{}: {}", missing.status, said(&missing));
    Ok(Verdict::Ok)
}
