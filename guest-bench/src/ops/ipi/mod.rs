//! Interrupts from one CPU to others. One file per shape; [`way`] has the means, [`place`] chooses CPUs.

mod crowd;
mod matrix;
mod place;
mod single;
mod way;

use super::{Noun, Opened, Place, Refusal, Spec};
use crate::numa::Nodes;
use place::Numa;
use way::{Via, Way};

pub(super) const NOUN: Noun = Noun { name: "ipi", usual, open };

fn usual() -> Vec<Spec> {
    ["self", "single", "halted", "mesh", "broadcast"].map(|one| Spec::new(&format!("ipi:{one}"))).into()
}

fn open(spec: &Spec, place: Place) -> Opened {
    match spec.op.as_str() {
        "ipi:self" => single::open_self(spec, place),
        "ipi:single" => single::open(spec, place, false),
        "ipi:halted" => single::open(spec, place, true),
        "ipi:mesh" => crowd::open_mesh(spec, place),
        "ipi:broadcast" => crowd::open_broadcast(spec, place),
        "ipi:matrix" => matrix::open(spec, place),
        _ => Err(Refusal::new(format!("{} has no code", spec.op), "report this")),
    }
}

/// The way asked for, if any.
fn via(spec: &Spec) -> Result<Option<Via>, Refusal> {
    let Some(name) = spec.text("via")? else { return Ok(None) };
    Via::named(name).map(Some).ok_or_else(|| {
        let names = Via::ALL.map(Via::name).join(", ");
        Refusal::new(format!("via={name} is not known"), format!("give one of {names}"))
    })
}

fn numa(spec: &Spec) -> Result<Numa, Refusal> {
    spec.text("numa")?.map_or(Ok(Numa::default()), Numa::named)
}

/// The way from here to a CPU: the one asked for, else the first that is there.
fn way(spec: &Spec, dst: usize, is_running: bool) -> Result<Way, Refusal> {
    let wait = !spec.is_set("no_wait");
    match via(spec)? {
        Some(via) if !wait && via != Via::Signal => Err(Refusal::new(
            format!("via={} waits for the answer by itself", via.name()),
            "leave --no-wait or --via away",
        )),
        Some(Via::Signal) if !is_running => Err(Refusal::new(
            "a signal goes to a thread, and a halted CPU runs none",
            "use --via perf, or wake:futex",
        )),
        Some(via) => Way::open(via, dst, wait),
        None if !wait && !is_running => Err(Refusal::new(
            "without waiting only a CPU that runs can be interrupted from user space",
            "leave --no-wait or --halted away",
        )),
        None if !wait => Way::open(Via::Signal, dst, false),
        None => Way::choose(dst, is_running),
    }
}

/// The target of a pair.
fn target(spec: &Spec, place: Place) -> Result<usize, Refusal> {
    place::target(&place.allowed(), &Nodes::here(), place.cpu, spec.cpu("dst")?, numa(spec)?)
}

/// What a round says when the kernel refuses in its middle.
fn failed(via: Via) -> Refusal {
    Refusal::new(
        format!("{} failed: {}", via.about(), std::io::Error::last_os_error()),
        "see whether the target went offline",
    )
}

/// Source and target for what is asked for; None when there is no such pair.
pub(super) fn pair(allowed: &[usize], src: usize, dst: Option<usize>, numa: &str) -> Option<(usize, usize)> {
    let numa = Numa::named(numa).ok()?;
    place::target(allowed, &Nodes::here(), src, dst, numa).ok().map(|dst| (src, dst))
}
