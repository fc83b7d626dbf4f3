//! `kvm-bench/v1`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use serde_json::{Value, json};

use super::Report;
use super::matrix::Matrix;
use crate::measure::Round;
use crate::measure::supervisor::{Measured, Status};
use crate::stats::{self, Scale, Summary};

/// Name and version of the form.
pub const SCHEMA: &str = "kvm-bench/v1";

/// The whole report.
///
/// # Errors
/// When a histogram cannot be written.
pub fn document(report: &Report) -> Result<Value> {
    let mut environment = report.environment.clone();
    environment["tsc"] = serde_json::to_value(&report.tsc)?;
    let results = report.results.iter().map(result).collect::<Result<Vec<_>>>()?;
    let mut document = json!({
        "schema": SCHEMA,
        "environment": environment,
        "interrupted": report.interrupted,
        "results": results,
    });
    if let Some(matrix) = Matrix::of(&report.results) {
        document["matrix"] = serde_json::to_value(matrix)?;
    }
    Ok(document)
}

/// One operation. The figures are of clean samples, one operation without the bracket; `all` and `raw` are beside them.
fn result(measured: &Measured) -> Result<Value> {
    let (status, reason, hint) = match &measured.status {
        Status::Ok => ("ok", None, None),
        Status::Suspect(reason) => ("suspect", Some(reason), None),
        Status::Skipped(reason, hint) => ("skipped", Some(reason), Some(hint)),
        Status::Failed(reason) => ("failed", Some(reason), None),
    };
    let mut value = json!({
        "op": measured.spec.op,
        "args": measured.spec.args,
        "status": status,
        "reason": reason,
        "hint": hint,
        "unit": "cycles",
    });
    let net = Scale::Net(measured.ready);
    let rounds = &measured.rounds;
    let clean: Vec<_> = rounds.iter().map(|round| &round.clean).collect();
    let all: Vec<_> = rounds.iter().map(|round| &round.all).collect();
    if !rounds.is_empty() {
        // Also when there is no sample: that there are no gaps is what one wants to know.
        value["rejected"] = serde_json::to_value(stats::rejected(rounds))?;
        value["evidence"] = serde_json::to_value(stats::evidence(rounds))?;
        value["totals"] = serde_json::to_value(stats::totals(rounds))?;
        value["notes"] = serde_json::to_value(stats::notes(rounds))?;
    }
    if let Some(summary) = Summary::of(&clean, net) {
        merge(&mut value, serde_json::to_value(summary)?);
        value["all"] = serde_json::to_value(Summary::of(&all, net))?;
        value["raw"] = serde_json::to_value(Summary::of(&all, Scale::Raw))?;
        value["overhead"] = measured.ready.overhead.into();
        value["way"] = measured.ready.way.into();
        value["quantum"] = measured.ready.quantum.into();
        value["repeat"] = measured.ready.repeat.into();
        let samples: u64 = rounds.iter().map(Round::samples).sum();
        let operations = measured.ready.warm_up + samples * u64::from(measured.ready.repeat);
        value["operations"] = operations.into();
        value["hdr"] = encode(&stats::merge(clean.iter().copied()))?.into();
        value["hdr_all"] = encode(&stats::merge(all.iter().copied()))?.into();
        if let Some(rate) = stats::rate(&stats::totals(rounds)) {
            value["interrupts_per_s"] = rate.into();
        }
        let series = stats::series(rounds).into_iter();
        let series = series.filter_map(|(name, rounds)| Some((name, Summary::of(&rounds, Scale::Raw)?)));
        value["series"] = serde_json::to_value(series.collect::<BTreeMap<_, _>>())?;
        let each: Vec<_> = clean.iter().filter_map(|pairs| Summary::of(&[pairs], net)).collect();
        for quantile in ["p50", "p90", "p99"] {
            let values = each.iter().filter_map(|summary| summary.quantile(quantile));
            value[format!("rounds_{quantile}")] = values.collect::<Vec<_>>().into();
        }
    }
    Ok(value)
}

fn merge(value: &mut Value, more: Value) {
    if let (Value::Object(value), Value::Object(more)) = (value, more) {
        value.extend(more);
    }
}

/// A histogram of raw cycles as every HdrHistogram library reads it: V2, deflate, base64.
fn encode(histogram: &Histogram<u64>) -> Result<String> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).context("cannot write a histogram")?;
    Ok(STANDARD.encode(bytes))
}
