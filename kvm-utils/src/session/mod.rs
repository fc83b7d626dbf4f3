//! One run of the tracer: from the kernel's counters to reports.

mod cost;
mod crowds;
mod devices;
mod events;
mod witness;

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use cost::Cost;
use crowds::Crowds;
use devices::Devices;
use events::Stream;
use kvm_utils_common::{
    config::{Trouble, mode},
    vcpu::STATE_DEAD,
};
use witness::{Reading, Vms, Witness};

use crate::{
    bpf::{
        hook::Hook,
        rows::Slice,
        snapshot::{Head, Snapshot, read_hist},
        tracer::{Settings, Source, Tracer, TracerError},
    },
    drilldown::{
        exits::{
            collect::{Collection, is_overflow},
            group::{Groups, VmGroup},
            rows::{ByCode, Code},
        },
        halt, irq,
        noun::{Aids, NO_AIDS, Noun},
        report::{Order, report},
        sample::{
            Bounds, Crowd, Machine, Notes, Sample, Scope, Troubles, Unlisted, VcpuSample, VmSample, add,
            between,
        },
        tally::Tally,
    },
    host::{self, Identity},
    model::{EventBatch, KvmStat, Report, Row},
};

/// Which VMs a run is about, beyond what the programs filter themselves.
#[derive(Clone, Debug, Default)]
pub struct Select {
    /// Processes, as seen from here; if there are names as well, either suffices.
    pub pids: Vec<u32>,
    /// Names, or what else a VM answers to, or patterns; empty = any.
    pub names: Vec<String>,
    /// Only VMs of processes that this one started, directly or not.
    pub below: Option<u32>,
}

impl Select {
    /// Whether this VM in this process is wanted.
    #[must_use]
    pub fn wants(&self, pid: u32, vm: &Identity) -> bool {
        let ours = |ancestor| host::process::Stat::descends(&host::ProcRoot::default(), pid, ancestor);
        if self.below.is_some_and(|ancestor| ours(ancestor) == Some(false)) {
            return false;
        }
        self.names.is_empty()
            || self.pids.contains(&pid)
            || self.names.iter().any(|name| vm.answer(name).is_some() || vm.fits(name))
    }
}

/// VMs that ended are listed in the summary up to this number, so that a host on which VMs come and go does not fill
/// our memory; the numbers of the others are kept in the totals.
const LISTED_VMS: usize = 1000;

/// How often TSC offsets are read from debugfs, where programs cannot read them.
const TSC_OFFSETS_NS: u64 = 2_000_000_000;

/// What the counters said when an interval began.
struct Mark {
    time: SystemTime,
    /// KVM's statistic since the run began, of all its VMs.
    bounds: Result<Bounds, String>,
    /// The same, of the VMs that had not ended when the interval began.
    interval_bounds: Result<Bounds, String>,
    missed: Option<u64>,
    trouble: [u64; 3],
    /// Posted interrupts so far, where they are of interest.
    posted: Option<host::Posted>,
}

/// A running trace.
pub struct Session {
    noun: &'static Noun,
    aids: Option<Aids>,
    tally: Tally,
    tracer: Tracer,
    snapshot: Snapshot,
    collection: Collection,
    groups: Groups,
    select: Select,
    witness: Witness,
    info: host::HostInfo,
    proc: host::ProcRoot,
    root: host::SysRoot,
    /// Only some VMs or vCPUs are wanted.
    filtered: bool,
    /// What devices are called, if that is asked for.
    devices: Option<Devices>,
    began_ns: u64,
    run_began: Mark,
    interval_began: Mark,
    /// Records of vCPUs that are not wanted, to be cleared at the next opportunity.
    dropped: HashSet<u32>,
    /// Processes with events on no vCPU's thread.
    crowds: Crowds,
    /// Some events may come in interrupts, and the programs cannot tell.
    blind_to_interrupts: bool,
    /// VMs that ended and are not listed any more.
    unlisted: u64,
    cost: Cost,
    /// KVM's debugfs, where programs cannot read a vCPU's TSC offset, and when it was last asked for all.
    tsc_offsets: Option<(host::KvmStat, u64)>,
    /// Exits one by one, if that is asked for.
    stream: Option<Stream>,
}

impl Session {
    /// Loads and attaches the programs for a drill-down. `incomparable` says why KVM's statistic is of other exits than
    /// ours; of other drill-downs than exits it always is.
    ///
    /// # Errors
    ///
    /// See [`TracerError`].
    pub fn start(
        noun: &'static Noun,
        settings: &Settings,
        select: Select,
        incomparable: Option<String>,
    ) -> Result<Self, TracerError> {
        let root = host::SysRoot::default();
        let proc = root.proc();
        let filtered = !settings.tgids.is_empty()
            || !settings.vcpu_ids.is_empty()
            || !select.names.is_empty()
            || select.below.is_some();
        let info = host::HostInfo::gather(&root);
        let tsc_offsets = (settings.source == Source::Tracepoint && noun.counters > 0)
            .then(|| (host::KvmStat::new(&root, settings.pid_namespace.is_none()), 0));
        let incomparable =
            if noun.build.is_some() { Some("it is of exits only".to_owned()) } else { incomparable };
        let mut witness = Witness::new(&root, settings.pid_namespace.is_none(), incomparable);
        let mut tracer = Tracer::start(settings, || _ = witness.begin(info.cpus_online))?;
        let zero = Ok(witness.begin(info.cpus_online));
        let mut snapshot = Snapshot::default();
        tracer.read(&mut snapshot);
        let posts = posted(noun, &root);
        let mark = |bounds: Result<Bounds, String>| Mark {
            time: SystemTime::now(),
            interval_bounds: bounds.clone(),
            bounds,
            missed: Some(0),
            trouble: [0; 3],
            posted: posts,
        };
        let mut session = Self {
            noun,
            aids: None,
            tally: Tally::default(),
            collection: Collection::new(snapshot.time_ns),
            began_ns: snapshot.time_ns,
            tracer,
            snapshot,
            groups: Groups::default(),
            select,
            witness,
            info,
            proc: proc.clone(),
            root,
            filtered,
            devices: None,
            run_began: mark(zero.clone()),
            interval_began: mark(zero),
            dropped: HashSet::new(),
            crowds: Crowds::new(proc, settings.pid_namespace.is_none()),
            blind_to_interrupts: settings.preempt_count.is_none()
                && settings.events.iter().any(|(event, ..)| event.in_interrupts()),
            unlisted: 0,
            cost: Cost::new(),
            tsc_offsets,
            stream: None,
        };
        session.stream = settings.events_ring.map(|_| Stream::new(session.began_ns));
        session.begin_together()?;
        Ok(session)
    }

    /// Where several events are counted, begins the run when all of them are: programs are attached one after the other, and
    /// what the first ones counted before the last was there is nothing to put beside its numbers.
    fn begin_together(&mut self) -> Result<(), TracerError> {
        let events = self.noun.hooks.iter().filter(|hook| matches!(hook, Hook::Event(_))).count();
        let exits = self.noun.hooks.contains(&Hook::KvmExit) && self.noun.mode & mode::LEDGER == 0;
        if self.noun.build.is_none() || exits || events < 2 {
            return Ok(());
        }
        self.tracer.read(&mut self.snapshot);
        self.admit()?;
        self.absorb(false)?;
        self.tally.begin_run();
        self.collection.next_interval();
        self.began_ns = self.collection.began_ns;
        Ok(())
    }

    /// Reads the numbers with what the user gave for that.
    pub fn set_aids(&mut self, aids: Aids) {
        self.aids = Some(aids);
    }

    /// The drill-down.
    #[must_use]
    pub fn noun(&self) -> &'static Noun {
        self.noun
    }

    /// How exits are learned of.
    #[must_use]
    pub fn source(&self) -> Source {
        self.tracer.source()
    }

    /// Takes over the numbers of vCPUs that ended and gives their records back. To be called a few times a second,
    /// whatever the interval, so that records do not run out.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to change a map.
    pub fn housekeep(&mut self) -> Result<(), TracerError> {
        // While it is known who has which record.
        self.read_events()?;
        for slot in std::mem::take(&mut self.dropped) {
            self.tracer.recycle(slot)?;
            self.collection.discard(slot);
        }
        self.cost.tick(&self.tracer);
        self.tracer.tick();
        self.tracer.read(&mut self.snapshot);
        self.admit()?;
        self.meet();
        self.tell_tsc_offsets();
        self.absorb(true)?;
        self.bury()
    }

    /// Tells the programs the vCPUs' TSC offsets, those of all every few seconds: guests change them seldom.
    fn tell_tsc_offsets(&mut self) {
        let Some((stat, asked_ns)) = &mut self.tsc_offsets else { return };
        let now = self.snapshot.time_ns;
        let again = now.saturating_sub(*asked_ns) >= TSC_OFFSETS_NS;
        if again {
            *asked_ns = now;
        }
        for head in self.snapshot.vcpus.iter().filter(|head| again || head.since >= *asked_ns) {
            if let Some(offset) = stat.tsc_offset(head.tgid, head.vcpu_id) {
                self.tracer.tell_tsc_offset(head.slot, offset);
            }
        }
    }

    /// Puts new vCPUs into their VMs and leaves out those nobody asked for.
    fn admit(&mut self) -> Result<(), TracerError> {
        let mut newcomers = self.collection.newcomers(&self.snapshot);
        newcomers.sort_by_key(|head| head.since);
        // A process is asked once for all of its vCPUs.
        let mut identities: BTreeMap<u32, Identity> = BTreeMap::new();
        for head in newcomers {
            if self.dropped.contains(&head.slot) || is_overflow(&head) {
                continue;
            }
            let identity = identities.entry(head.tgid).or_insert_with(|| self.identify(&head));
            if self.select.wants(head.shown_pid(), identity) {
                self.groups.join(&head, |_| identity.clone());
                self.collection.welcome(&head);
            } else {
                self.tracer.ignore(head.slot, head.tgid)?;
                self.dropped.insert(head.slot);
            }
            if head.until != 0 {
                self.groups.ended((head.slot, head.since), head.until);
            }
        }
        let dropped = &self.dropped;
        self.snapshot.vcpus.retain(|head| !dropped.contains(&head.slot));
        Ok(())
    }

    fn absorb(&mut self, only_dead: bool) -> Result<(), TracerError> {
        let records = self.tracer.records();
        self.collection.absorb(&self.snapshot, &|slot, hist| read_hist(records, slot, hist), only_dead);
        let heads = || self.snapshot.vcpus.iter().filter(|head| !only_dead || head.state == STATE_DEAD);
        if self.noun.build.is_none() || only_dead && heads().next().is_none() {
            return Ok(());
        }
        let settle = self.noun.build.and_then(|build| build.settle);
        let mut more = self.tracer.more()?;
        for head in heads() {
            let mut slice = self.tracer.slice(head.slot);
            slice.rows.extend(more.vcpus.remove(&head.slot).into_iter().flatten());
            self.tally.absorb((head.slot, head.since), slice, settle);
        }
        for (tgid, rows) in more.crowds {
            self.crowds.meet(tgid, || self.tracer.crowd_name(tgid))?;
            self.tally.absorb_crowd(tgid, Slice { rows, ..Slice::default() });
        }
        Ok(())
    }

    /// Records of vCPUs that will never run again go back.
    fn bury(&mut self) -> Result<(), TracerError> {
        let told = self.tracer.tells_of_ends();
        let mut gone = Vec::new();
        for head in &self.snapshot.vcpus {
            if head.state == STATE_DEAD {
                gone.push((head.slot, head.since, head.until));
            } else if !told && !self.thread_lives(head) {
                gone.push((head.slot, head.since, self.snapshot.time_ns));
            }
        }
        if !gone.is_empty() {
            self.read_events()?;
        }
        for (slot, since, until) in gone {
            if !told {
                // Its last numbers may have come after the last copy.
                self.tracer.read(&mut self.snapshot);
                self.snapshot.vcpus.retain(|head| head.slot == slot);
                self.absorb(false)?;
            }
            if let Some(stream) = &mut self.stream {
                // As its numbers, its losses are final.
                let lost = self.tracer.events_lost(slot);
                stream.lose((slot, since), lost, &self.collection, &self.groups);
                stream.forget((slot, since));
            }
            self.groups.ended((slot, since), until);
            self.collection.release(slot);
            self.tracer.recycle(slot)?;
        }
        Ok(())
    }

    /// Reads the exits that were told since the last time, if they are told at all ([`Settings::events_ring`]), and keeps them
    /// for [`Session::take_events`]. To be called as often as [`Session::events_pace`] says, so that as few as possible are
    /// lost.
    ///
    /// # Errors
    ///
    /// If there is something else in the ring buffer.
    pub fn read_events(&mut self) -> Result<(), TracerError> {
        if let Some(stream) = &mut self.stream {
            stream.drain(&mut self.tracer)?;
            stream.sort(&self.collection, &self.groups, &self.dropped);
        }
        Ok(())
    }

    /// The exits that ended since the last call, one by one, and how many were lost; none if they are not told.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to change a map.
    pub fn take_events(&mut self) -> Result<Option<EventBatch>, TracerError> {
        if self.stream.is_none() {
            return Ok(None);
        }
        // First what was told, then who there is: so nobody is unknown.
        self.read_events()?;
        self.tracer.read(&mut self.snapshot);
        self.admit()?;
        let Some(stream) = &mut self.stream else { return Ok(None) };
        stream.sort(&self.collection, &self.groups, &self.dropped);
        for head in &self.snapshot.vcpus {
            let lost = self.tracer.events_lost(head.slot);
            stream.lose((head.slot, head.since), lost, &self.collection, &self.groups);
        }
        Ok(Some(stream.take(self.snapshot.time_ns)))
    }

    /// Exits that were read and not taken yet.
    #[must_use]
    pub fn events_waiting(&self) -> u64 {
        self.stream.as_ref().map_or(0, Stream::waiting)
    }

    /// How long until the next call of [`Session::read_events`] at the latest; none if it need not be called.
    #[must_use]
    pub fn events_pace(&self) -> Option<Duration> {
        self.tracer.events_pace()
    }

    /// Whether the thread that runs a vCPU still exists, for kernels that do not tell of a vCPU's end.
    fn thread_lives(&self, head: &Head) -> bool {
        let (tgid, tid) = (head.ns_tgid, head.ns_tid);
        // What cannot be seen from here may live.
        tgid == 0 || Path::new(&self.proc.of(tgid, "task")).join(tid.to_string()).exists()
    }

    fn identify(&self, head: &Head) -> Identity {
        let pid = head.ns_tgid;
        let process = (pid != 0).then(|| host::VmProcess::read(&self.proc, pid).seen().flatten()).flatten();
        process.map_or_else(
            || {
                let comm: Vec<u8> = head.comm.iter().copied().take_while(|b| *b != 0).collect();
                Identity::unknown(host::process::printable(&comm))
            },
            |vm| vm.identity,
        )
    }

    /// Ends the interval and reports it.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to change a map.
    pub fn interval(&mut self, order: &Order) -> Result<Report, TracerError> {
        Ok(self.interval_with_sample(order)?.1)
    }

    /// As [`Session::interval`], with what the report is made of.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to change a map.
    pub fn interval_with_sample(&mut self, order: &Order) -> Result<(Sample, Report), TracerError> {
        let sample = self.interval_sample()?;
        let report = self.report(&sample, order);
        self.miss(&report);
        Ok((sample, report))
    }

    /// Ends the interval and returns what was counted in it.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to change a map.
    pub fn interval_sample(&mut self) -> Result<Sample, TracerError> {
        let (mark, readings) = self.copy()?;
        self.meet();
        let sample = self.sample(Scope::Interval, &mark);
        self.next_interval(mark, &readings);
        Ok(sample)
    }

    /// Ends the interval and returns what was counted in it, and in the whole run up to the same moment.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to change a map.
    pub fn last_samples(&mut self) -> Result<(Sample, Sample), TracerError> {
        let (mark, readings) = self.copy()?;
        self.meet();
        let samples = (self.sample(Scope::Interval, &mark), self.sample(Scope::Run, &mark));
        self.next_interval(mark, &readings);
        Ok(samples)
    }

    /// Ends the interval and returns only its exits by reason.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to change a map.
    pub fn interval_counts(&mut self) -> Result<BTreeMap<Code, u64>, TracerError> {
        let mut counts = BTreeMap::new();
        for (code, count) in self.interval_counts_by_vcpu()?.into_values().flatten() {
            *counts.entry(code).or_default() += count;
        }
        Ok(counts)
    }

    /// The same for each vCPU id.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to change a map.
    pub fn interval_counts_by_vcpu(&mut self) -> Result<BTreeMap<u32, BTreeMap<Code, u64>>, TracerError> {
        let (mark, readings) = self.copy()?;
        let mut all: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for vcpu in self.collection.vcpus.values() {
            let counts = all.entry(vcpu.head.vcpu_id).or_default();
            for cell in vcpu.cells.values() {
                *counts.entry(cell.code).or_default() += cell.interval.count;
            }
        }
        self.next_interval(mark, &readings);
        Ok(all)
    }

    /// What is counted so far at fixed places for each vCPU id, read as fast as can be: no interval ends.
    pub fn counters_now(&mut self) -> BTreeMap<u32, Slice> {
        self.tracer.read(&mut self.snapshot);
        let mut all: BTreeMap<_, Slice> = BTreeMap::new();
        for head in &self.snapshot.vcpus {
            all.entry(head.vcpu_id).or_default().add(&self.tracer.slice(head.slot));
        }
        all
    }

    /// Begins the next interval at `mark`, which `readings` of KVM's statistic belong to.
    fn next_interval(&mut self, mark: Mark, readings: &[Reading; 2]) {
        self.collection.next_interval();
        self.tally.next_interval();
        for vm in &mut self.groups.vms {
            let mut vcpus = vm.vcpus.iter().filter_map(|(key, _)| self.collection.vcpus.get(key));
            vm.settled = vcpus.all(|vcpu| vcpu.ended);
        }
        while let Some(vm) = self.groups.remove_settled(LISTED_VMS) {
            self.witness.forget(&vm, &self.collection);
            self.unlisted += 1;
            for (key, _) in &vm.vcpus {
                self.collection.fold(*key);
                self.tally.fold(*key);
            }
        }
        let interval_bounds = self.bounds(Vms::Unsettled, readings);
        self.interval_began = Mark { interval_bounds, ..mark };
    }

    fn bounds(&self, which: Vms, readings: &[Reading; 2]) -> Result<Bounds, String> {
        self.witness.bounds(&self.collection, &self.groups, which, &readings[0], &readings[1])
    }

    /// Reports the whole run so far.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to change a map.
    pub fn summary(&mut self, order: &Order) -> Result<Report, TracerError> {
        let (mark, _) = self.copy()?;
        self.meet();
        self.settle();
        let report = self.report(&self.sample(Scope::Run, &mark), order);
        if self.miss(&report) {
            self.settle();
            return Ok(self.report(&self.sample(Scope::Run, &mark), order));
        }
        Ok(report)
    }

    /// From now on devices are called what their VMM calls them, where it can be asked; at the socket `given`, else where
    /// it listens itself.
    pub fn ask_for_devices(&mut self, given: Option<PathBuf>) {
        self.devices = Some(Devices::new(given));
    }

    /// What devices are called, by process, as far as it is known.
    pub fn device_maps(&self) -> impl Iterator<Item = (u32, &host::qmp::DeviceMap)> {
        self.devices.iter().flat_map(Devices::maps)
    }

    /// Asks for the devices of VMs that are new.
    fn meet(&mut self) {
        let Some(devices) = &mut self.devices else { return };
        let any = devices.is_given();
        let here =
            self.groups.vms.iter().filter(|vm| {
                vm.ns_tgid != 0 && (vm.identity.vmm == host::Vmm::Qemu || any) && !vm.has_ended()
            });
        devices.meet(here.map(|vm| (vm.ns_tgid, vm.identity.name.as_str())));
    }

    /// Asks again for the devices of living VMs of whose rows some lacked names. Whether anybody is asked.
    fn miss(&mut self, report: &Report) -> bool {
        let Some(devices) = &mut self.devices else { return false };
        let living = report.vms.iter().filter(|vm| !vm.ended);
        living.map(|vm| devices.miss(vm.pid)).filter(|asked| *asked).count() > 0
    }

    fn settle(&mut self) {
        if let Some(devices) = &mut self.devices {
            devices.settle();
        }
    }

    /// Copies everything, with KVM's statistic right before and right after.
    fn copy(&mut self) -> Result<(Mark, [Reading; 2]), TracerError> {
        let before = self.witness.read();
        self.tracer.read(&mut self.snapshot);
        let readings = [before, self.witness.read()];
        self.admit()?;
        self.absorb(false)?;
        // First: it may find the last numbers of vCPUs that ended since the copy.
        self.bury()?;
        self.collection.close_interval();
        let mark = Mark {
            time: SystemTime::now(),
            bounds: self.bounds(Vms::All, &readings),
            interval_bounds: self.bounds(Vms::Unsettled, &readings),
            missed: self.tracer.missed(),
            trouble: [
                self.tracer.trouble(Trouble::HistogramsFull),
                self.tracer.trouble(Trouble::UnreadableReason),
                self.tracer.trouble(Trouble::RowsFull),
            ],
            posted: posted(self.noun, &self.root),
        };
        Ok((mark, readings))
    }

    /// The report of a sample that was taken just now.
    #[must_use]
    pub fn report(&self, sample: &Sample, order: &Order) -> Report {
        let complete = |pid: u32, rows: &mut [Row]| {
            if let Some(devices) = &self.devices {
                devices.name(pid, rows);
            }
        };
        report(sample, order, self.aids.as_ref().unwrap_or(&NO_AIDS), &complete)
    }

    /// What was counted, with `now` at its end.
    fn sample(&self, scope: Scope, now: &Mark) -> Sample {
        let (began, began_ns) = match scope {
            Scope::Interval => (&self.interval_began, self.collection.began_ns),
            Scope::Run => (&self.run_began, self.began_ns),
        };
        let since = |now: Option<u64>, began: Option<u64>| Some(now?.saturating_sub(began.unwrap_or(0)));
        let groups = self.groups.vms.iter().filter(|vm| scope == Scope::Run || !vm.settled);
        let vms: Vec<VmSample> = groups.map(|group| self.vm_sample(group, scope, began_ns)).collect();
        let has_vm = |tgid| vms.iter().any(|vm| vm.tgid == tgid);
        let crowd = |(tgid, slice): (u32, Slice)| {
            let owner = self.crowds.owner(tgid, has_vm, !self.filtered);
            (tgid, Crowd { owner, slice })
        };
        let overflow = self.collection.vcpus.values().filter(|state| is_overflow(&state.head));
        Sample {
            noun: self.noun,
            scope,
            time: now.time,
            interval: Duration::from_nanos(self.collection.now_ns.saturating_sub(began_ns)),
            host: Machine {
                kernel: self.info.kernel.clone(),
                cpus: self.info.cpus_online,
                cpu: self.info.cpu.clone(),
                isa: host::info::vendor_isa(&self.root),
            },
            source: self.tracer.source(),
            kvm_stat: match scope {
                _ if self.noun.build.is_some() => KvmStat::NotKept,
                Scope::Interval => between(&began.interval_bounds, &now.interval_bounds),
                Scope::Run => between(&began.bounds, &now.bounds),
            },
            bounds: [began.bounds.clone(), now.bounds.clone()],
            missed: since(now.missed, began.missed),
            trouble: Troubles {
                histograms_full: now.trouble[0] - began.trouble[0],
                unreadable: now.trouble[1] - began.trouble[1],
                rows_full: now.trouble[2] - began.trouble[2],
            },
            cost: self.cost.sample(),
            crowds: self.tally.crowds(scope).filter(|(_, slice)| !slice.is_empty()).map(crowd).collect(),
            overflow: overflow.map(|state| state.by_code(scope)).fold(ByCode::new(), |mut sum, more| {
                add(&mut sum, &more);
                sum
            }),
            unlisted: match scope {
                Scope::Interval => Unlisted::default(),
                Scope::Run => Unlisted {
                    vms: self.unlisted,
                    exits: self.collection.folded.clone(),
                    slice: self.tally.folded().clone(),
                },
            },
            vms,
            posted: now.posted.zip(began.posted).map(|(now, began)| now.since(&began)),
            blind_to_interrupts: self.noun.build.is_some() && self.blind_to_interrupts,
            ambiguous: self.groups.ambiguous(),
            notes: Notes {
                devices: self.devices.iter().flat_map(Devices::notes).collect(),
                lacks: self.tracer.lacks().to_vec(),
            },
        }
    }

    fn vm_sample(&self, group: &VmGroup, scope: Scope, began_ns: u64) -> VmSample {
        let known =
            group.vcpus.iter().filter_map(|(key, id)| Some((key, *id, self.collection.vcpus.get(key)?)));
        let vcpus = known.map(|(key, id, state)| VcpuSample {
            key: *key,
            id: (id != u32::MAX).then_some(id),
            tid: state.head.shown_tid(),
            ended: state.ended,
            isa: state.head.isa,
            wall_ns: state.until_ns.saturating_sub(state.head.since.max(began_ns)),
            exits: state.by_code(scope),
            slice: self.tally.of(*key, scope),
            unpaired: match scope {
                Scope::Interval => state.unpaired_in_interval(),
                Scope::Run => (state.head.unpaired_exits, state.head.unpaired_entries),
            },
            running: state.pending().map(|(since, cell)| (cell.code, state.until_ns.saturating_sub(since))),
        });
        VmSample {
            serial: group.serial,
            tgid: group.tgid,
            who: group.shown(),
            settled: group.settled,
            vcpus: vcpus.collect(),
        }
    }

    /// Whether every VM seen so far has ended; `None` before the first.
    #[must_use]
    pub fn all_ended(&self) -> Option<bool> {
        if self.groups.vms.is_empty() {
            return None;
        }
        Some(self.collection.vcpus.values().all(|vcpu| vcpu.ended))
    }
}

/// Posted interrupts so far, if the drill-down is of interrupts, or of halts, which they end.
fn posted(noun: &'static Noun, root: &host::SysRoot) -> Option<host::Posted> {
    [&halt::NOUN, &irq::NOUN]
        .into_iter()
        .any(|of| std::ptr::eq(noun, of))
        .then(|| host::Posted::read(root))
        .flatten()
}
