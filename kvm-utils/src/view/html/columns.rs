//! Time on a picture: intervals put together to columns, and where these begin and end.

use std::time::Duration;

use serde::Serialize;

/// Width of a picture in its own units.
pub const WIDTH: u32 = 10_000;

/// Columns, each of `each` intervals but the last, which may have fewer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Columns {
    /// Where they begin, and where the last one ends, in units of the picture.
    #[serde(rename = "x")]
    pub edges: Vec<u32>,
    /// How long each is, seconds.
    #[serde(rename = "s")]
    pub seconds: Vec<f64>,
    /// Intervals in a column.
    #[serde(skip)]
    pub each: usize,
}

impl Columns {
    /// At most `most` columns of intervals of these lengths.
    pub fn new(intervals: &[Duration], most: usize) -> Self {
        let each = intervals.len().div_ceil(most.max(1)).max(1);
        let length = |group: &[Duration]| group.iter().sum::<Duration>().as_secs_f64();
        let seconds: Vec<f64> = intervals.chunks(each).map(length).collect();
        let total: f64 = seconds.iter().sum();
        let mut edges = vec![0];
        let mut passed = 0.0;
        for (i, length) in seconds.iter().enumerate() {
            passed += length;
            let share = if total > 0.0 { passed / total } else { (i + 1) as f64 / seconds.len() as f64 };
            edges.push((share * f64::from(WIDTH)).round() as u32);
        }
        Self { edges, seconds, each }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.seconds.len()
    }

    /// The column of an interval, if it is among those that were told.
    pub fn of(&self, interval: usize) -> Option<usize> {
        let column = interval / self.each;
        (column < self.len()).then_some(column)
    }

    /// The time that they cover, seconds.
    pub fn total(&self) -> f64 {
        self.seconds.iter().sum()
    }
}

/// Events per second of a column.
pub fn rate(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

/// The step of an axis from 0 to `max`, and how many steps it has, so that there are four or five of a round length.
pub fn scale(max: f64) -> (f64, u32) {
    if !(max.is_finite() && max > 0.0) {
        return (1.0, 1);
    }
    let quarter = max / 4.0;
    let mut power = 1.0;
    while power * 10.0 <= quarter {
        power *= 10.0;
    }
    while power > quarter {
        power /= 10.0;
    }
    let step = [1.0, 2.0, 5.0].into_iter().map(|m| m * power).find(|step| *step >= quarter);
    let step = step.unwrap_or(10.0 * power);
    (step, (max / step).ceil() as u32)
}

/// Round times at which an axis of this many seconds has its marks, from 0 on.
pub fn marks(total: f64) -> Vec<f64> {
    const MOST: f64 = 8.0;
    const STEPS: [f64; 20] = [
        0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0,
        1800.0, 3600.0, 7200.0,
    ];
    if !(total.is_finite() && total > 0.0) {
        return vec![0.0];
    }
    let round = STEPS.into_iter().find(|step| total / step <= MOST);
    let step = round.unwrap_or_else(|| (total / MOST / 14_400.0).ceil() * 14_400.0);
    (0..).map(|i| f64::from(i) * step).take_while(|at| *at <= total).collect()
}

/// Time since the beginning: `0.25`, `7`, `1:05`, `2:00:00`.
pub fn clock(seconds: f64) -> String {
    let hundredths = (seconds.max(0.0) * 100.0).round() as u64;
    let (whole, fraction) = (hundredths / 100, hundredths % 100);
    let (h, m, s) = (whole / 3600, whole / 60 % 60, whole % 60);
    let mut text = match (h, m) {
        (0, 0) => format!("{s}"),
        (0, m) => format!("{m}:{s:02}"),
        (h, m) => format!("{h}:{m:02}:{s:02}"),
    };
    if fraction > 0 {
        text.push_str(format!(".{fraction:02}").trim_end_matches('0'));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_since_the_beginning() {
        for (seconds, text) in
            [(0.0, "0"), (0.25, "0.25"), (7.0, "7"), (65.0, "1:05"), (7200.5, "2:00:00.5"), (-1.0, "0")]
        {
            assert_eq!(clock(seconds), text);
        }
        assert_eq!(marks(60.0), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]);
        assert_eq!(marks(0.0), [0.0]);
    }

    proptest! {
        #[test]
        fn an_axis_is_neither_empty_nor_crowded(max in 1e-9..1e25) {
            let (step, steps) = scale(max);
            prop_assert!((2..=4).contains(&steps), "{} steps of {}", steps, step);
            prop_assert!(step * f64::from(steps) >= max * (1.0 - 1e-12));
            let marks = marks(max);
            prop_assert!((1..=9).contains(&marks.len()), "{:?}", marks);
            prop_assert!(marks.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
