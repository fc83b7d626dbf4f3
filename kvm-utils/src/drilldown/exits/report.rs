//! From collected exits to the model: VMs, vCPUs, rows and sums.

use std::{collections::BTreeMap, time::Duration};

use kvm_utils_common::vcpu::OVERFLOW_SLOT;

use super::{
    collect::{Collection, VcpuState},
    group::{Groups, VmGroup},
    rows::{COLUMNS, Code, Whole, row},
    stats::ExitStats,
};
use crate::model::{Row, Running, Vcpu, Vm, arrange};

/// Which numbers to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Of the interval.
    Interval,
    /// Of the whole run.
    Run,
}

/// What decides which rows are shown and in which order.
#[derive(Clone, Debug)]
pub struct Order {
    /// Id of a column.
    pub sort: String,
    /// Rows per table.
    pub top: Option<usize>,
}

/// Rows and sums of one interval or of the run.
#[derive(Debug)]
pub struct Body {
    /// VMs with exits in the interval or still alive, the busiest first.
    pub vms: Vec<Vm>,
    /// Rows over all VMs.
    pub totals: Vec<Row>,
    /// Exits, all reasons, all vCPUs.
    pub counted: u64,
    /// Exits per process in the initial pid namespace, with whether all its vCPUs still live.
    pub processes: BTreeMap<u32, (u64, bool)>,
    /// Exits in the overflow record.
    pub overflow: u64,
    /// Exits without duration.
    pub unpaired: u64,
    /// Entries without exit.
    pub entries_without_exit: u64,
    /// Exits going on at the end.
    pub in_progress: u64,
    /// isa of the events; `None` before the first.
    pub isa: Option<u32>,
    /// Classes of exits and their shares, the most frequent first, for the hints.
    pub by_code: Vec<(Code, u64)>,
}

type ByCode = BTreeMap<Code, ExitStats>;

struct VcpuNumbers<'a> {
    state: &'a VcpuState,
    id: u32,
    by_code: ByCode,
    wall_ns: u64,
}

/// Builds the report's body. `interval` is the measured length of the interval or of the run, `began_ns` its beginning.
#[must_use]
pub fn body(
    collection: &Collection,
    groups: &Groups,
    scope: Scope,
    interval: Duration,
    began_ns: u64,
    order: &Order,
) -> Body {
    let mut out = Body {
        vms: Vec::new(),
        totals: Vec::new(),
        counted: 0,
        processes: BTreeMap::new(),
        overflow: 0,
        unpaired: 0,
        entries_without_exit: 0,
        in_progress: 0,
        isa: None,
        by_code: Vec::new(),
    };
    let mut totals = match scope {
        Scope::Interval => ByCode::new(),
        Scope::Run => collection.folded.clone(),
    };
    let mut wall_ns = 0;
    for group in &groups.vms {
        let vcpus: Vec<VcpuNumbers<'_>> = group
            .vcpus
            .iter()
            .filter_map(|(key, id)| Some((collection.vcpus.get(key)?, *id)))
            .map(|(state, id)| VcpuNumbers {
                state,
                id,
                by_code: by_code(state, scope),
                wall_ns: state.until_ns.saturating_sub(state.head.since.max(began_ns)),
            })
            .collect();
        let vm = vm(group, &vcpus, interval, order, &mut totals);
        wall_ns += vcpus.iter().map(|v| v.wall_ns).sum::<u64>();
        for vcpu in &vcpus {
            sum_up(&mut out, vcpu, scope);
        }
        let entry = out.processes.entry(group.tgid).or_insert((0, true));
        entry.0 += vm.events;
        entry.1 &= !vm.ended;
        if vm.events > 0 || !vm.ended {
            out.vms.push(vm);
        }
    }
    for state in collection.vcpus.values().filter(|state| state.head.slot == OVERFLOW_SLOT) {
        for (code, stats) in by_code(state, scope) {
            out.overflow += stats.count;
            totals.entry(code).or_default().add(&stats);
        }
    }
    out.counted = totals.values().map(|stats| stats.count).sum();
    out.vms.sort_by_key(|vm| (std::cmp::Reverse(vm.events), vm.pid));
    out.totals = rows(&totals, interval, wall_ns, order);
    out.by_code = totals.iter().map(|(code, stats)| (*code, stats.count)).collect();
    out.by_code.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    out
}

fn by_code(state: &VcpuState, scope: Scope) -> ByCode {
    let mut sums = ByCode::new();
    for cell in state.cells.values() {
        let stats = match scope {
            Scope::Interval => cell.interval.clone(),
            Scope::Run => cell.run(),
        };
        // A reason that only waits (an idle vCPU in HLT) has no exit in this interval, but time.
        if stats.count > 0 || stats.timed > 0 || stats.within_ns > 0 {
            sums.entry(cell.code).or_default().add(&stats);
        }
    }
    sums
}

fn sum_up(out: &mut Body, vcpu: &VcpuNumbers<'_>, scope: Scope) {
    let (exits, entries) = match scope {
        Scope::Interval => vcpu.state.unpaired_in_interval(),
        Scope::Run => (vcpu.state.head.unpaired_exits, vcpu.state.head.unpaired_entries),
    };
    out.unpaired += exits;
    out.entries_without_exit += entries;
    out.in_progress += u64::from(vcpu.state.pending().is_some());
    if vcpu.state.head.isa != 0 {
        out.isa = Some(vcpu.state.head.isa);
    }
}

fn vm(
    group: &VmGroup,
    vcpus: &[VcpuNumbers<'_>],
    interval: Duration,
    order: &Order,
    totals: &mut ByCode,
) -> Vm {
    let mut sums = ByCode::new();
    for vcpu in vcpus {
        for (code, stats) in &vcpu.by_code {
            sums.entry(*code).or_default().add(stats);
        }
    }
    let wall_ns = vcpus.iter().map(|v| v.wall_ns).sum::<u64>();
    let share = |waiting: bool| {
        let within: u64 =
            sums.iter().filter(|(code, _)| code.is_waiting() == waiting).map(|(_, s)| s.within_ns).sum();
        (wall_ns > 0).then(|| within as f64 / wall_ns as f64)
    };
    let mut shown: Vec<Vcpu> = vcpus.iter().map(|v| one_vcpu(v, interval, order)).collect();
    shown.sort_by_key(|vcpu| (vcpu.vcpu, vcpu.tid));
    for (code, stats) in &sums {
        totals.entry(*code).or_default().add(stats);
    }
    Vm {
        events: sums.values().map(|s| s.count).sum(),
        busy_share: share(false),
        waiting_share: share(true),
        rows: rows(&sums, interval, wall_ns, order),
        vcpus: shown,
        ..group.shown(vcpus.iter().all(|v| v.state.ended))
    }
}

fn one_vcpu(vcpu: &VcpuNumbers<'_>, interval: Duration, order: &Order) -> Vcpu {
    let head = &vcpu.state.head;
    Vcpu {
        vcpu: (vcpu.id != u32::MAX).then_some(vcpu.id),
        tid: head.shown_tid(),
        others: false,
        events: vcpu.by_code.values().map(|s| s.count).sum(),
        running: vcpu.state.pending().map(|(since, cell)| Running {
            reason: cell.code.name(),
            for_ns: vcpu.state.until_ns.saturating_sub(since),
        }),
        rows: rows(&vcpu.by_code, interval, vcpu.wall_ns, order),
    }
}

fn rows(by_code: &ByCode, interval: Duration, wall_ns: u64, order: &Order) -> Vec<Row> {
    let whole = Whole { count: by_code.values().map(|s| s.count).sum(), interval, wall_ns };
    let mut rows = by_code.iter().map(|(code, stats)| row(*code, stats, whole)).collect();
    arrange(&mut rows, &COLUMNS, &order.sort, order.top);
    rows
}
