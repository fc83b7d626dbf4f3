//! exits: every VM exit, counted and timed per VM, vCPU and reason.

pub mod collect;
pub mod group;
pub mod report;
pub mod rows;
pub mod stats;

use super::noun::Noun;
use crate::bpf::hook::Hook;

/// The drill-down.
pub static NOUN: Noun = Noun {
    name: "exits",
    counting: ("exit", "exits"),
    hooks: &[Hook::KvmExit, Hook::KvmEntry, Hook::VcpuDestroy],
    maps: &[],
    columns: &rows::COLUMNS,
    sort: "count",
    mode: 0,
    row_bits: 0,
    counters: 0,
    build: None,
};
