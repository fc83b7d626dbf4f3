//! Chooses how to learn of exits, by what the kernel has.

use std::{fs, path::Path};

use clap::ValueEnum;
use kvm_utils_common::config::{EXIT_RECORD_BYTES, NONE, mode};

use super::{
    event::{self, Event, How},
    hook::Hook,
    layout::{
        BtfFiles, EntryFormat, ExitFormat, ExitLayout, LayoutError, PreemptCount, ReasonAt, SwitchLayout,
        ThreadLayout, files::SYS_KERNEL_BTF, have_arguments, may_be_preempted,
    },
    tracer::Source,
};
use crate::error::debugging;

/// What `--source` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SourceChoice {
    /// Raw tracepoints where BTF tells the offsets, else classic ones
    Auto,
    /// Raw tracepoints or nothing
    Raw,
    /// Classic tracepoints
    Tracepoint,
}

/// What `--source` of msr and wrmsr says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MsrSourceChoice {
    /// The tracepoint kvm_msr: raw where BTF tells the offsets, else classic
    Auto,
    /// The raw tracepoint or nothing
    Raw,
    /// The classic tracepoint
    Tracepoint,
    /// The tracepoint, and beside it kprobes on KVM's functions: which writes were the VMM's or took the fast path
    Kprobe,
}

/// Names and values of the programs' globals; see kvm-utils-ebpf/src/globals.rs.
pub type Globals = Vec<(&'static str, u32)>;

/// Events that feed drill-downs, how they are attached, and what their programs must be told.
pub type Events = Vec<(&'static Event, How, u64)>;

/// A source that this kernel has.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Which.
    pub source: Source,
    /// Switches, [`mode`].
    pub mode: u32,
    /// Where things lie.
    pub globals: Globals,
    /// Events asked for.
    pub events: Events,
    /// How programs tell that they run in an interrupt, where it matters and can be known.
    pub preempt_count: Option<PreemptCount>,
    /// Why it is not the preferred one.
    pub fallback: Option<String>,
}

/// Why there is no source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No tracefs.
    #[error(
        "tracefs is not mounted, without which exits cannot be seen on this kernel; mount it: \
         mount -t tracefs tracefs /sys/kernel/tracing"
    )]
    NoTracefs,
    /// tracefs may not be read.
    #[error("not allowed to read {0}: run as root, or with CAP_BPF, CAP_PERFMON and CAP_DAC_READ_SEARCH")]
    Denied(String),
    /// KVM has no tracepoints here.
    #[error(
        "this kernel has no tracepoint kvm:{0}: KVM is not loaded (modprobe kvm_intel or kvm_amd), or was built \
         without tracing"
    )]
    NoEvent(&'static str),
    /// A tracepoint's format is of no use.
    #[error("cannot use the tracepoint kvm:{event}: {reason}")]
    Format {
        /// The tracepoint.
        event: &'static str,
        /// Why.
        reason: String,
    },
    /// Raw tracepoints were demanded.
    #[error("raw tracepoints cannot be used: {}; leave out --source raw: classic ones work as well", told(.0))]
    Raw(#[source] LayoutError),
}

/// One line, or all there is to say.
fn told(error: &LayoutError) -> String {
    if debugging() { error.to_string() } else { error.brief() }
}

/// Finds the source that `choice` asks for, for programs at these hooks.
///
/// # Errors
///
/// See [`SourceError`].
pub fn resolve(choice: SourceChoice, hooks: &[Hook]) -> Result<Resolved, SourceError> {
    // Raw tracepoints need no tracefs.
    let btf = || BtfFiles::read(Path::new(SYS_KERNEL_BTF));
    let raw = || btf().and_then(|files| raw(&files, hooks).map(|resolved| (files, resolved)));
    let (mut resolved, files) = match (choice, raw) {
        (SourceChoice::Tracepoint, _) => (classic(&kvm_events()?, None)?, None),
        (SourceChoice::Raw, raw) => {
            let (files, resolved) = raw().map_err(SourceError::Raw)?;
            (resolved, Some(files))
        }
        (SourceChoice::Auto, raw) => match raw() {
            Ok((files, resolved)) => (resolved, Some(files)),
            Err(error) => (classic(&kvm_events()?, Some(told(&error)))?, None),
        },
    };
    let event = |hook: &Hook| if let Hook::Event(event) = hook { Some(*event) } else { None };
    let events: Vec<&'static Event> =
        hooks.iter().filter_map(event).filter(|event| event.group() == "kvm").collect();
    let prototypes: Vec<_> = events.iter().map(|event| (event.name, event.arguments)).collect();
    // KVM fires these events where it may be preempted. With classic programs preemption is off, and none is lost. Where
    // there are no events, as for exits, the kernel's BTF is not parsed again for nothing.
    let sure =
        files.as_ref().filter(|files| !prototypes.is_empty() && !may_be_preempted(files).unwrap_or(true));
    let raw = sure.and_then(|files| have_arguments(files, &prototypes).ok());
    for (index, event) in events.into_iter().enumerate() {
        let raw = raw.as_ref().is_some_and(|raw| raw.get(index) == Some(&true));
        match attachable(event, raw) {
            Err(SourceError::NoEvent(_)) if event.optional => {}
            found => resolved.events.push(found?),
        }
    }
    if resolved.events.iter().any(|(event, ..)| event.in_interrupts()) {
        resolved.preempt_count = PreemptCount::find(Path::new(SYS_KERNEL_BTF));
    }
    if hooks.contains(&Hook::Event(&event::SCHED_SWITCH)) {
        // The scheduler is part of the kernel proper, whose BTF there may be without that of modules.
        let files = files.or_else(|| btf().ok()).filter(|_| choice != SourceChoice::Tracepoint);
        scheduler(&mut resolved, files.as_ref())?;
    }
    if !resolved.events.is_empty() && resolved.source == Source::Tracepoint {
        resolved.mode |= mode::BY_THREAD | mode::LEARN_THREADS;
    }
    Ok(resolved)
}

/// How an event is attached: raw if BTF says that it has the prototype that the raw program is made for.
fn attachable(event: &'static Event, raw: bool) -> Result<(&'static Event, How, u64), SourceError> {
    if raw {
        return Ok((event, How::Raw, 0));
    }
    let descriptors = event
        .descriptors(&format(&kvm_events()?, event.name)?)
        .map_err(|e| SourceError::Format { event: event.name, reason: e.to_string() })?;
    Ok((event, How::Classic, descriptors))
}

/// How the scheduler's events are attached: both raw, so that threads are known by their `task_struct`, or both classic.
fn scheduler(resolved: &mut Resolved, files: Option<&BtfFiles>) -> Result<(), SourceError> {
    let wakeup = &event::SCHED_WAKEUP;
    let raw = files
        .filter(|files| {
            let fits = have_arguments(files, &[(wakeup.name, wakeup.arguments)]);
            fits.is_ok_and(|fits| fits == [true])
        })
        .and_then(|files| SwitchLayout::find(files).ok());
    let events = [&event::SCHED_SWITCH, wakeup];
    if let Some(layout) = raw {
        resolved.mode |= mode::TASKS_BY_ADDRESS;
        if let SwitchLayout::StateAt(at) = layout {
            resolved.globals.push(("TASK_STATE", at));
        }
        resolved.events.extend(events.map(|event| (event, How::Raw, 0)));
        return Ok(());
    }
    for event in events {
        let directory = tracefs_events("sched", event.name)?;
        let bad =
            |e: super::layout::FormatError| SourceError::Format { event: event.name, reason: e.to_string() };
        let descriptors = event.descriptors(&format(&directory, event.name)?).map_err(bad)?;
        resolved.events.push((event, How::Classic, descriptors));
    }
    Ok(())
}

/// The `format` of an event.
fn format(events: &Path, event: &'static str) -> Result<String, SourceError> {
    let path = events.join(event).join("format");
    fs::read_to_string(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => SourceError::Denied(path.display().to_string()),
        _ => SourceError::NoEvent(event),
    })
}

fn classic(events: &Path, fallback: Option<String>) -> Result<Resolved, SourceError> {
    Ok(Resolved {
        source: Source::Tracepoint,
        mode: 0,
        globals: classic_globals(&format(events, "kvm_exit")?, &format(events, "kvm_entry")?)?,
        events: Vec::new(),
        preempt_count: None,
        fallback,
    })
}

/// The directory of KVM's events in tracefs, wherever that is mounted.
fn kvm_events() -> Result<std::path::PathBuf, SourceError> {
    tracefs_events("kvm", "kvm_exit")
}

/// The directory of a group of events, which must have this one.
fn tracefs_events(group: &str, event: &'static str) -> Result<std::path::PathBuf, SourceError> {
    let mut mounted = false;
    // /sys/kernel/debug/tracing mounts itself when it is looked at.
    for tracefs in ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"] {
        let events = Path::new(tracefs).join("events");
        match fs::metadata(&events) {
            Ok(_) => mounted = true,
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(SourceError::Denied(tracefs.to_owned()));
            }
            Err(_) => continue,
        }
        let group = events.join(group);
        if group.join(event).exists() {
            return Ok(group);
        }
    }
    Err(if mounted { SourceError::NoEvent(event) } else { SourceError::NoTracefs })
}

fn raw(files: &BtfFiles, hooks: &[Hook]) -> Result<Resolved, LayoutError> {
    // Where exits only time other events, a KVM without them is no reason to know those less well.
    let exits_only = !hooks.iter().any(|hook| matches!(hook, Hook::Event(_)));
    let layout = if hooks.contains(&Hook::KvmExit) && exits_only {
        ExitLayout::find(files)?
    } else {
        ExitLayout::without_reasons(files)?
    };
    let unknown = |event| LayoutError::UnknownPrototype { event, arguments: Vec::new() };
    // The forms that the programs can read; see kvm-utils-ebpf/src/hook.
    let by_value = match (layout.exit.reason, layout.exit.vcpu, layout.exit.isa) {
        (None, 0, 1) => 0,
        (Some(0), 1, 2) => mode::REASON_BY_VALUE,
        _ => return Err(unknown("kvm_exit")),
    };
    let entry_second = match layout.entry_vcpu {
        Some(0) => 0,
        Some(1) => mode::ENTRY_VCPU_SECOND,
        _ => return Err(unknown("kvm_entry")),
    };
    let mut globals = vec![
        ("VCPU_KVM", layout.vcpu.kvm),
        ("VCPU_ID", layout.vcpu.vcpu_id),
        ("VCPU_STAT_EXITS", layout.vcpu.stat_exits.unwrap_or(NONE)),
    ];
    if let Ok(ReasonAt::InVcpu { offset }) = layout.vmx {
        globals.push(("VMX_EXIT_REASON", offset));
    }
    if let Ok(ReasonAt::InVmcb { vmcb, exit_code, .. }) = layout.svm {
        globals.push(("SVM_VMCB", vmcb));
        globals.push(("VMCB_EXIT_CODE", exit_code));
    }
    if hooks.iter().any(|hook| matches!(hook, Hook::Event(_) | Hook::Function(_))) {
        let thread = ThreadLayout::find(files)?;
        if let Some((index, host)) = thread.msr_data {
            globals.extend([("MSR_DATA_INDEX", index), ("MSR_DATA_HOST", host)]);
        } else if hooks.iter().any(|hook| matches!(hook, Hook::Function(_))) {
            return Err(LayoutError::NoBtf { path: format!("{SYS_KERNEL_BTF}/kvm (struct msr_data)") });
        }
        globals.extend([
            ("TASK_NOTIFIERS", thread.task_notifiers),
            ("VCPU_NOTIFIER", thread.vcpu_notifier),
            ("VCPU_TSC_OFFSET", thread.tsc_offset.unwrap_or(NONE)),
            ("VCPU_TSC_RATIO", thread.tsc_ratio.unwrap_or(NONE)),
            ("VCPU_MP_STATE", thread.mp_state.unwrap_or(NONE)),
            ("VCPU_POLL_SUCCESS", thread.poll_success.unwrap_or(NONE)),
            ("VCPU_POLL_FAIL", thread.poll_fail.unwrap_or(NONE)),
            ("VCPU_POLL_WINDOW", thread.poll_window.unwrap_or(NONE)),
        ]);
        // Together or not at all.
        if let (Some(attempted), Some(successful), Some(_), Some(_)) =
            (thread.poll_attempted, thread.poll_successful, thread.poll_success, thread.poll_fail)
        {
            globals.push(("VCPU_POLL_ATTEMPTED", attempted));
            globals.push(("VCPU_POLL_SUCCESSFUL", successful));
        }
    }
    let mode = by_value | entry_second;
    Ok(Resolved {
        source: Source::Raw,
        mode,
        globals,
        events: Vec::new(),
        preempt_count: None,
        fallback: None,
    })
}

fn classic_globals(exit: &str, entry: &str) -> Result<Globals, SourceError> {
    let bad = |event: &'static str, reason: String| SourceError::Format { event, reason };
    let exit = ExitFormat::parse(exit).map_err(|e| bad("kvm_exit", e.to_string()))?;
    let entry = EntryFormat::parse(entry).map_err(|e| bad("kvm_entry", e.to_string()))?;
    // Before 5.4 the exit does not say which vCPU it is; a thread then stands for one vCPU, whatever its id.
    let (exit_id, entry_id) = match exit.vcpu_id {
        Some(id) => (id.offset, entry.vcpu_id.offset),
        None => (NONE, NONE),
    };
    for (name, at) in
        [("exit_reason", exit.exit_reason.offset), ("isa", exit.isa.offset), ("vcpu_id", exit_id)]
    {
        if at != NONE && at as usize + 4 > EXIT_RECORD_BYTES {
            return Err(bad(
                "kvm_exit",
                format!("{name} lies at byte {at}, further than this version reads"),
            ));
        }
    }
    Ok(vec![
        ("EXIT_REASON_AT", exit.exit_reason.offset),
        ("EXIT_ISA_AT", exit.isa.offset),
        ("EXIT_VCPU_ID_AT", exit_id),
        ("ENTRY_VCPU_ID_AT", entry_id),
    ])
}
