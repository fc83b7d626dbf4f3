//! Which format a client wants: the header `Accept` (RFC 9110, 12.5.1).

use crate::view::prometheus::Format;

/// The format for what the client accepts. OpenMetrics only for one that names it, and does not like text better: a
/// browser that takes anything shall show the text, not store it.
#[must_use]
pub fn format(accept: Option<&str>) -> Format {
    let (mut open, mut text) = (0.0_f32, 0.0_f32);
    for range in accept.unwrap_or("text/plain").split(',') {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
        let value = |name: &str| {
            parameters
                .iter()
                .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim())
        };
        let quality = value("q").map_or(1.0, |q| q.parse::<f32>().unwrap_or(0.0));
        match kind.as_str() {
            // Version 0.0.1 has other rules for some names; who asks for that alone gets text.
            "application/openmetrics-text" if matches!(value("version"), None | Some("1.0.0")) => {
                open = open.max(quality);
            }
            "text/plain" | "text/*" | "*/*" => text = text.max(quality),
            _ => {}
        }
    }
    if open > 0.0 && open >= text { Format::OpenMetrics } else { Format::Prometheus }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_gets_open_metrics_and_browsers_text() {
        // What Prometheus 2.42 and 3.0 send.
        for accept in [
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
             application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
             text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            "Application/OpenMetrics-Text",
        ] {
            assert_eq!(format(Some(accept)), Format::OpenMetrics, "{accept}");
        }
        for accept in [
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
            "*/*",
            "",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text; q=0",
            "application/openmetrics-text;q=0.1,text/plain",
            "application/openmetrics-text;q=x,\u{0};;=,",
        ] {
            assert_eq!(format(Some(accept)), Format::Prometheus, "{accept}");
        }
        assert_eq!(format(None), Format::Prometheus);
    }
}
