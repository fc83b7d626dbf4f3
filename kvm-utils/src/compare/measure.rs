//! What is told of a row: how often, how long, and what is too small a change to matter.

use super::{limits::Key, tally::Tally};
use crate::model::Column;

/// A figure of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Events, per second or per unit of work.
    Rate,
    /// Mean duration.
    Mean,
    /// 99 % of the durations are not longer.
    P99,
    /// Time spent in such events, per second or per unit of work: of what has events of several kinds, whose mean would change
    /// with their mix.
    Busy,
    /// Time spent in one way, per second or per unit of work: the how manieth of the table's times, and its column.
    Time(usize, &'static Column),
}

/// The measures by the names that people choose them by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// How often: events per second, or per unit of work
    Rate,
    /// How long on average
    Mean,
    /// How long at most, but for 1 %
    P99,
    /// How much of the vCPUs' time that takes, of classes and of all; in `time` and `halt`, where it goes
    Time,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rate, Self::Mean, Self::P99, Self::Time];
}

/// Changes smaller than these do not matter, as a share of what was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Floors {
    /// Of rates.
    pub rate: f64,
    /// Of means, and of times.
    pub mean: f64,
    /// Of 99 % quantiles: they vary more, and come in steps of 1/16.
    pub p99: f64,
    /// And a change of a rate by less than this, in events per second or per unit of work.
    pub events: f64,
}

impl Default for Floors {
    fn default() -> Self {
        Self { rate: 0.05, mean: 0.1, p99: 0.2, events: 0.0 }
    }
}

/// Rates differ by less than so many standard errors of counting (for Poisson's distribution, under which events come by
/// themselves) without telling anything: 6 in 100,000.
const COUNTING_ERRORS: f64 = 4.0;

/// Fewer events on both sides together never exceed that floor: if all were on one side, n would have to be more than
/// 4 sqrt(n + 2).
pub const LEAST_EVENTS: u64 = 18;

/// Shares of a CPU below this are nobody's concern.
const LEAST_SHARE: f64 = 0.002;

impl Measure {
    /// What it is called by who chooses it.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Rate => Kind::Rate,
            Self::Mean => Kind::Mean,
            Self::P99 => Kind::P99,
            Self::Busy | Self::Time(..) => Kind::Time,
        }
    }

    /// What limits it by itself, if anything does.
    #[must_use]
    pub const fn limit(self) -> Option<Key> {
        match self {
            Self::Rate => Some(Key::Rate),
            Self::Mean => Some(Key::Mean),
            Self::P99 => Some(Key::P99),
            Self::Busy | Self::Time(..) => None,
        }
    }

    /// Its key in JSON.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Mean => "mean_ns",
            Self::P99 => "p99_ns",
            Self::Busy => "total_ns",
            Self::Time(_, column) => column.id,
        }
    }

    /// The figure; `None` where it is not known. `exposure` is how long it was counted, in seconds or units of work.
    #[must_use]
    pub fn of(self, tally: &Tally, exposure: f64) -> Option<f64> {
        let per = |sum: u64| (exposure > 0.0).then(|| sum as f64 / exposure);
        let figure = match self {
            Self::Rate => per(tally.count),
            Self::Mean => tally.mean_ns(),
            Self::P99 => tally.p99_ns(),
            Self::Busy => per(tally.total_ns),
            Self::Time(index, _) => per(tally.times.get(index).copied().unwrap_or(0)),
        };
        figure.filter(|figure| figure.is_finite())
    }

    /// A figure as a number whose differences are ratios. Half an event more lets none at all be compared (F. J. Anscombe,
    /// Biometrika 35 (1948), for logarithms of counts).
    #[must_use]
    pub fn to_log(self, figure: f64, exposure: f64, seconds: f64) -> Option<f64> {
        let log = match self {
            Self::Rate => (figure + 0.5 / exposure).ln(),
            Self::Mean | Self::P99 => figure.ln(),
            Self::Busy | Self::Time(..) => (figure + least_time(exposure, seconds) / 10.0).ln(),
        };
        log.is_finite().then_some(log)
    }

    /// The smallest change that matters, as a share of what was.
    #[must_use]
    pub const fn relative_floor(self, floors: &Floors) -> f64 {
        match self {
            Self::Rate => floors.rate,
            Self::Mean | Self::Busy | Self::Time(..) => floors.mean,
            Self::P99 => floors.p99,
        }
    }

    /// What two figures may differ by without telling anything, in their unit. The tallies are those of whole sides.
    #[must_use]
    pub fn absolute_floor(
        self,
        sides: [&Tally; 2],
        exposures: [f64; 2],
        seconds: [f64; 2],
        floors: &Floors,
    ) -> f64 {
        let floor = match self {
            Self::Rate => {
                let variance = |side: usize| (sides[side].count as f64 + 1.0) / exposures[side].powi(2);
                (COUNTING_ERRORS * (variance(0) + variance(1)).sqrt()).max(floors.events)
            }
            Self::Mean => 1.0,
            Self::P99 => sides.iter().filter_map(|side| side.p99_step_ns()).fold(1.0, f64::max),
            Self::Busy | Self::Time(..) => {
                least_time(exposures[0], seconds[0]).max(least_time(exposures[1], seconds[1]))
            }
        };
        if floor.is_finite() { floor } else { 0.0 }
    }
}

/// [`LEAST_SHARE`] in nanoseconds per second, or per unit of work.
fn least_time(exposure: f64, seconds: f64) -> f64 {
    LEAST_SHARE * 1e9 * seconds / exposure
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(count: u64) -> Tally {
        Tally { count, ..Tally::default() }
    }

    #[test]
    fn a_floor_of_counting_keeps_rare_events_out() {
        let floor = |one, two| {
            Measure::Rate.absolute_floor([&count(one), &count(two)], [60.0; 2], [60.0; 2], &Floors::default())
        };
        // Twice in a run, and not before: no matter.
        assert!(floor(0, 2) > 2.0 / 60.0);
        assert!(floor(0, LEAST_EVENTS - 1) > (LEAST_EVENTS - 1) as f64 / 60.0);
        assert!(floor(0, LEAST_EVENTS) < LEAST_EVENTS as f64 / 60.0);
        // A thousand a second for a minute: 2.3 %.
        assert!((floor(60_000, 60_000) / 1000.0 - 0.0231).abs() < 1e-4);
        let mine = Floors { events: 5.0, ..Floors::default() };
        assert_eq!(Measure::Rate.absolute_floor([&count(0), &count(2)], [60.0; 2], [60.0; 2], &mine), 5.0);
    }

    #[test]
    fn nothing_is_divided_by_nothing() {
        assert_eq!(Measure::Rate.of(&count(5), 0.0), None);
        assert_eq!(Measure::Rate.of(&count(5), f64::NAN), None);
        assert_eq!(Measure::Rate.absolute_floor([&count(5); 2], [0.0; 2], [0.0; 2], &Floors::default()), 0.0);
        assert_eq!(Measure::Mean.to_log(0.0, 1.0, 1.0), None);
        assert_eq!(Measure::Rate.to_log(0.0, 0.0, 0.0), None);
        assert!(Measure::Rate.to_log(0.0, 60.0, 60.0).is_some());
    }
}
