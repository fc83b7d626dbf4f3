//! What our own programs cost, by sampling.
//!
//! The kernel can measure the run time of BPF programs, at the price of two clock reads a run for every program on the
//! host. So it is asked to for a moment only, now and then; between, the mean time of a run is taken as known.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use crate::{
    bpf::{prog_info, tracer::Tracer},
    drilldown::sample::CostSample,
};

/// A sample ends at the first housekeeping after this many runs, or this time.
const ENOUGH_RUNS: u64 = 1000;
const SAMPLE: Duration = Duration::from_secs(2);
/// Time between samples.
const PAUSE: Duration = Duration::from_secs(60);

/// Mean run time of our programs.
pub struct Cost {
    sample: Option<(OwnedFd, Instant, prog_info::RunTime)>,
    next: Option<Instant>,
    mean_ns: Option<f64>,
    share: Option<f64>,
}

impl Cost {
    /// Nothing is known yet.
    #[must_use]
    pub fn new() -> Self {
        Self { sample: None, next: Some(Instant::now()), mean_ns: None, share: None }
    }

    /// Begins or ends a sample when its time has come. To be called a few times a second.
    pub fn tick(&mut self, tracer: &Tracer) {
        let now = Instant::now();
        if let Some((_, began, before)) = &self.sample {
            let Some(after) = tracer.run_time() else { return };
            let runs = after.runs.saturating_sub(before.runs);
            if runs >= ENOUGH_RUNS || now.duration_since(*began) >= SAMPLE {
                let (spent, elapsed) = (after.ns.saturating_sub(before.ns), now.duration_since(*began));
                self.share = Some(spent as f64 / elapsed.as_nanos().max(1) as f64);
                if runs > 0 {
                    self.mean_ns = Some(after.ns.saturating_sub(before.ns) as f64 / runs as f64);
                }
                self.sample = None;
                self.next = Some(now + if runs > 0 { PAUSE } else { SAMPLE });
            }
        } else if self.next.is_some_and(|next| next <= now) {
            // Where the kernel does not let us (before 5.8, or without CAP_SYS_ADMIN) the cost stays unknown.
            self.next = None;
            if let (Ok(statistics), Some(before)) = (prog_info::enable_run_time(), tracer.run_time()) {
                self.sample = Some((statistics, now, before));
            }
        }
    }

    /// What is known.
    #[must_use]
    pub fn sample(&self) -> CostSample {
        CostSample { mean_ns: self.mean_ns, share: self.share }
    }
}
