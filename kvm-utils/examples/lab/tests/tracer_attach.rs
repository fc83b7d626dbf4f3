//! Attaching and detaching while guests run, and what is left behind: nothing.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use kvm_utils::decode::Class;
use kvm_utils::selftest::{Config, Operation, Phase, Plan};
use rustix::process::Signal;

use crate::check;
use crate::reference::{Counter, Scope};
use crate::registry::Context;
use crate::tracer::{Source, Tracer};

tracer_tests! {
    "tracer-attached-amid-exits", 180, attached_amid_exits;
    "tracer-leaves-nothing", 90, leaves_nothing;
}

const VCPUS: u32 = 1;

fn spinning() -> Result<kvm_utils::selftest::Session> {
    let phase = Phase::new("spin", Class::Cpuid, Operation::SpinCpuid, 1);
    let plan = Plan { phases: vec![phase], skipped: Vec::new() };
    let mut session = check::start(&plan, Config { vcpus: VCPUS, ..Config::default() }, Default::default())?;
    session.begin_phase()?;
    Ok(session)
}

/// At least what came while it was surely attached, at most what came while it may have been.
fn attached_amid_exits(context: &Context, source: Source) -> Result<()> {
    const TIMES: usize = 5;
    let host = check::host()?;
    let counter = Counter::all_reasons(&Scope::System, host.isa)?;
    let session = spinning()?;
    for nth in 0..TIMES {
        let before = counter.read()?.total;
        let tracer = Tracer::start(context, source, &[])?;
        let attached = counter.read()?.total;
        let goal = session.executed(0, 0)? + 300;
        while session.executed(0, 0)? < goal {
            std::thread::yield_now();
        }
        let detaching = counter.read()?.total;
        let summary = tracer.stop()?;
        let after = counter.read()?.total;
        let proof = &summary.proof;
        eprintln!("  {nth}: {} >= {} >= {}, {proof:?}", after - before, summary.count, detaching - attached);
        ensure!((detaching - attached..=after - before).contains(&summary.count), "see above: {nth}");
        // Where an exit is seen, its entry is as well; only the exit that goes on at the end has none.
        ensure!(proof.unpaired == 0, "{proof:?}");
        summary.ensure_undoubted()?;
    }
    for vcpu in 0..VCPUS {
        session.stop_spinning(vcpu)?;
    }
    Ok(())
}

fn leaves_nothing(context: &Context, source: Source) -> Result<()> {
    let session = spinning()?;
    let before = Traces::now()?;
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::KILL] {
        let tracer = Tracer::start(context, source, &[])?;
        let goal = session.executed(0, 0)? + 100;
        while session.executed(0, 0)? < goal {
            std::thread::yield_now();
        }
        let during = Traces::now()?;
        ensure!(during.objects["programs"] > before.objects["programs"], "cannot see programs: {during:?}");
        ensure!(during.objects["maps"] > before.objects["maps"], "cannot see maps: {during:?}");
        ensure!(during.pinned == before.pinned, "pinned while it runs: {during:?}");
        tracer.signal(signal)?;
        let run = tracer.finish()?;
        if signal == Signal::KILL {
            ensure!(!run.status.success(), "killed, yet {}", run.status);
        } else {
            run.into_summary()?;
        }
        before.await_again().with_context(|| format!("after {signal:?}"))?;
    }
    Ok(())
}

/// Everything of a tracer that the kernel may keep.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    /// Number of BPF objects of each kind.
    objects: BTreeMap<&'static str, usize>,
    /// Names in the BPF file system.
    pinned: Vec<String>,
    /// Probes that someone defined through tracefs, probes that are armed, and users of the module kvm.
    files: BTreeMap<&'static str, String>,
}

/// Commands of bpf(2): include/uapi/linux/bpf.h.
const KINDS: [(&str, libc::c_int); 4] = [("programs", 11), ("maps", 12), ("btf", 23), ("links", 31)];

/// Some are not there on every kernel; then they say nothing.
const FILES: [&str; 5] = [
    "/sys/kernel/tracing/kprobe_events",
    "/sys/kernel/tracing/events/kvm/kvm_exit/enable",
    "/sys/kernel/tracing/events/kvm/kvm_entry/enable",
    "/sys/kernel/debug/kprobes/list",
    "/sys/module/kvm/refcnt",
];

impl Traces {
    fn now() -> Result<Self> {
        let count = |(kind, command)| {
            Ok((kind, count_objects(command).with_context(|| format!("cannot list BPF {kind}"))?))
        };
        let mut pinned = Vec::new();
        for entry in fs::read_dir("/sys/fs/bpf").into_iter().flatten() {
            pinned.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(Self {
            objects: KINDS.into_iter().map(count).collect::<Result<_>>()?,
            pinned,
            files: FILES.map(|path| (path, fs::read_to_string(path).unwrap_or_default())).into(),
        })
    }

    /// Waits until it is as it was: the kernel frees what a process had some time after its end.
    fn await_again(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let now = Self::now()?;
            if now == *self {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("left behind: {now:?}, was {self:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// How many BPF objects of a kind the kernel has: it hands out their ids one by one.
fn count_objects(command: libc::c_int) -> Result<usize> {
    /// `union bpf_attr` of the commands that ask for the next id.
    #[repr(C)]
    #[derive(Default)]
    struct NextId {
        start: u32,
        next: u32,
        open_flags: u32,
    }
    let mut attr = NextId::default();
    let mut count = 0;
    loop {
        // SAFETY: the attribute is valid for reading and writing its stated size.
        let status = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut attr, size_of::<NextId>()) };
        if status == 0 {
            count += 1;
            attr.start = attr.next;
            continue;
        }
        let error = std::io::Error::last_os_error();
        if error.raw_os_error() == Some(libc::ENOENT) {
            return Ok(count);
        }
        return Err(error.into());
    }
}
