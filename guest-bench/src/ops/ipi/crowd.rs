//! Several senders at a time: a mesh of disjoint pairs, and broadcasts to all other CPUs.
//!
//! The measuring thread is one of the senders; the samples are its own. The others send for as long as it does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::thread::{MembarrierCommand, membarrier};

use super::super::helper::{Helper, Line, Spinner};
use super::super::{Opened, Place, Refusal, Spec, Target, witness};
use super::way::{self, Via, Way, await_handled, handled};
use super::{numa, place, via};
use crate::measure::disturbance::run_delay_ns;
use crate::measure::round::{Details, histogram, pairs};
use crate::numa::Nodes;
use crate::shared::bracket::{self, Sample};

/// How long the other senders may take to begin or to end.
const PATIENCE: Duration = Duration::from_secs(3);

/// As many disjoint pairs as there can be, or as are asked for with `pairs`.
pub(super) fn open_mesh(spec: &Spec, place: Place) -> Opened {
    let wanted = spec.args.contains_key("pairs").then(|| spec.number("pairs", 1)).transpose()?;
    let wanted = wanted.map(|wanted| usize::try_from(wanted).unwrap_or(usize::MAX));
    let pairs = place::pairs(&place.allowed(), &Nodes::here(), place.cpu, wanted, numa(spec)?)?;
    let wait = !spec.is_set("no_wait");
    let via = super::way(spec, pairs[0].1, true)?.via;
    let senders = pairs.iter().map(|&(cpu, dst)| Sender { cpu, hits: vec![dst] }).collect();
    let spinning = pairs.iter().map(|&(_, dst)| dst).collect();
    Crowd::open(Shape::One(via, wait), senders, spinning, false)
}

/// From one sender or, with `senders`, several to all other CPUs.
pub(super) fn open_broadcast(spec: &Spec, place: Place) -> Opened {
    let allowed = place.allowed();
    place::enough(&allowed)?;
    let senders = usize::try_from(spec.number("senders", 1)?).unwrap_or(usize::MAX);
    if senders == 0 || senders > allowed.len() {
        return Err(Refusal::new(
            format!("{senders} senders, and {} CPUs", allowed.len()),
            "choose --senders between 1 and the number of CPUs",
        ));
    }
    let (wait, lock) = (!spec.is_set("no_wait"), spec.is_set("lock"));
    let shape = match via(spec)? {
        Some(Via::Signal) => Shape::Signals(wait),
        None if lock || !wait => Shape::Signals(wait),
        None | Some(Via::Membarrier) if !lock && wait => {
            way::register_all()?;
            Shape::All
        }
        Some(via) => {
            return Err(Refusal::new(
                format!("via={} cannot do this to several CPUs", via.name()),
                "use --via membarrier, or for --lock and --no-wait --via signal",
            ));
        }
        None => return Err(Refusal::new("there is no such broadcast", "leave options away")),
    };
    if matches!(shape, Shape::Signals(_)) && senders > 1 {
        return Err(Refusal::new(
            "signals go to threads that spin, and the senders do not",
            "leave --senders away, or --lock and --no-wait",
        ));
    }
    let mut order = vec![place.cpu];
    order.extend(allowed.iter().copied().filter(|&cpu| cpu != place.cpu));
    let all_but = |cpu: usize| allowed.iter().copied().filter(|&other| other != cpu).collect();
    let sending = order[..senders].iter().map(|&cpu| Sender { cpu, hits: all_but(cpu) }).collect();
    Crowd::open(shape, sending, order[senders..].to_vec(), lock)
}

/// One thread that sends, and which CPUs each of its sends interrupts.
#[derive(Clone)]
struct Sender {
    cpu: usize,
    hits: Vec<usize>,
}

/// How a send is done.
#[derive(Clone, Copy)]
enum Shape {
    /// To one CPU; whether the answer is waited for where that is a choice.
    One(Via, bool),
    /// membarrier(PRIVATE_EXPEDITED)
    All,
    /// A signal to each thread, one after the other; whether the answers are waited for.
    Signals(bool),
}

/// A send that is ready.
enum Shot {
    One(Way),
    /// With the lines to the threads that spin; the other targets are senders.
    All(Vec<Line>),
    Signals {
        targets: Vec<(usize, u32)>,
        lines: Vec<Line>,
        wait: bool,
    },
}

impl Shot {
    fn ready(shape: Shape, sender: &Sender, spinners: &[Spinner]) -> Result<Self, Refusal> {
        let lines = spinners.iter().map(|spinner| spinner.line().clone()).collect();
        let spinner = |cpu: usize| spinners.iter().find(|spinner| spinner.cpu() == cpu);
        Ok(match shape {
            Shape::One(via, wait) => {
                let dst = sender.hits[0];
                let mut way = Way::open(via, dst, wait)?;
                if let Some(spinner) = spinner(dst) {
                    way.aim(spinner);
                }
                Self::One(way)
            }
            Shape::All => Self::All(lines),
            Shape::Signals(wait) => {
                // The handler is set up with the way.
                drop(Way::open(Via::Signal, sender.cpu, wait)?);
                let targets = sender.hits.iter().filter_map(|&cpu| Some((cpu, spinner(cpu)?.tid())));
                Self::Signals { targets: targets.collect(), lines, wait }
            }
        })
    }

    /// Waits until the targets' threads run, and notes what each has handled, for what waits for it.
    fn before(&self, seen: &mut Vec<u64>) -> Result<(), Refusal> {
        seen.clear();
        match self {
            Self::One(way) => {
                way.prepare()?;
                seen.push(handled(way.dst));
            }
            Self::All(lines) => lines.iter().try_for_each(Line::await_running)?,
            Self::Signals { targets, lines, .. } => {
                lines.iter().try_for_each(Line::await_running)?;
                seen.extend(targets.iter().map(|(cpu, _)| handled(*cpu)));
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn send(&self, seen: &[u64]) -> bool {
        match self {
            Self::One(way) => way.send(),
            Self::All(_) => membarrier(MembarrierCommand::PrivateExpedited).is_ok(),
            Self::Signals { targets, wait, .. } => {
                targets.iter().all(|(_, tid)| way::signal(*tid)) && (!wait || Self::answered(targets, seen))
            }
        }
    }

    fn answered(targets: &[(usize, u32)], seen: &[u64]) -> bool {
        targets.iter().zip(seen).all(|((cpu, _), seen)| await_handled(*cpu, seen + 1))
    }

    /// Outside of the bracket: until all have answered.
    fn settle(&self, seen: &[u64]) -> bool {
        match self {
            Self::One(way) => way.settle(seen[0]),
            Self::Signals { targets, wait: false, .. } => Self::answered(targets, seen),
            Self::All(_) | Self::Signals { .. } => true,
        }
    }
}

/// What another sender has done.
struct Tally {
    sent: AtomicU64,
    run_delay_ns: AtomicU64,
    /// Number of the phase it is in: see [`Crowd::phase`].
    phase: AtomicU64,
    has_failed: AtomicBool,
    times: Mutex<Histogram<u64>>,
}

/// One of the other senders.
struct Other {
    /// Ends it when dropped.
    _helper: Helper,
    tally: Arc<Tally>,
}

struct Crowd {
    shape: Shape,
    /// The first is the measuring thread.
    senders: Vec<Sender>,
    spinning: Vec<usize>,
    lock: bool,
    overhead: u64,
    spinners: Vec<Spinner>,
    mine: Option<Shot>,
    others: Vec<Other>,
    /// Odd while all send.
    phase: Arc<AtomicU64>,
    sent: u64,
    run_delay_ns: u64,
    elapsed: Duration,
    seen: Vec<u64>,
}

impl Crowd {
    fn open(shape: Shape, senders: Vec<Sender>, spinning: Vec<usize>, lock: bool) -> Opened {
        Ok(Box::new(Self {
            shape,
            senders,
            spinning,
            lock,
            overhead: crate::measure::overhead::measure().cycles,
            spinners: Vec::new(),
            mine: None,
            others: Vec::new(),
            phase: Arc::default(),
            sent: 0,
            run_delay_ns: 0,
            elapsed: Duration::ZERO,
            seen: Vec::new(),
        }))
    }

    fn via(&self) -> (&'static str, &'static str) {
        match self.shape {
            Shape::One(via, _) => (via.about(), via.kind()),
            Shape::All => ("membarrier", "CAL"),
            Shape::Signals(_) => ("signals to threads, one after the other", "RES"),
        }
    }

    /// From where to where, in words.
    fn cpus(&self) -> String {
        if !matches!(self.shape, Shape::One(..)) {
            let senders: Vec<_> = self.senders.iter().map(|sender| sender.cpu.to_string()).collect();
            return format!("{} -> all others", senders.join(", "));
        }
        let pairs: Vec<_> =
            self.senders.iter().map(|sender| format!("{} -> {}", sender.cpu, sender.hits[0])).collect();
        match pairs.as_slice() {
            [first, .., last] if pairs.len() > 4 => format!("{} pairs, {first} to {last}", pairs.len()),
            all => all.join(", "),
        }
    }

    /// Lets all begin or end; returns when they have.
    fn turn(&self) -> Result<(), Refusal> {
        let phase = self.phase.fetch_add(1, Ordering::Release) + 1;
        let deadline = Instant::now() + PATIENCE;
        for (other, sender) in self.others.iter().zip(&self.senders[1..]) {
            while other.tally.phase.load(Ordering::Acquire) != phase {
                if Instant::now() > deadline {
                    return Err(Refusal::new(
                        format!("the sender on CPU {} does not run", sender.cpu),
                        "see what else runs there",
                    ));
                }
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    /// So many sends of each sender, in order.
    fn counts(&self) -> Vec<u64> {
        let others = self.others.iter().map(|other| other.tally.sent.load(Ordering::Acquire));
        std::iter::once(self.sent).chain(others).collect()
    }

    /// The CPUs that are interrupted, and how often they should have been.
    fn expected(&self) -> BTreeMap<usize, u64> {
        let mut expected = BTreeMap::new();
        for (sender, count) in self.senders.iter().zip(self.counts()) {
            for &cpu in &sender.hits {
                *expected.entry(cpu).or_insert(0) += count;
            }
        }
        expected
    }
}

fn sent_to(cpu: usize) -> String {
    format!("sent to CPU {cpu}")
}

/// What another sender does.
fn send(shot: &Shot, tally: &Tally, phase: &AtomicU64, overhead: u64, stop: &AtomicBool) {
    let mut seen = Vec::new();
    let mut done = 0;
    loop {
        let mut now = phase.load(Ordering::Acquire);
        while now == done || now.is_multiple_of(2) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            std::hint::spin_loop();
            now = phase.load(Ordering::Acquire);
        }
        let delay = run_delay_ns();
        let mut times = histogram();
        tally.phase.store(now, Ordering::Release);
        while phase.load(Ordering::Acquire) == now && !stop.load(Ordering::Relaxed) {
            let mut is_ok = shot.before(&mut seen).is_ok();
            let sample = bracket::time(|| is_ok = is_ok && shot.send(&seen));
            if !is_ok || !shot.settle(&seen) {
                tally.has_failed.store(true, Ordering::Release);
                break;
            }
            tally.sent.fetch_add(1, Ordering::Release);
            times.saturating_record(sample.cycles.saturating_sub(overhead));
        }
        tally.run_delay_ns.fetch_add(run_delay_ns().saturating_sub(delay), Ordering::Release);
        // Both have the same bounds, so that adding cannot fail.
        let _ = tally.times.lock().unwrap_or_else(PoisonError::into_inner).add(&times);
        tally.phase.store(now + 1, Ordering::Release);
        done = now;
    }
}

impl Target for Crowd {
    fn begin(&mut self) -> Result<(), Refusal> {
        way::lock(self.lock);
        (self.sent, self.run_delay_ns, self.elapsed) = (0, 0, Duration::ZERO);
        self.phase = Arc::default();
        self.spinners = self.spinning.iter().map(|&cpu| Spinner::start(cpu)).collect::<Result<_, _>>()?;
        self.mine = Some(Shot::ready(self.shape, &self.senders[0], &self.spinners)?);
        for sender in &self.senders[1..] {
            let shot = Shot::ready(self.shape, sender, &self.spinners)?;
            let tally = Arc::new(Tally {
                sent: AtomicU64::new(0),
                run_delay_ns: AtomicU64::new(0),
                phase: AtomicU64::new(0),
                has_failed: AtomicBool::new(false),
                times: Mutex::new(histogram()),
            });
            let (its, phase, overhead) = (Arc::clone(&tally), Arc::clone(&self.phase), self.overhead);
            let helper = Helper::start(sender.cpu, move |stop| send(&shot, &its, &phase, overhead, stop))?;
            self.others.push(Other { _helper: helper, tally });
        }
        Ok(())
    }

    fn end(&mut self) {
        // Senders before their targets.
        self.others.clear();
        self.mine = None;
        self.spinners.clear();
    }

    fn fill(&mut self, samples: &mut [Sample], repeat: u32) -> Result<(), Refusal> {
        let Some(mine) = &self.mine else {
            return Err(Refusal::new("the round has not begun", "report this"));
        };
        let delay = run_delay_ns();
        self.turn()?;
        let since = Instant::now();
        let mut is_ok = true;
        let mut waited = Ok(());
        for sample in samples {
            if let Err(refusal) = mine.before(&mut self.seen) {
                waited = Err(refusal);
                break;
            }
            *sample = bracket::time(|| {
                for _ in 0..repeat {
                    is_ok &= mine.send(&self.seen);
                }
            });
            is_ok &= mine.settle(&self.seen);
            if !is_ok {
                break;
            }
            self.sent += u64::from(repeat);
        }
        self.turn()?;
        self.elapsed += since.elapsed();
        self.run_delay_ns += run_delay_ns().saturating_sub(delay);
        waited?;
        if !is_ok || self.others.iter().any(|other| other.tally.has_failed.load(Ordering::Acquire)) {
            return Err(Refusal::new("a send failed, or had no answer", "see what else runs on these CPUs"));
        }
        Ok(())
    }

    fn evidence(&mut self) -> BTreeMap<String, u64> {
        let expected = self.expected();
        let cpus: Vec<usize> = expected.keys().copied().collect();
        let mut counted = witness::interrupts(&[self.via().1], &cpus);
        counted.extend(expected.into_iter().map(|(cpu, count)| (sent_to(cpu), count)));
        counted
    }

    fn details(&mut self) -> Details {
        let delays = self.others.iter().map(|other| other.tally.run_delay_ns.load(Ordering::Acquire));
        let mut details = Details::default();
        details.notes.insert("via".into(), self.via().0.into());
        details.notes.insert("cpus".into(), self.cpus());
        details.notes.insert("senders".into(), self.senders.len().to_string());
        if self.lock {
            details.notes.insert("lock".into(), "each handler takes and releases one lock".into());
        }
        let sends = self.counts().into_iter().zip(&self.senders);
        let totals = [
            ("interrupts", sends.map(|(count, sender)| count * sender.hits.len() as u64).sum()),
            ("elapsed_ns", u64::try_from(self.elapsed.as_nanos()).unwrap_or(u64::MAX)),
            ("run_delay_ns", delays.sum::<u64>() + self.run_delay_ns),
        ];
        details.totals.extend(totals.map(|(name, count)| (name.to_owned(), count)));
        for (other, sender) in self.others.iter().zip(&self.senders[1..]) {
            let name = match (self.shape, sender.hits.first()) {
                (Shape::One(..), Some(dst)) => format!("{} -> {dst}", sender.cpu),
                _ => format!("{} -> all", sender.cpu),
            };
            let times = other.tally.times.lock().unwrap_or_else(PoisonError::into_inner);
            details.series.insert(name, pairs(&times));
        }
        details
    }

    fn doubt(&self, _: u64, counted: &BTreeMap<String, u64>) -> Option<String> {
        // One interrupt may carry the calls of several senders to the same CPU.
        let most =
            |cpu: usize| self.senders.iter().filter(|sender| sender.hits.contains(&cpu)).count() as u64;
        let cpus: Vec<usize> = self.senders.iter().flat_map(|sender| sender.hits.iter().copied()).collect();
        cpus.into_iter().find_map(|cpu| {
            let sent = counted.get(&sent_to(cpu)).copied().unwrap_or(0);
            witness::doubt(counted, self.via().1, cpu, sent / most(cpu).max(1))
        })
    }
}
