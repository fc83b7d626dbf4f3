//! Reads `kvm-bench/v1`, also of versions that write less or more.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use serde::Deserialize;
use serde_json::Value;

/// Why a report cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// No file, or no right to read it.
    #[error("cannot read {path}: {error}; name a file written by `kvm-bench all -o json`")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// It ends too early.
    #[error("{path} is cut off in line {line}: copy it again, or measure again")]
    Cut {
        /// Which.
        path: PathBuf,
        /// Where it ends.
        line: usize,
    },
    /// It is no report.
    #[error("{path} is no report of kvm-bench: {error}; write one with `kvm-bench all -o json`")]
    Form {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        error: serde_json::Error,
    },
    /// It is something else, or of a later form.
    #[error(
        "{path} has the form {schema:?}, not kvm-bench/v1: compare reports of `kvm-bench ... -o json` with a kvm-bench that knows them"
    )]
    Schema {
        /// Which.
        path: PathBuf,
        /// What it says it is.
        schema: String,
    },
}

/// A report as far as comparing needs it.
#[derive(Clone, Debug, Deserialize)]
pub struct Document {
    /// `kvm-bench/v1`
    pub schema: String,
    /// The machine.
    #[serde(default)]
    pub environment: Value,
    /// The user ended it early.
    #[serde(default)]
    pub interrupted: bool,
    /// The operations.
    pub results: Vec<Entry>,
}

/// One operation of a report.
#[derive(Clone, Debug, Deserialize)]
pub struct Entry {
    /// Its name.
    pub op: String,
    /// What it was done with.
    #[serde(default)]
    pub args: BTreeMap<String, Value>,
    /// `ok`, `suspect`, `skipped`, `failed`, or what a later version may say.
    pub status: String,
    /// Why it is not ok.
    #[serde(default)]
    pub reason: Option<String>,
    /// Of all figures.
    #[serde(default)]
    pub unit: Option<String>,
    /// Undisturbed samples.
    #[serde(default)]
    pub n: u64,
    /// Median of all rounds.
    #[serde(default)]
    pub p50: Option<f64>,
    /// 99 % of all samples are not above it.
    #[serde(default)]
    pub p99: Option<f64>,
    /// Median of each round.
    #[serde(default)]
    pub rounds_p50: Vec<f64>,
    /// 90 % quantile of each round.
    #[serde(default)]
    pub rounds_p90: Vec<f64>,
    /// 99 % quantile of each round.
    #[serde(default)]
    pub rounds_p99: Vec<f64>,
    /// What the bracket costs, cycles.
    #[serde(default)]
    pub overhead: f64,
    /// What the way to the operation costs beside it, cycles.
    #[serde(default)]
    pub way: f64,
    /// The counter's step, cycles.
    #[serde(default)]
    pub quantum: f64,
    /// Operations per sample.
    #[serde(default = "one")]
    pub repeat: f64,
    /// Samples left out, by cause.
    #[serde(default)]
    pub rejected: BTreeMap<String, u64>,
    /// All undisturbed samples, raw.
    #[serde(default)]
    pub hdr: Option<String>,
}

fn one() -> f64 {
    1.0
}

impl Document {
    /// Reads a file.
    ///
    /// # Errors
    /// When there is none, when it is cut off, or when it is something else.
    pub fn read(path: &Path) -> Result<Self, Unreadable> {
        let text = fs::read(path).map_err(|error| Unreadable::File { path: path.into(), error })?;
        let wrong = |error: serde_json::Error| match error.is_eof() {
            true => Unreadable::Cut { path: path.into(), line: error.line() },
            false => Unreadable::Form { path: path.into(), error },
        };
        let value: Value = serde_json::from_slice(&text).map_err(wrong)?;
        // First, because anything else may look differently in another form.
        match value.get("schema").and_then(Value::as_str) {
            Some(schema) if schema != crate::report::json::SCHEMA => {
                return Err(Unreadable::Schema { path: path.into(), schema: schema.into() });
            }
            _ => {}
        }
        serde_json::from_value(value).map_err(wrong)
    }

    /// Cycles of its counter per second.
    pub fn hz(&self) -> Option<f64> {
        self.environment.pointer("/tsc/hz")?.as_f64().filter(|hz| *hz > 0.0)
    }
}

impl Entry {
    /// The name with the arguments, which is what is compared with its like.
    pub fn title(&self) -> String {
        let spec = crate::ops::Spec { op: self.op.clone(), args: self.args.clone() };
        spec.title()
    }

    /// Share of the samples in which something else had the CPU, in the guest or on the host.
    pub fn share_elsewhere(&self) -> f64 {
        let left_out: u64 = self.rejected.values().fold(0, |sum, count| sum.saturating_add(*count));
        let elsewhere = ["steal", "preempted"].iter().filter_map(|cause| self.rejected.get(*cause));
        let elsewhere: u64 = elsewhere.fold(0, |sum, count| sum.saturating_add(*count));
        elsewhere as f64 / self.n.saturating_add(left_out).max(1) as f64
    }

    /// A quantile of all undisturbed samples, one operation without the bracket, from the histogram.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let bytes = STANDARD.decode(self.hdr.as_deref()?).ok()?;
        let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).ok()?;
        let is_told = histogram.len() as f64 * (1.0 - share) >= crate::stats::BEYOND - 1e-6;
        let net = histogram.value_at_quantile(share) as f64 - self.overhead - self.way;
        is_told.then(|| net.max(0.0) / self.repeat.max(1.0))
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
    use serde_json::json;

    use super::*;

    #[test]
    fn quantiles_are_of_the_operation_alone() {
        let mut histogram = crate::measure::round::histogram();
        histogram.saturating_record_n(1352, 100);
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(&histogram, &mut bytes).unwrap();
        let mut value = json!({"op": "msr:read", "args": {}, "status": "ok", "overhead": 52.0, "hdr": STANDARD.encode(bytes)});
        let entry = |value: &Value| serde_json::from_value::<Entry>(value.clone()).unwrap();
        assert_eq!(entry(&value).quantile(0.5), Some(1300.0));
        value["way"] = json!(1000.0);
        assert_eq!(entry(&value).quantile(0.5), Some(300.0));
        value["way"] = json!(2000.0);
        assert_eq!(entry(&value).quantile(0.5), Some(0.0));
    }
}
