//! How far the time-stamp counters of two CPUs are apart: a question and its answer travel between them in a cache line.
//!
//! With t1 and t4 read here, and t2 = t3 there, the other is ahead by ((t2 - t1) - (t4 - t3)) / 2 if both ways took as long.
//! They need not: one of them may have taken all of the time, so that half of the shortest round trip is what the offset may be off.

use serde::Serialize;

/// Of another CPU's counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Skew {
    /// So many cycles it is ahead; negative when it is behind.
    pub offset: i64,
    /// Up to so many cycles more or less.
    pub uncertainty: u64,
    /// So many cycles, beyond what is uncertain, it was another one at another time: a hypervisor whose own counter is not
    /// steady sets a vCPU's anew when it moves it.
    pub moved: u64,
}

/// A time on one way is told only if it is known to 5 %.
const SHARE: f64 = 0.05;

impl Skew {
    /// The cycles from a moment here to one there; None when the second seems to be the earlier by more than is uncertain.
    pub fn from_here(self, here: u64, there: u64) -> Option<u64> {
        self.way(i128::from(there) - i128::from(self.offset) - i128::from(here))
    }

    fn way(self, cycles: i128) -> Option<u64> {
        if cycles < -i128::from(self.uncertainty) {
            return None;
        }
        Some(u64::try_from(cycles).unwrap_or(0))
    }

    /// The one that is known better. Counters that run at one speed stay as far apart as they are, while a round trip may be
    /// long at one time, because of where the host has the vCPUs. If both cannot be true they do not stay so.
    pub fn better(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        let (Some(a), Some(b)) = (one, other) else { return one.or(other) };
        let apart = a.offset.abs_diff(b.offset).saturating_sub(a.uncertainty.saturating_add(b.uncertainty));
        let moved = a.moved.max(b.moved).max(apart);
        let tighter = if b.uncertainty < a.uncertainty { b } else { a };
        Some(Self { moved, ..tighter })
    }

    /// Whether it is known well enough to tell a time of so many cycles.
    pub fn allows(self, cycles: f64) -> bool {
        (self.uncertainty.max(self.moved) as f64) < cycles * SHARE
    }

    /// In words.
    pub fn words(self) -> String {
        let moved = if self.moved > 0 { format!(", moved by {}", self.moved) } else { String::new() };
        format!("{:+} +-{} cycles{moved}", self.offset, self.uncertainty)
    }
}

/// From questions (time here, time there, time here): the one with the shortest round trip tells.
pub fn of(answers: &[(u64, u64, u64)]) -> Option<Skew> {
    let (t1, t2, t4) = *answers.iter().filter(|(t1, _, t4)| t4 >= t1).min_by_key(|(t1, _, t4)| t4 - t1)?;
    let offset = ((i128::from(t2) - i128::from(t1)) - (i128::from(t4) - i128::from(t2))) / 2;
    Some(Skew { offset: i64::try_from(offset).ok()?, uncertainty: (t4 - t1).div_ceil(2), moved: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_round_trip_tells() {
        // The other is 1,000 ahead; the ways take 100 there and 140 back, or longer.
        let skew = of(&[(0, 5100, 9000), (10_000, 11_100, 10_240), (0, 1900, 2000)]).unwrap();
        assert_eq!(skew, Skew { offset: 980, uncertainty: 120, moved: 0 });
        assert!((skew.offset - 1000).unsigned_abs() <= skew.uncertainty);
        assert_eq!(skew.from_here(10_000, 11_100), Some(120));
    }

    #[test]
    fn a_counter_that_is_behind_has_a_negative_offset() {
        let skew = of(&[(1_000_000, 100, 1_000_200)]).unwrap();
        assert_eq!(skew, Skew { offset: -1_000_000, uncertainty: 100, moved: 0 });
        assert_eq!(skew.from_here(2_000_000, 1_000_500), Some(500));
        // Before it was sent, within what is uncertain; and beyond.
        assert_eq!((skew.from_here(2_000_000, 999_950), skew.from_here(2_000_000, 999_800)), (Some(0), None));
        assert_eq!(of(&[]), None);
    }

    fn known(offset: i64, uncertainty: u64) -> Skew {
        Skew { offset, uncertainty, moved: 0 }
    }

    #[test]
    fn the_tighter_of_two_is_believed() {
        let (wide, tight) = (known(24, 611), known(-3, 143));
        assert_eq!(Skew::better(Some(wide), Some(tight)), Some(tight));
        assert_eq!(Skew::better(Some(tight), None), Some(tight));
        assert_eq!(Skew::better(None, None), None);
    }

    #[test]
    fn counters_that_move_against_each_other_tell_no_one_way() {
        let moved = Skew::better(Some(known(-14_009, 465)), Some(known(14_404, 574)));
        let moved = Skew::better(moved, Some(known(-13_990, 430))).unwrap();
        assert_eq!(moved, Skew { offset: -13_990, uncertainty: 430, moved: 27_374 });
        assert!(!moved.allows(500_000.0) && moved.allows(600_000.0));
        assert_eq!(moved.words(), "-13990 +-430 cycles, moved by 27374");
    }

    #[test]
    fn one_way_needs_five_percent() {
        let skew = known(3, 100);
        assert!(skew.allows(2001.0) && !skew.allows(2000.0));
    }
}
