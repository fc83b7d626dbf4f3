//! The last values of what is counted, interval by interval.

use std::collections::{HashMap, VecDeque, hash_map::Entry};

use super::ident::{Scope, VmKey};

/// So many intervals are kept.
pub const KEPT: usize = 240;
/// Not more series of rows than this are kept, 2 KB each at most; those of VMs and vCPUs always are.
const MOST_ROWS: usize = 4096;

/// Of what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SeriesKey {
    /// The VM.
    pub vm: VmKey,
    /// All its vCPUs or one.
    pub scope: Scope,
    /// A row of a drill-down: its noun and key; none for all exits.
    pub row: Option<(&'static str, String)>,
}

/// Values of consecutive intervals, events per second.
#[derive(Clone, Debug, Default)]
struct Ring {
    values: VecDeque<f64>,
    /// How many intervals ago something happened.
    quiet: usize,
    fed: bool,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Series {
    rings: HashMap<SeriesKey, Ring>,
    rows: usize,
    /// Intervals so far.
    ticks: u64,
}

impl Series {
    /// A value of the interval that is being added.
    pub fn push(&mut self, key: SeriesKey, value: f64) {
        let value = if value.is_finite() { value.max(0.0) } else { 0.0 };
        let of_row = key.row.is_some();
        let ring = match self.rings.entry(key) {
            Entry::Occupied(ring) => ring.into_mut(),
            Entry::Vacant(place) => {
                if of_row && (self.rows >= MOST_ROWS || value == 0.0) {
                    return;
                }
                self.rows += usize::from(of_row);
                place.insert(Ring::default())
            }
        };
        if !std::mem::replace(&mut ring.fed, true) {
            ring.add(value);
        }
    }

    /// The interval is complete: what had no value in it had no event. What had none for as long as values are kept is
    /// forgotten.
    pub fn close(&mut self) {
        self.ticks += 1;
        self.rings.retain(|key, ring| {
            if !std::mem::take(&mut ring.fed) {
                ring.add(0.0);
            }
            let keep = ring.quiet < KEPT;
            self.rows -= usize::from(!keep && key.row.is_some());
            keep
        });
    }

    /// The values of one, the newest last; of a row that had no events yet, none.
    pub fn values(
        &self,
        key: &SeriesKey,
    ) -> impl DoubleEndedIterator<Item = f64> + ExactSizeIterator + use<'_> {
        static NONE: VecDeque<f64> = VecDeque::new();
        self.rings.get(key).map_or(&NONE, |ring| &ring.values).iter().copied()
    }

    /// All kept values in `width` places, the newest in the last one: the greatest of those that share a place. `None`
    /// where nothing was known yet. As many intervals share a place as it takes for all to fit, and always the same
    /// ones, so that a picture moves but does not flicker.
    #[must_use]
    pub fn picture(&self, key: &SeriesKey, width: usize) -> Vec<Option<f64>> {
        let mut places = vec![None; width];
        if width == 0 {
            return places;
        }
        let per_place = KEPT.div_ceil(width) as u64;
        let last_place = self.ticks.saturating_sub(1) / per_place;
        for (ago, value) in self.values(key).rev().enumerate() {
            let Some(tick) = self.ticks.checked_sub(1 + ago as u64) else { break };
            let back = (last_place - tick / per_place) as usize;
            let Some(place) = width.checked_sub(1 + back) else { break };
            let greatest = places[place].map_or(value, |other: f64| other.max(value));
            places[place] = Some(greatest);
        }
        places
    }
}

impl Ring {
    fn add(&mut self, value: f64) {
        if self.values.len() == KEPT {
            self.values.pop_front();
        }
        self.values.push_back(value);
        self.quiet = if value > 0.0 { 0 } else { self.quiet + 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(row: Option<&str>) -> SeriesKey {
        SeriesKey {
            vm: VmKey { pid: 1, tid: 2 },
            scope: Scope::All,
            row: row.map(|row| ("exits", row.to_owned())),
        }
    }

    #[test]
    fn what_has_no_value_had_no_event_and_is_forgotten_in_the_end() {
        let mut series = Series::default();
        series.push(key(Some("a")), 7.0);
        series.close();
        for _ in 0..3 {
            series.push(key(None), 5.0);
            series.close();
        }
        assert_eq!(series.values(&key(Some("a"))).collect::<Vec<_>>(), [7.0, 0.0, 0.0, 0.0]);
        assert_eq!(series.values(&key(None)).len(), 3);
        for _ in 0..KEPT {
            series.close();
        }
        assert_eq!((series.rings.len(), series.rows), (0, 0));
    }

    #[test]
    fn a_value_given_twice_counts_once_and_nonsense_is_nothing() {
        let mut series = Series::default();
        series.push(key(None), 5.0);
        series.push(key(None), 6.0);
        series.close();
        series.push(key(None), f64::NAN);
        series.close();
        assert_eq!(series.values(&key(None)).collect::<Vec<_>>(), [5.0, 0.0]);
    }

    #[test]
    fn rows_are_bounded() {
        let mut series = Series::default();
        for n in 0..MOST_ROWS + 10 {
            series.push(key(Some(&n.to_string())), 1.0);
        }
        series.push(key(None), 1.0);
        assert_eq!((series.rows, series.rings.len()), (MOST_ROWS, MOST_ROWS + 1));
    }

    #[test]
    fn a_picture_keeps_the_greatest_and_its_places() {
        let mut series = Series::default();
        for tick in 0..7 {
            series.push(key(None), f64::from(tick) + 1.0);
            series.close();
        }
        // 80 intervals share a place.
        assert_eq!(series.picture(&key(None), 3), [None, None, Some(7.0)]);
        // 4 do: ticks 0 to 3, 4 to 6.
        assert_eq!(series.picture(&key(None), 60)[57..], [None, Some(4.0), Some(7.0)]);
        assert_eq!(series.picture(&key(None), 0), []);
        let all = series.picture(&key(None), 1000);
        assert_eq!(all.iter().flatten().count(), 7);
        for tick in 0..1000 {
            series.push(key(None), f64::from(tick));
            series.close();
        }
        assert_eq!(series.picture(&key(None), KEPT).iter().flatten().count(), KEPT);
    }
}
