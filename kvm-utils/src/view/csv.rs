//! CSV (RFC 4180 quoting, lines end with a newline): a header once, then a row for each row of each vCPU.
//!
//! Numbers are in the columns' units as in JSON; what is not known is empty, lists are joined with `;`. There is no
//! room for the proof: the caller writes doubts to stderr. Nor are UUID, id and place of a VM written: they would be the
//! same in each of its many rows, and shift the columns for those who read by position; pid and name tell the VMs of a
//! run apart, and JSON tells the rest.

use std::io::Write;

use csv::{Writer, WriterBuilder};

use super::{json, text};
use crate::model::{Cell, Column, Report, Row};

const KEYS: [&str; 6] = ["time", "interval_s", "pid", "name", "vcpu", "tid"];

/// Writes the header.
///
/// # Errors
///
/// Those of `out`.
pub fn header(out: impl Write, columns: &[Column]) -> std::io::Result<()> {
    let mut writer = writer(out);
    writer.write_record(KEYS.into_iter().chain(columns.iter().map(|column| column.id))).map_err(io)?;
    writer.flush()
}

/// Writes the rows of a report.
///
/// # Errors
///
/// Those of `out`.
pub fn rows(out: impl Write, report: &Report) -> std::io::Result<()> {
    let mut writer = writer(out);
    let time = json::rfc3339(report.time).unwrap_or_default();
    let interval = format!("{:?}", report.interval.as_secs_f64());
    for vm in &report.vms {
        let pid = vm.pid.to_string();
        let name = text::safe(&vm.name, true);
        for vcpu in &vm.vcpus {
            let id = vcpu.vcpu.map(|id| id.to_string()).unwrap_or_default();
            let tid = vcpu.tid.to_string();
            for row in &vcpu.rows {
                let keys = [&time, &interval, &pid, &name, &id, &tid];
                let cells = (0..report.columns.len()).map(|index| field(row, index));
                writer.write_record(keys.into_iter().cloned().chain(cells)).map_err(io)?;
            }
        }
    }
    writer.flush()
}

fn writer<W: Write>(out: W) -> Writer<W> {
    WriterBuilder::new().from_writer(out)
}

fn field(row: &Row, index: usize) -> String {
    match row.cells.get(index) {
        Some(Cell::Text(value)) => text::safe(value, true),
        Some(Cell::List(values)) => text::safe(&values.join(";"), true),
        Some(Cell::Number(n)) => n.to_string(),
        // Debug writes very large and very small numbers with an exponent, as JSON does.
        Some(Cell::Real(r)) if r.is_finite() => format!("{r:?}"),
        Some(Cell::Real(_) | Cell::Unknown) | None => String::new(),
    }
}

/// The cause as it came from the writer, so that the caller can tell a closed pipe.
fn io(error: csv::Error) -> std::io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => std::io::Error::other(format!("{other:?}")),
    }
}
