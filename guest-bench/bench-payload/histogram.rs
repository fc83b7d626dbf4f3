//! The two histograms of a round: all samples, and those that nothing disturbed.

use core::cell::UnsafeCell;

use crate::buckets::{self, LEN};
use crate::serial::Serial;

struct Counts(UnsafeCell<[u32; LEN]>);

// SAFETY: only the vCPU that measures touches them, through the one `Histogram` of each.
unsafe impl Sync for Counts {}

static ALL: Counts = Counts(UnsafeCell::new([0; LEN]));
static CLEAN: Counts = Counts(UnsafeCell::new([0; LEN]));

/// One histogram.
pub struct Histogram {
    counts: &'static mut [u32; LEN],
    least: usize,
    most: usize,
    len: u64,
}

/// Both. There is one pair: whoever needs it gets it passed.
pub fn pair() -> (Histogram, Histogram) {
    // SAFETY: called once.
    unsafe { (Histogram::new(&mut *ALL.0.get()), Histogram::new(&mut *CLEAN.0.get())) }
}

impl Histogram {
    fn new(counts: &'static mut [u32; LEN]) -> Self {
        // The first touch of a page leaves the guest, which must not happen when a rare value is counted among samples.
        for count in counts.iter_mut() {
            // SAFETY: a reference. Volatile, as it holds zero already.
            unsafe { core::ptr::from_mut(count).write_volatile(0) };
        }
        Self { counts, least: LEN, most: 0, len: crate::cpu::zero() }
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn record(&mut self, value: u64) {
        let index = buckets::index(value);
        if let Some(count) = self.counts.get_mut(index) {
            *count += 1;
        }
        self.least = self.least.min(index);
        self.most = self.most.max(index);
        self.len += 1;
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        if self.len > 0 {
            for count in &mut self.counts[self.least..=self.most] {
                *count = 0;
            }
        }
        (self.least, self.most, self.len) = (LEN, 0, crate::cpu::zero());
    }

    /// The median; 0 when there is none.
    pub fn median(&self) -> u64 {
        let mut left = self.len.div_ceil(2);
        let mut index = self.least;
        while index <= self.most {
            let count = u64::from(self.counts[index]);
            if count >= left {
                return buckets::value(index);
            }
            left -= count;
            index += 1;
        }
        0
    }

    /// `[[value,count],...]`, ascending.
    pub fn write(&self, serial: &mut Serial) {
        serial.raw("[");
        let mut first = true;
        for index in self.least..=self.most.min(LEN - 1) {
            let count = self.counts[index];
            if count > 0 {
                serial.raw(if first { "[" } else { ",[" });
                serial.number(buckets::value(index));
                serial.raw(",");
                serial.number(count.into());
                serial.raw("]");
                first = false;
            }
        }
        serial.raw("]");
    }
}
