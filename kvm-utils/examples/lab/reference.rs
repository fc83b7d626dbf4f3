//! The count to compare with: kernel perf events on the tracepoint `kvm:kvm_exit`, one per exit reason with a filter,
//! as `perf stat -e kvm:kvm_exit --filter 'exit_reason == N'` does it. Nothing of the tracer under test is involved.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result, bail};
use kvm_utils::decode::{ExitReason, Isa};

const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// `struct perf_event_attr`, its first published size (`PERF_ATTR_SIZE_VER0`): kernel,
/// include/uapi/linux/perf_event.h.
#[repr(C)]
#[derive(Default)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    config1: u64,
}

const PERF_TYPE_TRACEPOINT: u32 = 2;
/// Bit fields of `flags`.
const DISABLED: u64 = 1 << 0;
const INHERIT: u64 = 1 << 1;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;
const PERF_EVENT_IOC_ENABLE: libc::Ioctl = 0x2400;
/// `_IOW('$', 6, char *)` on a 64-bit machine.
const PERF_EVENT_IOC_SET_FILTER: libc::Ioctl = 0x4008_2406;

/// Whose exits are counted.
#[derive(Clone, Debug)]
pub enum Scope {
    /// Those of every guest, on all CPUs.
    System,
    /// Those in these threads, wherever they run, and in threads that they start later.
    Threads(Vec<i32>),
}

/// A counter on one CPU or in one thread.
struct Event {
    fd: OwnedFd,
    /// Exit reason; none: all of them.
    reason: Option<u32>,
    cpu: Option<usize>,
}

/// Running counters.
pub struct Counter {
    events: Vec<Event>,
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All exits.
    pub total: u64,
    /// Exits by reason; reasons that did not occur are left out. What `total` has more is in reasons that nobody asked
    /// for.
    pub reasons: BTreeMap<u32, u64>,
    /// Exits by reason and CPU; empty when threads are counted.
    pub cpus: BTreeMap<(u32, usize), u64>,
}

impl Counts {
    /// What was counted since `before`.
    pub fn since(&self, before: &Self) -> Self {
        fn difference<K: Ord + Copy>(now: &BTreeMap<K, u64>, before: &BTreeMap<K, u64>) -> BTreeMap<K, u64> {
            let one = |(key, count): (&K, &u64)| (*key, count - before.get(key).unwrap_or(&0));
            now.iter().map(one).filter(|(_, count)| *count > 0).collect()
        }
        Self {
            total: self.total - before.total,
            reasons: difference(&self.reasons, &before.reasons),
            cpus: difference(&self.cpus, &before.cpus),
        }
    }

    /// Exits in reasons that were not counted apart.
    pub fn other(&self) -> u64 {
        self.total - self.reasons.values().sum::<u64>()
    }
}

impl Counter {
    /// Counts every reason that has a name for `isa`.
    pub fn all_reasons(scope: &Scope, isa: Isa) -> Result<Self> {
        let reasons: Vec<u32> = ExitReason::all(isa).map(|reason| reason.code).collect();
        Self::open(scope, &reasons)
    }

    /// Counts these reasons and the total, from now on.
    pub fn open(scope: &Scope, reasons: &[u32]) -> Result<Self> {
        raise_file_limit();
        let id = tracepoint_id("kvm_exit")?;
        let places: Vec<(i32, Option<usize>)> = match scope {
            Scope::System => online_cpus()?.into_iter().map(|cpu| (-1, Some(cpu))).collect(),
            Scope::Threads(threads) => threads.iter().map(|&thread| (thread, None)).collect(),
        };
        let mut events = Vec::new();
        for (thread, cpu) in places {
            for reason in reasons.iter().copied().map(Some).chain([None]) {
                let filter = reason.map(|reason| format!("exit_reason == {reason}"));
                events.push(Event { fd: open(id, thread, cpu, filter.as_deref())?, reason, cpu });
            }
        }
        events.iter().try_for_each(|event| enable(&event.fd))?;
        Ok(Self { events })
    }

    /// The counts so far.
    pub fn read(&self) -> Result<Counts> {
        let mut counts = Counts::default();
        for event in &self.events {
            let value = value(&event.fd)?;
            match (event.reason, event.cpu) {
                _ if value == 0 => {}
                (None, _) => counts.total += value,
                (Some(reason), cpu) => {
                    *counts.reasons.entry(reason).or_default() += value;
                    if let Some(cpu) = cpu {
                        *counts.cpus.entry((reason, cpu)).or_default() += value;
                    }
                }
            }
        }
        Ok(counts)
    }
}

/// Counts of any tracepoint of KVM, on the whole system: of all its events, and of those that pass filters.
pub struct EventCounter {
    /// With the position of what it counts: 0 = all events, then the filters.
    events: Vec<(OwnedFd, usize)>,
    filters: usize,
}

impl EventCounter {
    /// Counts `kvm:NAME` from now on, and of its events those that pass each of `filters`, in the language of ftrace
    /// (`write == 1 && ecx == 0x6e0`).
    pub fn new(name: &str, filters: &[&str]) -> Result<Self> {
        raise_file_limit();
        let id = tracepoint_id(name)?;
        let mut events = Vec::new();
        for cpu in online_cpus()? {
            events.push((open(id, -1, Some(cpu), None)?, 0));
            for (index, filter) in filters.iter().enumerate() {
                events.push((open(id, -1, Some(cpu), Some(filter))?, index + 1));
            }
        }
        events.iter().try_for_each(|(fd, _)| enable(fd))?;
        Ok(Self { events, filters: filters.len() })
    }

    /// The counts so far: all events, then those that pass each filter.
    pub fn read(&self) -> Result<Vec<u64>> {
        let mut counts = vec![0; self.filters + 1];
        for (fd, index) in &self.events {
            counts[*index] += value(fd)?;
        }
        Ok(counts)
    }
}

fn enable(fd: &OwnedFd) -> Result<()> {
    // SAFETY: this request takes no argument.
    if unsafe { libc::ioctl(fd.as_raw_fd(), PERF_EVENT_IOC_ENABLE, 0) } < 0 {
        return Err(io::Error::last_os_error()).context("cannot start a perf event");
    }
    Ok(())
}

fn value(fd: &OwnedFd) -> Result<u64> {
    let mut value = [0; 8];
    let mut file = fs::File::from(fd.try_clone()?);
    file.read_exact(&mut value).context("cannot read a perf event")?;
    Ok(u64::from_ne_bytes(value))
}

fn open(id: u64, thread: i32, cpu: Option<usize>, filter: Option<&str>) -> Result<OwnedFd> {
    let attr = PerfEventAttr {
        kind: PERF_TYPE_TRACEPOINT,
        size: size_of::<PerfEventAttr>() as u32,
        config: id,
        flags: DISABLED | if cpu.is_none() { INHERIT } else { 0 },
        ..Default::default()
    };
    let cpu = cpu.map_or(Ok(-1), libc::c_int::try_from)?;
    // SAFETY: the attribute is valid for reading its stated size; the kernel copies it.
    let fd = unsafe {
        libc::syscall(libc::SYS_perf_event_open, &raw const attr, thread, cpu, -1, PERF_FLAG_FD_CLOEXEC)
    };
    if fd < 0 {
        let error = io::Error::last_os_error();
        bail!("perf_event_open on a tracepoint of KVM: {error}; this needs root (or CAP_PERFMON)");
    }
    // SAFETY: a new descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) };
    if let Some(filter) = filter {
        let filter = CString::new(filter)?;
        // SAFETY: the argument is a string that ends in zero.
        if unsafe { libc::ioctl(fd.as_raw_fd(), PERF_EVENT_IOC_SET_FILTER, filter.as_ptr()) } < 0 {
            let error = io::Error::last_os_error();
            bail!("filter {filter:?}: {error}; the kernel needs CONFIG_EVENT_TRACING");
        }
    }
    Ok(fd)
}

fn tracepoint_id(name: &str) -> Result<u64> {
    for root in TRACEFS {
        if let Ok(text) = fs::read_to_string(format!("{root}/events/kvm/{name}/id")) {
            return text.trim().parse().context("the tracepoint's id is no number");
        }
    }
    bail!("no events/kvm/{name} in tracefs: load kvm, and mount -t tracefs t /sys/kernel/tracing");
}

/// The `format` of a tracepoint of KVM.
pub fn format(name: &str) -> Result<String> {
    let read = |root: &str| fs::read_to_string(format!("{root}/events/kvm/{name}/format")).ok();
    TRACEFS.iter().find_map(|root| read(root)).with_context(|| format!("no events/kvm/{name} in tracefs"))
}

/// CPUs from a list such as `0-3,6`.
fn online_cpus() -> Result<Vec<usize>> {
    let list = fs::read_to_string("/sys/devices/system/cpu/online").context("cannot list the CPUs")?;
    let mut cpus = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.parse::<usize>()?..=last.parse::<usize>()?);
    }
    Ok(cpus)
}

/// One descriptor per CPU and reason: more than the usual soft limit on larger machines.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it fails the limit stays, and opening says so.
    let _ = setrlimit(Resource::Nofile, limit);
}
