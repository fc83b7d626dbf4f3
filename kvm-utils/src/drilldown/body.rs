//! From what a drill-down other than exits counted to the model: VMs, vCPUs, rows and sums.

use std::collections::BTreeMap;

use super::{
    exits::rows::Code,
    noun::{Aids, Build, Numbers},
    report::{Complete, Order},
    sample::{Owner, Sample, Scope, VmSample},
};
use crate::{
    bpf::rows::Slice,
    decode::Isa,
    model::{NO_VM, Row, Vcpu, Vm, arrange},
};

/// Rows and sums of one interval or of the run.
#[derive(Debug, Default)]
pub struct Body {
    /// VMs, the busiest first; last, processes without a VM on whose threads there were events.
    pub vms: Vec<Vm>,
    /// Rows over all VMs.
    pub totals: Vec<Row>,
    /// Events, all keys, all vCPUs and other threads.
    pub counted: u64,
    /// Sentences that belong to them.
    pub notes: Vec<String>,
    /// Rows over all VMs that were left out because only the first ones are wanted.
    pub left_out: usize,
    /// Events that were left out because only some VMs are wanted, though they may have been for these.
    pub unattributed: u64,
}

/// What a body is made from.
pub struct Parts<'a> {
    /// What was counted.
    pub sample: &'a Sample,
    /// How the drill-down builds rows.
    pub build: Build,
    /// Exits of the same time; none if they are not counted.
    pub exits: &'a [(Code, u64)],
    /// Instruction set of the host's KVM.
    pub isa: Option<Isa>,
    /// Which rows, in which order.
    pub order: &'a Order,
    /// What the user gave for reading the numbers.
    pub aids: &'a Aids,
    /// Puts what only the VMM knows into rows.
    pub complete: Complete<'a>,
}

/// Builds the report's body.
#[must_use]
pub fn body(parts: &Parts<'_>) -> Body {
    let (sample, build) = (parts.sample, parts.build);
    let mut out = Body::default();
    let mut totals = match sample.scope {
        Scope::Interval => Slice::default(),
        Scope::Run => sample.unlisted.slice.clone(),
    };
    let mut wall_ns = 0;
    // Other threads of processes with VMs, and those without a VM by their names.
    let mut crowds: BTreeMap<u32, Slice> = BTreeMap::new();
    let mut strangers: Vec<(u32, String, &Slice)> = Vec::new();
    for (tgid, crowd) in sample.crowds.iter().filter(|(_, crowd)| !crowd.slice.is_empty()) {
        match &crowd.owner {
            Owner::Vm(of) => crowds.entry(*of).or_default().add(&crowd.slice),
            Owner::Nobody(name) => strangers.push((*tgid, name.clone(), &crowd.slice)),
            Owner::Unwanted => {}
            Owner::Unknown => out.unattributed += build.events(&crowd.slice),
        }
    }
    for group in &sample.vms {
        // Two VMs of one process share its other threads: nobody knows for which of them they worked.
        let alone = sample.vms.iter().filter(|other| other.tgid == group.tgid).count() == 1;
        let crowd = if alone { crowds.remove(&group.tgid) } else { None };
        let (vm, sum, wall) = vm(parts, group, crowd);
        totals.add(&sum);
        wall_ns += wall;
        if vm.events > 0 || vm.vcpus.iter().any(|vcpu| !vcpu.rows.is_empty()) || !group.settled {
            out.vms.push(vm);
        }
    }
    out.vms.sort_by_key(|vm| (std::cmp::Reverse(vm.events), vm.pid));
    let shared = crowds.iter().filter_map(|(tgid, slice)| {
        let first = sample.vms.iter().find(|group| group.tgid == *tgid)?;
        let who = Vm { name: "(threads shared by VMs)".to_owned(), ..nobody(&first.who) };
        Some((who, slice))
    });
    let alien = strangers.iter().map(|(tgid, name, slice)| {
        (Vm { pid: *tgid, name: name.clone(), vmm: NO_VM.to_owned(), ..Vm::default() }, *slice)
    });
    for (who, slice) in shared.chain(alien) {
        let numbers = numbers(parts, slice, 0, &[], None);
        let (rows, _) = rows(parts, &numbers, None);
        totals.add(slice);
        let vcpus = vec![others(who.pid, numbers.events, rows.clone())];
        out.vms.push(Vm { events: numbers.events, rows, vcpus, ..who });
    }
    let all = numbers(parts, &totals, wall_ns, &[], None);
    out.counted = all.events;
    let only = match sample.vms.as_slice() {
        [only] => Some(only.who.pid),
        _ => None,
    };
    (out.totals, out.left_out) = rows(parts, &all, only);
    out.notes = build.notes.map(|notes| notes(&all, parts.exits)).unwrap_or_default();
    out
}

/// What a VM has in common with those of the same process.
fn nobody(vm: &Vm) -> Vm {
    Vm { pid: vm.pid, vmm: vm.vmm.clone(), within: vm.within.clone(), ..Vm::default() }
}

fn numbers<'a>(
    parts: &Parts<'a>,
    slice: &'a Slice,
    wall_ns: u64,
    vcpus: &'a [u32],
    vcpu: Option<u32>,
) -> Numbers<'a> {
    Numbers {
        slice,
        events: parts.build.events(slice),
        interval: parts.sample.interval,
        wall_ns,
        isa: parts.isa,
        vcpus,
        vcpu,
        aids: parts.aids,
    }
}

/// The rows that are wanted, of one process's VM or of several, and how many are not.
fn rows(parts: &Parts<'_>, numbers: &Numbers<'_>, pid: Option<u32>) -> (Vec<Row>, usize) {
    let mut rows = (parts.build.rows)(numbers);
    if let Some(pid) = pid {
        (parts.complete)(pid, &mut rows);
    }
    let all = rows.len();
    arrange(&mut rows, parts.sample.noun.columns, &parts.order.sort, parts.order.top);
    let left_out = all - rows.len();
    (rows, left_out)
}

fn vm(parts: &Parts<'_>, group: &VmSample, crowd: Option<Slice>) -> (Vm, Slice, u64) {
    let pid = group.who.pid;
    let ids: Vec<u32> = group.vcpus.iter().map(|vcpu| vcpu.id.unwrap_or(u32::MAX)).collect();
    let mut sum = Slice::default();
    let mut wall_ns = 0;
    let mut vcpus = Vec::new();
    for vcpu in &group.vcpus {
        let numbers = numbers(parts, &vcpu.slice, vcpu.wall_ns, &ids, vcpu.id);
        vcpus.push(Vcpu {
            vcpu: vcpu.id,
            tid: vcpu.tid,
            others: false,
            events: numbers.events,
            running: None,
            rows: rows(parts, &numbers, Some(pid)).0,
        });
        wall_ns += vcpu.wall_ns;
        sum.add(&vcpu.slice);
    }
    vcpus.sort_by_key(|vcpu| (vcpu.vcpu, vcpu.tid));
    if let Some(crowd) = crowd {
        let numbers = numbers(parts, &crowd, 0, &ids, None);
        let rows = rows(parts, &numbers, Some(pid)).0;
        vcpus.push(others(pid, numbers.events, rows));
        sum.add(&crowd);
    }
    let numbers = numbers(parts, &sum, wall_ns, &ids, None);
    let vm = Vm {
        events: numbers.events,
        rows: rows(parts, &numbers, Some(pid)).0,
        vcpus,
        ended: !group.vcpus.is_empty() && group.has_ended(),
        ..group.who.clone()
    };
    (vm, sum, wall_ns)
}

/// The other threads of a process, in the place of a vCPU.
fn others(pid: u32, events: u64, rows: Vec<Row>) -> Vcpu {
    Vcpu { vcpu: None, tid: pid, others: true, events, running: None, rows }
}
