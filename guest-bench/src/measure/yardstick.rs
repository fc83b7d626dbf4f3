//! Whether something that should leave the guest does so, told by what it takes: CPUID always leaves it, so that nothing
//! that takes much less can have left it too.

use std::arch::x86_64::__cpuid_count;
use std::hint::black_box;

use super::round::Pairs;
use crate::cpu;
use crate::shared::bracket;
use crate::shared::ops::{Exits, Op};
use crate::stats::{Scale, Summary};

/// What KVM handles without asking much is faster than CPUID, but not by so much: of an exit and the way back the
/// processor's own part is more than half.
const SHARE: f64 = 0.3;

/// How often CPUID is timed.
const SAMPLES: usize = 501;

/// What the quickest CPUID of many takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Yardstick(u64);

impl Yardstick {
    /// For an operation of which each must leave the guest, in a guest.
    pub(super) fn of(op: &Op) -> Option<Self> {
        let is_certain = matches!(op.exits, Exits::Each(_, 1..)) && op.name != "cpuid";
        (is_certain && cpu::hypervisor().is_some()).then(Self::measure)
    }

    fn measure() -> Self {
        let time =
            |operation: &dyn Fn()| (0..SAMPLES).map(|_| bracket::time(operation).cycles).min().unwrap_or(0);
        let cpuid = time(&|| {
            black_box(__cpuid_count(black_box(0), 0));
        });
        Self(cpuid.saturating_sub(time(&|| ())))
    }

    /// Why a round's samples can be no exits.
    pub(super) fn doubt(self, clean: &Pairs, scale: Scale) -> Option<String> {
        let median = Summary::of(&[clean], scale)?.p50?;
        (median < self.0 as f64 * SHARE).then(|| {
            format!(
                "it takes {median:.0} cycles where CPUID, which always leaves the guest, takes {} at least: it has not left it",
                self.0
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::ops;

    #[test]
    fn what_takes_much_less_than_cpuid_has_not_left_the_guest() {
        let yardstick = Yardstick(1000);
        assert!(yardstick.doubt(&vec![(100, 50)], Scale::Raw).is_some_and(|why| why.contains("100 cycles")));
        assert_eq!(yardstick.doubt(&vec![(700, 50)], Scale::Raw), None);
        assert_eq!(yardstick.doubt(&vec![(90_000, 50)], Scale::Raw), None);
        assert_eq!(yardstick.doubt(&Vec::new(), Scale::Raw), None);
    }

    #[test]
    fn only_what_must_leave_it_is_held_against_it() {
        for (name, is_held) in
            [("pio:user-in", true), ("mmio:vram", false), ("cpuid", false), ("syscall", false)]
        {
            let held = Yardstick::of(ops::find(name).unwrap()).is_some();
            assert_eq!(held, is_held && cpu::hypervisor().is_some(), "{name}");
        }
    }
}
