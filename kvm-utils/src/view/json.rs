//! JSON Lines: one document per report, on one line, with the same keys in the same order every time.
//!
//! | Key | Value |
//! |---|---|
//! | `schema` | `kvm-utils/<noun>/v1` |
//! | `time` | End of the interval, RFC 3339, UTC |
//! | `interval_s` | Length of the interval as measured, seconds |
//! | `summary` | `true` in the document that covers the whole run |
//! | `count` | Events of all rows |
//! | `host` | `kernel`, `isa`, `cpus`, `cpu` |
//! | `proof` | See below |
//! | `vms` | `pid`, `name`, `vmm`, `uuid` (that the guest sees), `id` (the manager's), `within` (what its process runs in, the outermost first: `kind` and `name`), `ended`, `count`, `busy_share` and `waiting_share` (of the vCPUs' wall time, 0 to 1), `vcpus` (`vcpu`, `tid`, `count`, `running`: `reason` and `for_ns`, and under the noun its rows; `others`: `true` where it stands for the other threads of the process, `tid` being the process), `totals` (rows of all its vCPUs) |
//! | `totals` | Rows over all VMs |
//! | `hints`, `notes` | Sentences |
//!
//! A row has one key per column, in the unit that the column's name ends with (`_ns` nanoseconds; `rate` is per second,
//! shares are 0 to 1), and `waiting`: `true` where the time is no work. What is not known is `null`.
//!
//! `proof.kvm_stat` is KVM's own count where it can be compared: equal to `counted` if that lies within what KVM
//! counted between the two reads around ours (`kvm_stat_least`, `kvm_stat_most`), else the nearer of these two;
//! `null`, with the reason in `kvm_stat_unknown`, where it cannot be known. `verdict` is `proven`, `unchecked` or
//! `doubtful`, the last with sentences in `doubts`. `own_cost` is the share of one CPU that the tracing took.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use time::OffsetDateTime;

use crate::model::{Cell, Column, Host, KvmStat, Proof, Report, Row, Vcpu, Verdict, Vm};

/// One document, without the newline.
///
/// # Errors
///
/// serde_json's; the types here give it no cause for any.
pub fn line(report: &Report) -> serde_json::Result<String> {
    Ok(terminal_safe(&serde_json::to_string(&Document::from(report))?))
}

/// A document with everything escaped that a terminal obeys: JSON may hold DEL and the C1 controls as they are. They
/// occur within strings only.
#[must_use]
pub fn terminal_safe(line: &str) -> String {
    let mut safe = String::with_capacity(line.len());
    for c in line.chars() {
        if ('\u{7f}'..='\u{9f}').contains(&c) {
            safe.push_str(&format!("\\u{:04x}", c as u32));
        } else {
            safe.push(c);
        }
    }
    safe
}

/// RFC 3339 in UTC with milliseconds; `None` outside of the years that it can write.
#[must_use]
pub fn rfc3339(time: SystemTime) -> Option<String> {
    let nanoseconds = match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i128::try_from(since.as_nanos()).ok()?,
        Err(before) => -i128::try_from(before.duration().as_nanos()).ok()?,
    };
    let t = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok()?;
    let year = u16::try_from(t.year()).ok().filter(|year| *year <= 9999)?;
    let (month, day) = (u8::from(t.month()), t.day());
    let (hour, minute, second, ms) = (t.hour(), t.minute(), t.second(), t.millisecond());
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z"))
}

#[derive(Serialize)]
struct Document<'a> {
    schema: String,
    time: Option<String>,
    interval_s: f64,
    summary: bool,
    count: u64,
    host: HostJson<'a>,
    proof: ProofJson<'a>,
    vms: Vec<VmJson<'a>>,
    totals: Rows<'a>,
    hints: &'a [String],
    notes: &'a [String],
}

impl<'a> From<&'a Report> for Document<'a> {
    fn from(report: &'a Report) -> Self {
        Self {
            schema: format!("kvm-utils/{}/v1", report.noun),
            time: rfc3339(report.time),
            interval_s: report.interval.as_secs_f64(),
            summary: report.summary,
            count: report.events,
            host: HostJson::from(&report.host),
            proof: ProofJson::from(&report.proof),
            vms: report.vms.iter().map(|vm| VmJson::new(vm, report)).collect(),
            totals: Rows { rows: &report.totals, columns: report.columns },
            hints: &report.hints,
            notes: &report.notes,
        }
    }
}

#[derive(Serialize)]
struct HostJson<'a> {
    kernel: &'a str,
    isa: &'a str,
    cpus: u32,
    cpu: &'a str,
}

impl<'a> From<&'a Host> for HostJson<'a> {
    fn from(host: &'a Host) -> Self {
        Self { kernel: &host.kernel, isa: &host.isa, cpus: host.cpus, cpu: &host.cpu }
    }
}

#[derive(Serialize)]
struct ProofJson<'a> {
    source: &'a str,
    counted: u64,
    kvm_stat: Option<u64>,
    kvm_stat_least: Option<u64>,
    kvm_stat_most: Option<u64>,
    kvm_stat_unknown: Option<&'a str>,
    missed: Option<u64>,
    unpaired: u64,
    entries_without_exit: u64,
    in_progress: u64,
    vcpus_full: u64,
    histograms_full: u64,
    unreadable: u64,
    rows_full: u64,
    own_cost: Option<f64>,
    verdict: &'static str,
    doubts: Vec<String>,
}

impl<'a> From<&'a Proof> for ProofJson<'a> {
    fn from(proof: &'a Proof) -> Self {
        let (bounds, unknown) = match &proof.kvm_stat {
            KvmStat::Between { least, most } => (Some((*least, *most)), None),
            KvmStat::Unknown(why) => (None, Some(why.as_str())),
            KvmStat::NotKept => (None, Some("KVM keeps no statistic of these events")),
        };
        let (verdict, doubts) = match proof.verdict() {
            Verdict::Proven => ("proven", Vec::new()),
            Verdict::Unchecked => ("unchecked", Vec::new()),
            Verdict::Doubtful(doubts) => ("doubtful", doubts),
        };
        Self {
            source: proof.source,
            counted: proof.counted,
            // Not clamp(), which panics should the bounds ever cross.
            kvm_stat: bounds.map(|(least, most)| proof.counted.min(most).max(least)),
            kvm_stat_least: bounds.map(|(least, _)| least),
            kvm_stat_most: bounds.map(|(_, most)| most),
            kvm_stat_unknown: unknown,
            missed: proof.missed,
            unpaired: proof.unpaired,
            entries_without_exit: proof.entries_without_exit,
            in_progress: proof.in_progress,
            vcpus_full: proof.vcpus_full,
            histograms_full: proof.histograms_full,
            unreadable: proof.unreadable,
            rows_full: proof.rows_full,
            own_cost: proof.own_cost,
            verdict,
            doubts,
        }
    }
}

#[derive(Serialize)]
struct VmJson<'a> {
    pid: u32,
    name: &'a str,
    vmm: &'a str,
    uuid: Option<&'a str>,
    id: Option<&'a str>,
    within: Vec<PlaceJson<'a>>,
    ended: bool,
    count: u64,
    busy_share: Option<f64>,
    waiting_share: Option<f64>,
    vcpus: Vec<VcpuJson<'a>>,
    totals: Rows<'a>,
}

#[derive(Serialize)]
struct PlaceJson<'a> {
    kind: &'a str,
    name: &'a str,
}

impl<'a> VmJson<'a> {
    fn new(vm: &'a Vm, report: &'a Report) -> Self {
        Self {
            pid: vm.pid,
            name: &vm.name,
            vmm: &vm.vmm,
            uuid: vm.uuid.as_deref(),
            id: vm.id.as_deref(),
            within: vm.within.iter().map(|place| PlaceJson { kind: place.kind, name: &place.name }).collect(),
            ended: vm.ended,
            count: vm.events,
            busy_share: vm.busy_share,
            waiting_share: vm.waiting_share,
            vcpus: vm.vcpus.iter().map(|vcpu| VcpuJson { vcpu, report }).collect(),
            totals: Rows { rows: &vm.rows, columns: report.columns },
        }
    }
}

struct VcpuJson<'a> {
    vcpu: &'a Vcpu,
    report: &'a Report,
}

impl Serialize for VcpuJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Running<'a> {
            reason: &'a str,
            for_ns: u64,
        }
        let running = self
            .vcpu
            .running
            .as_ref()
            .map(|running| Running { reason: &running.reason, for_ns: running.for_ns });
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("vcpu", &self.vcpu.vcpu)?;
        map.serialize_entry("tid", &self.vcpu.tid)?;
        if self.vcpu.others {
            map.serialize_entry("others", &true)?;
        }
        map.serialize_entry("count", &self.vcpu.events)?;
        map.serialize_entry("running", &running)?;
        map.serialize_entry(self.report.noun, &Rows { rows: &self.vcpu.rows, columns: self.report.columns })?;
        map.end()
    }
}

struct Rows<'a> {
    rows: &'a [Row],
    columns: &'a [Column],
}

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut rows = serializer.serialize_seq(Some(self.rows.len()))?;
        for row in self.rows {
            rows.serialize_element(&RowJson { row, columns: self.columns })?;
        }
        rows.end()
    }
}

struct RowJson<'a> {
    row: &'a Row,
    columns: &'a [Column],
}

impl Serialize for RowJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.columns.len() + 1))?;
        for (index, column) in self.columns.iter().enumerate() {
            match self.row.cells.get(index) {
                Some(Cell::Text(text)) => map.serialize_entry(column.id, text)?,
                Some(Cell::List(texts)) => map.serialize_entry(column.id, texts)?,
                Some(Cell::Number(n)) => map.serialize_entry(column.id, n)?,
                // Not a number and infinity become null.
                Some(Cell::Real(r)) => map.serialize_entry(column.id, r)?,
                Some(Cell::Unknown) | None => map.serialize_entry(column.id, &())?,
            }
        }
        map.serialize_entry("waiting", &self.row.waiting)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn time_is_written_as_rfc_3339() {
        assert_eq!(rfc3339(UNIX_EPOCH).as_deref(), Some("1970-01-01T00:00:00.000Z"));
        let later = UNIX_EPOCH + Duration::from_millis(1_795_170_896_789);
        assert_eq!(rfc3339(later).as_deref(), Some("2026-11-20T10:34:56.789Z"));
        let before = UNIX_EPOCH - Duration::from_millis(1);
        assert_eq!(rfc3339(before).as_deref(), Some("1969-12-31T23:59:59.999Z"));
        assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(300_000_000_000)), None);
    }
}
