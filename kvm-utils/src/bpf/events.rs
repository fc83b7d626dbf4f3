//! The ring buffer through which the programs tell of exits one by one, where that is asked for.
//!
//! Nobody is woken when there is something in it: the programs would have to send their own CPU an interrupt for that. It
//! is to be emptied often enough; [`EventRing::pace`] says when. What finds it full is lost and counted in the vCPU's record.

use std::{
    borrow::Borrow,
    time::{Duration, Instant},
};

use aya::maps::{MapData, RingBuf};
use kvm_utils_common::stream::{EVENT_BYTES, EVENT_BYTES_IN_RING, ExitEvent};

use super::tracer::TracerError;

/// The name of the map.
pub(super) const MAP: &str = "EVENTS";

/// The smallest ring buffer that kernels make: a page. It is what there is when nobody asks for events.
pub(super) const LEAST_BYTES: u32 = 4096;
/// The largest that we make: it is memory of the kernel, all of it taken at once. That is room for 26 million exits.
pub const MOST_BYTES: u32 = 1 << 30;

/// A busy ring is emptied when this part of it may have filled.
const FILL: f64 = 0.25;
/// It is emptied at least so often, and not more often than that.
const SLOWEST: Duration = Duration::from_millis(200);
const FASTEST: Duration = Duration::from_millis(2);

/// An exit that is over, of a vCPU that is known for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToldExit {
    /// The vCPU: index of its record, and when it was taken, monotonic ns.
    pub vcpu: (u32, u64),
    /// What the program said.
    pub event: ExitEvent,
}

/// The reading end.
pub struct EventRing<T> {
    ring: RingBuf<T>,
    bytes: u32,
    /// When it was emptied last, and how many bytes per second came until then.
    emptied: Instant,
    rate: f64,
}

impl<T: Borrow<MapData>> EventRing<T> {
    /// The reading end of a ring buffer of `bytes` bytes.
    pub(super) fn new(ring: RingBuf<T>, bytes: u32) -> Self {
        Self { ring, bytes, emptied: Instant::now(), rate: 0.0 }
    }

    /// Takes everything that is there now. `since` tells when the record of a slot was taken.
    ///
    /// # Errors
    ///
    /// If the programs wrote what is no event.
    pub(super) fn drain(
        &mut self,
        since: impl Fn(u32) -> u64,
        into: &mut Vec<ToldExit>,
    ) -> Result<(), TracerError> {
        let mut bytes = 0;
        // What comes while we read may be read, but not for ever.
        while bytes < self.bytes as usize
            && let Some(item) = self.ring.next()
        {
            let event: &[u8; EVENT_BYTES] =
                (&*item).try_into().map_err(|_| TracerError::Object("map EVENTS"))?;
            let event = ExitEvent::from_bytes(event);
            into.push(ToldExit { vcpu: (event.slot, since(event.slot)), event });
            bytes += EVENT_BYTES_IN_RING;
        }
        let now = Instant::now();
        let seconds = now.duration_since(self.emptied).as_secs_f64();
        // Two calls at once say nothing of the rate.
        if seconds >= FASTEST.as_secs_f64() / 2.0 {
            (self.rate, self.emptied) = (bytes as f64 / seconds, now);
        }
        Ok(())
    }

    /// How long it may be left alone, as fast as it filled lately.
    #[must_use]
    pub fn pace(&self) -> Duration {
        pace(self.rate, self.bytes)
    }
}

/// How long a ring of `bytes` bytes may be left alone that fills with `rate` bytes per second.
fn pace(rate: f64, bytes: u32) -> Duration {
    let seconds = FILL * f64::from(bytes) / rate.max(1.0);
    Duration::from_secs_f64(seconds.clamp(FASTEST.as_secs_f64(), SLOWEST.as_secs_f64()))
}

/// The size of a ring buffer that the kernel accepts and that has room for `bytes` bytes: a power of two, at least a page.
#[must_use]
pub fn ring_bytes(bytes: u32) -> u32 {
    bytes.clamp(LEAST_BYTES, MOST_BYTES).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_two_that_the_kernel_accepts() {
        let sizes = [0, 1, 4096, 4097, 8 << 20, MOST_BYTES, u32::MAX].map(ring_bytes);
        assert_eq!(sizes, [4096, 4096, 4096, 8192, 8 << 20, MOST_BYTES, MOST_BYTES]);
    }

    #[test]
    fn a_ring_that_fills_fast_is_emptied_often() {
        assert_eq!(pace(0.0, 8 << 20), SLOWEST);
        // A million exits per second fill 8 MiB in 210 ms.
        assert_eq!(pace(40e6, 8 << 20).as_millis(), 52);
        assert_eq!(pace(40e6, 4096), FASTEST);
    }
}
