//! The log-linear histogram of durations that lives in the kernel.
//!
//! Values are nanoseconds. Below [`SUB_BUCKETS`] each value has a bucket of its own; above, each power of two is cut
//! into [`SUB_BUCKETS`] equal buckets, so a bucket is never wider than 1/16 of its lower bound. Reporting the middle
//! of a bucket is therefore wrong by at most 1/32 = 3.1 % ([`MAX_ERROR`]).

/// Bits of linear resolution within a power of two.
pub const SUB_BITS: u32 = 4;
/// Buckets per power of two.
pub const SUB_BUCKETS: u64 = 1 << SUB_BITS;
/// Durations of 2^40 ns (18.3 minutes) and above share the last bucket; their exact maximum is kept beside it.
pub const MAX_BITS: u32 = 40;
/// Number of buckets.
pub const BUCKETS: usize = ((MAX_BITS - SUB_BITS) as usize) * SUB_BUCKETS as usize + SUB_BUCKETS as usize;
/// Largest relative error of a value reported as the middle of its bucket, below the last bucket.
pub const MAX_ERROR: f64 = 1.0 / 32.0;

/// One histogram: how many durations fell into each bucket.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Hist {
    /// Count per bucket, see [`bucket`], modulo 2^32: whoever reads it at least once per 2^32 events (an hour at a
    /// million a second) knows the true count, and the map takes half the memory.
    pub buckets: [u32; BUCKETS],
}

/// Floor of the binary logarithm; 0 for 0.
///
/// The BPF instruction set has no count-leading-zeros; LLVM's expansion of it takes about 40 instructions, these
/// six compares take half.
#[inline(always)]
#[must_use]
pub const fn log2(mut v: u64) -> u32 {
    let mut log = 0;
    if v >= 1 << 32 {
        v >>= 32;
        log += 32;
    }
    if v >= 1 << 16 {
        v >>= 16;
        log += 16;
    }
    if v >= 1 << 8 {
        v >>= 8;
        log += 8;
    }
    if v >= 1 << 4 {
        v >>= 4;
        log += 4;
    }
    if v >= 1 << 2 {
        v >>= 2;
        log += 2;
    }
    if v >= 1 << 1 {
        log += 1;
    }
    log
}

/// The bucket that `ns` belongs to; always less than [`BUCKETS`].
#[inline(always)]
#[must_use]
pub const fn bucket(ns: u64) -> usize {
    if ns >= 1 << MAX_BITS {
        return BUCKETS - 1;
    }
    if ns < SUB_BUCKETS {
        return ns as usize;
    }
    let shift = log2(ns) - SUB_BITS;
    ((shift as usize) << SUB_BITS) + (ns >> shift) as usize
}

/// The durations `[low, high)` in nanoseconds that `bucket` holds; the last one is open-ended.
///
/// A bucket at or past [`BUCKETS`] is treated as the last.
#[must_use]
pub const fn bounds(bucket: usize) -> (u64, u64) {
    if bucket < SUB_BUCKETS as usize {
        return (bucket as u64, bucket as u64 + 1);
    }
    let bucket = if bucket >= BUCKETS { BUCKETS - 1 } else { bucket };
    let shift = (bucket >> SUB_BITS) as u32 - 1;
    let low = (SUB_BUCKETS + (bucket as u64 & (SUB_BUCKETS - 1))) << shift;
    (low, low + (1 << shift))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_tile_the_range_without_gap_or_overlap() {
        let mut expected = 0;
        for b in 0..BUCKETS {
            let (low, high) = bounds(b);
            assert_eq!(low, expected, "bucket {b}");
            assert!(high > low);
            expected = high;
        }
        assert_eq!(expected, 1 << MAX_BITS);
    }

    proptest! {
        #[test]
        fn log2_is_the_position_of_the_highest_bit(v in 1u64..) {
            prop_assert_eq!(log2(v), 63 - v.leading_zeros());
        }

        #[test]
        fn a_value_lies_in_its_bucket_and_the_middle_is_within_the_promised_error(
            v in (0u32..MAX_BITS).prop_flat_map(|bits| 0u64..(2u64 << bits).min(1 << MAX_BITS))
        ) {
            let b = bucket(v);
            prop_assert!(b < BUCKETS);
            let (low, high) = bounds(b);
            prop_assert!(low <= v && v < high);
            let middle = (low + high - 1) as f64 / 2.0;
            prop_assert!((middle - v as f64).abs() <= MAX_ERROR * v as f64);
        }

        #[test]
        fn huge_values_share_the_last_bucket(v in (1u64 << MAX_BITS)..) {
            prop_assert_eq!(bucket(v), BUCKETS - 1);
        }
    }
}
