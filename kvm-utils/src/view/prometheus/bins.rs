//! The bounds of classic histograms, and which of the kernel's buckets lie below each.

use kvm_utils_common::hist;

/// Binary logarithms of the bounds, in ns: every power of two where exits that KVM deals with itself lie, every other
/// one above. Each is the lower bound of one of the kernel's buckets.
const BITS: [u32; 16] = [9, 10, 11, 12, 13, 14, 15, 16, 17, 19, 21, 23, 25, 27, 29, 31];

/// How many bins there are: below each bound, and the rest.
pub const BINS: usize = BITS.len() + 1;

/// The greatest duration in each bin but the last, ns. Durations are whole nanoseconds, so what is less than 2^n is at
/// most 2^n - 1: a bucket of Prometheus holds what is *at most* its bound, and with these the counts are exact.
pub const LE_NS: [u64; BINS - 1] = {
    let mut le = [0; BINS - 1];
    let mut bin = 0;
    while bin < le.len() {
        le[bin] = (1 << BITS[bin]) - 1;
        bin += 1;
    }
    le
};

/// The bin of each of the kernel's buckets.
const BIN_OF: [u8; hist::BUCKETS] = {
    let mut bins = [0; hist::BUCKETS];
    let mut bucket = 0;
    while bucket < bins.len() {
        let (low, _) = hist::bounds(bucket);
        while bins[bucket] < LE_NS.len() as u8 && LE_NS[bins[bucket] as usize] < low {
            bins[bucket] += 1;
        }
        bucket += 1;
    }
    bins
};

/// The bin of a bucket of the kernel's.
pub fn bin(bucket: u16) -> usize {
    BIN_OF.get(usize::from(bucket)).map_or(BINS - 1, |bin| usize::from(*bin))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else a count would not be exact.
    #[test]
    fn no_bucket_of_the_kernels_lies_on_both_sides_of_a_bound() {
        for bucket in 0..hist::BUCKETS {
            let (low, high) = hist::bounds(bucket);
            let bin = bin(bucket as u16);
            assert!(bin == 0 || LE_NS[bin - 1] < low, "{bucket}");
            // The kernel's last one is open.
            assert!(bin == BINS - 1 || high - 1 <= LE_NS[bin], "{bucket}");
        }
        assert_eq!(bin(u16::MAX), BINS - 1);
        assert_eq!((bin(hist::bucket(511) as u16), bin(hist::bucket(512) as u16)), (0, 1));
    }
}
