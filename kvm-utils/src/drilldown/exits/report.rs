//! From the exits of a sample to the model: VMs, vCPUs, rows and sums.

use std::time::Duration;

use super::rows::{ByCode, COLUMNS, Code, Whole, row};
use crate::{
    drilldown::{
        report::Order,
        sample::{Sample, Scope, VcpuSample, VmSample, add},
    },
    model::{Row, Running, Vcpu, Vm, arrange},
};

/// Rows and sums of one interval or of the run.
#[derive(Debug, Default)]
pub struct Body {
    /// VMs with exits in the interval or still alive, the busiest first.
    pub vms: Vec<Vm>,
    /// Rows over all VMs.
    pub totals: Vec<Row>,
    /// Exits, all reasons, all vCPUs.
    pub counted: u64,
    /// Exits of vCPUs that found no record.
    pub overflow: u64,
    /// Exits without duration.
    pub unpaired: u64,
    /// Entries without exit.
    pub entries_without_exit: u64,
    /// Exits going on at the end.
    pub in_progress: u64,
    /// Exits by reason, the most frequent first.
    pub by_code: Vec<(Code, u64)>,
}

/// Builds the report's body.
#[must_use]
pub fn body(sample: &Sample, order: &Order) -> Body {
    let mut out = Body::default();
    let mut totals = match sample.scope {
        Scope::Interval => ByCode::new(),
        Scope::Run => sample.unlisted.exits.clone(),
    };
    let mut wall_ns = 0;
    for group in &sample.vms {
        let vm = vm(group, sample.interval, order, &mut totals);
        wall_ns += group.vcpus.iter().map(|vcpu| vcpu.wall_ns).sum::<u64>();
        for vcpu in &group.vcpus {
            out.unpaired += vcpu.unpaired.0;
            out.entries_without_exit += vcpu.unpaired.1;
            out.in_progress += u64::from(vcpu.running.is_some());
        }
        if vm.events > 0 || !vm.ended {
            out.vms.push(vm);
        }
    }
    out.overflow = sample.overflow.values().map(|stats| stats.count).sum();
    add(&mut totals, &sample.overflow);
    out.counted = totals.values().map(|stats| stats.count).sum();
    out.vms.sort_by_key(|vm| (std::cmp::Reverse(vm.events), vm.pid));
    out.totals = rows(&totals, sample.interval, wall_ns, order);
    out.by_code = totals.iter().map(|(code, stats)| (*code, stats.count)).collect();
    out.by_code.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    out
}

fn vm(group: &VmSample, interval: Duration, order: &Order, totals: &mut ByCode) -> Vm {
    let mut sums = ByCode::new();
    for vcpu in &group.vcpus {
        add(&mut sums, &vcpu.exits);
    }
    let wall_ns = group.vcpus.iter().map(|vcpu| vcpu.wall_ns).sum::<u64>();
    let share = |waiting: bool| {
        let within: u64 =
            sums.iter().filter(|(code, _)| code.is_waiting() == waiting).map(|(_, s)| s.within_ns).sum();
        (wall_ns > 0).then(|| within as f64 / wall_ns as f64)
    };
    let mut shown: Vec<Vcpu> = group.vcpus.iter().map(|vcpu| one_vcpu(vcpu, interval, order)).collect();
    shown.sort_by_key(|vcpu| (vcpu.vcpu, vcpu.tid));
    add(totals, &sums);
    Vm {
        events: sums.values().map(|s| s.count).sum(),
        busy_share: share(false),
        waiting_share: share(true),
        rows: rows(&sums, interval, wall_ns, order),
        vcpus: shown,
        ended: group.has_ended(),
        ..group.who.clone()
    }
}

fn one_vcpu(vcpu: &VcpuSample, interval: Duration, order: &Order) -> Vcpu {
    Vcpu {
        vcpu: vcpu.id,
        tid: vcpu.tid,
        others: false,
        events: vcpu.exits.values().map(|s| s.count).sum(),
        running: vcpu.running.map(|(code, for_ns)| Running { reason: code.name(), for_ns }),
        rows: rows(&vcpu.exits, interval, vcpu.wall_ns, order),
    }
}

fn rows(by_code: &ByCode, interval: Duration, wall_ns: u64, order: &Order) -> Vec<Row> {
    let whole = Whole { count: by_code.values().map(|s| s.count).sum(), interval, wall_ns };
    let mut rows = by_code.iter().map(|(code, stats)| row(*code, stats, whole)).collect();
    arrange(&mut rows, &COLUMNS, &order.sort, order.top);
    rows
}
