//! Exits one by one as a trace that Perfetto opens (ui.perfetto.dev): a process for each VM, a thread for each vCPU, and on it
//! a slice for each exit. Where there is none the vCPU is in the guest.
//!
//! It is Perfetto's own format rather than Chrome's JSON, which takes three times the space. What repeats is said once: names
//! are interned, and each vCPU is a sequence of packets of its own, whose times are counted from packet to packet.

mod fields;
mod proto;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::{self, Write},
    time::SystemTime,
};

use fields::{annotation, attributes, clock, defaults, event, interned, packet, trace, track};
use proto::Message;

use super::text::safe;
use crate::model::{EventBatch, EventReason, EventVcpu, EventVm, VcpuId};

/// The sequence of all that is not a vCPU's.
const MAIN: u32 = 1;

/// Interned names of arguments.
const CLASS: u64 = 1;
const CODE: u64 = 2;
/// Interned categories: of exits that are work, and of those that are the guest waiting; then the classes, by reason.
const EXIT: u64 = 1;
const WAITING: u64 = 2;
const CLASSES: u64 = 2;

/// What a trace has in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Exits.
    pub told: u64,
    /// Exits that were counted, but are missing.
    pub lost: u64,
}

/// Writes batches, in their order, as a trace.
pub struct Perfetto<W> {
    out: W,
    /// Facts about the run, by name.
    about: BTreeMap<String, String>,
    vms: HashMap<u64, VmTrack>,
    vcpus: HashMap<VcpuId, VcpuTrack>,
    /// Processes and threads that have a track as such.
    pids: HashSet<u32>,
    tids: HashSet<u32>,
    sequences: u32,
    /// When the last batch ended; none before the first.
    ended_ns: Option<u64>,
    written: Written,
    /// Kept for their memory.
    packet: Message,
    event: Message,
    note: Message,
}

/// The tracks of a VM.
struct VmTrack {
    uuid: u64,
    /// The uuid of the track of exits lost.
    losses: u64,
    lost: u64,
    /// It has a process track, to which threads may belong.
    is_process: bool,
}

/// The sequence of a vCPU.
struct VcpuTrack {
    sequence: u32,
    /// Time of the last packet, ns.
    at_ns: u64,
    /// Reasons whose names are known to the sequence: their place, plus 1, is their number.
    reasons: Vec<(u32, u64)>,
}

/// A trace of all the batches.
///
/// # Errors
///
/// What `out` says.
pub fn write<'a, W: Write>(
    out: W,
    about: BTreeMap<String, String>,
    batches: impl IntoIterator<Item = &'a EventBatch>,
) -> io::Result<Written> {
    let mut trace = Perfetto::new(out, about);
    for batch in batches {
        trace.batch(batch)?;
    }
    trace.finish()
}

impl<W: Write> Perfetto<W> {
    /// An empty trace; `about` are facts about the run by name, which Perfetto shows on its page about the trace.
    pub fn new(out: W, about: BTreeMap<String, String>) -> Self {
        Self {
            out,
            about,
            vms: HashMap::new(),
            vcpus: HashMap::new(),
            pids: HashSet::new(),
            tids: HashSet::new(),
            sequences: MAIN,
            ended_ns: None,
            written: Written::default(),
            packet: Message::default(),
            event: Message::default(),
            note: Message::default(),
        }
    }

    /// Adds a batch, which is later than those before.
    ///
    /// # Errors
    ///
    /// What the output says.
    pub fn batch(&mut self, batch: &EventBatch) -> io::Result<()> {
        if self.ended_ns.is_none() {
            self.clocks(batch)?;
        }
        self.ended_ns = Some(batch.ended_ns);
        for vm in &batch.vms {
            self.meet_vm(vm, batch.began_ns)?;
        }
        let mut lost = BTreeMap::<u64, u64>::new();
        for vcpu in &batch.vcpus {
            let Some(vm) = batch.vms.get(vcpu.vm) else { continue };
            if !self.vcpus.contains_key(&vcpu.id) {
                // An exit may have begun before it was told to whom it is to be told.
                let first = vcpu.events.first().map_or(u64::MAX, |exit| exit.began_ns);
                self.meet_vcpu(vcpu, vm, batch.began_ns.min(first))?;
            }
            for exit in &vcpu.events {
                if let Some(reason) = batch.reasons.get(exit.reason as usize) {
                    self.exit(vcpu.id, exit.began_ns, exit.took_ns, reason)?;
                }
            }
            if vcpu.lost > 0 {
                *lost.entry(vm.serial).or_default() += vcpu.lost;
                self.loss(vcpu, vm.serial, batch.ended_ns)?;
            }
        }
        for (serial, more) in lost {
            self.count_losses(serial, more, batch.ended_ns)?;
        }
        Ok(())
    }

    /// Ends the trace, and says what is in it.
    ///
    /// # Errors
    ///
    /// What the output says.
    pub fn finish(mut self) -> io::Result<Written> {
        if let Some(at) = self.ended_ns {
            // So that the last value is seen to hold until the end.
            let serials: Vec<u64> = self.vms.keys().copied().collect();
            for serial in serials {
                self.count_losses(serial, 0, at)?;
            }
        }
        let mut all = Message::default();
        for (key, value) in &self.about {
            all.with(attributes::ATTRIBUTE, |one| {
                one.text(attributes::KEY, &safe(key, true))
                    .text(attributes::STRING_VALUE, &safe(value, true));
            });
        }
        for (key, value) in [("exits", self.written.told), ("exits_lost", self.written.lost)] {
            all.with(attributes::ATTRIBUTE, |one| {
                one.text(attributes::KEY, key).number(attributes::LONG_VALUE, value);
            });
        }
        self.packet.clear();
        self.packet.message(packet::TRACE_ATTRIBUTES, &all);
        self.packet.number(packet::TRUSTED_PACKET_SEQUENCE_ID, u64::from(MAIN));
        if self.ended_ns.is_none() {
            self.packet.number(packet::SEQUENCE_FLAGS, packet::INCREMENTAL_STATE_CLEARED);
        }
        self.send()?;
        self.out.flush()?;
        Ok(self.written)
    }

    /// Says what the times are, before the first of them.
    fn clocks(&mut self, batch: &EventBatch) -> io::Result<()> {
        self.packet.clear();
        self.packet.number(packet::TRUSTED_PACKET_SEQUENCE_ID, u64::from(MAIN));
        self.packet.number(packet::SEQUENCE_FLAGS, packet::INCREMENTAL_STATE_CLEARED);
        self.packet.with(packet::TRACE_PACKET_DEFAULTS, |defaults| {
            defaults.number(defaults::TIMESTAMP_CLOCK_ID, clock::MONOTONIC);
        });
        let wall = batch.ended.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.packet.with(packet::CLOCK_SNAPSHOT, |snapshot| {
            reading(snapshot, clock::MONOTONIC, batch.ended_ns);
            if let Ok(ns) = u64::try_from(wall.as_nanos()) {
                reading(snapshot, clock::REALTIME, ns);
            }
            snapshot.number(clock::PRIMARY_TRACE_CLOCK, clock::MONOTONIC);
        });
        self.send()
    }

    /// A VM never seen before gets its tracks.
    fn meet_vm(&mut self, vm: &EventVm, began_ns: u64) -> io::Result<()> {
        if self.vms.contains_key(&vm.serial) {
            return Ok(());
        }
        let uuid = uuid(1, vm.serial, 0);
        // Perfetto takes a second process of the same pid for one that came after the first.
        let is_process = self.pids.insert(vm.pid);
        let name = safe(&vm.name, true);
        self.begin(began_ns);
        self.packet.with(packet::TRACK_DESCRIPTOR, |of| {
            of.number(track::UUID, uuid);
            if is_process {
                of.with(track::PROCESS, |process| {
                    process.number(track::PROCESS_PID, u64::from(vm.pid)).text(track::PROCESS_NAME, &name);
                });
            } else {
                of.text(track::NAME, &format!("{name} (pid {})", vm.pid));
                of.number(track::SIBLING_MERGE_BEHAVIOR, track::MERGE_NONE);
            }
        });
        self.send()?;
        let losses = self::uuid(2, vm.serial, 0);
        self.begin(began_ns);
        self.packet.with(packet::TRACK_DESCRIPTOR, |of| {
            of.number(track::UUID, losses).number(track::PARENT_UUID, uuid).text(track::NAME, "exits lost");
            of.with(track::COUNTER, |counter| {
                counter.number(track::COUNTER_UNIT, track::UNIT_COUNT);
            });
        });
        self.send()?;
        self.vms.insert(vm.serial, VmTrack { uuid, losses, lost: 0, is_process });
        self.count_losses(vm.serial, 0, began_ns)
    }

    /// A vCPU never seen before gets its track and sequence.
    fn meet_vcpu(&mut self, vcpu: &EventVcpu, vm: &EventVm, began_ns: u64) -> io::Result<()> {
        self.sequences += 1;
        let (sequence, uuid) = (self.sequences, uuid(3, u64::from(vcpu.id.slot), vcpu.id.since_ns));
        let of = self.vms.get(&vm.serial);
        let parent = of.map_or(0, |of| of.uuid);
        // A thread that runs several vCPUs would show their exits as if one were within the other.
        let is_thread = of.is_some_and(|of| of.is_process) && self.tids.insert(vcpu.tid);
        let name = vcpu.vcpu.map_or_else(|| "vCPU ?".to_owned(), |id| format!("vCPU {id}"));
        self.packet.clear();
        self.packet.number(packet::TRUSTED_PACKET_SEQUENCE_ID, u64::from(sequence));
        self.packet.number(packet::SEQUENCE_FLAGS, packet::INCREMENTAL_STATE_CLEARED);
        self.packet.with(packet::TRACE_PACKET_DEFAULTS, |of| {
            of.number(defaults::TIMESTAMP_CLOCK_ID, clock::OF_SEQUENCE);
            of.with(defaults::TRACK_EVENT_DEFAULTS, |of| {
                of.number(defaults::TRACK_UUID, uuid);
            });
        });
        self.packet.with(packet::CLOCK_SNAPSHOT, |snapshot| {
            reading(snapshot, clock::MONOTONIC, began_ns);
            snapshot.with(clock::CLOCKS, |own| {
                own.number(clock::ID, clock::OF_SEQUENCE).number(clock::TIMESTAMP, began_ns);
                own.number(clock::IS_INCREMENTAL, 1);
            });
        });
        self.packet.with(packet::INTERNED_DATA, |data| {
            for (iid, name) in [(EXIT, "exit"), (WAITING, "waiting")] {
                intern(data, interned::EVENT_CATEGORIES, iid, name);
            }
            for (iid, name) in [(CLASS, "class"), (CODE, "code")] {
                intern(data, interned::DEBUG_ANNOTATION_NAMES, iid, name);
            }
        });
        self.send()?;
        self.begin(began_ns);
        self.packet.with(packet::TRACK_DESCRIPTOR, |of| {
            of.number(track::UUID, uuid);
            if is_thread {
                of.with(track::THREAD, |thread| {
                    thread.number(track::THREAD_PID, u64::from(vm.pid));
                    thread.number(track::THREAD_TID, u64::from(vcpu.tid));
                    thread.text(track::THREAD_NAME, &name);
                });
            } else {
                of.number(track::PARENT_UUID, parent);
                of.text(track::NAME, &format!("{name} (thread {})", vcpu.tid));
                // Another of the same name is another.
                of.number(track::SIBLING_MERGE_BEHAVIOR, track::MERGE_NONE);
            }
        });
        self.send()?;
        self.vcpus.insert(vcpu.id, VcpuTrack { sequence, at_ns: began_ns, reasons: Vec::new() });
        Ok(())
    }

    /// A slice. They come in their order: one that begins before the last has ended would begin when that ends.
    fn exit(&mut self, vcpu: VcpuId, began_ns: u64, took_ns: u64, reason: &EventReason) -> io::Result<()> {
        let Some(of) = self.vcpus.get_mut(&vcpu) else { return Ok(()) };
        let known = of.reasons.iter().position(|known| *known == (reason.isa, reason.code));
        let iid = known.unwrap_or(of.reasons.len()) as u64 + 1;
        if known.is_none() {
            of.reasons.push((reason.isa, reason.code));
        }
        let sequence = of.sequence;
        let began = began_ns.saturating_sub(of.at_ns);
        let ended = (began_ns.saturating_add(took_ns)).saturating_sub(of.at_ns.saturating_add(began));
        of.at_ns = of.at_ns.saturating_add(began).saturating_add(ended);

        self.event.clear();
        self.event.number(event::TYPE, event::SLICE_BEGIN).number(event::NAME_IID, iid);
        self.event.number(event::CATEGORY_IIDS, if reason.waiting { WAITING } else { EXIT });
        self.event.number(event::CATEGORY_IIDS, CLASSES + iid);
        self.note.clear();
        self.note.number(annotation::NAME_IID, CLASS).number(annotation::STRING_VALUE_IID, iid);
        self.event.message(event::DEBUG_ANNOTATIONS, &self.note);
        if let Ok(code) = u32::try_from(reason.code) {
            self.note.clear();
            self.note.number(annotation::NAME_IID, CODE).number(annotation::UINT_VALUE, u64::from(code));
            self.event.message(event::DEBUG_ANNOTATIONS, &self.note);
        }
        self.begin_of(sequence, began);
        if known.is_none() {
            let name =
                if reason.waiting { format!("{} (waiting)", reason.name) } else { reason.name.clone() };
            self.packet.with(packet::INTERNED_DATA, |data| {
                intern(data, interned::EVENT_NAMES, iid, &safe(&name, true));
                intern(data, interned::EVENT_CATEGORIES, CLASSES + iid, reason.class);
                intern(data, interned::DEBUG_ANNOTATION_STRING_VALUES, iid, reason.class);
            });
        }
        self.packet.message(packet::TRACK_EVENT, &self.event);
        self.send()?;

        self.event.clear();
        self.event.number(event::TYPE, event::SLICE_END);
        self.begin_of(sequence, ended);
        self.packet.message(packet::TRACK_EVENT, &self.event);
        self.send()?;
        self.written.told += 1;
        Ok(())
    }

    /// Marks on the VM's own track that exits of a vCPU are missing up to here.
    fn loss(&mut self, vcpu: &EventVcpu, serial: u64, at_ns: u64) -> io::Result<()> {
        let Some(vm) = self.vms.get(&serial) else { return Ok(()) };
        self.event.clear();
        self.event.number(event::TYPE, event::INSTANT).number(event::TRACK_UUID, vm.uuid);
        let name = vcpu.vcpu.map_or_else(|| "exits lost".to_owned(), |id| format!("exits of vCPU {id} lost"));
        self.event.text(event::NAME, &name);
        self.event.with(event::DEBUG_ANNOTATIONS, |note| {
            note.text(annotation::NAME, "lost").number(annotation::UINT_VALUE, vcpu.lost);
        });
        self.begin(at_ns);
        self.packet.message(packet::TRACK_EVENT, &self.event);
        self.send()?;
        self.written.lost += vcpu.lost;
        Ok(())
    }

    /// What a VM lost so far.
    fn count_losses(&mut self, serial: u64, more: u64, at_ns: u64) -> io::Result<()> {
        let Some(vm) = self.vms.get_mut(&serial) else { return Ok(()) };
        vm.lost += more;
        self.event.clear();
        self.event.number(event::TYPE, event::COUNTER).number(event::TRACK_UUID, vm.losses);
        self.event.number(event::COUNTER_VALUE, vm.lost);
        self.begin(at_ns);
        self.packet.message(packet::TRACK_EVENT, &self.event);
        self.send()
    }

    /// Begins a packet of the main sequence, at this time.
    fn begin(&mut self, at_ns: u64) {
        self.begin_of(MAIN, at_ns);
    }

    /// Begins a packet of this sequence; `at` is counted from its last packet, unless it is the main one.
    fn begin_of(&mut self, sequence: u32, at: u64) {
        self.packet.clear();
        self.packet.number(packet::TIMESTAMP, at);
        self.packet.number(packet::TRUSTED_PACKET_SEQUENCE_ID, u64::from(sequence));
        self.packet.number(packet::SEQUENCE_FLAGS, packet::NEEDS_INCREMENTAL_STATE);
    }

    /// Writes the packet.
    fn send(&mut self) -> io::Result<()> {
        let mut whole = Message::default();
        whole.message(trace::PACKET, &self.packet);
        self.out.write_all(whole.as_bytes())
    }
}

/// A clock and what it says.
fn reading(snapshot: &mut Message, id: u64, ns: u64) {
    snapshot.with(clock::CLOCKS, |of| {
        of.number(clock::ID, id).number(clock::TIMESTAMP, ns);
    });
}

fn intern(data: &mut Message, kind: u32, iid: u64, text: &str) {
    data.with(kind, |one| {
        one.number(interned::IID, iid).text(interned::VALUE, text);
    });
}

/// A number for a track that no other track has, most likely not even one of another trace that is shown beside it
/// (FNV-1a, 64 bits).
fn uuid(kind: u8, one: u64, two: u64) -> u64 {
    let numbers = [[u8::MAX, kind, 0, 0, 0, 0, 0, 0], one.to_le_bytes(), two.to_le_bytes()];
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    numbers.as_flattened().iter().fold(0xcbf2_9ce4_8422_2325, mix) | 1
}
