//! What the kernel answers when asked by system call.

use std::{ffi::CStr, io, os::fd::OwnedFd};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{
    filesystems,
    syscalls::{self, Errno, ProgramType},
};
use crate::{bpf::object::VCPU_DESTROY_SYMBOL, host::SysRoot};

/// The tracepoints that exits are counted with.
pub const HOOKS: [&str; 2] = ["kvm_exit", "kvm_entry"];

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It works.
    Yes,
    /// The kernel refused with this errno.
    No(i32),
    /// The question could not be put, and why.
    NotAsked(String),
}

impl Answer {
    /// Whether it works.
    #[must_use]
    pub fn is_yes(&self) -> bool {
        *self == Self::Yes
    }

    fn of<T>(result: Result<T, Errno>) -> Self {
        result.map_or_else(Self::No, |_| Self::Yes)
    }

    /// The refusal in words; `None` if there was none.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        match self {
            Self::Yes => None,
            Self::No(errno) => Some(describe(*errno)),
            Self::NotAsked(why) => Some(why.clone()),
        }
    }
}

/// What an errno means, in words.
pub(super) fn describe(errno: Errno) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// All answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    /// Load a program of two instructions, for raw tracepoints.
    pub raw_program: Answer,
    /// The same for classic tracepoints.
    pub tracepoint_program: Answer,
    /// Load a program that calls bpf_probe_read_kernel.
    pub read_kernel: Answer,
    /// Make an array that can be mapped into memory.
    pub mappable_array: Answer,
    /// Lock more memory than RLIMIT_MEMLOCK allows, after this process tried to raise it.
    pub memory: Answer,
    /// The limit before, in bytes; `None` is unlimited.
    pub memory_limit: Option<u64>,
    /// Attach to the raw tracepoint, for each of [`HOOKS`].
    pub raw_hooks: [Answer; 2],
    /// Attach to the classic tracepoint, for each of [`HOOKS`].
    pub tracepoint_hooks: [Answer; 2],
    /// Attach to the function that ends a vCPU.
    pub destroy_hook: Answer,
}

impl Answers {
    /// The same answer to all questions.
    #[must_use]
    pub fn uniform(answer: &Answer) -> Self {
        let same = || answer.clone();
        Self {
            raw_program: same(),
            tracepoint_program: same(),
            read_kernel: same(),
            mappable_array: same(),
            memory: same(),
            memory_limit: None,
            raw_hooks: [same(), same()],
            tracepoint_hooks: [same(), same()],
            destroy_hook: same(),
        }
    }

    /// Programs cannot be loaded for this reason, so nothing else was asked.
    #[must_use]
    pub fn refused(errno: i32) -> Self {
        let not_asked = Answer::NotAsked("programs cannot be loaded".to_owned());
        Self { raw_program: Answer::No(errno), ..Self::uniform(&not_asked) }
    }

    /// Asks only whether programs can be loaded. Raises this process's RLIMIT_MEMLOCK as far as it may.
    #[must_use]
    pub fn ask_programs(root: &SysRoot) -> Self {
        if !root.is_live() {
            return Self::uniform(&Answer::NotAsked("these are not the running kernel's files".to_owned()));
        }
        let memory_limit = raise_memory_limit();
        let raw_program = Answer::of(syscalls::load(ProgramType::RawTracepoint, &syscalls::nothing()));
        let not_asked = Answer::NotAsked("nobody asked".to_owned());
        Self { raw_program, memory_limit, ..Self::uniform(&not_asked) }
    }

    /// Asks the kernel. Raises this process's RLIMIT_MEMLOCK as far as it may.
    #[must_use]
    pub fn ask(root: &SysRoot) -> Self {
        if !root.is_live() {
            return Self::uniform(&Answer::NotAsked("these are not the running kernel's files".to_owned()));
        }
        let memory_limit = raise_memory_limit();
        let program = match syscalls::load(ProgramType::RawTracepoint, &syscalls::nothing()) {
            Ok(program) => program,
            Err(errno) => {
                return Self { memory_limit, ..Self::refused(errno) };
            }
        };
        let tracepoint = syscalls::load(ProgramType::Tracepoint, &syscalls::nothing());
        Self {
            raw_program: Answer::Yes,
            read_kernel: Answer::of(syscalls::load(ProgramType::RawTracepoint, &syscalls::read_kernel())),
            mappable_array: Answer::of(syscalls::create_array(8, 1, syscalls::MAPPABLE)),
            memory: beyond_memory_limit(),
            memory_limit,
            raw_hooks: [c"kvm_exit", c"kvm_entry"]
                .map(|hook| Answer::of(syscalls::attach_raw(hook, &program))),
            tracepoint_hooks: HOOKS.map(|hook| attach_tracepoint(root, hook, tracepoint.as_ref())),
            tracepoint_program: Answer::of(tracepoint),
            destroy_hook: attach_kprobe(root),
        }
    }
}

fn attach_tracepoint(root: &SysRoot, hook: &str, program: Result<&OwnedFd, &Errno>) -> Answer {
    let program = match program {
        Ok(program) => program,
        Err(errno) => return Answer::No(*errno),
    };
    let id = filesystems::kvm_events(root)
        .map_err(|error| error.to_string())
        .and_then(|events| {
            std::fs::read_to_string(events.join(hook).join("id")).map_err(|error| error.to_string())
        })
        .and_then(|id| id.trim().parse().map_err(|_| "its id is no number".to_owned()));
    match id {
        Ok(id) => Answer::of(syscalls::attach_tracepoint(id, program)),
        Err(error) => Answer::NotAsked(error),
    }
}

/// The file that says which kind of perf event a kprobe is; missing without CONFIG_KPROBE_EVENTS.
const KPROBE_PMU: &str = "/sys/bus/event_source/devices/kprobe/type";

fn attach_kprobe(root: &SysRoot) -> Answer {
    let Some(pmu) = root.text(KPROBE_PMU).ok().and_then(|text| text.parse().ok()) else {
        return Answer::NotAsked("this kernel has no kprobes (CONFIG_KPROBE_EVENTS)".to_owned());
    };
    let Ok(function) = std::ffi::CString::new(VCPU_DESTROY_SYMBOL) else { return Answer::No(libc::EINVAL) };
    let attach = |function: &CStr| {
        let program = syscalls::load(ProgramType::Kprobe, &syscalls::nothing())?;
        syscalls::attach_kprobe(pmu, function, &program)
    };
    Answer::of(attach(&function))
}

/// Lifts the limit, or at least takes it to where this process may. Returns what it was.
fn raise_memory_limit() -> Option<u64> {
    let before = getrlimit(Resource::Memlock);
    if setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None }).is_err() {
        // Only root may go beyond the hard limit; staying below is then judged by `beyond_memory_limit`.
        let _ = setrlimit(Resource::Memlock, Rlimit { current: before.maximum, maximum: before.maximum });
    }
    before.current
}

/// Up to 5.10 the memory of maps counts against RLIMIT_MEMLOCK, later against the memory cgroup. A map larger than the
/// limit tells which; with a limit above this many bytes it does not matter.
const ENOUGH: u64 = 64 << 20;

fn beyond_memory_limit() -> Answer {
    match getrlimit(Resource::Memlock).current {
        Some(limit) if limit < ENOUGH => {
            let entries = u32::try_from(limit / 8 + 4096).unwrap_or(u32::MAX);
            Answer::of(syscalls::create_array(8, entries, 0))
        }
        _ => Answer::Yes,
    }
}
