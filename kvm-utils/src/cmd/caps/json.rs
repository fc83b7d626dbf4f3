//! The document: `{"schema":"kvm-utils/caps/v1", ...}`.

use std::time::SystemTime;

use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::bpf::caps::{Blocker, Caps, Group, Item, Verdict};

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    time: String,
    host: Host<'a>,
    exits: Exits<'a>,
    items: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Host<'a> {
    kernel: &'a str,
    arch: &'a str,
    cpu: &'a str,
    cpus: u32,
    cpus_possible: u32,
}

#[derive(Serialize)]
struct Exits<'a> {
    can_run: bool,
    source: Option<&'static str>,
    sources: Vec<&'static str>,
    blockers: &'a [Blocker],
}

#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    group: Group,
    title: &'a str,
    state: &'a str,
    detail: Option<&'a str>,
    why: Option<&'a str>,
    remedy: Option<&'a str>,
}

impl<'a> From<&'a Item> for Row<'a> {
    fn from(item: &'a Item) -> Self {
        Self {
            id: item.id,
            group: item.group,
            title: item.title,
            state: item.support.state(),
            detail: Some(item.detail.as_str()).filter(|detail| !detail.is_empty()),
            why: item.support.why(),
            remedy: item.support.remedy(),
        }
    }
}

/// The document on one line, with its end.
pub(super) fn document(caps: &Caps, verdict: &Verdict, now: SystemTime) -> anyhow::Result<String> {
    let (source, blockers) = match verdict {
        Verdict::Runs { source } => (Some(source.name()), &[][..]),
        Verdict::Blocked(blockers) => (None, blockers.as_slice()),
    };
    let document = Document {
        schema: "kvm-utils/caps/v1",
        time: OffsetDateTime::from(now).format(&Rfc3339)?,
        host: Host {
            kernel: &caps.host.kernel,
            arch: &caps.host.arch,
            cpu: &caps.host.cpu,
            cpus: caps.host.cpus_online,
            cpus_possible: caps.host.cpus_possible,
        },
        exits: Exits {
            can_run: source.is_some(),
            source,
            sources: caps.sources().iter().map(|source| source.name()).collect(),
            blockers,
        },
        items: caps.items.iter().map(Row::from).collect(),
    };
    Ok(serde_json::to_string(&document)? + "\n")
}
