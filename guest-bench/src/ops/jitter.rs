//! Gaps: a thread does nothing but read the counter, and sees by how much it moved on when somebody else had the CPU: an
//! interrupt, the guest's scheduler, the hypervisor.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Noun, Opened, Place, Refusal, Spec, Target};
use crate::measure::disturbance::Disturbances;
use crate::measure::round::{Details, Round, histogram, pairs};
use crate::shared::bracket::{self, Sample};

pub(super) const NOUN: Noun =
    Noun { name: "jitter", usual: || vec![Spec::new("jitter")], open: |spec, place| open(spec, place) };

/// A shorter gap is not one, ns: more than anything that a processor does by itself takes.
const THRESHOLD: u64 = 1000;

fn open(spec: &Spec, place: Place) -> Opened {
    let threshold = spec.number("threshold_ns", THRESHOLD)?;
    if place.hz == 0 {
        return Err(Refusal::new("the frequency of the time-stamp counter is not known", "nothing helps"));
    }
    let cycles = u128::from(threshold) * u128::from(place.hz) / 1_000_000_000;
    Ok(Box::new(Jitter {
        place,
        threshold: u64::try_from(cycles).unwrap_or(u64::MAX).max(1),
        usual: usual_step(),
        details: Details::default(),
    }))
}

/// From one reading to the next when nobody disturbs, cycles.
fn usual_step() -> u64 {
    let mut steps = Vec::with_capacity(10_000);
    let mut last = bracket::start();
    for _ in 0..steps.capacity() {
        let now = bracket::start();
        steps.push(now.saturating_sub(last));
        last = now;
    }
    steps.sort_unstable();
    steps[steps.len() / 2]
}

/// Watches for gaps.
struct Jitter {
    place: Place,
    threshold: u64,
    usual: u64,
    details: Details,
}

impl Jitter {
    fn ns(&self, cycles: u64) -> u64 {
        u64::try_from(u128::from(cycles) * 1_000_000_000 / u128::from(self.place.hz)).unwrap_or(u64::MAX)
    }

    fn round(&mut self, time: Duration, most: u64) -> Round {
        let limit = u128::from(self.place.hz) * time.as_nanos() / 1_000_000_000;
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        let mut gaps = histogram();
        let (mut lost, mut recording, mut went_back) = (0_u64, 0_u64, false);
        let before = Disturbances::now(self.place.cpu);
        let real = Instant::now();
        let begin = bracket::start();
        let mut last = begin;
        while last.saturating_sub(begin) < limit && gaps.len() < most {
            let now = bracket::start();
            let step = now.wrapping_sub(last);
            last = now;
            if step <= self.threshold {
                continue;
            }
            if step > u64::MAX / 2 {
                // How long it will take to come back nobody knows.
                went_back = true;
                break;
            }
            let gap = step.saturating_sub(self.usual);
            gaps.saturating_record(gap);
            lost += gap;
            // Keeping it takes time, in which nobody watches.
            last = bracket::start();
            recording += last.saturating_sub(now);
        }
        let watched = last.saturating_sub(begin).saturating_sub(recording);
        let real = u64::try_from(real.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let seen = Disturbances::now(self.place.cpu).since(before);
        let totals = [
            ("watched_ns", self.ns(watched)),
            ("lost_ns", self.ns(lost)),
            ("clock_ns", real),
            ("run_delay_ns", seen.run_delay_ns),
            ("steal_ns", seen.steal * 10_000_000),
        ];
        self.details.totals = totals.map(|(name, ns)| (name.to_owned(), ns)).into();
        let named = |counts: [(&str, u64); 3]| counts.map(|(name, count)| (name.to_owned(), count)).into();
        let evidence: BTreeMap<_, _> =
            named([("gaps", gaps.len()), ("interrupts", seen.interrupts), ("preemptions", seen.preempted)]);
        let all = pairs(&gaps);
        Round {
            clean: all.clone(),
            all,
            evidence,
            details: self.details.clone(),
            doubt: went_back
                .then(|| "the time-stamp counter went back, after which nobody watched".to_owned()),
            ..Round::default()
        }
    }
}

impl Target for Jitter {
    fn fill(&mut self, _: &mut [Sample], _: u32) -> Result<(), Refusal> {
        Err(Refusal::new("gaps are not taken one by one", "report this"))
    }

    fn watch(&mut self, time: Duration, samples: u64) -> Option<Result<Round, Refusal>> {
        Some(Ok(self.round(time, samples)))
    }

    fn way(&self) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::tsc;

    fn watch(threshold: u64, time: Duration, most: u64) -> Round {
        let place = Place::new(0, tsc::find().hz).unwrap();
        let mut target = open(&Spec::new("jitter").with("threshold_ns", threshold), place).unwrap();
        target.watch(time, most).unwrap().unwrap()
    }

    #[test]
    fn it_watches_as_long_as_another_clock_says() {
        let round = watch(THRESHOLD, Duration::from_millis(200), u64::MAX);
        let total = |name: &str| round.details.totals[name];
        let ratio = total("watched_ns") as f64 / total("clock_ns") as f64;
        assert!((0.8..1.001).contains(&ratio), "{round:?}");
        assert!(total("lost_ns") < total("watched_ns"), "{round:?}");
        assert_eq!(round.samples(), round.evidence["gaps"]);
    }

    #[test]
    fn it_ends_with_enough_gaps() {
        // Every step is a gap.
        let round = watch(0, Duration::from_secs(10), 1000);
        assert_eq!(round.samples(), 1000);
        assert!(round.details.totals["clock_ns"] < 5_000_000_000);
    }

    /// Others that want the CPU are seen: two threads have half of it each.
    #[test]
    fn a_competitor_is_seen() {
        let cpu = *crate::cpu::allowed().unwrap().last().unwrap();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let competitor = std::thread::spawn({
            let stop = stop.clone();
            move || {
                crate::cpu::pin(cpu).unwrap();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            }
        });
        let round = std::thread::spawn(move || {
            crate::cpu::pin(cpu).unwrap();
            let place = Place::new(cpu, tsc::find().hz).unwrap();
            let mut target = open(&Spec::new("jitter"), place).unwrap();
            target.watch(Duration::from_millis(400), u64::MAX).unwrap().unwrap()
        });
        let round = round.join().unwrap();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        competitor.join().unwrap();
        let total = |name: &str| round.details.totals[name] as f64;
        assert!(total("lost_ns") / total("watched_ns") > 0.2, "{:?}", round.details);
        assert!(round.evidence["preemptions"] > 0, "{:?}", round.evidence);
        let longest = round.all.last().unwrap().0;
        assert!(longest > tsc::find().hz / 1000, "{longest}");
    }
}
