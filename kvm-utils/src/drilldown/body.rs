//! From what a drill-down counted to the model: VMs, vCPUs, rows and sums.

use std::{collections::BTreeMap, time::Duration};

use super::{
    exits::{
        collect::Collection,
        group::{Groups, VmGroup},
        report::{Order, Scope},
        rows::Code,
    },
    noun::{Aids, Build, Noun, Numbers},
    tally::Tally,
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

/// For whom a process works on whose threads there were events while they had no vCPU loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// For the VM of this process, in the initial pid namespace: its own, or one that the kernel works in for it.
    Vm(u32),
    /// For nobody that is known; its own name.
    Nobody(String),
    /// It is not wanted.
    Unwanted,
    /// The same, but it may have worked for a VM that is.
    Unknown,
}

/// What a body is made from.
pub struct Parts<'a> {
    /// The drill-down.
    pub noun: &'static Noun,
    /// What it counted.
    pub tally: &'a Tally,
    /// The vCPUs.
    pub collection: &'a Collection,
    /// The VMs.
    pub groups: &'a Groups,
    /// Which numbers.
    pub scope: Scope,
    /// Measured length of the interval or of the run.
    pub interval: Duration,
    /// Its beginning, monotonic ns.
    pub began_ns: u64,
    /// Exits of the same time; none if they are not counted.
    pub exits: &'a [(Code, u64)],
    /// Instruction set of the host's KVM.
    pub isa: Option<Isa>,
    /// Which rows, in which order.
    pub order: &'a Order,
    /// What the user gave for reading the numbers.
    pub aids: &'a Aids,
    /// For whom a process (in the initial pid namespace) works.
    pub owner: &'a dyn Fn(u32) -> Owner,
    /// Puts what only the VMM knows into the rows of the VM in this process, as seen from here.
    pub complete: &'a dyn Fn(u32, &mut [Row]),
}

/// Builds the report's body; an empty one for a noun that builds no rows this way.
#[must_use]
pub fn body(parts: &Parts<'_>) -> Body {
    let Some(build) = parts.noun.build else { return Body::default() };
    let mut out = Body::default();
    let mut totals = match parts.scope {
        Scope::Interval => Slice::default(),
        Scope::Run => parts.tally.folded().clone(),
    };
    let mut wall_ns = 0;
    // Other threads of processes with VMs, and those without a VM by their names.
    let mut crowds: BTreeMap<u32, Slice> = BTreeMap::new();
    let mut strangers: Vec<(u32, String, Slice)> = Vec::new();
    for (tgid, slice) in parts.tally.crowds(parts.scope).filter(|(_, slice)| !slice.is_empty()) {
        match (parts.owner)(tgid) {
            Owner::Vm(of) => crowds.entry(of).or_default().add(&slice),
            Owner::Nobody(name) => strangers.push((tgid, name, slice)),
            Owner::Unwanted => {}
            Owner::Unknown => out.unattributed += build.events(&slice),
        }
    }
    for group in &parts.groups.vms {
        // Two VMs of one process share its other threads: nobody knows for which of them they worked.
        let alone = parts.groups.vms.iter().filter(|other| other.tgid == group.tgid).count() == 1;
        let crowd = if alone { crowds.remove(&group.tgid) } else { None };
        let (vm, sum, wall) = vm(parts, build, group, crowd);
        totals.add(&sum);
        wall_ns += wall;
        if vm.events > 0 || vm.vcpus.iter().any(|vcpu| !vcpu.rows.is_empty()) || !group.settled {
            out.vms.push(vm);
        }
    }
    out.vms.sort_by_key(|vm| (std::cmp::Reverse(vm.events), vm.pid));
    let mut rest = Vec::new();
    for (tgid, slice) in crowds {
        if let Some(first) = parts.groups.vms.iter().find(|group| group.tgid == tgid) {
            let (name, vmm) = ("(threads shared by VMs)".to_owned(), first.identity.vmm.as_str());
            rest.push((first.shown_pid(), name, vmm, first.within(), slice));
        }
    }
    rest.extend(strangers.into_iter().map(|(tgid, name, slice)| (tgid, name, NO_VM, Vec::new(), slice)));
    for (pid, name, vmm, within, slice) in rest {
        let numbers = numbers(parts, build, &slice, 0, &[], None);
        let events = numbers.events;
        let (rows, _) = rows(parts, build, &numbers, None);
        totals.add(&slice);
        out.vms.push(Vm {
            pid,
            name,
            vmm: vmm.to_owned(),
            uuid: None,
            id: None,
            within,
            ended: false,
            events,
            busy_share: None,
            waiting_share: None,
            rows: rows.clone(),
            vcpus: vec![others(pid, events, rows)],
        });
    }
    let all = numbers(parts, build, &totals, wall_ns, &[], None);
    out.counted = all.events;
    let only = match parts.groups.vms.as_slice() {
        [only] => Some(only.shown_pid()),
        _ => None,
    };
    (out.totals, out.left_out) = rows(parts, build, &all, only);
    out.notes = build.notes.map(|notes| notes(&all, parts.exits)).unwrap_or_default();
    out
}

fn numbers<'a>(
    parts: &Parts<'a>,
    build: Build,
    slice: &'a Slice,
    wall_ns: u64,
    vcpus: &'a [u32],
    vcpu: Option<u32>,
) -> Numbers<'a> {
    let events = build.events(slice);
    Numbers {
        slice,
        events,
        interval: parts.interval,
        wall_ns,
        isa: parts.isa,
        vcpus,
        vcpu,
        aids: parts.aids,
    }
}

/// The rows that are wanted, of one process's VM or of several, and how many are not.
fn rows(parts: &Parts<'_>, build: Build, numbers: &Numbers<'_>, pid: Option<u32>) -> (Vec<Row>, usize) {
    let mut rows = (build.rows)(numbers);
    if let Some(pid) = pid {
        (parts.complete)(pid, &mut rows);
    }
    let all = rows.len();
    arrange(&mut rows, parts.noun.columns, &parts.order.sort, parts.order.top);
    let left_out = all - rows.len();
    (rows, left_out)
}

fn vm(parts: &Parts<'_>, build: Build, group: &VmGroup, crowd: Option<Slice>) -> (Vm, Slice, u64) {
    let ids: Vec<u32> = group.vcpus.iter().map(|(_, id)| *id).collect();
    let mut sum = Slice::default();
    let mut wall_ns = 0;
    let mut vcpus = Vec::new();
    let mut ended = !group.vcpus.is_empty();
    for (key, id) in &group.vcpus {
        let Some(state) = parts.collection.vcpus.get(key) else { continue };
        ended &= state.ended;
        let slice = parts.tally.of(*key, parts.scope);
        let wall = state.until_ns.saturating_sub(state.head.since.max(parts.began_ns));
        let id = (*id != u32::MAX).then_some(*id);
        let numbers = numbers(parts, build, &slice, wall, &ids, id);
        vcpus.push(Vcpu {
            vcpu: id,
            tid: state.head.shown_tid(),
            others: false,
            events: numbers.events,
            running: None,
            rows: rows(parts, build, &numbers, Some(group.shown_pid())).0,
        });
        wall_ns += wall;
        sum.add(&slice);
    }
    vcpus.sort_by_key(|vcpu| (vcpu.vcpu, vcpu.tid));
    if let Some(crowd) = crowd {
        let numbers = numbers(parts, build, &crowd, 0, &ids, None);
        let rows = rows(parts, build, &numbers, Some(group.shown_pid())).0;
        vcpus.push(others(group.shown_pid(), numbers.events, rows));
        sum.add(&crowd);
    }
    let numbers = numbers(parts, build, &sum, wall_ns, &ids, None);
    let vm = Vm {
        events: numbers.events,
        rows: rows(parts, build, &numbers, Some(group.shown_pid())).0,
        vcpus,
        ..group.shown(ended)
    };
    (vm, sum, wall_ns)
}

/// The other threads of a process, in the place of a vCPU.
fn others(pid: u32, events: u64, rows: Vec<Row>) -> Vcpu {
    Vcpu { vcpu: None, tid: pid, others: true, events, running: None, rows }
}
