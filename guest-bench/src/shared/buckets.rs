//! The buckets of an HdrHistogram with three significant digits, for those who cannot have the crate.
//!
//! Values below 2,048 have a bucket each. Above, each power of two is cut into 1,024 equal ones (hdrhistogram crate,
//! `Histogram::index_for` with a unit magnitude of 0 and 2,048 sub-buckets). A test holds these against the crate.

/// log2 of the number of values with a bucket each.
const EXACT_BITS: u32 = 11;
const HALF: u64 = 1 << (EXACT_BITS - 1);
/// The most that is told apart, TSC cycles: a day at 3 GHz. What is above counts as this.
pub const MOST: u64 = 1 << 48;
/// How many buckets there are.
pub const LEN: usize = index(MOST) + 1;

/// The bucket of a value.
pub const fn index(value: u64) -> usize {
    let value = if value > MOST { MOST } else { value };
    let bits = u64::BITS - value.leading_zeros();
    let shift = bits.saturating_sub(EXACT_BITS);
    (shift as u64 * HALF + (value >> shift)) as usize
}

/// The greatest value of a bucket: what stands for it in a report.
pub const fn value(index: usize) -> u64 {
    let index = index as u64;
    if index < 2 * HALF {
        return index;
    }
    let shift = index / HALF - 1;
    let first = (index - shift * HALF) << shift;
    first + (1 << shift) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::measure::round::histogram;

    /// What the crate makes of one value.
    fn by_the_crate(value: u64) -> u64 {
        histogram().highest_equivalent(value)
    }

    proptest! {
        #[test]
        fn buckets_are_the_crate_s(value in 0_u64..MOST, shift in 0_u32..48) {
            let value = value >> shift;
            prop_assert_eq!(super::value(index(value)), by_the_crate(value));
        }
    }

    #[test]
    fn edges_are_the_crate_s() {
        for bits in 0..48 {
            for near in [(1_u64 << bits) - 1, 1 << bits, (1 << bits) + 1] {
                assert_eq!(value(index(near)), by_the_crate(near), "{near}");
            }
        }
        assert_eq!(index(u64::MAX), LEN - 1);
        assert!((1..LEN).all(|at| value(at - 1) < value(at) && index(value(at)) == at));
    }
}
