//! `kvm-utils export`: the counts so far, for Prometheus.

use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::{Args as ClapArgs, builder::PossibleValuesParser};
use tokio::{sync::mpsc, time::MissedTickBehavior};

use super::{
    options::{HOW, TRUST, Which, duration},
    trace::{HOUSEKEEPING, StopSignals},
    watch::{Devices, Watch},
};
use crate::{
    bpf::source::SourceChoice,
    drilldown::registry::{named, names},
    error::{Failure, say},
    export::{Ask, Collected, Limits, Notify, Pages, Server, listen},
    host::{HostInfo, Scanner, SysRoot},
    view::prometheus::{self, Exposition},
};

/// How often an interval ends that nobody reads, so that VMs that ended long ago can be forgotten.
const INTERVAL: Duration = Duration::from_secs(60);

/// Room for vCPUs, as many times what there are now or as there are CPUs: most VMs start later.
const VCPU_RESERVE: u32 = 4;
const VCPUS: std::ops::RangeInclusive<u32> = 64..=4096;

/// Serve exits and drill-downs to Prometheus
///
/// Counts from its start on, and answers each scrape of /metrics with the counts so far, as OpenMetrics or in Prometheus's
/// text format. Without NOUN it serves `exits`. Ctrl-C or SIGTERM ends it.
#[derive(ClapArgs, Debug)]
// It always waits, and most VMs start after it.
#[command(mut_arg("wait", |arg| arg.hide(true)))]
#[command(mut_arg("max_vcpus", |arg| arg.help(ROOM)))]
#[command(after_help = "Examples:
  kvm-utils export                        exits of all VMs, at port 9973
  kvm-utils export exits time halt        and where the vCPUs' time goes
  kvm-utils export wrmsr --vm 'db-*'      registers that some VMs write
  kvm-utils export exits --per-vcpu       a series per vCPU: many of them
  kvm-utils export --listen '[::1]:9973'  another address

There is no TLS and no password: docs/export.md shows a proxy that adds them.

Exit codes: 0 ok, 2 usage, 3 this host cannot do it.")]
pub struct Args {
    /// What to serve: a drill-down, or several (default: exits)
    #[arg(value_name = "NOUN", default_value = "exits", hide_default_value = true,
          value_parser = PossibleValuesParser::new(names()))]
    nouns: Vec<String>,
    #[command(flatten)]
    which: Which,
    /// Address and port to serve at
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9973", value_parser = address, help_heading = SERVE)]
    listen: SocketAddr,
    /// Let other machines read it: without TLS, without a password
    #[arg(long, help_heading = SERVE)]
    allow_remote: bool,
    /// Read the counters at most once in this time, however many scrapes there are
    #[arg(short, long, value_name = "T", default_value = "1s", value_parser = duration, help_heading = SERVE)]
    interval: Duration,
    /// Serve each vCPU by itself instead of each VM
    #[arg(long, help_heading = HOW)]
    per_vcpu: bool,
    /// Serve at most this many time series of each NOUN; the rows that count least share one for each VM
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..), help_heading = HOW)]
    max_series: u32,
    /// Serve the numbers of a VM that ended for so long
    #[arg(long, value_name = "T", default_value = "5m", value_parser = duration, help_heading = HOW)]
    keep: Duration,
    /// Tell since when each series counts (_created), for a Prometheus that is set to use it
    #[arg(long, help_heading = HOW)]
    created: bool,
    /// How to learn of events
    #[arg(long, value_name = "SOURCE", value_enum, default_value = "auto", help_heading = TRUST)]
    source: SourceChoice,
}

const ROOM: &str =
    "Room for this many vCPUs at a time (default: four times what there are, or as CPUs, at least 64)";
/// Where to serve.
const SERVE: &str = "Where to serve";

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("this is no address with a port; write it like 127.0.0.1:9973 or [::1]:9973, not {text:?}")
    })
}

/// Serves until told to stop.
///
/// # Errors
///
/// With cause and remedy.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if !args.listen.ip().is_loopback() && !args.allow_remote {
        return Err(Failure::usage(format!(
            "{} can be reached from other machines, which could read the names of the VMs and what they do, without \
             TLS and without a password; serve at 127.0.0.1 behind a proxy (docs/export.md), or give --allow-remote",
            args.listen
        ))
        .into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(args))
}

async fn serve(args: &Args) -> anyhow::Result<ExitCode> {
    // Signals first: one that comes while the programs are being attached must not be lost.
    let mut stop = StopSignals::new()?;
    let notify = Notify::from_env();
    // Before the programs are attached, which takes longer.
    let listener = listen(args.listen).map_err(|e| {
        Failure::host(format!("cannot listen at {}: {e}; --listen gives another address", args.listen))
    })?;
    let mut watch = Watch::start(&which(args), &nouns(args), args.source, Devices::WellKnown)?;
    watch.tell();

    let (ask, mut asked) = mpsc::channel::<Ask>(1);
    let limits = prometheus::Limits {
        max_series: args.max_series as usize,
        per_vcpu: args.per_vcpu,
        created: args.created,
        keep: args.keep,
    };
    let pages = Arc::new(Pages::new(ask, Exposition::new(limits), args.interval));
    let address = listener.local_addr().unwrap_or(args.listen);
    let _server = Server::start(listener, Arc::clone(&pages), Limits::default())
        .map_err(|e| Failure::host(format!("cannot serve at {address}: {e}")))?;
    say(format_args!("serving http://{address}/metrics"));
    notify.tell("READY=1");

    let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
    housekeeping.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut interval, mut told) = (Instant::now(), Instant::now());
    loop {
        tokio::select! {
            biased;
            _ = stop.received() => break,
            _ = housekeeping.tick() => {
                watch.housekeep()?;
                if interval.elapsed() >= INTERVAL {
                    watch.samples()?;
                    interval = Instant::now();
                }
                pages.beat();
                // sd_watchdog_enabled(3) recommends to tell it twice as often as it wants.
                if notify.watchdog.is_some_and(|often| told.elapsed() >= often / 2) {
                    notify.tell("WATCHDOG=1");
                    told = Instant::now();
                }
                if watch.ended() {
                    say("the VM has ended");
                    break;
                }
            }
            Some(answer) = asked.recv() => {
                let began = Instant::now();
                let reports = watch.summary()?;
                // Who asked may have gone.
                let _ = answer.send(Collected { reports, took: began.elapsed() });
            }
        }
    }
    notify.tell("STOPPING=1");
    Ok(ExitCode::SUCCESS)
}

/// The drill-downs that were named, each once.
fn nouns(args: &Args) -> Vec<&'static crate::drilldown::noun::Noun> {
    let mut nouns: Vec<&'static crate::drilldown::noun::Noun> = Vec::new();
    for noun in args.nouns.iter().filter_map(|name| named(name)) {
        if !nouns.iter().any(|of| std::ptr::eq(*of, noun)) {
            nouns.push(noun);
        }
    }
    nouns
}

/// Which VMs: of those that are named also the ones that come later, or again.
fn which(args: &Args) -> Which {
    let mut which = Which { wait: !args.which.vms.is_empty(), ..args.which.clone() };
    if which.max_vcpus.is_none() {
        let root = SysRoot::default();
        // Whether VMs can be looked for at all is judged where they are.
        let found = Scanner::new(root.proc())
            .scan()
            .map_or(0, |scan| u32::try_from(scan.vcpu_count()).unwrap_or(u32::MAX));
        let most = found.max(HostInfo::gather(&root).cpus_online).saturating_mul(VCPU_RESERVE);
        which.max_vcpus = Some(most.clamp(*VCPUS.start(), found.max(*VCPUS.end())).min(65_536));
    }
    which
}
