//! Runs a trace from start to end: finds the VMs, attaches, reports at each interval, ends with a summary.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use kvm_utils_common::config::mode;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval_at, sleep_until},
};

use super::{
    baseline::Baseline,
    derived::Derived,
    options::{Common, Output, Which},
    printer::Printer,
    silence::Silence,
};
use crate::{
    bpf::{
        caps::{Blocker, obstacle},
        event,
        hook::{Function, Hook},
        source::{self, SourceChoice},
        tracer::{Settings, TracerError},
    },
    drilldown::{derived, noun::Noun},
    error::{CHECK_FAILED, Failure, say},
    host::{Finder, PidNs, Scan, Scanner, Selectors, SysRoot, find::FindError},
    model::{Report, Verdict},
    session::{Select, Session},
};

/// How often records of vCPUs that ended are given back.
pub(super) const HOUSEKEEPING: Duration = Duration::from_millis(200);

/// An interval shorter than this, the shortest `--interval`, is not worth a report.
const LEAST_INTERVAL: Duration = Duration::from_millis(1);

/// Room for vCPUs: as many times what there are now, and at least.
const VCPU_RESERVE: u32 = 4;
const LEAST_VCPUS: u32 = 64;
/// Not more than this by default: KVM_MAX_VCPUS of the largest host known to us; 380 MB of kernel memory.
const MOST_VCPUS: u32 = 4096;

/// Rows in the tables of all vCPUs, 64 bytes each: with more vCPUs each gets a smaller table of its own, and shares one.
const MOST_ROWS: u32 = 1 << 20;
/// A vCPU's own table is not made smaller than two to the power of this.
const LEAST_ROW_BITS: u32 = 8;

/// What to trace and how, beyond what all drill-downs share.
pub struct Plan<'a> {
    /// The drill-down.
    pub noun: &'static Noun,
    /// Id of the column by which rows are sorted.
    pub sort: &'a str,
    /// How to learn of events.
    pub source: SourceChoice,
}

/// Traces until told to stop.
///
/// # Errors
///
/// With cause and remedy.
pub fn run(common: &Common, plan: &Plan<'_>) -> anyhow::Result<ExitCode> {
    run_with(common, plan, |_| ())
}

/// As [`run`], with a session prepared by `prepare`.
///
/// # Errors
///
/// With cause and remedy.
pub fn run_with(
    common: &Common,
    plan: &Plan<'_>,
    prepare: impl FnOnce(&mut Session),
) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(trace(common, plan, prepare))
}

async fn trace(
    common: &Common,
    plan: &Plan<'_>,
    prepare: impl FnOnce(&mut Session),
) -> anyhow::Result<ExitCode> {
    // Signals first: one that comes while the programs are being attached must not be lost.
    let mut stop = StopSignals::new()?;
    let mut baseline = Baseline::new(&common.against, plan.noun.name)?;
    let target = able(&common.which)?;
    let mut settings = target.settings(&common.which, plan.noun, plan.source)?;
    let select = target.select;
    let incomparable = incomparable(&common.which);
    let mut session = start(plan, &mut settings, &select, incomparable)?;
    let mut beside = Derived::new(plan, &settings, &select);
    if target.vms > 0 {
        beside.start();
    }
    prepare(&mut session);
    say(format_args!("attached ({}), room for {} vCPUs", session.source().name(), settings.max_vcpus));
    let mut silence = Silence::new(&common.which, plan.noun, &settings.tgids, &select);

    let order = common.look.order(plan.noun, plan.sort);
    let output = common.look.output;
    let mut printer = Printer::new(&common.look);
    let began = Instant::now();
    let mut ticks = interval_at((began + common.interval).into(), common.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut housekeeping = interval_at((began + HOUSEKEEPING).into(), HOUSEKEEPING);
    housekeeping.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let end = common.duration.map(|d| began + d);
    let intervals = !common.summary || output == Output::Json;
    let (mut reports, mut reported) = (0_u32, began);
    loop {
        tokio::select! {
            biased;
            _ = stop.received() => break,
            // Before the end: an interval that ends with the run is reported.
            tick = ticks.tick() => {
                reports += 1;
                reported = tick.into();
                let last = common.count == Some(reports) || end.is_some_and(|end| end <= reported);
                let report = baseline.interval(&mut session, &order)?;
                let mut report = beside.instead(report, &order)?;
                silence.note(&mut report, last);
                if intervals {
                    printer.show(&report)?;
                }
                if last {
                    break;
                }
            }
            () = at(end) => break,
            _ = housekeeping.tick() => {
                session.housekeep().map_err(host_error)?;
                beside.housekeep()?;
                if selected_ended(&common.which, &session) {
                    say("the VM has ended");
                    break;
                }
            }
        }
    }
    // Where no summary follows an interval that was cut short would be lost.
    if intervals && output != Output::Table && common.count != Some(reports) {
        let rest = Instant::now().saturating_duration_since(reported);
        if end.is_none_or(|end| end > reported) && (reports == 0 || rest >= LEAST_INTERVAL) {
            let report = baseline.interval(&mut session, &order)?;
            let mut report = beside.instead(report, &order)?;
            silence.note(&mut report, true);
            printer.show(&report)?;
        }
    }
    let summary = session.summary(&order).map_err(host_error)?;
    let mut summary = beside.instead(summary, &order)?;
    silence.note(&mut summary, true);
    if output == Output::Table || common.summary {
        printer.show(&summary)?;
    }
    let compared = baseline.finish(&mut session, output)?;
    let verdict = verdict(common.strict, &summary);
    Ok(compared.filter(|_| verdict == ExitCode::SUCCESS).unwrap_or(verdict))
}

/// What is to be traced, if this process can trace at all.
pub(super) fn able(which: &Which) -> Result<Target, Failure> {
    // What was typed is judged before the host is; but without privileges not even that can be judged.
    let obstacle = obstacle(&SysRoot::default()).map(blocked);
    if let Some((failure, true)) = obstacle {
        return Err(failure);
    }
    let target = target(which)?;
    match obstacle {
        Some((failure, _)) => Err(failure),
        None => Ok(target),
    }
}

/// Why KVM's statistic is of other exits than these.
pub(super) fn incomparable(which: &Which) -> Option<&'static str> {
    (!which.vcpus.is_empty()).then_some("KVM keeps it per VM, and --vcpu counts only some of its vCPUs")
}

/// Starts a session; where raw tracepoints turn out not to suffice, with classic ones, unless raw ones are demanded.
pub(super) fn start(
    plan: &Plan<'_>,
    settings: &mut Settings,
    select: &Select,
    incomparable: Option<&str>,
) -> Result<Session, Failure> {
    let begin = |settings: &Settings| {
        Session::start(plan.noun, settings, select.clone(), incomparable.map(str::to_owned))
    };
    match begin(settings) {
        // A drill-down that asks for no exits keeps no pending one, which a new vCPU at the same address could inherit.
        // One that only times its events by exits does without times: who accessed what says more.
        Err(TracerError::NoDestroyHook(_))
            if plan.source == SourceChoice::Auto
                && (!settings.exits || settings.mode & mode::IO_TIMES != 0) =>
        {
            let lost = if settings.exits { "no times, and " } else { "" };
            tell(
                plan.noun,
                format_args!(
                    "this kernel cannot tell when it destroys a vCPU (no kprobes): {lost}VMs that one process starts \
                     one after the other may be shown as one"
                ),
            );
            settings.destroy_hook = false;
            if settings.exits {
                settings.exits = false;
                settings.mode &= !(mode::IO_TIMES | mode::LEARN_THREADS);
                settings.events.retain(|(event, ..)| **event != event::USERSPACE_EXIT);
            }
            begin(settings).map_err(host_error)
        }
        Err(error @ TracerError::NoDestroyHook(_)) if plan.source == SourceChoice::Auto => {
            tell(plan.noun, format_args!("using classic tracepoints: {error}"));
            let classic = base_settings(plan.noun, SourceChoice::Tracepoint)?;
            (settings.source, settings.mode) = (classic.source, classic.mode);
            (settings.layout, settings.events) = (classic.layout, classic.events);
            settings.preempt_count = classic.preempt_count;
            begin(settings).map_err(host_error)
        }
        result => result.map_err(host_error),
    }
}

/// The processes of `--pid` are gone, and the last of their vCPUs has been accounted for.
pub(super) fn selected_ended(which: &Which, session: &Session) -> bool {
    !which.pids.is_empty()
        && which.vms.is_empty()
        && session.all_ended() != Some(false)
        && which.pids.iter().all(|pid| {
            use crate::host::{Peek, ProcRoot, process::Stat};
            !matches!(Stat::read(&ProcRoot::default(), *pid), Peek::Seen(stat) if !stat.has_ended())
        })
}

pub(super) async fn at(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end.into()).await,
        None => std::future::pending().await,
    }
}

/// The exit code for a report that is to be beyond doubt if `strict`.
pub(super) fn verdict(strict: bool, summary: &Report) -> ExitCode {
    match summary.proof.verdict() {
        Verdict::Doubtful(doubts) if strict => {
            for doubt in doubts {
                say(format_args!("--strict: {doubt}"));
            }
            ExitCode::from(CHECK_FAILED)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// SIGINT, SIGTERM and SIGHUP, each of which ends a run with its summary.
pub(super) struct StopSignals([Signal; 3]);

/// What asks a run to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// SIGINT: from a terminal all processes of its foreground get it.
    Interrupt,
    /// SIGTERM or SIGHUP, sent to us.
    Terminate,
}

impl StopSignals {
    /// From now on.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    /// Waits for one.
    pub async fn received(&mut self) -> Stop {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => Stop::Interrupt,
            _ = terminate.recv() => Stop::Terminate,
            _ = hangup.recv() => Stop::Terminate,
        }
    }
}

/// Says how a drill-down is traced; for the one beside exits, that was said of these.
fn tell(noun: &Noun, text: impl std::fmt::Display) {
    if !std::ptr::eq(noun, &derived::NOUN) {
        say(text);
    }
}

/// Settings that count every vCPU for a drill-down, through the source that `choice` asks for.
pub(super) fn base_settings(noun: &Noun, choice: SourceChoice) -> Result<Settings, Failure> {
    let resolved = source::resolve(choice, noun.hooks).map_err(Failure::host)?;
    if let Some(why) = &resolved.fallback {
        tell(noun, format_args!("using classic tracepoints, raw ones cannot be used: {why}"));
    }
    let own = PidNs::own(&SysRoot::default().proc())
        .map_err(|e| Failure::host(format!("cannot read /proc/self/ns/pid: {e}; is /proc mounted?")))?;
    Ok(Settings {
        source: resolved.source,
        mode: resolved.mode | noun.mode,
        layout: resolved.globals,
        exits: noun.hooks.contains(&Hook::KvmExit),
        events: resolved.events,
        runs: noun.hooks.contains(&Hook::VcpuRun),
        preempt_count: resolved.preempt_count,
        destroy_hook: true,
        functions: functions(noun),
        row_bits: noun.row_bits,
        counters: noun.counters,
        max_vcpus: LEAST_VCPUS,
        tgids: Vec::new(),
        vcpu_ids: Vec::new(),
        pid_namespace: (!own.is_initial()).then_some((own.dev, own.ino)),
        events_ring: None,
    })
}

fn functions(noun: &Noun) -> Vec<&'static Function> {
    let of = |hook: &Hook| match hook {
        Hook::Function(function) => Some(*function),
        _ => None,
    };
    noun.hooks.iter().filter_map(of).collect()
}

/// Says what keeps this process from tracing, and whether that is a matter of privileges.
pub(super) fn blocked(blocker: Blocker) -> (Failure, bool) {
    let Blocker { item, why, remedy } = blocker;
    let unprivileged = item == "privileges";
    let what = if unprivileged { "" } else { "there is no KVM to trace: " };
    (Failure::host(format!("{what}{why}; {remedy}")), unprivileged)
}

/// What a run is about.
pub(super) struct Target {
    /// VMs on this host.
    pub vms: usize,
    /// Room for vCPUs.
    pub max_vcpus: u32,
    /// What the programs can select themselves.
    pub tgids: Vec<u32>,
    /// What they cannot.
    pub select: Select,
}

impl Target {
    /// Settings for a drill-down of these VMs.
    pub fn settings(&self, which: &Which, noun: &Noun, source: SourceChoice) -> Result<Settings, Failure> {
        let mut settings = Settings {
            max_vcpus: self.max_vcpus,
            tgids: self.tgids.clone(),
            vcpu_ids: which.vcpus.clone(),
            ..base_settings(noun, source)?
        };
        while settings.row_bits > LEAST_ROW_BITS && (settings.max_vcpus + 1) << settings.row_bits > MOST_ROWS
        {
            settings.row_bits -= 1;
        }
        Ok(settings)
    }
}

/// Finds the VMs that are asked for, lets the programs filter where that is possible, and fits the maps to the host.
pub(super) fn target(which: &Which) -> Result<Target, Failure> {
    let proc = SysRoot::default().proc();
    let scan: Scan =
        Scanner::new(proc.clone()).scan().map_err(|e| Failure::host(format!("cannot look for VMs: {e}")))?;
    let max_vcpus = which.max_vcpus.unwrap_or_else(|| {
        let found = u32::try_from(scan.vcpu_count()).unwrap_or(u32::MAX);
        found.saturating_mul(VCPU_RESERVE).clamp(LEAST_VCPUS, MOST_VCPUS.max(found))
    });
    let vms = scan.vms.len();
    let selectors = Selectors { pids: which.pids.clone(), names: which.vms.clone() };
    if selectors.is_empty() {
        return Ok(Target { vms, max_vcpus, tgids: Vec::new(), select: Select::default() });
    }
    let found = Finder::new(selectors).resolve(&scan, &proc);
    for error in found.errors {
        let wait = which.wait && matches!(error, FindError::NoName { .. });
        if wait {
            say(format_args!("{error}; waiting for it"));
        } else if error.needs_privileges() {
            return Err(Failure::host(error));
        } else if matches!(error, FindError::NoName { .. }) {
            return Err(Failure::usage(format!("{error}; --wait waits for it to start")));
        } else {
            return Err(Failure::usage(error));
        }
    }
    let patterns = which.vms.iter().any(|name| crate::host::names::is_glob(name));
    if which.wait || patterns {
        let select = Select { pids: which.pids.clone(), names: which.vms.clone(), ..Select::default() };
        return Ok(Target { vms, max_vcpus, tgids: Vec::new(), select });
    }
    let tgids = found.vms.iter().map(|vm| vm.pid).collect();
    Ok(Target { vms, max_vcpus, tgids, select: Select::default() })
}

pub(super) fn host_error(error: TracerError) -> Failure {
    Failure::host(error)
}
