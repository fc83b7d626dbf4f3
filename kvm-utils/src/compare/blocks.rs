//! Consecutive intervals put together, so that what is compared resembles its neighbours less.

use std::ops::Range;

use super::table::Span;

/// Blocks of the shorter side, if it has twice as many intervals: more than 30 gain nothing (B. Schmeiser, Operations Research
/// 30 (1982)), and longer blocks resemble their neighbours less.
pub const MOST_BLOCKS: usize = 20;

/// With fewer blocks a side nothing is said.
pub const LEAST_BLOCKS: usize = 10;

/// Intervals of a block, at least.
const INTERVALS: usize = 2;

/// Fewest intervals a side.
pub const LEAST_INTERVALS: usize = LEAST_BLOCKS * INTERVALS;

/// Cuts the intervals of every file of both sides into blocks that are about equally long on both, in seconds. No block
/// spans two files. There are none where a side has fewer than [`LEAST_INTERVALS`].
#[must_use]
pub fn cut(sides: &[Vec<Option<Span>>; 2]) -> [Vec<Vec<Range<usize>>>; 2] {
    let length = length(sides);
    let blocks = |span: &Option<Span>| match (span, length) {
        (Some(span), Some(length)) => cut_file(&span.intervals, length),
        _ => Vec::new(),
    };
    [0, 1].map(|side: usize| sides[side].iter().map(blocks).collect())
}

/// How long a block is, seconds.
fn length(sides: &[Vec<Option<Span>>; 2]) -> Option<f64> {
    let mut longest: f64 = 0.0;
    let mut shorter: f64 = f64::INFINITY;
    for side in sides {
        let intervals = || side.iter().flatten().flat_map(|span| &span.intervals);
        let count = intervals().count();
        let seconds: f64 = intervals().sum();
        if count < LEAST_INTERVALS || !seconds.is_finite() || seconds <= 0.0 {
            return None;
        }
        let blocks = (count / INTERVALS).min(MOST_BLOCKS);
        shorter = shorter.min(seconds / blocks as f64);
        longest = longest.max(INTERVALS as f64 * seconds / count as f64);
    }
    Some(shorter.max(longest))
}

fn cut_file(intervals: &[f64], length: f64) -> Vec<Range<usize>> {
    let seconds: f64 = intervals.iter().sum();
    // What equals a whole number of blocks by the width of a rounding error has as many.
    let count = ((seconds / length + 1e-6).floor().max(1.0) as usize).min(intervals.len());
    let mut blocks: Vec<Range<usize>> = Vec::new();
    let (mut passed, mut last) = (0.0, None);
    for (index, interval) in intervals.iter().enumerate() {
        let middle = passed + interval / 2.0;
        passed += interval;
        let block = ((middle / seconds * count as f64) as usize).min(count.saturating_sub(1));
        match blocks.last_mut() {
            Some(range) if last == Some(block) => range.end = index + 1,
            _ => blocks.push(index..index + 1),
        }
        last = Some(block);
    }
    blocks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(intervals: &[f64]) -> Option<Span> {
        Some(Span { seconds: intervals.iter().sum(), intervals: intervals.to_vec() })
    }

    fn lengths(blocks: &[Range<usize>]) -> Vec<usize> {
        blocks.iter().map(ExactSizeIterator::len).collect()
    }

    #[test]
    fn blocks_are_equally_long_on_both_sides() {
        let cut_both = |one: &[f64], two: &[f64]| {
            let [base, new] = cut(&[vec![span(one)], vec![span(two)]]);
            (lengths(&base[0]), lengths(&new[0]))
        };
        assert_eq!(cut_both(&[1.0; 60], &[1.0; 60]), (vec![3; 20], vec![3; 20]));
        // The shorter side says how long.
        assert_eq!(cut_both(&[1.0; 300], &[1.0; 40]), (vec![2; 150], vec![2; 20]));
        assert_eq!(cut_both(&[0.5; 80], &[2.0; 40]), (vec![8; 10], vec![2; 20]));
        assert_eq!(cut_both(&[1.0; 60], &[1.0; 19]), (vec![], vec![]));
    }

    #[test]
    fn no_block_spans_two_files() {
        let [base, new] = cut(&[vec![span(&[1.0; 12]), None, span(&[1.0; 9])], vec![span(&[1.0; 21])]]);
        // Of 2.1 intervals, as long as a tenth of either side is.
        let lengths = |side: &[Vec<Range<usize>>]| side.iter().map(|one| lengths(one)).collect::<Vec<_>>();
        assert_eq!(lengths(&base), [vec![2, 3, 2, 3, 2], vec![], vec![2, 2, 3, 2]]);
        assert_eq!(lengths(&new)[0].len(), 10);
    }

    proptest! {
        #[test]
        fn every_interval_is_in_exactly_one_block(
            one in prop::collection::vec(0.0_f64..5.0, 0..90),
            two in prop::collection::vec(prop_oneof![0.01_f64..0.02, 1.0..9.0, Just(0.0)], 0..90),
        ) {
            for side in cut(&[vec![span(&one)], vec![span(&two)]]).iter().filter(|side| !side[0].is_empty()) {
                let all: Vec<usize> = side[0].iter().cloned().flatten().collect();
                prop_assert_eq!(&all, &(0..all.len()).collect::<Vec<_>>());
                prop_assert!(all.len() == one.len() || all.len() == two.len());
            }
        }
    }
}
