//! Families as text: OpenMetrics 1.0 and Prometheus's own text format, which differ in names and in what they can say.

use std::fmt::Write as _;

use super::{Family, Kind, Metric, Value, bins, number};

/// The formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// <https://prometheus.io/docs/specs/om/open_metrics_spec/>
    OpenMetrics,
    /// <https://prometheus.io/docs/instrumenting/exposition_formats/>
    Prometheus,
}

impl Format {
    /// For the header `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Writes families; those without metrics are left out.
#[must_use]
pub fn render(families: &[Family], format: Format) -> String {
    let bounds: Vec<String> = bins::LE_NS.iter().map(|ns| number::bound(*ns)).collect();
    let metrics: usize = families.iter().map(|family| family.metrics.len()).sum();
    let mut out = String::with_capacity(4096 + metrics * 1024);
    for family in families.iter().filter(|family| !family.metrics.is_empty()) {
        head(&mut out, family, format);
        for metric in &family.metrics {
            samples(&mut out, family, metric, &bounds);
            if let (Some(created), Format::OpenMetrics) = (metric.created, format) {
                sample(&mut out, family, "_created", metric, None);
                let _ = writeln!(out, "{created:.3}");
            }
        }
    }
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

fn head(out: &mut String, family: &Family, format: Format) {
    let (name, kind) = match (format, family.kind) {
        (Format::OpenMetrics, kind) => (family.name.clone(), open_metrics(kind)),
        // What this format does not know is a gauge, and the suffix is a part of the name.
        (Format::Prometheus, Kind::Counter) => (format!("{}_total", family.name), "counter"),
        (Format::Prometheus, Kind::Info) => (format!("{}_info", family.name), "gauge"),
        (Format::Prometheus, Kind::Histogram) => (family.name.clone(), "histogram"),
        (Format::Prometheus, Kind::Gauge | Kind::StateSet) => (family.name.clone(), "gauge"),
    };
    let mut help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
    if format == Format::OpenMetrics {
        help = help.replace('"', "\\\"");
    }
    let _ = writeln!(out, "# HELP {name} {help}");
    let _ = writeln!(out, "# TYPE {name} {kind}");
    if let (Format::OpenMetrics, Some(unit)) = (format, family.unit()) {
        let _ = writeln!(out, "# UNIT {name} {unit}");
    }
}

fn open_metrics(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
        Kind::Info => "info",
        Kind::StateSet => "stateset",
    }
}

fn samples(out: &mut String, family: &Family, metric: &Metric, bounds: &[String]) {
    let Value::Durations { bins, total_ns } = &metric.value else {
        let suffix = match family.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            _ => "",
        };
        sample(out, family, suffix, metric, None);
        match metric.value {
            Value::Count(count) => {
                let _ = write!(out, "{count}");
            }
            Value::Nanoseconds(ns) => number::seconds(out, ns),
            Value::Real(value) => number::real(out, value),
            Value::Durations { .. } => {}
        }
        out.push('\n');
        return;
    };
    let mut count = 0;
    for (at, bin) in bins.iter().enumerate() {
        count += bin;
        let bound = bounds.get(at).map_or("+Inf", String::as_str);
        sample(out, family, "_bucket", metric, Some(("le", bound)));
        let _ = writeln!(out, "{count}");
    }
    sample(out, family, "_count", metric, None);
    let _ = writeln!(out, "{count}");
    sample(out, family, "_sum", metric, None);
    number::seconds(out, *total_ns);
    out.push('\n');
}

/// A line up to the value.
fn sample(out: &mut String, family: &Family, suffix: &str, metric: &Metric, more: Option<(&str, &str)>) {
    out.push_str(&family.name);
    out.push_str(suffix);
    metric.labels.write(out, more);
    out.push(' ');
}
