//! Where each vCPU's time goes, over time: bars of the buckets of the drill-down `time`.

use std::time::Duration;

use serde::Serialize;

use super::{
    columns::Columns,
    scopes::Scopes,
    stack::{HEIGHT, band},
};
use crate::model::{Cell, Column, Report, Row};
use crate::view::text;

/// The columns with the buckets' times, the first at the bottom.
const BUCKETS: [&str; 7] = ["guest_ns", "kvm_ns", "vmm_ns", "poll_ns", "idle_ns", "steal_ns", "other_ns"];
/// Lanes times columns are no more than this.
const CELLS: usize = 6_000;
/// Columns of a lane at most.
const COLUMNS: usize = 240;
/// So many vCPUs of a VM have a lane.
const LANES: usize = 32;

/// The ledger of a drill-down.
#[derive(Debug, Serialize)]
pub struct Ledger {
    /// Names of the buckets.
    pub names: Vec<String>,
    /// Lanes per scope.
    pub of: Vec<Option<Lanes>>,
}

/// The lanes of a scope.
#[derive(Debug, Serialize)]
pub struct Lanes {
    /// Which of the drill-down's columns.
    #[serde(rename = "c")]
    pub columns: usize,
    /// From top to bottom.
    pub lanes: Vec<Lane>,
    /// vCPUs or VMs without a lane.
    pub more: usize,
}

/// One vCPU, or all of a VM's.
#[derive(Debug, Serialize)]
pub struct Lane {
    /// `vcpu 0`, or the VM's name.
    pub name: String,
    /// Time in each bucket, ns, per column.
    pub ns: Vec<Vec<u64>>,
    #[serde(skip)]
    key: Key,
}

/// Who has a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Vm(usize),
    Vcpu(Option<u32>, u32),
}

/// The ledger of a drill-down while its intervals come.
#[derive(Debug)]
pub struct Builder {
    /// Where the buckets are among the drill-down's columns.
    buckets: Vec<usize>,
    ledger: Ledger,
    /// On what it is drawn.
    pub columns: Columns,
}

impl Builder {
    /// `None` if the drill-down keeps no ledger. Its columns of intervals will be number `number` of the drill-down's.
    pub fn new(whole: &Report, scopes: &Scopes, intervals: &[Duration], number: usize) -> Option<Self> {
        let at = |id: &&str| whole.columns.iter().position(|column| column.id == *id);
        let buckets: Vec<usize> = BUCKETS.iter().map(at).collect::<Option<_>>()?;
        let names = buckets.iter().map(|i| whole.columns[*i].title.to_lowercase()).collect();
        let mut of: Vec<Option<Lanes>> = Vec::new();
        for scope in 0..scopes.len() {
            let (mut lanes, mut more) = (Vec::new(), 0);
            each(whole, scopes, scope, |key, name, _| {
                if lanes.iter().any(|lane: &Lane| lane.key == key) {
                } else if lanes.len() < LANES {
                    lanes.push(Lane { name: name(), ns: Vec::new(), key });
                } else {
                    more += 1;
                }
            });
            of.push((!lanes.is_empty()).then_some(Lanes { columns: number, lanes, more }));
        }
        let lanes: usize = of.iter().flatten().map(|lanes| lanes.lanes.len()).sum();
        let columns = Columns::new(intervals, (CELLS / lanes.max(1)).clamp(24, COLUMNS));
        for lane in of.iter_mut().flatten().flat_map(|lanes| &mut lanes.lanes) {
            lane.ns = vec![vec![0; columns.len()]; BUCKETS.len()];
        }
        Some(Self { buckets, ledger: Ledger { names, of }, columns })
    }

    /// Takes an interval.
    pub fn add(&mut self, interval: usize, report: &Report, scopes: &Scopes) {
        let Some(column) = self.columns.of(interval) else { return };
        for (scope, lanes) in self.ledger.of.iter_mut().enumerate() {
            let Some(Lanes { lanes, .. }) = lanes else { continue };
            each(report, scopes, scope, |key, _, row| {
                let Some(lane) = lanes.iter_mut().find(|lane| lane.key == key) else { return };
                for (bucket, index) in lane.ns.iter_mut().zip(&self.buckets) {
                    if let Some(Cell::Number(ns)) = row.cells.get(*index) {
                        bucket[column] = bucket[column].saturating_add(*ns);
                    }
                }
            });
        }
    }

    /// All of it.
    pub fn finish(self) -> (Ledger, Columns) {
        (self.ledger, self.columns)
    }
}

/// Calls `see` for each lane that a scope may have, with its name and its row.
fn each(report: &Report, scopes: &Scopes, scope: usize, mut see: impl FnMut(Key, &dyn Fn() -> String, &Row)) {
    for vm in &report.vms {
        let of = scopes.of(vm);
        if scope == 0 && scopes.len() > 1 {
            if let (Some(of), Some(row)) = (of, vm.rows.first()) {
                see(Key::Vm(of), &|| text::cut(&text::safe(&vm.name, true), 24, true), row);
            }
        } else if scope == 0 || of == Some(scope) {
            for vcpu in &vm.vcpus {
                let name = || match vcpu.vcpu {
                    Some(id) => format!("vcpu {id}"),
                    None => format!("tid {}", vcpu.tid),
                };
                if let Some(row) = vcpu.rows.first() {
                    see(Key::Vcpu(vcpu.vcpu, vcpu.tid), &name, row);
                }
            }
        }
    }
}

/// The buckets' outlines within a lane, as SVG's `d`. The page's script draws the same (`lanePaths`).
pub fn paths(lane: &Lane, columns: &Columns) -> Vec<String> {
    let n = columns.len();
    let all = |column: usize| lane.ns.iter().fold(0_u64, |sum, bucket| sum.saturating_add(bucket[column]));
    let all: Vec<u64> = (0..n).map(all).collect();
    let mut below = vec![0_u64; n];
    let mut lower = vec![HEIGHT; n];
    let mut paths = Vec::new();
    for bucket in &lane.ns {
        let mut upper = Vec::with_capacity(n);
        for column in 0..n {
            below[column] = below[column].saturating_add(bucket[column]);
            let share = if all[column] > 0 { below[column] as f64 / all[column] as f64 } else { 0.0 };
            upper.push(HEIGHT - (share * f64::from(HEIGHT)).round() as u32);
        }
        paths.push(if upper == lower { String::new() } else { band(&upper, &lower, &columns.edges) });
        lower = upper;
    }
    paths
}

/// The columns with the buckets' shares, in their order.
pub fn shares(columns: &[Column], row: &Row) -> Option<Vec<Cell>> {
    let share = |id: &&str| {
        let id = id.replace("_ns", "_share");
        row.cells.get(columns.iter().position(|column| column.id == id)?).cloned()
    };
    BUCKETS.iter().map(share).collect()
}
