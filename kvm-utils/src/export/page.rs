//! The text that is served, made from what the tracer says when it is asked.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hyper::body::Bytes;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use super::own;
use crate::{
    host::{Posted, SysRoot},
    model::Report,
    view::prometheus::{self, Exposition, Family, Format, Labels, Value, text},
};

/// Longer than this nobody waits for the tracer, and one that has said nothing for so long is not well: Prometheus itself
/// gives up after ten seconds.
const PATIENCE: Duration = Duration::from_secs(8);

const ENDED: &str = "the tracer has ended\n";

/// A wish for the numbers of now, with the way for the answer.
pub type Ask = oneshot::Sender<Collected>;

/// What the tracer says.
#[derive(Debug)]
pub struct Collected {
    /// Of the whole run so far, one for each drill-down.
    pub reports: Vec<Report>,
    /// How long it took to make them.
    pub took: Duration,
}

/// What the server has done, for its own metrics.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Answers by status, in the order of [`STATUSES`].
    pub responses: [AtomicU64; STATUSES.len()],
    /// Connections that made room for others.
    pub dropped: AtomicU64,
}

/// The statuses that there are.
pub(super) const STATUSES: [u16; 4] = [200, 404, 405, 503];

/// The pages.
#[derive(Debug)]
pub struct Pages {
    ask: mpsc::Sender<Ask>,
    /// Numbers younger than this are served again.
    refresh: Duration,
    patience: Duration,
    root: SysRoot,
    pub(super) counters: Counters,
    cache: Mutex<Cache>,
    /// Somebody asks the tracer.
    asking: AtomicBool,
    /// How that ended, the last time.
    asked: watch::Sender<Result<(), &'static str>>,
    /// When the tracer last said that it is well.
    pulse: Mutex<Instant>,
}

#[derive(Debug)]
struct Cache {
    exposition: Exposition,
    /// When the numbers were got.
    at: Option<Instant>,
    families: Vec<Family>,
    texts: Vec<(Format, Bytes)>,
}

impl Pages {
    /// Pages for the tracer that listens to `ask`, which is asked no more often than once in `refresh`.
    #[must_use]
    pub fn new(ask: mpsc::Sender<Ask>, exposition: Exposition, refresh: Duration) -> Self {
        Self {
            ask,
            refresh,
            patience: PATIENCE,
            root: SysRoot::default(),
            counters: Counters::default(),
            cache: Mutex::new(Cache { exposition, at: None, families: Vec::new(), texts: Vec::new() }),
            asking: AtomicBool::new(false),
            asked: watch::Sender::new(Ok(())),
            pulse: Mutex::new(Instant::now()),
        }
    }

    /// With another time than eight seconds to wait for the tracer.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Connections that were closed to make room for others.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.counters.dropped.load(Ordering::Relaxed)
    }

    /// The tracer is well; to be said a few times a second.
    pub fn beat(&self) {
        *lock(&self.pulse) = Instant::now();
    }

    /// Whether the tracer is well.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.ask.is_closed() && lock(&self.pulse).elapsed() < self.patience
    }

    /// The metrics. Clients that come while the numbers are being got all get the same, and one that goes away does not
    /// keep the others from them, nor make the tracer be asked again.
    ///
    /// # Errors
    ///
    /// A sentence, if the tracer does not answer.
    pub async fn metrics(self: &Arc<Self>, format: Format) -> Result<Bytes, &'static str> {
        let mut asked = self.asked.subscribe();
        if !lock(&self.cache).is_fresh(self.refresh) {
            if !self.asking.swap(true, Ordering::AcqRel) {
                tokio::spawn(Arc::clone(self).renew());
            }
            asked.changed().await.map_err(|_| ENDED)?;
            (*asked.borrow())?;
        }
        Ok(lock(&self.cache).text(format))
    }

    /// Gets new numbers.
    async fn renew(self: Arc<Self>) {
        let asked = self.collect().await.map(|collected| {
            let mut cache = lock(&self.cache);
            let now = Instant::now();
            cache.exposition.update(&collected.reports, now);
            cache.families = cache.exposition.families(kvm_bench::VERSION);
            cache.families.extend(self.families(collected.took));
            cache.texts.clear();
            cache.at = Some(now);
        });
        self.asking.store(false, Ordering::Release);
        let _ = self.asked.send_replace(asked);
    }

    async fn collect(&self) -> Result<Collected, &'static str> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.ask.send(answer).await.map_err(|_| ENDED)?;
            answered.await.map_err(|_| ENDED)
        };
        timeout(self.patience, asked).await.map_err(|_| "the tracer does not answer\n")?
    }

    /// What is of no drill-down.
    fn families(&self, took: Duration) -> Vec<Family> {
        use prometheus::own as names;
        let count = |number: &AtomicU64| Value::Count(number.load(Ordering::Relaxed));
        let mut families = vec![
            names::collection().with(Labels::default(), Value::Real(took.as_secs_f64())),
            STATUSES.iter().zip(&self.counters.responses).fold(
                names::responses(),
                |family, (status, number)| {
                    family.with(Labels::of("code", &status.to_string()), count(number))
                },
            ),
            names::dropped().with(Labels::default(), count(&self.counters.dropped)),
        ];
        if let Some(posted) = Posted::read(&self.root) {
            let kinds =
                [("running", posted.notifications), ("nested", posted.nested), ("wakeup", posted.wakeups)];
            families.push(kinds.into_iter().fold(names::posted(), |family, (kind, count)| {
                family.with(Labels::of("kind", kind), Value::Count(count))
            }));
        }
        families.extend(own::families(&self.root));
        families
    }
}

impl Cache {
    fn is_fresh(&self, refresh: Duration) -> bool {
        self.at.is_some_and(|at| at.elapsed() < refresh)
    }

    fn text(&mut self, format: Format) -> Bytes {
        if let Some((_, text)) = self.texts.iter().find(|(of, _)| *of == format) {
            return text.clone();
        }
        let text = Bytes::from(text::render(&self.families, format));
        self.texts.push((format, text.clone()));
        text
    }
}

/// What a thread that panicked left behind is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
