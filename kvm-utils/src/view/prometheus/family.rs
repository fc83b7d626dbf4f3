//! Metrics as the formats know them.

use super::{Labels, bins};

/// What a family's metrics are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How durations are distributed.
    Histogram,
    /// Facts in labels; the value is 1.
    Info,
    /// 1 for the state in the label that is named like the family, 0 for its other states.
    StateSet,
}

/// Metrics of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Without the suffix that samples have: `kvm_exits`, not `kvm_exits_total`.
    pub name: String,
    /// What they are.
    pub kind: Kind,
    /// A sentence.
    pub help: String,
    /// One for each set of labels.
    pub metrics: Vec<Metric>,
}

/// One set of labels and what it has.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Distinct within the family.
    pub labels: Labels,
    /// Its value.
    pub value: Value,
    /// When it was 0, seconds since 1970, if that is to be told.
    pub created: Option<f64>,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number.
    Count(u64),
    /// Nanoseconds, to be written as seconds.
    Nanoseconds(u64),
    /// Any number.
    Real(f64),
    /// How durations are distributed.
    Durations {
        /// How many are in each bin.
        bins: [u64; bins::BINS],
        /// Their sum, ns.
        total_ns: u64,
    },
}

impl Family {
    /// A family without metrics.
    pub fn new(name: impl Into<String>, kind: Kind, help: impl Into<String>) -> Self {
        Self { name: name.into(), kind, help: help.into(), metrics: Vec::new() }
    }

    /// With one more metric.
    #[must_use]
    pub fn with(mut self, labels: Labels, value: Value) -> Self {
        self.push(labels, value);
        self
    }

    /// Adds a metric.
    pub fn push(&mut self, labels: Labels, value: Value) {
        self.metrics.push(Metric { labels, value, created: None });
    }

    /// The unit that the name ends with, which OpenMetrics wants to be told.
    #[must_use]
    pub fn unit(&self) -> Option<&'static str> {
        ["seconds", "bytes", "ratio"].into_iter().find(|unit| {
            self.kind != Kind::Info && self.name.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_'))
        })
    }

    /// The names that its samples have.
    #[must_use]
    pub fn samples(&self) -> Vec<String> {
        let suffixes: &[&str] = match self.kind {
            Kind::Counter => &["_total"],
            Kind::Gauge | Kind::StateSet => &[""],
            Kind::Info => &["_info"],
            Kind::Histogram => &["_bucket", "_count", "_sum"],
        };
        suffixes.iter().map(|suffix| format!("{}{suffix}", self.name)).collect()
    }
}
