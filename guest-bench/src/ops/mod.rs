//! The operations as Linux can do them. One file per noun; [`NOUNS`] lists them, and a test holds each file against the
//! list of all operations, [`crate::shared::ops`].

pub(crate) mod clock;
pub(crate) mod clocksource;
mod cpuid;
mod device_memory;
mod fault;
mod helper;
mod hypercall;
mod ipi;
mod jitter;
mod mmio;
pub(crate) mod msr;
mod null;
mod pci;
mod pio;
mod resources;
mod syscall;
pub(crate) mod timer;
mod tlb;
mod wake;
mod witness;

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cpu;
use crate::measure::round::{Details, Round};
use crate::shared::bracket::{self, Sample};
use crate::shared::ops::{self, Op};

/// What to measure: an operation and what it is to be done with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// Name in [`ops::OPS`].
    pub op: String,
    /// Its arguments by name; what is missing has a default.
    #[serde(default)]
    pub args: BTreeMap<String, Value>,
}

impl Spec {
    /// An operation with what is usual.
    pub fn new(op: &str) -> Self {
        Self { op: op.to_owned(), args: BTreeMap::new() }
    }

    /// The same with one argument more.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.args.insert(name.to_owned(), value.into());
        self
    }

    /// A number, given as such or as hexadecimal text.
    ///
    /// # Errors
    /// When there is something else.
    pub fn number(&self, name: &str, default: u64) -> Result<u64, Refusal> {
        let Some(value) = self.args.get(name) else { return Ok(default) };
        let text = value.as_str().and_then(|text| text.strip_prefix("0x"));
        let number = value.as_u64().or_else(|| u64::from_str_radix(text?, 16).ok());
        number.ok_or_else(|| {
            Refusal::new(
                format!("{name} is no number: {value}"),
                "give a number, or 0x and hexadecimal digits",
            )
        })
    }

    /// Text.
    ///
    /// # Errors
    /// When there is something else.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        match self.args.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(value) => Err(Refusal::new(format!("{name} is no text: {value}"), "give a word")),
        }
    }

    /// A switch, off when it is missing.
    pub fn is_set(&self, name: &str) -> bool {
        self.args.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// The CPU on which it is to be done, when it says so itself with `src`.
    ///
    /// # Errors
    /// When that is no number.
    pub fn source(&self) -> Result<Option<usize>, Refusal> {
        self.cpu("src")
    }

    /// The number of a CPU.
    ///
    /// # Errors
    /// When there is something else.
    pub fn cpu(&self, name: &str) -> Result<Option<usize>, Refusal> {
        if !self.args.contains_key(name) {
            return Ok(None);
        }
        let number = self.number(name, 0)?;
        // No kernel has as many CPUs as would not fit.
        Ok(Some(usize::try_from(number).unwrap_or(usize::MAX)))
    }

    /// The name with the arguments: `cpuid leaf=0x1`, `ipi:single 0 -> 1`.
    pub fn title(&self) -> String {
        let mut title = self.op.clone();
        let way = self.args.get("src").zip(self.args.get("dst"));
        if let Some((src, dst)) = way {
            title.push_str(&format!(" {src} -> {dst}"));
        }
        let is_said = |name: &str| way.is_some() && matches!(name, "src" | "dst");
        for (name, value) in self.args.iter().filter(|(name, _)| !is_said(name)) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            title.push_str(&format!(" {name}={value}"));
        }
        title
    }
}

/// Why an operation cannot be measured here, and what would help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{reason}; {hint}")]
pub struct Refusal {
    /// What is missing.
    pub reason: String,
    /// What to do about it.
    pub hint: String,
}

impl Refusal {
    /// A reason and a remedy.
    pub fn new(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: hint.into() }
    }
}

/// Where the measuring thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The CPU that it is pinned to.
    pub cpu: usize,
    /// Frequency of the time-stamp counter, cycles per second.
    pub hz: u64,
    /// Those that it might use before it was pinned, for threads that help.
    pub cpus: CpuSet,
}

impl Place {
    /// On a CPU, for a thread that is not yet pinned.
    ///
    /// # Errors
    /// When the kernel does not say which CPUs the thread may use.
    pub fn new(cpu: usize, hz: u64) -> io::Result<Self> {
        Ok(Self { cpu, hz, cpus: sched_getaffinity(None)? })
    }

    /// The CPUs that may be used, ascending. They need not be contiguous.
    pub fn allowed(&self) -> Vec<usize> {
        cpu::listed(&self.cpus)
    }
}

/// An operation that is ready to be measured by the thread that opened it. Dropping it puts back what it changed.
pub trait Target {
    /// Takes samples, with the operation `repeat` times in each bracket.
    ///
    /// # Errors
    /// When the operation fails; what was sampled before stays.
    fn fill(&mut self, samples: &mut [Sample], repeat: u32) -> Result<(), Refusal>;

    /// Makes a round by itself, for what is not sampled one by one: it stops after so long, or with so many samples. With
    /// None samples are taken with [`Target::fill`].
    fn watch(&mut self, _time: Duration, _samples: u64) -> Option<Result<Round, Refusal>> {
        None
    }

    /// TSC cycles that the way to the operation takes each time, a system call's for one, beside the bracket. They are
    /// taken off each sample. None when samples are no brackets, so that nothing is to be taken off at all.
    fn way(&self) -> Option<u64> {
        Some(0)
    }

    /// Before each round: starts helpers that would disturb the rounds of others.
    ///
    /// # Errors
    /// When they cannot be started.
    fn begin(&mut self) -> Result<(), Refusal> {
        Ok(())
    }

    /// After each round: ends them.
    fn end(&mut self) {}

    /// Whether it sleeps or takes interrupts by itself, so that interrupts do not disturb it.
    fn sleeps(&self) -> bool {
        false
    }

    /// Running totals that show whether the operation happens, by name.
    fn evidence(&mut self) -> BTreeMap<String, u64> {
        BTreeMap::new()
    }

    /// What else there is to say of a round, taken once at its end, before [`Target::end`].
    fn details(&mut self) -> Details {
        Details::default()
    }

    /// Why a round is not to be trusted, seen from what was counted meanwhile for so many operations.
    fn doubt(&self, _operations: u64, _counted: &BTreeMap<String, u64>) -> Option<String> {
        None
    }
}

/// An operation that is ready, or why it is not.
pub type Opened = Result<Box<dyn Target>, Refusal>;

/// One noun.
pub struct Noun {
    /// Its name: the first part of its operations' names.
    pub name: &'static str,
    /// What `all` measures of it, in order.
    pub usual: fn() -> Vec<Spec>,
    /// Prepares an operation on the pinned thread.
    pub open: fn(&Spec, Place) -> Opened,
}

/// How long a thread has slept when it is woken, where nothing else is asked for, microseconds.
pub use wake::SLEEPS as WAKE_SLEEPS_US;

/// Every noun, in the order of reports.
pub const NOUNS: &[Noun] = &[
    null::NOUN,
    cpuid::NOUN,
    hypercall::NOUN,
    pio::NOUN,
    mmio::NOUN,
    msr::NOUN,
    syscall::NOUN,
    clock::NOUN,
    timer::NOUN,
    fault::NOUN,
    jitter::NOUN,
    ipi::NOUN,
    tlb::NOUN,
    wake::NOUN,
];

/// What `all` measures.
pub fn usual() -> Vec<Spec> {
    NOUNS.iter().flat_map(|noun| (noun.usual)()).collect()
}

/// The operation's entry in the list.
///
/// # Errors
/// When there is none.
pub fn find(spec: &Spec) -> Result<&'static Op, Refusal> {
    ops::find(&spec.op).filter(|op| op.in_linux).ok_or_else(|| {
        Refusal::new(format!("there is no operation {:?}", spec.op), "`kvm-bench list` names them")
    })
}

/// Prepares an operation on this thread, which is pinned.
///
/// # Errors
/// When it cannot be measured here.
pub fn open(spec: &Spec, place: Place) -> Opened {
    let noun = find(spec)?.noun();
    let noun = NOUNS.iter().find(|one| one.name == noun);
    let noun = noun.ok_or_else(|| Refusal::new(format!("{} has no code", spec.op), "report this"))?;
    (noun.open)(spec, place)
}

/// Source and target of an operation between two CPUs, for what is asked for; `numa` is `within`, `across` or `any`. None
/// when there is no such pair.
pub fn pair(allowed: &[usize], src: usize, dst: Option<usize>, numa: &str) -> Option<(usize, usize)> {
    ipi::pair(allowed, src, dst, numa)
}

/// Times a function that does the operation once.
#[inline(always)]
pub fn fill(samples: &mut [Sample], repeat: u32, mut operation: impl FnMut()) {
    if repeat == 1 {
        for sample in samples {
            *sample = bracket::time(&mut operation);
        }
        return;
    }
    for sample in samples {
        *sample = bracket::time(|| (0..repeat).for_each(|_| operation()));
    }
}

/// An operation that is nothing but a function.
pub struct Simple<F>(pub F);

impl<F: FnMut()> Target for Simple<F> {
    fn fill(&mut self, samples: &mut [Sample], repeat: u32) -> Result<(), Refusal> {
        fill(samples, repeat, &mut self.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::ops::Care;

    #[test]
    fn numbers_are_decimal_or_hexadecimal() {
        let spec = Spec::new("cpuid").with("leaf", "0x4000000a").with("other", 12).with("bad", "x");
        assert_eq!(spec.number("leaf", 0), Ok(0x4000_000a));
        assert_eq!(spec.number("other", 0), Ok(12));
        assert_eq!(spec.number("none", 7), Ok(7));
        assert!(spec.number("bad", 0).is_err());
        assert_eq!(spec.title(), "cpuid bad=x leaf=0x4000000a other=12");
        let spec = Spec::new("ipi:single").with("src", 0).with("dst", 1).with("via", "perf");
        assert_eq!(spec.title(), "ipi:single 0 -> 1 via=perf");
    }

    #[test]
    fn what_is_usual_is_in_the_list() {
        for spec in usual() {
            let op = find(&spec).unwrap();
            assert!(NOUNS.iter().any(|noun| noun.name == op.noun()), "{}", op.name);
            assert_eq!(op.care, Care::Safe, "{}: it takes a flag", op.name);
        }
    }
}
