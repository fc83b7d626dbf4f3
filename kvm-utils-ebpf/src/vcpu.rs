//! Finds the record of a vCPU, or takes one.
//!
//! The usual way is one cache line and one array lookup. The hash map behind it is asked when two vCPUs share a
//! line, and a record is taken when the vCPU was never seen: once in its life.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, bpf_pidns_info};
use aya_ebpf::{
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_kernel,
        generated::{bpf_get_current_task, bpf_get_ns_current_pid_tgid, bpf_get_smp_processor_id},
    },
    macros::map,
    maps::{Array, HashMap, Queue},
};
use kvm_utils_common::{
    config::{
        NONE, Trouble,
        mode::{BY_THREAD, CHECK_TGID, FILTER_TGIDS, FILTER_VCPU_IDS, LEDGER, USER_EXITS},
    },
    irq::PREEMPT_INTERRUPT,
    rows::INTERRUPTS,
    vcpu::{
        ADDRESS_SHIFT, CACHE_ENTRIES, IGNORED_SLOT, OVERFLOW_SLOT, STATE_DEAD, STATE_LIVE, Slot, VcpuRecord,
    },
};

use crate::{globals, mask::mask, tasks, trouble};

/// Records of the vCPUs; resized by user space to what the machine needs.
#[map]
static VCPUS: Array<VcpuRecord> = Array::with_max_entries(64, BPF_F_MMAPABLE);
/// Key of a vCPU to its record.
#[map]
static SLOTS: HashMap<u64, Slot> = HashMap::with_max_entries(256, 0);
/// Records that nobody uses.
#[map]
static FREE_VCPUS: Queue<u32> = Queue::with_max_entries(64, 0);
/// Processes wanted, if that is asked for.
#[map]
static TGIDS: HashMap<u32, u8> = HashMap::with_max_entries(4096, 0);
/// vCPU ids wanted, if that is asked for.
#[map]
static VCPU_IDS: HashMap<u32, u8> = HashMap::with_max_entries(4096, 0);

/// Thread, in the initial pid namespace, to the record of the vCPU that it runs; kept only where a noun asks by thread.
#[map]
static THREADS: HashMap<u32, u32> = HashMap::with_max_entries(1, 0);

static mut CACHE: [u64; CACHE_ENTRIES] = [0; CACHE_ENTRIES];

/// What a hook knows of a vCPU before looking it up.
#[derive(Clone, Copy)]
pub struct Who {
    /// Unique among living vCPUs, never below 2^32; see `kvm_utils_common::vcpu`.
    pub key: u64,
    /// The `struct kvm_vcpu`, or 0.
    pub vcpu: u64,
    /// Known by its address; if not, by thread and id.
    addressed: bool,
    /// KVM's id, where the event has it; else [`NONE`].
    pub vcpu_id: u32,
    /// The event's isa; 0 in an entry, which does not tell.
    pub isa: u32,
    /// Which cache line is the vCPU's, before it is cut to the size of the cache.
    home: u64,
}

impl Who {
    /// A vCPU known by its `struct kvm_vcpu`.
    #[inline(always)]
    pub fn by_address(vcpu: u64, isa: u32) -> Self {
        Self { key: vcpu, vcpu, addressed: true, vcpu_id: NONE, isa, home: vcpu >> ADDRESS_SHIFT }
    }

    /// A vCPU known by its id on the current thread.
    #[inline(always)]
    pub fn by_thread(vcpu_id: u32, isa: u32) -> Self {
        let tid = bpf_get_current_pid_tgid() as u32;
        let home = u64::from(tid) + u64::from(vcpu_id);
        Self {
            key: (u64::from(tid) << 32) | u64::from(vcpu_id),
            vcpu: 0,
            addressed: false,
            vcpu_id,
            isa,
            home,
        }
    }
}

/// The vCPU's record, if the cache knows it: the usual way.
///
/// A key made of a thread and an id may be another process's when the thread's number is used again; a key that is an
/// address cannot, as the kernel tells when it destroys a vCPU.
#[inline(always)]
pub fn cached(who: Who) -> Option<&'static mut VcpuRecord> {
    // SAFETY: the line is within CACHE; a torn read is impossible, it is one aligned word.
    let index = unsafe { cache_line(who.home).read_volatile() } as u32;
    // SAFETY: a record that holds this vCPU's key is written only by the CPU that runs the vCPU now. What the cache says
    // of an ignored vCPU is no index, or that of a record with another key.
    let record = unsafe { &mut *VCPUS.get_ptr_mut(index)? };
    (record.key == who.key && (who.addressed || record.tgid == current_tgid())).then_some(record)
}

#[inline(always)]
fn current_tgid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// Where a vCPU that the cache does not know is recorded.
pub enum Place {
    /// In a record of its own.
    Own(&'static mut VcpuRecord),
    /// In the one shared by vCPUs that found no other: atomic counting only.
    Overflow(*mut VcpuRecord),
    /// Nowhere: filtered out.
    Ignored,
}

/// Finds or takes the record for a vCPU that the cache does not know.
#[inline(always)]
pub fn place(who: Who) -> Place {
    // SAFETY: as in `cached`.
    if unsafe { cache_line(who.home).read_volatile() } == who.key {
        return Place::Ignored;
    }
    let index = resolve(who.key, who.vcpu, who.vcpu_id, who.isa, who.home);
    if index == IGNORED_SLOT {
        return Place::Ignored;
    }
    match VCPUS.get_ptr_mut(index) {
        Some(record) if index == OVERFLOW_SLOT => Place::Overflow(record),
        // SAFETY: as in `cached`; `resolve` gave this record to this vCPU.
        Some(record) => Place::Own(unsafe { &mut *record }),
        None => Place::Ignored,
    }
}

/// The key of the vCPU of record `slot`; 0 if it is gone.
#[inline(always)]
pub fn key(slot: u32) -> u64 {
    // SAFETY: one aligned word of the map's value.
    VCPUS.get_ptr_mut(slot).map_or(0, |record| unsafe { (*record).key })
}

/// `Current::crowd` of a vCPU that is filtered out. No process has this number (`PID_MAX_LIMIT`, include/linux/threads.h).
pub const FILTERED: u32 = u32::MAX;

/// On whose behalf the current thread runs.
///
/// No enum: the compiler would leave parts of it undefined, and the verifier does not let undefined words be copied.
pub struct Current {
    /// A vCPU's.
    pub record: Option<&'static mut VcpuRecord>,
    /// No vCPU's that has a record: a thread of this process, in the initial pid namespace; or [`FILTERED`].
    pub crowd: u32,
}

impl Current {
    #[inline(always)]
    fn crowd() -> Self {
        Self { record: None, crowd: current_tgid() }
    }

    #[inline(always)]
    pub fn of(record: &'static mut VcpuRecord) -> Self {
        Self { record: Some(record), crowd: FILTERED }
    }

    #[inline(always)]
    fn filtered() -> Self {
        Self { record: None, crowd: FILTERED }
    }
}

/// The vCPU that the current thread has loaded, for events that do not tell.
#[inline(always)]
pub fn current() -> Current {
    if globals::MODE.load() & BY_THREAD != 0 {
        return match by_thread() {
            Some(record) => Current::of(record),
            // An unknown thread may run a vCPU that was not asked for.
            None if globals::MODE.load() & FILTER_VCPU_IDS != 0 => Current::filtered(),
            None => Current::crowd(),
        };
    }
    let Some(vcpu) = loaded() else { return Current::crowd() };
    of(vcpu)
}

/// A vCPU known by its `struct kvm_vcpu`.
#[inline(always)]
pub fn of(vcpu: u64) -> Current {
    known(Who::by_address(vcpu, 0))
}

/// A vCPU that is known, one way or the other.
#[inline(always)]
pub fn known(who: Who) -> Current {
    if let Some(record) = cached(who)
        && (globals::MODE.load() & CHECK_TGID == 0 || record.tgid == current_tgid())
    {
        // Where kvm_entry never fires, other events have to tell which thread runs which vCPU.
        if globals::MODE.load() & USER_EXITS != 0 {
            learn_thread(record);
        }
        return Current::of(record);
    }
    match place(who) {
        Place::Own(record) => Current::of(record),
        Place::Overflow(_) => Current::crowd(),
        Place::Ignored => Current::filtered(),
    }
}

/// The same, for events that may come in an interrupt: then it is nobody's, as the thread that the interrupt came upon has
/// nothing to do with it. Where the kernel does not show its preemption counter, the thread's.
#[inline(always)]
pub fn current_or_interrupt() -> Current {
    if in_interrupt() { Current { record: None, crowd: INTERRUPTS } } else { current() }
}

/// Whether this CPU is dealing with an interrupt.
#[inline(always)]
fn in_interrupt() -> bool {
    let bases = globals::PER_CPU_OFFSETS.load();
    if bases == 0 {
        return false;
    }
    // SAFETY: helpers without preconditions; probe reads check the address themselves.
    let count = unsafe {
        let at = bases + u64::from(bpf_get_smp_processor_id()) * 8;
        let base = bpf_probe_read_kernel(at as *const u64).unwrap_or(0);
        let at = base.wrapping_add(globals::PREEMPT_COUNT.load());
        bpf_probe_read_kernel(at as *const u32).unwrap_or(0)
    };
    count & PREEMPT_INTERRUPT != 0
}

/// The `struct kvm_vcpu` that the current thread has loaded. KVM registers a preemption notifier with the thread while a
/// vCPU is loaded (`vcpu_load`, virt/kvm/kvm_main.c), and nobody else does.
#[inline(always)]
fn loaded() -> Option<u64> {
    // SAFETY: a helper without preconditions; probe reads check the address themselves.
    let link = unsafe {
        let task = bpf_get_current_task() + u64::from(globals::TASK_NOTIFIERS.load());
        bpf_probe_read_kernel(task as *const u64).ok()?
    };
    if link == 0 { None } else { Some(link - u64::from(globals::VCPU_NOTIFIER.load())) }
}

/// The vCPU that last entered its guest on the current thread.
#[inline(always)]
pub fn by_thread() -> Option<&'static mut VcpuRecord> {
    let pid_tgid = bpf_get_current_pid_tgid();
    // SAFETY: copied at once.
    let slot = unsafe { THREADS.get(pid_tgid as u32) }.copied()?;
    // SAFETY: as in `cached`; thread and process say that it is the vCPU which runs here.
    let record = unsafe { &mut *VCPUS.get_ptr_mut(slot)? };
    (record.thread == pid_tgid as u32 && record.tgid == (pid_tgid >> 32) as u32).then_some(record)
}

/// Remembers that the current thread runs this vCPU.
#[inline(always)]
pub fn learn_thread(record: &mut VcpuRecord) {
    let tid = bpf_get_current_pid_tgid() as u32;
    if record.thread != tid {
        learn(record, tid);
    }
}

#[inline(never)]
fn learn(record: &mut VcpuRecord, tid: u32) {
    // The vCPU that ran here before has to say so again when it comes back.
    // SAFETY: copied at once.
    if let Some(before) = unsafe { THREADS.get(tid) }.copied()
        && let Some(other) = VCPUS.get_ptr_mut(before)
    {
        // SAFETY: a record of the map; a vCPU that runs elsewhere by now has another thread's number there.
        unsafe {
            if (*other).thread == tid {
                (*other).thread = 0;
            }
        }
    }
    if THREADS.insert(tid, record.slot, 0).is_ok() {
        record.thread = tid;
    }
}

#[inline(always)]
fn cache_line(home: u64) -> *mut u64 {
    let line = mask::<{ CACHE_ENTRIES as i32 - 1 }>(home) as usize;
    // SAFETY: masked to the size of the cache.
    unsafe { (&raw mut CACHE).cast::<u64>().add(line) }
}

/// The index of the record of a vCPU that the cache does not know.
#[inline(never)]
fn resolve(key: u64, vcpu: u64, vcpu_id: u32, isa: u32, home: u64) -> u32 {
    let pid_tgid = bpf_get_current_pid_tgid();
    let tgid = (pid_tgid >> 32) as u32;
    // SAFETY: the value is copied at once; entries are inserted and removed whole.
    let known = unsafe { SLOTS.get(key) }.copied();
    let index = match known {
        Some(slot) if slot.tgid == tgid || vcpu != 0 && globals::MODE.load() & CHECK_TGID == 0 => slot.index,
        Some(stale) => {
            // The thread's number has passed to another process since.
            if stale.index != IGNORED_SLOT {
                retire(stale.index, 0);
            }
            take(key, vcpu, vcpu_id, isa, pid_tgid)
        }
        None => take(key, vcpu, vcpu_id, isa, pid_tgid),
    };
    // An ignored vCPU is cached by its key, which says nothing of the process.
    let line = match index {
        OVERFLOW_SLOT => return index,
        IGNORED_SLOT if vcpu != 0 => key,
        IGNORED_SLOT => return index,
        index => u64::from(index),
    };
    // SAFETY: one aligned word within CACHE.
    unsafe { cache_line(home).write_volatile(line) };
    index
}

/// Gives a record to a vCPU never seen before, unless the filters leave it out.
#[inline(always)]
fn take(key: u64, vcpu: u64, mut vcpu_id: u32, isa: u32, pid_tgid: u64) -> u32 {
    let tgid = (pid_tgid >> 32) as u32;
    let mut kvm = 0;
    if vcpu != 0 {
        // SAFETY: probe reads check the address themselves.
        let (id, owner) = unsafe {
            (
                bpf_probe_read_kernel((vcpu + u64::from(globals::VCPU_ID.load())) as *const u32),
                bpf_probe_read_kernel((vcpu + u64::from(globals::VCPU_KVM.load())) as *const u64),
            )
        };
        match (id, owner) {
            (Ok(id), Ok(owner)) => (vcpu_id, kvm) = (id, owner),
            _ => trouble::count(Trouble::UnreadableIdentity),
        }
    }
    let visible = visible_ids(pid_tgid);
    // SAFETY: only the presence of the key is asked for.
    let wanted = unsafe {
        (globals::MODE.load() & FILTER_TGIDS == 0 || TGIDS.get(visible.tgid).is_some())
            && (globals::MODE.load() & FILTER_VCPU_IDS == 0 || VCPU_IDS.get(vcpu_id).is_some())
    };
    let index = if wanted {
        match FREE_VCPUS.pop() {
            Ok(Some(index)) => index,
            _ => {
                trouble::count(Trouble::VcpusFull);
                return OVERFLOW_SLOT;
            }
        }
    } else {
        IGNORED_SLOT
    };
    if index != IGNORED_SLOT
        && let Some(record) = VCPUS.get_ptr_mut(index)
    {
        // SAFETY: the queue gave this record to nobody else, and user space cleared it before it went there.
        let record = unsafe { &mut *record };
        record.slot = index;
        record.kvm = kvm;
        record.vcpu_id = vcpu_id;
        record.isa = isa;
        record.tgid = tgid;
        record.tid = pid_tgid as u32;
        record.kvm_exits_first = kvm_exits(vcpu);
        record.kvm_exits_last = u64::MAX;
        record.taken_at_exit = u32::from(isa != 0);
        record.comm = bpf_get_current_comm().unwrap_or_default();
        record.ns_tgid = visible.tgid;
        record.ns_tid = visible.pid;
        // SAFETY: a helper without preconditions.
        record.since = unsafe { bpf_ktime_get_ns() };
        record.state = STATE_LIVE;
        record.key = key;
    }
    if SLOTS.insert(key, Slot { index, tgid }, 0).is_err() && index != IGNORED_SLOT {
        // The record stays in use through the cache as long as that holds; when it does not, another is taken and
        // this one is retired by user space, which sums them. No exit is lost.
        trouble::count(Trouble::VcpusFull);
    }
    index
}

/// The current process and thread as this tool's pid namespace numbers them; zeros if it does not see them.
#[inline(always)]
fn visible_ids(pid_tgid: u64) -> bpf_pidns_info {
    let ino = globals::PIDNS_INO.load();
    if ino == 0 {
        return bpf_pidns_info { pid: pid_tgid as u32, tgid: (pid_tgid >> 32) as u32 };
    }
    let mut ids = bpf_pidns_info { pid: 0, tgid: 0 };
    // SAFETY: the kernel fills, or on error clears, the structure of the size given.
    unsafe {
        bpf_get_ns_current_pid_tgid(
            globals::PIDNS_DEV.load(),
            ino,
            &raw mut ids,
            size_of::<bpf_pidns_info>() as u32,
        );
    }
    ids
}

/// KVM's own count of this vCPU's exits; `u64::MAX` = not known.
#[inline(always)]
fn kvm_exits(vcpu: u64) -> u64 {
    let at = globals::VCPU_STAT_EXITS.load();
    if vcpu == 0 || at == NONE {
        return u64::MAX;
    }
    // SAFETY: probe reads check the address themselves.
    unsafe { bpf_probe_read_kernel((vcpu + u64::from(at)) as *const u64) }.unwrap_or(u64::MAX)
}

/// Forgets a vCPU that the kernel destroys. Its numbers stay until user space has read them.
#[inline(always)]
pub fn forget(vcpu: u64) {
    let key = vcpu;
    let line = cache_line(vcpu >> ADDRESS_SHIFT);
    // SAFETY: one aligned word within CACHE; another CPU can only have put another vCPU's word there, which this
    // store then drops: it will be looked up again.
    unsafe {
        if line.read_volatile() == key {
            line.write_volatile(0);
        }
    }
    // SAFETY: copied at once.
    if let Some(slot) = unsafe { SLOTS.get(key) }.copied() {
        if slot.index != IGNORED_SLOT {
            retire(slot.index, vcpu);
        }
        // The entry can only be gone already, which is what is wanted.
        let _ = SLOTS.remove(key);
    }
}

#[inline(always)]
fn retire(index: u32, vcpu: u64) {
    if globals::MODE.load() & LEDGER != 0 {
        tasks::forget(index);
    }
    if let Some(record) = VCPUS.get_ptr_mut(index) {
        // SAFETY: the vCPU of this record cannot run any more, so nobody else writes here.
        let record = unsafe { &mut *record };
        record.key = 0;
        record.kvm_exits_last = kvm_exits(vcpu);
        // SAFETY: a helper without preconditions.
        record.until = unsafe { bpf_ktime_get_ns() };
        record.state = STATE_DEAD;
    }
}
