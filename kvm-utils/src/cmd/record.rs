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
    bpf::source::SourceChoice,
    drilldown::{
        noun::Noun,
        registry::{named, names},
        sample::Sample,
    },
    error::{Failure, say},
    host::{SysRoot, facts},
    recording::{
        Recorder,
        wire::{End, Header, nanoseconds},
    },
    view::units,
};

/// Stands for all drill-downs.
const ALL: &str = "all";

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
    let mut file = Keeper::create(args, &watch)?;
    watch.tell();
    let began = Instant::now();
    let mut command = Started::start(&args.command)?;
    let mut ticks = interval_at((began + args.interval).into(), args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut housekeeping = interval_at((began + HOUSEKEEPING).into(), HOUSEKEEPING);
    housekeeping.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let end = args.duration.map(|d| began + d);
    loop {
        tokio::select! {
            biased;
            signal = stop.received() => if command.is_left(signal) { break },
            _ = ticks.tick() => file.keep(&mut watch)?,
            () = at(end) => break,
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
    let devices = if args.no_qmp { Devices::WellKnown } else { Devices::Ask };
    // Which drill-downs a host has is not known to who says `all`.
    let (first, rest) = if all { wanted.split_at(1) } else { (wanted.as_slice(), [].as_slice()) };
    let no_vms = args.which.vms.is_empty() && args.which.pids.is_empty();
    let mut watch = if !args.command.is_empty() && no_vms && !args.all_vms {
        // Whoever loses its parent below us becomes our child, so that it is still known to be the command's: QEMU with
        // -daemonize, for one.
        set_child_subreaper(Some(getpid())).map_err(|e| {
            Failure::host(format!("cannot become the command's subreaper: {e}; record with --all-vms"))
        })?;
        Watch::start_below(std::process::id(), &args.which, first, args.source, devices)?
    } else {
        Watch::start(&args.which, first, args.source, devices)?
    };
    for noun in rest {
        if let Err(error) = watch.add(noun) {
            say(format_args!("without {}: {error}", noun.name));
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
        Ok(Self { path: &args.output, recorder, intervals: 0, rows: 0, nouns: nouns.join(", ") })
    }

    /// Ends the interval and writes it.
    fn keep(&mut self, watch: &mut Watch) -> anyhow::Result<()> {
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
