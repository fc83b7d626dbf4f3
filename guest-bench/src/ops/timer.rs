//! Timers: what arming one takes, and how late it is against the delay that was asked for.
//!
//! A lateness is read from CLOCK_MONOTONIC, on which the timer runs, and told in cycles of the time-stamp counter like
//! everything else.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::{Noun, Opened, Place, Refusal, Spec, Target};
use crate::measure::round::Details;
use crate::shared::bracket::{self, Sample};

/// Delays that are measured usually, ns.
const DELAYS: [u64; 4] = [10_000, 100_000, 1_000_000, 10_000_000];
/// The longest delay, ns: a worker has to answer in time.
pub(crate) const LONGEST: u64 = 1_000_000_000;
/// How far ahead a timer is armed to see what that takes, ns: before the next tick, so that the hardware is set.
const AHEAD: u64 = 100_000;

pub(super) const NOUN: Noun =
    Noun { name: "timer", usual: || usual(&DELAYS), open: |spec, place| open(spec, place) };

/// Every operation, those with a delay with each of them.
pub(crate) fn usual(delays: &[u64]) -> Vec<Spec> {
    let late = |op: &str| delays.iter().map(|&delay| Spec::new(op).with("delay", words(delay))).collect();
    let late: [Vec<Spec>; 2] = [late("timer:timerfd"), late("timer:nanosleep")];
    std::iter::once(Spec::new("timer:set")).chain(late.into_iter().flatten()).collect()
}

/// `100us`
fn words(ns: u64) -> String {
    match ns {
        ns if ns % 1_000_000 == 0 => format!("{}ms", ns / 1_000_000),
        ns if ns % 1000 == 0 => format!("{}us", ns / 1000),
        ns => format!("{ns}ns"),
    }
}

/// ns of a text such as `100us`.
fn delay(spec: &Spec, name: &str, default: u64) -> Result<u64, Refusal> {
    let Some(text) = spec.text(name)? else { return Ok(default) };
    let units = [("ns", 1), ("us", 1000), ("ms", 1_000_000), ("s", 1_000_000_000)];
    let number = units
        .iter()
        .find_map(|(unit, factor)| text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(*factor));
    number.filter(|&ns| ns <= LONGEST).ok_or_else(|| {
        Refusal::new(
            format!("{text} is no time of up to {}", words(LONGEST)),
            "give one such as 100us or 10ms",
        )
    })
}

fn open(spec: &Spec, place: Place) -> Opened {
    // The kernel lets a thread's timers be late by 50 us, to take several at once: not what is to be seen here.
    let slack = delay(spec, "slack", 1)?;
    // SAFETY: changes how precise this thread's timers are; zero would mean the default.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, slack.max(1)) };
    if spec.op == "timer:set" {
        return Ok(Box::new(Set(TimerFd::new()?)));
    }
    let wait = match spec.op.as_str() {
        "timer:nanosleep" => Wait::Nanosleep,
        _ => Wait::TimerFd(TimerFd::new()?),
    };
    let delay = delay(spec, "delay", DELAYS[1])?;
    Ok(Box::new(Late { wait, delay, hz: place.hz, slack, fired: 0, early: 0 }))
}

/// CLOCK_MONOTONIC, ns.
fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the time, and cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

fn timespec(ns: u64) -> libc::timespec {
    // Both fit: 2^64 ns are 1.8e10 s.
    libc::timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 }
}

/// So many cycles are so many ns.
fn cycles(ns: u64, hz: u64) -> u64 {
    u64::try_from(u128::from(ns) * u128::from(hz) / 1_000_000_000).unwrap_or(u64::MAX)
}

fn failed(what: &str) -> Refusal {
    Refusal::new(format!("{what} fails: {}", io::Error::last_os_error()), "report this")
}

/// A timer as a file.
#[derive(Debug)]
struct TimerFd(OwnedFd);

impl TimerFd {
    fn new() -> Result<Self, Refusal> {
        // SAFETY: makes a new file.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC) };
        if fd < 0 {
            return Err(failed("timerfd_create"));
        }
        // SAFETY: it is ours alone.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// At a moment of CLOCK_MONOTONIC; zero stops it.
    fn set(&self, at: u64) -> bool {
        let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let when = libc::itimerspec { it_interval: never, it_value: timespec(at) };
        let nobody = std::ptr::null_mut();
        // SAFETY: reads `when`.
        unsafe {
            libc::timerfd_settime(self.0.as_raw_fd(), libc::TFD_TIMER_ABSTIME, &raw const when, nobody) == 0
        }
    }

    /// Waits until it has fired; how often it has.
    fn wait(&self) -> u64 {
        let mut fired = 0_u64;
        // SAFETY: writes 8 bytes.
        let read = unsafe { libc::read(self.0.as_raw_fd(), (&raw mut fired).cast(), 8) };
        if read == 8 { fired } else { 0 }
    }
}

/// Arming.
struct Set(TimerFd);

impl Target for Set {
    fn fill(&mut self, samples: &mut [Sample], repeat: u32) -> Result<(), Refusal> {
        for sample in samples {
            let mut worked = true;
            let at = now() + AHEAD;
            // Each time a little earlier: a timer that is not the next does not touch the hardware.
            *sample = bracket::time(|| (0..repeat).for_each(|n| worked &= self.0.set(at - u64::from(n))));
            // It must not fire, and the next one shall be the earliest again.
            if !worked || !self.0.set(0) {
                return Err(failed("timerfd_settime"));
            }
        }
        Ok(())
    }
}

/// How to wait for a moment.
enum Wait {
    TimerFd(TimerFd),
    Nanosleep,
}

impl Wait {
    /// How often the timer fired by then.
    fn until(&self, at: u64) -> u64 {
        match self {
            Self::TimerFd(timer) => {
                if timer.set(at) {
                    timer.wait()
                } else {
                    0
                }
            }
            Self::Nanosleep => {
                let at = timespec(at);
                // SAFETY: reads the time; nothing is left over of an absolute one.
                let result = unsafe {
                    libc::clock_nanosleep(
                        libc::CLOCK_MONOTONIC,
                        libc::TIMER_ABSTIME,
                        &raw const at,
                        std::ptr::null_mut(),
                    )
                };
                u64::from(result == 0)
            }
        }
    }
}

/// How late a timer is.
struct Late {
    wait: Wait,
    delay: u64,
    hz: u64,
    slack: u64,
    fired: u64,
    early: u64,
}

impl Target for Late {
    fn fill(&mut self, samples: &mut [Sample], _: u32) -> Result<(), Refusal> {
        for sample in samples {
            let at = now() + self.delay;
            let fired = self.wait.until(at);
            let woken = now();
            if fired == 0 {
                return Err(failed("waiting for a timer"));
            }
            self.fired += fired;
            self.early += u64::from(woken < at);
            let (_, aux) = bracket::stop();
            *sample = Sample { cycles: cycles(woken.saturating_sub(at), self.hz), aux };
        }
        Ok(())
    }

    fn sleeps(&self) -> bool {
        true
    }

    fn way(&self) -> Option<u64> {
        None
    }

    fn evidence(&mut self) -> std::collections::BTreeMap<String, u64> {
        [("fired", self.fired), ("early", self.early)].map(|(name, count)| (name.to_owned(), count)).into()
    }

    fn details(&mut self) -> Details {
        Details { notes: [("slack".to_owned(), words(self.slack))].into(), ..Details::default() }
    }

    fn doubt(&self, operations: u64, counted: &std::collections::BTreeMap<String, u64>) -> Option<String> {
        let count = |name: &str| counted.get(name).copied().unwrap_or(0);
        if count("fired") != operations {
            return Some(format!("the timer fired {} times for {operations} waits", count("fired")));
        }
        (count("early") > 0).then(|| format!("{} of {operations} waits ended early", count("early")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::tsc;

    fn place() -> Place {
        Place::new(0, tsc::find().hz).unwrap()
    }

    #[test]
    fn delays_are_read_as_they_are_written() {
        for ns in [1, 999, 1000, 10_000, 1_500_000, 10_000_000, LONGEST] {
            let spec = Spec::new("timer:timerfd").with("delay", words(ns));
            assert_eq!(delay(&spec, "delay", 0), Ok(ns), "{spec:?}");
        }
        for wrong in ["", "us", "10", "2s", "1h", "-1us", "99999999999999999999s"] {
            assert!(delay(&Spec::new("timer:timerfd").with("delay", wrong), "delay", 0).is_err(), "{wrong}");
        }
    }

    /// The lateness in cycles, as time, together with the delay is what another clock has seen.
    #[test]
    fn cycles_of_lateness_are_the_time_of_another_clock() {
        let place = place();
        for op in ["timer:timerfd", "timer:nanosleep"] {
            let mut target = open(&Spec::new(op).with("delay", "20ms"), place).unwrap();
            let mut samples = [Sample::default(); 5];
            // CLOCK_BOOTTIME runs beside CLOCK_MONOTONIC, and Instant is neither in ns nor in cycles.
            let start = std::time::Instant::now();
            target.fill(&mut samples, 1).unwrap();
            let real = start.elapsed().as_secs_f64();
            let late: u64 = samples.iter().map(|sample| sample.cycles).sum();
            let told = 5.0 * 0.02 + late as f64 / place.hz as f64;
            assert!(told <= real && real - told < 0.1, "{op}: {told} s of {real} s");
            assert_eq!(target.evidence()["fired"], 5);
        }
    }

    #[test]
    fn cycles_are_time_times_frequency() {
        assert_eq!(cycles(1_000_000_000, 2_596_120_000), 2_596_120_000);
        assert_eq!(cycles(10, 2_600_000_000), 26);
        assert_eq!(cycles(u64::MAX, 5_000_000_000), u64::MAX);
    }

    #[test]
    fn timers_that_do_not_fire_are_doubted() {
        let late = Late { wait: Wait::Nanosleep, delay: 0, hz: 1, slack: 1, fired: 0, early: 0 };
        let counted = |fired, early| [("fired".to_owned(), fired), ("early".to_owned(), early)].into();
        assert_eq!(late.doubt(10, &counted(10, 0)), None);
        assert!(late.doubt(10, &counted(9, 0)).is_some_and(|why| why.contains("9 times")));
        assert!(late.doubt(10, &counted(10, 1)).is_some_and(|why| why.contains("early")));
    }

    #[test]
    fn arming_does_not_fire() {
        let mut target = Set(TimerFd::new().unwrap());
        target.fill(&mut [Sample::default(); 10], 3).unwrap();
        let mut poll = libc::pollfd { fd: target.0.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry.
        assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 2) }, 0);
    }
}
