//! Exits one by one: from the ring buffer to batches in which it is known whose they are.

use std::{
    collections::{HashMap, HashSet},
    time::SystemTime,
};

use crate::{
    bpf::{
        events::ToldExit,
        tracer::{Tracer, TracerError},
    },
    drilldown::exits::{
        collect::{Collection, VcpuKey},
        group::{Groups, VmGroup},
        rows::Code,
    },
    model::{EventBatch, EventVcpu, EventVm, ExitEvent, VcpuId},
};

/// The stream of exits, if it was asked for.
pub(super) struct Stream {
    /// Read, but of vCPUs that are not known yet.
    waiting: Vec<ToldExit>,
    /// What is ready.
    batch: Builder,
    began_ns: u64,
    /// Losses that were told already, by vCPU.
    lost: HashMap<VcpuKey, u64>,
}

impl Stream {
    pub(super) fn new(began_ns: u64) -> Self {
        Self { waiting: Vec::new(), batch: Builder::default(), began_ns, lost: HashMap::new() }
    }

    /// Reads what the programs told.
    pub(super) fn drain(&mut self, tracer: &mut Tracer) -> Result<(), TracerError> {
        tracer.drain_events(&mut self.waiting)
    }

    /// Puts what was read into the batch, where it is known whose it is. Events of the records in `dropped` are of vCPUs that
    /// nobody asked for.
    pub(super) fn sort(&mut self, collection: &Collection, groups: &Groups, dropped: &HashSet<u32>) {
        let (batch, mut later) = (&mut self.batch, Vec::new());
        for told in self.waiting.drain(..) {
            if let Some(vcpu) = batch.vcpu(told.vcpu, collection, groups) {
                batch.push(vcpu, &told);
            } else if !dropped.contains(&told.vcpu.0) {
                // First seen since the records were last looked at.
                later.push(told);
            }
        }
        self.waiting = later;
    }

    /// Takes over what the vCPU lost so far.
    pub(super) fn lose(&mut self, key: VcpuKey, lost: u64, collection: &Collection, groups: &Groups) {
        let before = self.lost.get(&key).copied().unwrap_or(0);
        if lost > before
            && let Some(vcpu) = self.batch.vcpu(key, collection, groups)
        {
            self.batch.all.vcpus[vcpu].lost += lost - before;
            self.lost.insert(key, lost);
        }
    }

    /// The vCPU will not lose any more.
    pub(super) fn forget(&mut self, key: VcpuKey) {
        self.lost.remove(&key);
    }

    /// Events that were read.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting.len() as u64 + self.batch.told
    }

    /// Ends the batch.
    pub(super) fn take(&mut self, now_ns: u64) -> EventBatch {
        let batch = std::mem::take(&mut self.batch).all;
        let began_ns = std::mem::replace(&mut self.began_ns, now_ns);
        EventBatch { began_ns, ended_ns: now_ns, ended: SystemTime::now(), ..batch }
    }
}

/// A batch in the making.
struct Builder {
    all: EventBatch,
    /// By record: since when, and the index of the vCPU that has it, or had it when it was looked up last.
    slots: Vec<Option<(u64, usize)>>,
    vms: HashMap<u64, usize>,
    /// In the order of the batch's reasons. There are few: looking through all of them is fastest.
    codes: Vec<Code>,
    told: u64,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            all: EventBatch::new(0, 0, SystemTime::UNIX_EPOCH),
            slots: Vec::new(),
            vms: HashMap::new(),
            codes: Vec::new(),
            told: 0,
        }
    }
}

impl Builder {
    /// The index of a vCPU; `None` if it is not known.
    fn vcpu(&mut self, key: VcpuKey, collection: &Collection, groups: &Groups) -> Option<usize> {
        let (slot, since) = key;
        if let Some(Some((holder, index))) = self.slots.get(slot as usize)
            && *holder == since
        {
            return Some(*index);
        }
        let head = &collection.vcpus.get(&key)?.head;
        let vm = groups.vms.iter().find(|vm| vm.vcpus.iter().any(|(member, _)| *member == key))?;
        let vm = self.vm(vm);
        self.all.vcpus.push(EventVcpu {
            id: id(key),
            vm,
            vcpu: (head.vcpu_id != u32::MAX).then_some(head.vcpu_id),
            tid: head.shown_tid(),
            lost: 0,
            events: Vec::new(),
        });
        let index = self.all.vcpus.len() - 1;
        if self.slots.len() <= slot as usize {
            self.slots.resize(slot as usize + 1, None);
        }
        self.slots[slot as usize] = Some((since, index));
        Some(index)
    }

    fn vm(&mut self, vm: &VmGroup) -> usize {
        *self.vms.entry(vm.serial).or_insert_with(|| {
            let name = vm.identity.name.clone();
            self.all.vms.push(EventVm { serial: vm.serial, pid: vm.shown_pid(), name });
            self.all.vms.len() - 1
        })
    }

    fn push(&mut self, vcpu: usize, told: &ToldExit) {
        let code = Code { isa: told.event.isa, code: told.event.code };
        let reason = self.codes.iter().position(|known| *known == code).unwrap_or_else(|| {
            self.codes.push(code);
            self.all.reasons.push(code.event_reason());
            self.codes.len() - 1
        }) as u32;
        self.told += 1;
        let (began_ns, took_ns) = (told.event.began_ns, told.event.took_ns);
        self.all.vcpus[vcpu].events.push(ExitEvent { began_ns, took_ns, reason });
    }
}

fn id((slot, since_ns): VcpuKey) -> VcpuId {
    VcpuId { slot, since_ns }
}
