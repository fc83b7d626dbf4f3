//! Loads the programs, attaches them, and gives access to their maps. Dropping it detaches everything; nothing is
//! ever pinned, so that the end of the process, however it comes, leaves nothing behind.

mod attach;
mod error;
mod load;
mod pods;

pub use error::TracerError;

use std::{
    collections::{BTreeMap, HashMap as StdHashMap},
    os::fd::AsFd as _,
    time::Duration,
};

use aya::{
    Ebpf,
    maps::{HashMap, MapData, RingBuf},
};
use kvm_utils_common::{
    config::{TROUBLES, Trouble, mode},
    numbers::{Clock, STATE_GAUGE, VcpuNumbers, ledger::STATE_TASK},
    rows::{NOUNS, RowCell, RowKey},
    vcpu::{IGNORED_SLOT, Slot, VcpuRecord},
};

use self::{
    attach::{
        attach_destroy, attach_entry, attach_event, attach_function, attach_raw, attach_run,
        attach_tracepoint,
    },
    error::map_error,
    load::{Sizes, fill_filters, load, mapped, queue, raise_memlock_limit},
    pods::{PodMoreKey, PodMoreRow, PodSlot},
};
use super::{
    clock::{TscClock, monotonic_ns},
    events::{self, EventRing, ToldExit},
    hook::Function,
    layout::PreemptCount,
    mapped::Mapped,
    object::program,
    prog_info::{self, RunTime},
    rows::{self, RowStats, Slice},
    snapshot::Snapshot,
    source::Events,
};

/// How the programs learn who and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Raw tracepoints and offsets from BTF: cheapest, and vCPUs are known by their address.
    Raw,
    /// Classic tracepoints and offsets from their `format`: work everywhere, vCPUs are known by thread and id.
    Tracepoint,
}

impl Source {
    /// Name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw_tracepoint",
            Self::Tracepoint => "tracepoint",
        }
    }
}

/// What to load and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How to learn who and why.
    pub source: Source,
    /// Switches that describe this kernel: [`mode`].
    pub mode: u32,
    /// Names and values of the other globals that do; see kvm-utils-ebpf/src/globals.rs.
    pub layout: Vec<(&'static str, u32)>,
    /// Whether exits and entries are counted and timed.
    pub exits: bool,
    /// What else drill-downs are fed by.
    pub events: Events,
    /// How the programs tell that they run in an interrupt.
    pub preempt_count: Option<PreemptCount>,
    /// Whether the kernel is to tell when it destroys a vCPU, where vCPUs are known by their address.
    pub destroy_hook: bool,
    /// Functions, likewise.
    pub functions: Vec<&'static Function>,
    /// Each vCPU's table has room for two to the power of this many keys, at most [`MOST_ROW_BITS`].
    pub row_bits: u32,
    /// Counters at fixed places that the drill-down has per vCPU (`kvm_utils_common::numbers`).
    pub counters: usize,
    /// Whether to be told when `KVM_RUN` begins, if the kernel can.
    pub runs: bool,
    /// Records for vCPUs, besides the overflow record; each takes 92 KB of kernel memory.
    pub max_vcpus: u32,
    /// Processes to count, as seen from here; empty = all.
    pub tgids: Vec<u32>,
    /// vCPU ids to count; empty = all.
    pub vcpu_ids: Vec<u32>,
    /// Device and inode of our pid namespace, if it is not the initial one.
    pub pid_namespace: Option<(u64, u64)>,
    /// Bytes of the ring buffer for exits one by one, as [`super::events::ring_bytes`] makes them; none = they are only
    /// counted. They need exits to be counted.
    pub events_ring: Option<u32>,
}

/// Programs that run, and their maps.
pub struct Tracer {
    ebpf: Ebpf,
    source: Source,
    tells_of_ends: bool,
    records: Mapped<VcpuRecord>,
    trouble: Mapped<u64>,
    rows: Mapped<RowCell>,
    row_bits: u32,
    numbers: Mapped<VcpuNumbers>,
    counters: usize,
    clock: Mapped<Clock>,
    tsc: TscClock,
    keys: StdHashMap<u32, u64>,
    /// The noun time counts, in its own way.
    ledger: bool,
    /// What it counted by the last copy, by record.
    ledgers: StdHashMap<u32, Vec<u64>>,
    lacks: Vec<String>,
    events: Option<EventRing<MapData>>,
}

impl Tracer {
    /// Loads and attaches. `before_counting` is called at the last moment at which nothing is counted yet.
    ///
    /// The entry comes before the exit, so that no exit is seen whose entry is missed.
    ///
    /// # Errors
    ///
    /// See [`TracerError`]. Nothing stays attached.
    pub fn start(settings: &Settings, mut before_counting: impl FnMut()) -> Result<Self, TracerError> {
        raise_memlock_limit();
        // As early as can be: the longer ago, the better the clock's rate is known.
        let tsc = TscClock::new();
        let mut ebpf = load(settings)?;
        let slots = settings.max_vcpus + 1;
        let records = mapped(&ebpf, "VCPUS", slots)?;
        let trouble = mapped(&ebpf, "TROUBLE", TROUBLES)?;
        let sizes = Sizes::of(settings);
        let rows = mapped(&ebpf, "ROWS", sizes.rows)?;
        let numbers = mapped(&ebpf, "NUMBERS", sizes.numbers)?;
        let clock = mapped(&ebpf, "CLOCK", 1)?;
        if settings.counters > 0 {
            tsc.settle();
            tsc.tell(&clock);
        }
        let events = settings.events_ring.map(|bytes| event_ring(&mut ebpf, bytes)).transpose()?;
        fill_filters(&mut ebpf, settings)?;
        let mut free = queue(&mut ebpf)?;
        for slot in 1..slots {
            free.push(slot, 0).map_err(|e| map_error("FREE_VCPUS", e))?;
        }
        let raw = settings.source == Source::Raw;
        if raw && settings.destroy_hook {
            // First, or a vCPU could be gone before anybody is told.
            attach_destroy(&mut ebpf)?;
        }
        let learns = settings.mode & mode::LEARN_THREADS != 0;
        let ledger = settings.mode & mode::LEDGER != 0;
        if (settings.exits || learns) && !ledger {
            attach_entry(&mut ebpf, raw)?;
        }
        // Events before exits, so that no exit is seen without what it turns out to be.
        before_counting();
        for function in &settings.functions {
            attach_function(&mut ebpf, function)?;
        }
        for (event, how, _) in &settings.events {
            attach_event(&mut ebpf, event, *how)?;
        }
        let mut lacks = Vec::new();
        if settings.runs {
            lacks.extend(attach_run(&mut ebpf)?);
        }
        if ledger {
            // A vCPU is first seen at its entry: from then on nothing that it does is to be missed.
            attach_entry(&mut ebpf, raw)?;
        }
        if settings.exits {
            if raw {
                attach_raw(&mut ebpf, program::KVM_EXIT_RAW, "kvm_exit")?;
            } else {
                attach_tracepoint(&mut ebpf, program::KVM_EXIT_TP, "kvm", "kvm_exit")?;
            }
        }
        Ok(Self {
            ebpf,
            source: settings.source,
            tells_of_ends: raw && settings.destroy_hook,
            records,
            trouble,
            rows,
            row_bits: settings.row_bits,
            numbers,
            counters: settings.counters,
            clock,
            tsc,
            keys: StdHashMap::new(),
            ledgers: StdHashMap::new(),
            ledger,
            lacks,
            events,
        })
    }

    /// What the kernel cannot tell, and what follows for the numbers: sentences.
    #[must_use]
    pub fn lacks(&self) -> &[String] {
        &self.lacks
    }

    /// How exits are learned of.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    /// Whether the kernel tells when it destroys a vCPU.
    #[must_use]
    pub fn tells_of_ends(&self) -> bool {
        self.tells_of_ends
    }

    /// Copies all counters.
    pub fn read(&mut self, snapshot: &mut Snapshot) {
        snapshot.read(&self.records);
        if self.ledger {
            // Time goes on: as near to the snapshot's as can be, again if we lost our CPU in between.
            for _ in 0..MOST_READS {
                if self.read_ledgers(snapshot) <= LONGEST_READ_NS {
                    break;
                }
                snapshot.read(&self.records);
            }
        }
        for head in &snapshot.vcpus {
            if head.key != 0 {
                self.keys.insert(head.slot, head.key);
            }
        }
    }

    /// Copies where the time went, and says how long after the snapshot the last copy was, ns.
    fn read_ledgers(&mut self, snapshot: &Snapshot) -> u64 {
        self.ledgers.clear();
        for head in &snapshot.vcpus {
            let counters = rows::read_ledger(&self.numbers, head.slot, self.counters, head.until);
            self.ledgers.insert(head.slot, counters);
        }
        monotonic_ns().saturating_sub(snapshot.time_ns)
    }

    /// What the drill-down has counted for the vCPU of record `slot`, without what is in `more`.
    #[must_use]
    pub fn slice(&self, slot: u32) -> Slice {
        let mut slice = Slice::default();
        if self.rows.len() > 1 {
            rows::read_rows(&self.rows, slot, self.row_bits, &mut slice.rows);
        }
        if self.counters > 0 {
            slice.counters = match self.ledgers.get(&slot) {
                Some(ledger) => ledger.clone(),
                None => rows::read_numbers(&self.numbers, slot, self.counters),
            };
        }
        slice.gauge = rows::read_state(&self.numbers, slot, STATE_GAUGE).checked_sub(1);
        if let Some(record) = self.records.get(slot) {
            // SAFETY: within a live mapping; the kernel writes whole aligned words.
            let other =
                |i: usize| unsafe { (&raw const (*record).other).cast::<u64>().add(i).read_volatile() };
            slice.other = (0..NOUNS).map(other).sum();
        }
        slice
    }

    /// Rows that found no place in their vCPU's table, by the vCPU's record, and rows of events on no vCPU's thread, by
    /// process in the initial pid namespace.
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn more(&self) -> Result<MoreRows, TracerError> {
        let mut all = MoreRows::default();
        if self.rows.len() <= 1 {
            return Ok(all);
        }
        let map = self.ebpf.map("MORE_ROWS").ok_or(TracerError::Object("map MORE_ROWS"))?;
        let map: HashMap<_, PodMoreKey, PodMoreRow> =
            HashMap::try_from(map).map_err(|e| map_error("MORE_ROWS", e))?;
        for item in map.iter() {
            let (PodMoreKey(key), PodMoreRow(row)) = item.map_err(|e| map_error("MORE_ROWS", e))?;
            let stats = RowStats { count: row.count, extra: row.extra, ..RowStats::default() };
            let of = match key.slot {
                0 => all.crowds.entry(key.tgid).or_default(),
                slot => all.vcpus.entry(slot).or_default(),
            };
            of.insert(key.key, stats);
        }
        Ok(all)
    }

    /// Name of the first thread of a process, in the initial pid namespace, on which there was an event while it had no vCPU
    /// loaded; NUL-padded. `None` if there was none, or no room for it.
    ///
    /// # Errors
    ///
    /// If there is no such map.
    pub fn crowd_name(&self, tgid: u32) -> Result<Option<[u8; 16]>, TracerError> {
        let map = self.ebpf.map("CROWDS").ok_or(TracerError::Object("map CROWDS"))?;
        let names: HashMap<_, u32, [u8; 16]> = HashMap::try_from(map).map_err(|e| map_error("CROWDS", e))?;
        Ok(names.get(&tgid, 0).ok())
    }

    /// Tells the programs what KVM adds to the host's TSC for the vCPU of record `slot`, where they cannot read it.
    pub fn tell_tsc_offset(&self, slot: u32, offset: u64) {
        use kvm_utils_common::numbers::deadline::{STATE_OFFSET, STATE_OFFSET_KNOWN};
        if let Some(numbers) = self.numbers.get(slot) {
            // SAFETY: aligned words of a live mapping that the programs only read; the offset is there before it is
            // known to be.
            unsafe {
                let state = (&raw mut (*numbers).state).cast::<u64>();
                state.add(STATE_OFFSET).write_volatile(offset);
                state.add(STATE_OFFSET_KNOWN).write_volatile(1);
            }
        }
    }

    /// Keeps what the programs know of time right. To be called a few times a second.
    pub fn tick(&self) {
        if self.counters > 0 {
            self.tsc.tell(&self.clock);
        }
    }

    /// The records, for reading histograms.
    #[must_use]
    pub fn records(&self) -> &Mapped<VcpuRecord> {
        &self.records
    }

    /// A counter of what could not be accounted for; see [`Trouble`].
    #[must_use]
    pub fn trouble(&self, trouble: Trouble) -> u64 {
        // SAFETY: the element is an aligned u64 in a live mapping.
        self.trouble.get(trouble as u32).map_or(0, |counter| unsafe { counter.read_volatile() })
    }

    /// Takes the exits that were told since the last call, if they are told at all. To be called before a record is
    /// [recycled](Self::recycle), so that it is known which vCPU's they are.
    ///
    /// # Errors
    ///
    /// If there is something else in the ring buffer.
    pub fn drain_events(&mut self, into: &mut Vec<ToldExit>) -> Result<(), TracerError> {
        let records = &self.records;
        let since = |slot| {
            // SAFETY: an aligned word of a live mapping.
            records.get(slot).map_or(0, |record| unsafe { (&raw const (*record).since).read_volatile() })
        };
        self.events.as_mut().map_or(Ok(()), |ring| ring.drain(since, into))
    }

    /// Exits of the vCPU of record `slot` that are over but were not told, for want of room.
    #[must_use]
    pub fn events_lost(&self, slot: u32) -> u64 {
        // SAFETY: an aligned word of a live mapping.
        self.records
            .get(slot)
            .map_or(0, |record| unsafe { (&raw const (*record).events_lost).read_volatile() })
    }

    /// How long the ring buffer of exits may be left alone; `None` if they are not told.
    #[must_use]
    pub fn events_pace(&self) -> Option<Duration> {
        self.events.as_ref().map(EventRing::pace)
    }

    /// Runs that the kernel skipped because of recursion, over all programs; `None` before 5.12, where it does not
    /// tell.
    #[must_use]
    pub fn missed(&self) -> Option<u64> {
        self.infos().map(|info| info?.recursion_misses).sum()
    }

    /// Time spent in the programs so far; `None` where the kernel does not tell. Stands still unless
    /// [`prog_info::enable_run_time`] holds.
    #[must_use]
    pub fn run_time(&self) -> Option<RunTime> {
        self.infos().try_fold(RunTime::default(), |sum, info| {
            let RunTime { ns, runs } = info?.run_time;
            Some(RunTime { ns: sum.ns + ns, runs: sum.runs + runs })
        })
    }

    /// What the kernel says of each program that is loaded.
    fn infos(&self) -> impl Iterator<Item = Option<prog_info::Info>> {
        self.ebpf
            .programs()
            .filter_map(|(_, program)| program.fd().ok())
            .map(|fd| prog_info::get(fd.as_fd()).ok())
    }

    /// Leaves a vCPU out from now on: the programs ignore it, its record stays until [`Tracer::recycle`].
    ///
    /// # Errors
    ///
    /// If the map cannot be changed.
    pub fn ignore(&mut self, slot: u32, tgid: u32) -> Result<(), TracerError> {
        if let Some(key) = self.keys.get(&slot).copied() {
            let map = self.ebpf.map_mut("SLOTS").ok_or(TracerError::Object("map SLOTS"))?;
            let mut slots: HashMap<_, u64, PodSlot> =
                HashMap::try_from(map).map_err(|e| map_error("SLOTS", e))?;
            slots
                .insert(key, PodSlot(Slot { index: IGNORED_SLOT, tgid }), 0)
                .map_err(|e| map_error("SLOTS", e))?;
            if let Some(record) = self.records.get(slot) {
                // A record without its key is not believed by the programs' cache.
                // SAFETY: an aligned word of a live mapping.
                unsafe { (&raw mut (*record).key).write_volatile(0) };
            }
        }
        Ok(())
    }

    /// Clears the record of a vCPU that cannot run any more, and offers it to others.
    ///
    /// # Errors
    ///
    /// If the queue of free records cannot be changed.
    pub fn recycle(&mut self, slot: u32) -> Result<(), TracerError> {
        if let Some(key) = self.keys.remove(&slot) {
            let map = self.ebpf.map_mut("SLOTS").ok_or(TracerError::Object("map SLOTS"))?;
            let mut slots: HashMap<_, u64, PodSlot> =
                HashMap::try_from(map).map_err(|e| map_error("SLOTS", e))?;
            // Only if the key is still this record's: a new vCPU may live at the same address by now.
            if slots.get(&key, 0).is_ok_and(|found| found.0.index == slot) {
                // It can only be gone already, which is what is wanted.
                let _ = slots.remove(&key);
            }
        }
        self.forget_thread(slot)?;
        self.forget_task(slot)?;
        self.forget_more(slot)?;
        if self.rows.len() > 1 || self.counters > 0 {
            rows::clear(&self.rows, self.row_bits, &self.numbers, slot);
        }
        if let Some(record) = self.records.get(slot) {
            // SAFETY: a whole element of a live mapping, and no program writes to it: its vCPU is gone, and no other
            // has been given it.
            unsafe { record.write_bytes(0, 1) };
        }
        queue(&mut self.ebpf)?.push(slot, 0).map_err(|e| map_error("FREE_VCPUS", e))
    }
}

impl Tracer {
    /// The thread on which the vCPU of record `slot` ran runs it no more.
    fn forget_thread(&mut self, slot: u32) -> Result<(), TracerError> {
        let Some(record) = self.records.get(slot) else { return Ok(()) };
        // SAFETY: an aligned word of a live mapping.
        let thread = unsafe { (&raw const (*record).thread).read_volatile() };
        if thread == 0 {
            return Ok(());
        }
        let map = self.ebpf.map_mut("THREADS").ok_or(TracerError::Object("map THREADS"))?;
        let mut threads: HashMap<_, u32, u32> =
            HashMap::try_from(map).map_err(|e| map_error("THREADS", e))?;
        if threads.get(&thread, 0).is_ok_and(|found| found == slot) {
            // It can only be gone already, which is what is wanted.
            let _ = threads.remove(&thread);
        }
        Ok(())
    }

    /// The same, of the map that the noun time uses.
    fn forget_task(&mut self, slot: u32) -> Result<(), TracerError> {
        let task = rows::read_state(&self.numbers, slot, STATE_TASK);
        if !self.ledger || task == 0 {
            return Ok(());
        }
        let map = self.ebpf.map_mut("TASKS").ok_or(TracerError::Object("map TASKS"))?;
        let mut tasks: HashMap<_, u64, u32> = HashMap::try_from(map).map_err(|e| map_error("TASKS", e))?;
        if tasks.get(&task, 0).is_ok_and(|found| found == slot) {
            // As above.
            let _ = tasks.remove(&task);
        }
        Ok(())
    }

    /// Removes the rows of record `slot` that found no place in its table.
    fn forget_more(&mut self, slot: u32) -> Result<(), TracerError> {
        if self.rows.len() <= 1 {
            return Ok(());
        }
        let map = self.ebpf.map_mut("MORE_ROWS").ok_or(TracerError::Object("map MORE_ROWS"))?;
        let mut map: HashMap<_, PodMoreKey, PodMoreRow> =
            HashMap::try_from(map).map_err(|e| map_error("MORE_ROWS", e))?;
        let keys: Vec<PodMoreKey> =
            map.keys().filter_map(Result::ok).filter(|key| key.0.slot == slot).collect();
        for key in keys {
            // As above.
            let _ = map.remove(&key);
        }
        Ok(())
    }
}

/// The reading end of the ring buffer, which has `bytes` bytes.
fn event_ring(ebpf: &mut Ebpf, bytes: u32) -> Result<EventRing<MapData>, TracerError> {
    // The programs still have to be told which map it is: its descriptor lives on in the reading end.
    let map = ebpf.take_map(events::MAP).ok_or(TracerError::Object("map EVENTS"))?;
    let ring = RingBuf::try_from(map).map_err(|e| map_error(events::MAP, e))?;
    Ok(EventRing::new(ring, events::ring_bytes(bytes)))
}

/// Rows of `MORE_ROWS`.
#[derive(Clone, Debug, Default)]
pub struct MoreRows {
    /// By record.
    pub vcpus: BTreeMap<u32, BTreeMap<RowKey, RowStats>>,
    /// By process.
    pub crowds: BTreeMap<u32, BTreeMap<RowKey, RowStats>>,
}

/// Copies of all ledgers that are made at most, until one takes no longer than [`LONGEST_READ_NS`].
const MOST_READS: u32 = 5;
/// A hundredth of the time between two reports is no matter if that is 100 ms or more.
const LONGEST_READ_NS: u64 = 1_000_000;
