//! `kvm-utils record`: keeps what drill-downs count, at intervals, in a file.

use std::{
    future::pending,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use clap::{Args as ClapArgs, builder::PossibleValuesParser};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid};
use tokio::{
    process::{Child, Command},
    time::{MissedTickBehavior, interval_at},
};

use super::{
    options::{TRUST, WHAT, Which, duration},
    trace::{HOUSEKEEPING, Stop, StopSignals, at},
    watch::{Devices, Watch},
};
use crate::{
    bpf::{
        events::{MOST_BYTES, ring_bytes},
        source::SourceChoice,
    },
    drilldown::{
        exits,
        noun::Noun,
        registry::{named, names},
        sample::Sample,
    },
    error::{Failure, say},
    host::{SysRoot, facts},
    recording::{
        Recorder,
        events::encode,
        wire::{End, Header, nanoseconds},
    },
    view::units,
};

/// Stands for all drill-downs.
const ALL: &str = "all";

/// Room for exits one by one: 200,000 of them, a fifth of a second of a busy host.
const EVENTS_BUFFER: u32 = 8 << 20;
/// So many of them are written at once, without waiting for the end of the interval.
const MANY_EVENTS: u64 = 1 << 16;

/// Keep exits and drill-downs, interval by interval, in a file
///
/// Counts like `kvm-utils exits` and the drill-downs named by --with, and writes what came in each interval into one
/// compressed file, which `kvm-utils report` shows in all ways that a live run can be shown, and `kvm-utils compare` holds
/// against another. With a COMMAND it records from right before the command starts until it ends, and the VMs that it
/// starts, until these end. The exit code is the command's then.
///
/// What is in the file stays readable, however the recording ends: at most the last interval is missing.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  kvm-utils record -o day.kvmrec -i 10s -d 24h        a day, all VMs
  kvm-utils record -o web.kvmrec --vm web-1 --with exits,io,wrmsr
  kvm-utils record -o boot.kvmrec -- ./boot-guest.sh  one guest's boot
  kvm-utils report boot.kvmrec                        and what was in it
  kvm-utils record -o web.kvmrec --vm web-1 -d 10s --events
  kvm-utils report web.kvmrec --perfetto web.pftrace  for ui.perfetto.dev

Exit codes: 0 ok, 2 usage, 3 this host cannot do it; with a COMMAND its own, 128
and the signal's number if one ended it.")]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// With a COMMAND: record all VMs, not only those that it starts
    #[arg(long, requires = "command", conflicts_with_all = ["vms", "pids", "vcpus"], help_heading = WHAT)]
    all_vms: bool,
    /// Record these drill-downs
    #[arg(long = "with", value_name = "NOUN,...", value_delimiter = ',', default_value = "exits",
          value_parser = PossibleValuesParser::new(names().into_iter().chain([ALL])), help_heading = WHAT)]
    nouns: Vec<String>,
    /// Keep exits one by one as well, for `kvm-utils report --perfetto`
    ///
    /// They come through a ring buffer. What it has no room for is counted like all others, but is not among those kept; how
    /// many that are is in the file, and said at the end.
    #[arg(long, help_heading = WHAT)]
    events: bool,
    /// Room for exits one by one: 64K, 32M, 1G; 40 bytes each [default: 8M]
    #[arg(long, value_name = "BYTES", value_parser = buffer, requires = "events", help_heading = TRUST)]
    events_buffer: Option<u32>,
    /// Write to this file; an older recording there is replaced
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Time between snapshots: 500ms, 2s, 1m
    #[arg(short, long, value_name = "T", default_value = "1s", value_parser = duration)]
    interval: Duration,
    /// Stop after this time: 500ms, 10s, 1m (default: at Ctrl-C, or with the COMMAND)
    #[arg(short, long, value_name = "T", value_parser = duration, conflicts_with = "command")]
    duration: Option<Duration>,
    /// How to learn of events
    #[arg(long, value_name = "SOURCE", value_enum, default_value = "auto", help_heading = TRUST)]
    source: SourceChoice,
    /// Call devices by well-known names only: leave QEMU's monitor alone
    #[arg(long, help_heading = TRUST)]
    no_qmp: bool,
    /// Run this, and record until it ends
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// A number of bytes: `64K`, `8M`, `1G`.
fn buffer(text: &str) -> Result<u32, String> {
    let expected = || format!("give a number of bytes like 64K, 8M or 1G, at most {}M", MOST_BYTES >> 20);
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let shift = match unit.to_ascii_uppercase().as_str() {
        "" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        _ => return Err(expected()),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    let fits =
        bytes.and_then(|bytes| u32::try_from(bytes).ok()).filter(|bytes| (1..=MOST_BYTES).contains(bytes));
    fits.ok_or_else(expected)
}

/// Records until told to stop.
///
/// # Errors
///
/// With cause and remedy.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(record(args))
}

async fn record(args: &Args) -> anyhow::Result<ExitCode> {
    let mut stop = StopSignals::new()?;
    let mut watch = start(args)?;
    // One after the other they were attached; together they begin.
    watch.samples()?;
    let mut file = Keeper::create(args, &watch)?;
    watch.tell();
    let began = Instant::now();
    let mut command = Started::start(&args.command)?;
    let mut ticks = interval_at((began + args.interval).into(), args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut housekeeping = interval_at((began + HOUSEKEEPING).into(), HOUSEKEEPING);
    housekeeping.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let end = args.duration.map(|d| began + d);
    let mut events_due = watch.events_pace().map(|pace| began + pace);
    loop {
        tokio::select! {
            biased;
            signal = stop.received() => if command.is_left(signal) { break },
            _ = ticks.tick() => file.keep(&mut watch)?,
            () = at(end) => break,
            () = at(events_due) => {
                if watch.read_events()? >= MANY_EVENTS {
                    file.keep_events(&mut watch)?;
                }
                events_due = watch.events_pace().map(|pace| Instant::now() + pace);
            }
            ended = command.ended() => {
                ended?;
                watch.housekeep()?;
                if watch.all_ended() != Some(false) {
                    break;
                }
                say("the command has ended, VMs that it started run on: recording until they end, or Ctrl-C");
            }
            _ = housekeeping.tick() => {
                watch.housekeep()?;
                command.reap();
                if watch.ended() {
                    say("the VM has ended");
                    break;
                }
                if command.has_ended() && watch.all_ended() == Some(true) {
                    break;
                }
            }
        }
    }
    file.keep(&mut watch)?;
    if command.is_one() && !args.all_vms && args.which.vms.is_empty() && watch.all_ended().is_none() {
        say(
            "the command started no VM itself: nothing is recorded; name the VM (--vm NAME --wait), or record all \
             (--all-vms)",
        );
    }
    file.finish(&command, began.elapsed())?;
    Ok(command.exit_code())
}

/// Attaches what is to be recorded.
fn start(args: &Args) -> Result<Watch, Failure> {
    let all = args.nouns.iter().any(|name| name == ALL);
    let wanted: Vec<&'static Noun> = if all {
        names().into_iter().filter_map(named).collect()
    } else {
        args.nouns.iter().filter_map(|name| named(name)).collect()
    };
    if args.events && !wanted.iter().any(|noun| std::ptr::eq(*noun, &exits::NOUN)) {
        return Err(Failure::usage("--events are the exits one by one: name `exits` with --with, too"));
    }
    let devices = if args.no_qmp { Devices::WellKnown } else { Devices::Ask };
    // Which drill-downs a host has is not known to who says `all`.
    let must = if all { 1 } else { wanted.len() };
    let no_vms = args.which.vms.is_empty() && args.which.pids.is_empty();
    let mut watch = if !args.command.is_empty() && no_vms && !args.all_vms {
        // Whoever loses its parent below us becomes our child, so that it is still known to be the command's: QEMU with
        // -daemonize, for one.
        set_child_subreaper(Some(getpid())).map_err(|e| {
            Failure::host(format!("cannot become the command's subreaper: {e}; record with --all-vms"))
        })?;
        Watch::start_below(std::process::id(), &args.which, &[], args.source, devices)?
    } else {
        Watch::start(&args.which, &[], args.source, devices)?
    };
    if args.events {
        watch.tell_exits(ring_bytes(args.events_buffer.unwrap_or(EVENTS_BUFFER)));
    }
    for (nth, noun) in wanted.into_iter().enumerate() {
        match watch.add(noun) {
            Err(error) if nth >= must => say(format_args!("without {}: {error}", noun.name)),
            added => added?,
        }
    }
    Ok(watch)
}

/// The file, and what is told of it at the end.
struct Keeper<'a> {
    path: &'a Path,
    recorder: Recorder,
    intervals: u64,
    /// Rows with something in them, over all intervals.
    rows: u64,
    nouns: String,
    /// Exits one by one, and those lost, if they are asked for.
    events: Option<(u64, u64)>,
}

impl<'a> Keeper<'a> {
    fn create(args: &'a Args, watch: &Watch) -> anyhow::Result<Self> {
        let nouns: Vec<String> = watch.nouns().map(|noun| noun.name.to_owned()).collect();
        let header = Header {
            version: 0,
            tool: kvm_bench::VERSION.to_owned(),
            began: nanoseconds(SystemTime::now()),
            interval: u64::try_from(args.interval.as_nanos()).unwrap_or(u64::MAX),
            nouns: nouns.clone(),
            command: args.command.clone(),
            facts: facts::gather(&SysRoot::default()),
        };
        let recorder = Recorder::create(&args.output, header).map_err(Failure::host)?;
        Ok(Self {
            path: &args.output,
            recorder,
            intervals: 0,
            rows: 0,
            nouns: nouns.join(", "),
            events: None,
        })
    }

    /// Writes the exits one by one that there are.
    fn keep_events(&mut self, watch: &mut Watch) -> anyhow::Result<()> {
        let Some(batch) = watch.take_events()? else { return Ok(()) };
        // One at least, so that it is seen that exits were kept.
        let first = self.events.is_none();
        let (told, lost) = self.events.get_or_insert_default();
        (*told, *lost) = (*told + batch.told(), *lost + batch.lost());
        if first || !batch.is_empty() {
            self.recorder.events(&encode(&batch)).map_err(Failure::host)?;
        }
        Ok(())
    }

    /// Ends the interval and writes it.
    fn keep(&mut self, watch: &mut Watch) -> anyhow::Result<()> {
        self.keep_events(watch)?;
        let samples = watch.samples()?;
        self.recorder.interval(&samples, watch.device_maps()).map_err(Failure::host).with_context(|| {
            format!("the recording ends after {} intervals, which can be read", self.intervals)
        })?;
        self.intervals += 1;
        self.rows += samples.iter().map(rows).sum::<u64>();
        Ok(())
    }

    fn finish(self, command: &Started, took: Duration) -> anyhow::Result<()> {
        let status = command.status.and_then(|status| status.code());
        let end = End { time: nanoseconds(SystemTime::now()), status };
        let bytes = self.recorder.finish(&end).map_err(Failure::host)?;
        let per_row = if self.rows > 0 {
            format!(", {:.1} bytes for a row and interval", bytes as f64 / self.rows as f64)
        } else {
            String::new()
        };
        say(format_args!(
            "recorded {} of {}, {}, in {} ({} bytes{per_row})",
            units::interval(took.as_secs_f64()),
            self.nouns,
            units::counted(self.intervals, "interval", "intervals"),
            self.path.display(),
            units::count(bytes),
        ));
        if let Some((told, lost)) = self.events {
            let told = units::counted(told, "exit is", "exits are");
            let gap = if lost == 0 {
                String::new()
            } else {
                let lost = units::count(lost);
                format!(
                    ", {lost} more are only counted: there was no room for them, --events-buffer makes more"
                )
            };
            say(format_args!("{told} in it one by one{gap}"));
        }
        Ok(())
    }
}

/// Rows of a sample in which there is something, of all vCPUs and processes.
fn rows(sample: &Sample) -> u64 {
    let vcpus = sample.vms.iter().flat_map(|vm| &vm.vcpus);
    let of_vcpus = vcpus
        .map(|vcpu| vcpu.exits.len() + vcpu.slice.rows.len() + usize::from(!vcpu.slice.counters.is_empty()));
    let of_crowds = sample.crowds.values().map(|crowd| crowd.slice.rows.len());
    of_vcpus.chain(of_crowds).sum::<usize>() as u64
}

/// The command, if there is one.
struct Started {
    child: Option<Child>,
    /// Its process id, for as long as it has not been waited for.
    pid: Option<Pid>,
    status: Option<std::process::ExitStatus>,
    one: bool,
    asked: bool,
}

impl Started {
    fn start(command: &[String]) -> Result<Self, Failure> {
        let Some((program, arguments)) = command.split_first() else {
            return Ok(Self { child: None, pid: None, status: None, one: false, asked: false });
        };
        let child = Command::new(program)
            .args(arguments)
            .spawn()
            .map_err(|e| Failure::usage(format!("cannot run {program}: {e}")))?;
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok(Self { child: Some(child), pid, status: None, one: true, asked: false })
    }

    /// Whether there is, or was, one.
    fn is_one(&self) -> bool {
        self.one
    }

    fn has_ended(&self) -> bool {
        self.one && self.child.is_none()
    }

    /// Waits for its end.
    async fn ended(&mut self) -> anyhow::Result<()> {
        let Some(child) = &mut self.child else { return pending().await };
        self.status = Some(child.wait().await.context("cannot wait for the command")?);
        (self.child, self.pid) = (None, None);
        Ok(())
    }

    /// A signal asks us to end: whether that ends the recording at once. A command is given the time to end itself; asked once
    /// more, we leave it.
    fn is_left(&mut self, signal: Stop) -> bool {
        let Some(pid) = self.pid else { return true };
        if std::mem::replace(&mut self.asked, true) {
            return true;
        }
        if signal == Stop::Terminate {
            // It may have ended already, which is what is wanted.
            let _ = kill_process(pid, Signal::TERM);
        }
        say("waiting for the command to end; once more ends the recording without it");
        false
    }

    /// Lets processes go that have ended and whose parents did so before, which made them ours.
    fn reap(&self) {
        if self.has_ended() {
            // The command itself is waited for elsewhere; from here on all children are such.
            while let Ok(Some(_)) = waitpid(None, WaitOptions::NOHANG) {}
        }
    }

    fn exit_code(&self) -> ExitCode {
        use std::os::unix::process::ExitStatusExt as _;
        let Some(status) = self.status else { return ExitCode::SUCCESS };
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_a_number_of_bytes_with_or_without_a_unit() {
        assert_eq!(buffer("4096"), Ok(4096));
        assert_eq!(buffer("64K"), Ok(64 << 10));
        assert_eq!(buffer("8m"), Ok(8 << 20));
        assert_eq!(buffer("1GiB"), Ok(1 << 30));
        for bad in ["", "0", "M", "8 M", "2G", "1T", "-1", "99999999999999999999G", "1.5M"] {
            assert!(buffer(bad).is_err_and(|why| why.contains("64K") && why.contains("1024M")), "{bad}");
        }
    }
}
