//! Loading the object: what its globals say, how large its maps are, and their mapping into memory.

use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, Map, MapData, Queue},
};
use kvm_utils_common::{config::mode, rows::MOST_ROW_BITS};

use super::{Settings, TracerError, error::map_error};
use crate::bpf::{events, layout::PreemptCount, mapped::Mapped, object::OBJECT};

/// Elements of the maps that drill-downs need; 1 where they do not.
pub(super) struct Sizes {
    pub(super) rows: u32,
    pub(super) more: u32,
    pub(super) crowds: u32,
    pub(super) numbers: u32,
    pub(super) threads: u32,
    pub(super) tasks: u32,
}

/// Room for rows that find none in their vCPU's table; an entry takes about 100 bytes.
const MORE_ROWS: u32 = 1 << 16;

/// Room for names of processes in [`MORE_ROWS`]; PIDs of those without are shown.
const CROWDS: u32 = 1 << 12;

impl Sizes {
    pub(super) fn of(settings: &Settings) -> Self {
        let slots = settings.max_vcpus + 1;
        let if_needed = |needed: bool, size: u32| if needed { size } else { 1 };
        let has_rows = settings.row_bits > 0;
        Self {
            rows: if_needed(has_rows, slots << settings.row_bits.min(MOST_ROW_BITS)),
            more: if_needed(has_rows, MORE_ROWS),
            crowds: if_needed(has_rows, CROWDS),
            numbers: if_needed(settings.counters > 0, slots),
            threads: if_needed(
                settings.mode & (mode::LEARN_THREADS | mode::USER_EXITS) != 0,
                slots.saturating_mul(4),
            ),
            tasks: if_needed(settings.mode & mode::LEDGER != 0, slots.saturating_mul(4)),
        }
    }
}

pub(super) fn load(settings: &Settings) -> Result<Ebpf, TracerError> {
    let mut mode = settings.mode;
    for (bit, on) in [
        (mode::FILTER_TGIDS, !settings.tgids.is_empty()),
        (mode::FILTER_VCPU_IDS, !settings.vcpu_ids.is_empty()),
        (mode::CHECK_TGID, !settings.destroy_hook),
        (mode::EVENTS, settings.events_ring.is_some()),
    ] {
        mode |= if on { bit } else { 0 };
    }
    let (dev, ino) = settings.pid_namespace.unwrap_or((0, 0));

    let mut loader = EbpfLoader::new();
    // The programs use no CO-RE relocations, and parsing the kernel's BTF for them takes longer than all the rest.
    loader.btf(None);
    loader
        .map_max_entries("VCPUS", settings.max_vcpus + 1)
        .map_max_entries("FREE_VCPUS", settings.max_vcpus)
        // vCPUs that the filters leave out have an entry as well.
        .map_max_entries("SLOTS", settings.max_vcpus.saturating_mul(4).max(4096));
    let sizes = Sizes::of(settings);
    loader
        .map_max_entries("ROWS", sizes.rows)
        .map_max_entries("MORE_ROWS", sizes.more)
        .map_max_entries("CROWDS", sizes.crowds)
        .map_max_entries("NUMBERS", sizes.numbers)
        .map_max_entries("THREADS", sizes.threads)
        .map_max_entries("TASKS", sizes.tasks)
        .map_max_entries(events::MAP, events::ring_bytes(settings.events_ring.unwrap_or(0)));
    loader.override_global("MODE", &mode, true).override_global("ROW_BITS", &settings.row_bits, true);
    for (name, value) in &settings.layout {
        loader.override_global(name, value, true);
    }
    for (event, _, descriptors) in &settings.events {
        loader.override_global(event.global, descriptors, true);
    }
    if let Some(PreemptCount { per_cpu_offsets, address }) = &settings.preempt_count {
        loader.override_global("PER_CPU_OFFSETS", per_cpu_offsets, true);
        loader.override_global("PREEMPT_COUNT", address, true);
    }
    loader.override_global("PIDNS_DEV", &dev, true).override_global("PIDNS_INO", &ino, true);
    loader.load(OBJECT).map_err(|e| TracerError::Load(Box::new(e)))
}

pub(super) fn mapped<T>(ebpf: &Ebpf, name: &'static str, len: u32) -> Result<Mapped<T>, TracerError> {
    let Some(Map::Array(data)) = ebpf.map(name) else { return Err(TracerError::Object(name)) };
    Mapped::map(data.fd(), len).map_err(|source| TracerError::Mmap { map: name, source })
}

pub(super) fn queue(ebpf: &mut Ebpf) -> Result<Queue<&mut MapData, u32>, TracerError> {
    let map = ebpf.map_mut("FREE_VCPUS").ok_or(TracerError::Object("map FREE_VCPUS"))?;
    Queue::try_from(map).map_err(|e| map_error("FREE_VCPUS", e))
}

pub(super) fn fill_filters(ebpf: &mut Ebpf, settings: &Settings) -> Result<(), TracerError> {
    for (name, values) in [("TGIDS", &settings.tgids), ("VCPU_IDS", &settings.vcpu_ids)] {
        let map = ebpf.map_mut(name).ok_or(TracerError::Object(name))?;
        let mut set: HashMap<_, u32, u8> = HashMap::try_from(map).map_err(|e| map_error(name, e))?;
        for value in values {
            set.insert(value, 1, 0).map_err(|e| map_error(name, e))?;
        }
    }
    Ok(())
}

/// Kernels before 5.11 charge maps against RLIMIT_MEMLOCK.
pub(super) fn raise_memlock_limit() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    // Where it is refused the kernel will say so when it makes the maps, if it cares at all.
    let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
}
