//! Asking for the time: through the vDSO, by system call, and from coarse clocks. Where the clock source is a device
//! (acpi_pm, hpet) each question is an exit.

use std::hint::black_box;

use super::clocksource::{self, Switch};
use super::{Noun, Opened, Refusal, Spec, Target, fill};
use crate::measure::round::Details;
use crate::shared::bracket::{self, Sample};

pub(super) const NOUN: Noun = Noun {
    name: "clock",
    usual: || {
        vec![
            Spec::new("clock:gettime"),
            Spec::new("clock:gettime").with("via", "syscall"),
            Spec::new("clock:gettime").with("clock", "monotonic-coarse"),
            Spec::new("clock:gettimeofday"),
            Spec::new("clock:gettimeofday").with("via", "syscall"),
        ]
    },
    open: |spec, _| open(spec),
};

/// Clocks by name.
pub(crate) const CLOCKS: [(&str, libc::clockid_t); 7] = [
    ("monotonic", libc::CLOCK_MONOTONIC),
    ("monotonic-coarse", libc::CLOCK_MONOTONIC_COARSE),
    ("monotonic-raw", libc::CLOCK_MONOTONIC_RAW),
    ("realtime", libc::CLOCK_REALTIME),
    ("realtime-coarse", libc::CLOCK_REALTIME_COARSE),
    ("boottime", libc::CLOCK_BOOTTIME),
    ("tai", libc::CLOCK_TAI),
];

fn open(spec: &Spec) -> Opened {
    let name = spec.text("clock")?.unwrap_or("monotonic");
    let (_, clock) = CLOCKS.iter().find(|(one, _)| *one == name).copied().ok_or_else(|| {
        let names = CLOCKS.map(|(name, _)| name).join(", ");
        Refusal::new(format!("there is no clock {name}"), format!("there are {names}"))
    })?;
    let is_call = match spec.text("via")? {
        None | Some("vdso") => false,
        Some("syscall") => true,
        Some(other) => {
            return Err(Refusal::new(format!("time is not asked by {other}"), "use vdso or syscall"));
        }
    };
    let ask = match (spec.op.as_str(), is_call) {
        ("clock:gettimeofday", false) => Ask::TimeOfDay,
        ("clock:gettimeofday", true) => Ask::TimeOfDayCall,
        (_, false) => Ask::Time(clock),
        (_, true) => Ask::TimeCall(clock),
    };
    let switch = match spec.op.as_str() {
        "clock:source" => Some(Switch::to(spec.text("source")?.unwrap_or("tsc"))?),
        _ => None,
    };
    Ok(Box::new(Clock { ask, switch, seen: Details::default() }))
}

/// A question.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Time(libc::clockid_t),
    TimeCall(libc::clockid_t),
    TimeOfDay,
    TimeOfDayCall,
}

impl Ask {
    fn fill(self, samples: &mut [Sample], repeat: u32) {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let mut day = libc::timeval { tv_sec: 0, tv_usec: 0 };
        let nobody = std::ptr::null_mut::<libc::c_void>();
        match self {
            // SAFETY: each writes the time only.
            Self::Time(clock) => fill(samples, repeat, || unsafe {
                black_box(libc::clock_gettime(clock, &raw mut time));
            }),
            // SAFETY: as above.
            Self::TimeCall(clock) => fill(samples, repeat, || unsafe {
                black_box(libc::syscall(libc::SYS_clock_gettime, clock, &raw mut time));
            }),
            // SAFETY: as above.
            Self::TimeOfDay => fill(samples, repeat, || unsafe {
                black_box(libc::gettimeofday(&raw mut day, nobody.cast()));
            }),
            // SAFETY: as above.
            Self::TimeOfDayCall => fill(samples, repeat, || unsafe {
                black_box(libc::syscall(libc::SYS_gettimeofday, &raw mut day, nobody));
            }),
        }
        black_box((time, day));
    }

    /// Whether the vDSO answers without the kernel: it does not where the clock source cannot be read in ring 3, and what
    /// it takes then is at least what the system call takes.
    fn via(self) -> &'static str {
        let call = match self {
            Self::Time(clock) => Self::TimeCall(clock),
            Self::TimeOfDay => Self::TimeOfDayCall,
            Self::TimeCall(_) | Self::TimeOfDayCall => return "system call",
        };
        let median = |ask: Self| {
            let mut samples = [Sample::default(); 101];
            ask.fill(&mut samples, 1);
            samples.sort_unstable_by_key(|sample| sample.cycles);
            samples[50].cycles
        };
        // Of the shortest, as an interrupt can fall on any.
        let least = |ask: Self| (0..5).map(|_| median(ask)).min().unwrap_or(0);
        let own = bracket::time(|| ()).cycles;
        let (direct, call) = (least(self).saturating_sub(own), least(call).saturating_sub(own));
        if direct * 10 < call * 9 { "vDSO" } else { "vDSO, which makes a system call" }
    }
}

/// Asks for the time, with another clock source during rounds if need be.
struct Clock {
    ask: Ask,
    switch: Option<Switch>,
    /// Which source it was and how it was asked.
    seen: Details,
}

impl Target for Clock {
    fn fill(&mut self, samples: &mut [Sample], repeat: u32) -> Result<(), Refusal> {
        self.ask.fill(samples, repeat);
        Ok(())
    }

    fn begin(&mut self) -> Result<(), Refusal> {
        if let Some(switch) = &mut self.switch {
            switch.begin()?;
        }
        let source = clocksource::current().unwrap_or_else(|| "unknown".into());
        let notes = [("source", source), ("via", self.ask.via().to_owned())];
        self.seen.notes = notes.map(|(name, value)| (name.to_owned(), value)).into();
        Ok(())
    }

    fn end(&mut self) {
        if let Some(switch) = &mut self.switch {
            switch.end();
        }
    }

    fn details(&mut self) -> Details {
        self.seen.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clock_answers_in_each_way() {
        for (name, clock) in CLOCKS {
            for ask in [Ask::Time(clock), Ask::TimeCall(clock)] {
                let mut samples = [Sample::default(); 3];
                ask.fill(&mut samples, 2);
                assert!(samples.iter().all(|sample| sample.cycles > 0), "{name}");
            }
        }
        let refusal = open(&Spec::new("clock:gettime").with("clock", "moon")).err().unwrap();
        assert!(refusal.hint.contains("monotonic-raw"), "{refusal:?}");
        assert!(open(&Spec::new("clock:gettime").with("via", "post")).is_err());
    }
}
