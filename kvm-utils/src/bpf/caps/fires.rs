//! Whether running guests make kvm_exit fire.
//!
//! That a tracepoint exists does not mean that it is ever called: a KVM that is not part of Linux may share KVM's
//! events and not use them all. A program on kvm_exit that only counts is held against KVM's own statistic, and against
//! events that nothing but an exit can cause.

use std::{
    io,
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};

use super::{
    answers::describe,
    item::{Group, Item, Support},
    syscalls::{self, Errno, ProgramType},
};
use crate::host::{KvmStat, PidNs, Scanner, SysRoot};

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fires {
    /// It fired.
    Seen {
        /// So often,
        count: u64,
        /// within this time.
        within: Duration,
    },
    /// KVM counted exits, none of which fired it.
    Never {
        /// Exits by KVM's own count.
        exits: u64,
        /// Within this time.
        within: Duration,
    },
    /// Guests caused other events that come with exits, but it did not fire; KVM's count could not be read.
    Doubtful {
        /// Other events.
        others: u64,
        /// Within this time.
        within: Duration,
    },
    /// No guest ran.
    Idle {
        /// Within this time.
        within: Duration,
    },
    /// It could not be watched, or nobody asked for it.
    NotWatched {
        /// The cause.
        why: String,
        /// What to do about it.
        remedy: &'static str,
    },
}

/// What makes exits of its own and sees whether they are counted.
const SELFTEST: &str = "run kvm-utils selftest";

impl Fires {
    pub(super) fn not_watched(why: impl Into<String>) -> Self {
        Self::NotWatched { why: why.into(), remedy: SELFTEST }
    }

    pub(super) fn item(&self) -> Item {
        let (support, detail) = match self {
            Self::Seen { count, within } => {
                (Support::Full, format!("fired {count} times within {within:.0?}"))
            }
            Self::Never { exits, within } => (
                Support::no(
                    format!(
                        "KVM counted {exits} exits within {within:.0?} and kvm_exit never fired: this KVM does not trace them"
                    ),
                    "run a KVM that is part of Linux; selftest shows which other events it has",
                ),
                String::new(),
            ),
            Self::Doubtful { others, within } => (
                Support::unknown(
                    format!("guests caused {others} other KVM events within {within:.0?}, but not kvm_exit"),
                    SELFTEST,
                ),
                String::new(),
            ),
            Self::Idle { within } => {
                (Support::unknown(format!("no guest ran within {within:.0?}"), SELFTEST), String::new())
            }
            Self::NotWatched { why, remedy } => (Support::unknown(why.clone(), *remedy), String::new()),
        };
        Item::new(Group::Hooks, "fires", "kvm_exit fires", support, detail)
    }
}

/// Events that come only of an exit: a guest's instructions that KVM carries out. In the first milliseconds of a guest
/// on an old Intel CPU KVM emulates without exits, so they are no proof.
const OTHERS: [&std::ffi::CStr; 4] = [c"kvm_cpuid", c"kvm_msr", c"kvm_pio", c"kvm_hypercall"];

/// How long to wait between looks at the counter.
const LOOK: Duration = Duration::from_millis(10);

/// Watches for `window`, or until it fires.
pub(super) fn watch(root: &SysRoot, window: Duration) -> Fires {
    if !root.is_live() {
        return Fires::not_watched("these are not the running kernel's files");
    }
    // Any vCPU may be between its event and KVM's count of it, at either end of the window.
    let vcpus = Scanner::new(root.proc()).scan().map_or(0, |scan| scan.vcpu_count()) as u64;
    let counters = Counter::start(&[c"kvm_exit"]).and_then(|exit| Ok((exit, Counter::start(&OTHERS)?)));
    let (exit, others) = match counters {
        Ok(counters) => counters,
        Err(errno) => {
            return match errno {
                libc::ENOENT => Fires::NotWatched {
                    why: "there is no such tracepoint now".to_owned(),
                    remedy: "load KVM (see vendor module)",
                },
                errno => Fires::not_watched(format!("kvm_exit cannot be watched: {}", describe(errno))),
            };
        }
    };
    let initial = PidNs::own(&root.proc()).is_ok_and(PidNs::is_initial);
    let stat = KvmStat::new(root, initial);
    let began = Instant::now();
    let before = stat.host_exits();
    while exit.count() == 0 && began.elapsed() < window {
        // The window is what is measured; this only bounds how long the answer is known before it is given.
        thread::sleep(LOOK);
    }
    let after = stat.host_exits();
    let exits = before.ok().zip(after.ok());
    judge(exit.count(), exits, vcpus, others.count(), began.elapsed())
}

/// How often kvm_exit fires while `work` is done, on the whole host, and what `work` gives. It needs nothing of the
/// kernel but the raw tracepoint.
///
/// # Errors
///
/// Why kvm_exit cannot be watched; `work` is then not done.
pub fn fired_during<T>(work: impl FnOnce() -> T) -> io::Result<(u64, T)> {
    let exit = Counter::start(&[c"kvm_exit"]).map_err(io::Error::from_raw_os_error)?;
    let done = work();
    Ok((exit.count(), done))
}

/// What it means that within a time kvm_exit fired `count` times and other events `others` times, while KVM's own
/// count went from and to `exits` and there were so many `vcpus`.
fn judge(count: u64, exits: Option<(u64, u64)>, vcpus: u64, others: u64, within: Duration) -> Fires {
    // KVM's count falls when a VM ends.
    let exits = exits.map(|(before, after)| after.saturating_sub(before));
    match exits {
        _ if count > 0 => Fires::Seen { count, within },
        Some(exits) if exits > vcpus => Fires::Never { exits, within },
        None if others > 0 => Fires::Doubtful { others, within },
        _ => Fires::Idle { within },
    }
}

/// A program that counts how often tracepoints fire, for as long as it lives.
struct Counter {
    map: OwnedFd,
    _attached: Vec<OwnedFd>,
}

impl Counter {
    fn start(tracepoints: &[&std::ffi::CStr]) -> Result<Self, Errno> {
        let map = syscalls::create_array(8, 1, 0)?;
        let program = syscalls::load(ProgramType::RawTracepoint, &syscalls::count_in(&map))?;
        let attached =
            tracepoints.iter().map(|name| syscalls::attach_raw(name, &program)).collect::<Result<_, _>>()?;
        Ok(Self { map, _attached: attached })
    }

    fn count(&self) -> u64 {
        syscalls::first_element(&self.map).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_millis(200);

    #[test]
    fn what_was_seen_is_judged() {
        assert_eq!(judge(3, None, 1, 0, WITHIN), Fires::Seen { count: 3, within: WITHIN });
        assert_eq!(judge(3, Some((10, 10)), 1, 9, WITHIN), Fires::Seen { count: 3, within: WITHIN });
        assert_eq!(judge(0, Some((10, 70)), 2, 9, WITHIN), Fires::Never { exits: 60, within: WITHIN });
        // Two vCPUs that were just between the event and KVM's count of it.
        assert_eq!(judge(0, Some((10, 12)), 2, 0, WITHIN), Fires::Idle { within: WITHIN });
        // A VM ended.
        assert_eq!(judge(0, Some((10, 2)), 2, 0, WITHIN), Fires::Idle { within: WITHIN });
        // Seen on a KVM_PVM host, which is locked down.
        assert_eq!(judge(0, None, 1, 1052, WITHIN), Fires::Doubtful { others: 1052, within: WITHIN });
        assert_eq!(judge(0, None, 0, 0, WITHIN), Fires::Idle { within: WITHIN });
    }
}
