//! Traces are read back with another decoder (prost), whose messages are written down here from Perfetto's definitions, and
//! put together as Perfetto does: interned names, times counted from packet to packet, slices from their two ends.

mod messages;

use std::time::Duration;

use messages::*;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::{drilldown::exits::rows::Code, model::ExitEvent};

/// An exit as Perfetto shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Slice {
    began_ns: u64,
    took_ns: u64,
    name: String,
    categories: Vec<String>,
    class: String,
    code: Option<u64>,
}

/// A trace as Perfetto reads it.
#[derive(Default)]
struct Read {
    tracks: BTreeMap<u64, TrackProto>,
    slices: BTreeMap<u64, Vec<Slice>>,
    /// Time, track, name, what was lost.
    instants: Vec<(u64, u64, String, u64)>,
    counters: BTreeMap<u64, Vec<(u64, i64)>>,
    attributes: BTreeMap<String, String>,
    /// Monotonic and wall clock of the same moment.
    anchor: (u64, u64),
}

/// The state of a sequence of packets.
#[derive(Default)]
struct Sequence {
    clock: u32,
    at: u64,
    track: u64,
    categories: BTreeMap<u64, String>,
    names: BTreeMap<u64, String>,
    notes: BTreeMap<u64, String>,
    texts: BTreeMap<u64, String>,
    open: Option<Slice>,
}

impl Sequence {
    fn learn(&mut self, data: InternedProto) {
        for (known, names) in [
            (&mut self.categories, data.event_categories),
            (&mut self.names, data.event_names),
            (&mut self.notes, data.debug_annotation_names),
            (&mut self.texts, data.debug_annotation_string_values),
        ] {
            for NameProto { iid, name } in names {
                assert_eq!(known.insert(iid.unwrap(), name.unwrap()), None, "a number is interned twice");
            }
        }
    }

    fn time(&mut self, stamp: u64) -> u64 {
        if self.clock >= 64 {
            self.at += stamp;
            return self.at;
        }
        assert_eq!(self.clock, 3, "CLOCK_MONOTONIC");
        stamp
    }
}

fn read(bytes: &[u8]) -> Read {
    let trace = TraceProto::decode(bytes).unwrap();
    assert_eq!(trace.encoded_len(), bytes.len(), "there are fields that nobody knows");
    let (mut read, mut sequences) = (Read::default(), BTreeMap::<u32, Sequence>::new());
    for packet in trace.packet {
        let sequence = packet.trusted_packet_sequence_id.unwrap();
        let flags = packet.sequence_flags.unwrap_or(0);
        assert_eq!(
            flags & 1 != 0,
            !sequences.contains_key(&sequence),
            "state is cleared at the beginning only"
        );
        let of = sequences.entry(sequence).or_default();
        if let Some(snapshot) = packet.clock_snapshot {
            let of_clock =
                |id| snapshot.clocks.iter().find(|c| c.clock_id == Some(id)).and_then(|c| c.timestamp);
            if let Some(wall) = of_clock(1) {
                assert_eq!(snapshot.primary_trace_clock, Some(3));
                read.anchor = (of_clock(3).unwrap(), wall);
            }
            if let Some(own) = snapshot.clocks.iter().find(|c| c.clock_id == Some(64)) {
                assert_eq!((own.is_incremental, own.timestamp), (Some(true), of_clock(3)));
                of.at = own.timestamp.unwrap();
            }
        }
        if let Some(defaults) = packet.trace_packet_defaults {
            of.clock = defaults.timestamp_clock_id.unwrap();
            of.track = defaults.track_event_defaults.and_then(|d| d.track_uuid).unwrap_or(0);
        }
        if let Some(data) = packet.interned_data {
            of.learn(data);
        }
        let at = packet.timestamp.map(|stamp| of.time(stamp));
        if let Some(track) = packet.track_descriptor {
            assert_ne!(track.uuid, Some(0));
            assert_eq!(read.tracks.insert(track.uuid.unwrap(), track), None, "a track is described twice");
        }
        for one in packet.trace_attributes.into_iter().flat_map(|all| all.attribute) {
            let value = one.string_value.or(one.long_value.map(|n| n.to_string())).unwrap();
            read.attributes.insert(one.key.unwrap(), value);
        }
        if let Some(event) = packet.track_event {
            assert_eq!(flags & 2, 2);
            read.event(of, at.unwrap(), &event);
        }
    }
    assert!(sequences.values().all(|of| of.open.is_none()), "a slice has no end");
    read
}

impl Read {
    fn event(&mut self, of: &mut Sequence, at: u64, event: &TrackEventProto) {
        let track = event.track_uuid.unwrap_or(of.track);
        assert!(self.tracks.contains_key(&track), "an event has no track");
        let note = |name: &str| {
            let is = |a: &&AnnotationProto| {
                a.name.as_deref().or_else(|| of.notes.get(&a.name_iid?).map(String::as_str)) == Some(name)
            };
            event.debug_annotations.iter().find(is)
        };
        match event.r#type.unwrap() {
            1 => {
                let class = note("class").unwrap().string_value_iid.unwrap();
                let slice = Slice {
                    began_ns: at,
                    took_ns: 0,
                    name: of.names[&event.name_iid.unwrap()].clone(),
                    categories: event.category_iids.iter().map(|iid| of.categories[iid].clone()).collect(),
                    class: of.texts[&class].clone(),
                    code: note("code").map(|code| code.uint_value.unwrap()),
                };
                assert!(of.open.replace(slice).is_none(), "slices overlap");
            }
            2 => {
                let slice = of.open.take().unwrap();
                let took_ns = at - slice.began_ns;
                self.slices.entry(track).or_default().push(Slice { took_ns, ..slice });
            }
            3 => {
                let lost = note("lost").unwrap().uint_value.unwrap();
                self.instants.push((at, track, event.name.clone().unwrap(), lost));
            }
            4 => self.counters.entry(track).or_default().push((at, event.counter_value.unwrap())),
            other => panic!("event type {other}"),
        }
    }

    /// The track of this name, of a thread or plain.
    fn named(&self, name: &str) -> u64 {
        let of = |track: &TrackProto| {
            let thread = track.thread.as_ref().and_then(|thread| thread.thread_name.clone());
            let process = track.process.as_ref().and_then(|process| process.process_name.clone());
            thread.or(process).or(track.name.clone()).unwrap()
        };
        let found: Vec<u64> =
            self.tracks.iter().filter(|(_, t)| of(t) == name).map(|(uuid, _)| *uuid).collect();
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        found[0]
    }
}

fn reasons() -> Vec<EventReason> {
    // SVM: cpuid, hlt, npf; VMX: a failed entry; too many others.
    let codes = [(2, 0x72), (2, 0x78), (2, 0x400), (1, 0x8000_0021), (2, 1 << 32)];
    codes.map(|(isa, code)| Code { isa, code }.event_reason()).to_vec()
}

fn vcpu(slot: u32, vm: usize, id: u32, tid: u32, lost: u64, exits: &[(u64, u64, u32)]) -> EventVcpu {
    let event = |&(began_ns, took_ns, reason): &(u64, u64, u32)| ExitEvent { began_ns, took_ns, reason };
    let id_of = VcpuId { slot, since_ns: 40 };
    EventVcpu { id: id_of, vm, vcpu: Some(id), tid, lost, events: exits.iter().map(event).collect() }
}

fn batch(began_ns: u64, ended_ns: u64, vms: &[(u64, u32, &str)], vcpus: Vec<EventVcpu>) -> EventBatch {
    let ended = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_700_000_000_000_000_000 + ended_ns);
    let vm = |&(serial, pid, name): &(u64, u32, &str)| EventVm { serial, pid, name: name.to_owned() };
    let vms = vms.iter().map(vm).collect();
    EventBatch { reasons: reasons(), vms, vcpus, ..EventBatch::new(began_ns, ended_ns, ended) }
}

fn written(batches: &[EventBatch]) -> (Read, Written) {
    let mut out = Vec::new();
    let about = BTreeMap::from([("kernel".to_owned(), "6.1.0\u{1b}[31m".to_owned())]);
    let written = write(&mut out, about, batches).unwrap();
    (read(&out), written)
}

#[test]
fn a_vm_is_a_process_a_vcpu_a_thread_and_an_exit_a_slice() {
    let exits = [(1100, 50, 0), (1200, 700_000, 1), (701_300, 9, 3), (701_400, 1, 4)];
    let batches = [
        batch(1000, 900_000, &[(7, 4711, "web-1")], vec![vcpu(1, 0, 0, 4713, 0, &exits)]),
        batch(900_000, 2_000_000, &[(7, 4711, "web-1")], vec![vcpu(1, 0, 0, 4713, 0, &[(899_000, 2000, 0)])]),
    ];
    let (read, written) = written(&batches);
    assert_eq!(written, Written { told: 5, lost: 0 });
    let process = &read.tracks[&read.named("web-1")];
    assert_eq!(process.process.as_ref().unwrap().pid, Some(4711));
    let track = read.named("vCPU 0");
    let thread = read.tracks[&track].thread.as_ref().unwrap();
    assert_eq!((thread.pid, thread.tid), (Some(4711), Some(4713)));
    let slice = |began_ns, took_ns, name: &str, kind: &str, class: &str, code| Slice {
        began_ns,
        took_ns,
        name: name.to_owned(),
        categories: [kind, class].map(str::to_owned).to_vec(),
        class: class.to_owned(),
        code,
    };
    assert_eq!(
        read.slices[&track],
        [
            slice(1100, 50, "cpuid", "exit", "cpuid", Some(0x72)),
            slice(1200, 700_000, "hlt (waiting)", "waiting", "hlt", Some(0x78)),
            slice(701_300, 9, "INVALID_STATE FAILED_VMENTRY", "exit", "entry-failed", Some(0x8000_0021)),
            slice(701_400, 1, "(other codes)", "exit", "other", None),
            slice(899_000, 2000, "cpuid", "exit", "cpuid", Some(0x72)),
        ]
    );
    assert_eq!(read.anchor, (900_000, 1_700_000_000_000_900_000));
    // Flat: nothing was lost.
    assert_eq!(read.counters[&read.named("exits lost")], [(1000, 0), (2_000_000, 0)]);
    assert_eq!((read.attributes["exits"].as_str(), read.attributes["exits_lost"].as_str()), ("5", "0"));
    assert_eq!(read.attributes["kernel"], "6.1.0\\u{1b}[31m");
}

#[test]
fn what_was_lost_is_shown_where_and_in_sum() {
    let vms: &[(u64, u32, &str)] = &[(7, 4711, "web-1"), (8, 99, "db\n<b>")];
    let batches = [
        batch(1000, 2000, vms, vec![vcpu(1, 0, 0, 4713, 3, &[(1100, 5, 0)]), vcpu(2, 0, 1, 4714, 4, &[])]),
        batch(2000, 3000, vms, vec![vcpu(3, 1, 0, 100, 0, &[(2100, 5, 0)]), vcpu(2, 0, 1, 4714, 5, &[])]),
    ];
    let (read, written) = written(&batches);
    assert_eq!(written, Written { told: 2, lost: 12 });
    assert_eq!(read.attributes["exits_lost"], "12");
    let (web, db) = (read.named("web-1"), read.named("db\\n<b>"));
    let lost: Vec<_> =
        read.instants.iter().map(|(at, track, name, n)| (*at, *track, name.as_str(), *n)).collect();
    assert_eq!(
        lost,
        [
            (2000, web, "exits of vCPU 0 lost", 3),
            (2000, web, "exits of vCPU 1 lost", 4),
            (3000, web, "exits of vCPU 1 lost", 5)
        ]
    );
    let of = |parent| {
        let track =
            read.tracks.values().find(|t| t.counter.is_some() && t.parent_uuid == Some(parent)).unwrap();
        assert_eq!(track.counter.as_ref().unwrap().unit, Some(2));
        read.counters[&track.uuid.unwrap()].clone()
    };
    assert_eq!(of(web), [(1000, 0), (2000, 7), (3000, 12), (3000, 12)]);
    assert_eq!(of(db), [(1000, 0), (3000, 0)]);
}

#[test]
fn vms_of_one_process_and_vcpus_of_one_thread_have_tracks_of_their_own() {
    let vms: &[(u64, u32, &str)] = &[(1, 50, "a"), (2, 50, "b")];
    let vcpus = vec![
        vcpu(1, 0, 0, 51, 0, &[(100, 50, 0)]),
        vcpu(2, 0, 1, 51, 0, &[(120, 5, 0)]),
        vcpu(3, 1, 0, 52, 0, &[(110, 9, 2)]),
    ];
    let (read, _) = written(&[batch(0, 1000, vms, vcpus)]);
    assert_eq!(read.tracks.values().filter(|track| track.process.is_some()).count(), 1);
    assert_eq!(read.tracks.values().filter(|track| track.thread.is_some()).count(), 1);
    let (a, b) = (read.named("a"), read.named("b (pid 50)"));
    let second = read.named("vCPU 1 (thread 51)");
    let other = read.named("vCPU 0 (thread 52)");
    assert_eq!(read.tracks[&second].parent_uuid, Some(a));
    assert_eq!(read.tracks[&other].parent_uuid, Some(b));
    assert_eq!(read.tracks[&other].sibling_merge_behavior, Some(2));
    assert_eq!((read.slices[&second].len(), read.slices[&other].len()), (1, 1));
    assert_eq!(read.slices[&other][0].name, "npf");
}

#[test]
fn a_trace_of_nothing_is_a_trace() {
    let (read, written) = written(&[]);
    assert_eq!((written, read.tracks.len()), (Written::default(), 0));
    assert_eq!(read.attributes["exits"], "0");
}

#[test]
fn an_exit_takes_some_fifty_bytes() {
    let exits: Vec<_> = (0..1000).map(|i| (1000 + i * 10_000, 3000, (i % 2) as u32)).collect();
    let mut out = Vec::new();
    let batch = batch(0, 20_000_000, &[(1, 2, "web-1")], vec![vcpu(1, 0, 0, 3, 0, &exits)]);
    write(&mut out, BTreeMap::new(), [&batch]).unwrap();
    assert!(out.len() < 52_000, "{} bytes for 1,000 exits", out.len());
}

proptest! {
    /// Whatever vCPUs do: their slices are their exits, all of them, wherever the batches are cut.
    #[test]
    fn slices_are_exits(
        steps in proptest::collection::vec((0..3_u32, 0..1_000_000_u64, 0..1_000_000_000_u64, 0..5_u32), 1..60),
        cut in 1..20_usize,
    ) {
        let mut clocks = [10_000_u64; 3];
        let mut all: BTreeMap<u32, Vec<(u64, u64, u32)>> = BTreeMap::new();
        let mut batches = Vec::new();
        for chunk in steps.chunks(cut) {
            let began = *clocks.iter().min().unwrap();
            let mut now: BTreeMap<u32, Vec<(u64, u64, u32)>> = BTreeMap::new();
            for (of, gap, took, reason) in chunk {
                let clock = &mut clocks[*of as usize];
                now.entry(*of).or_default().push((*clock + gap, *took, *reason));
                *clock += gap + took;
            }
            let vcpus = now.iter().map(|(of, exits)| vcpu(of + 1, 0, *of, of + 100, 0, exits)).collect();
            for (of, exits) in now {
                all.entry(of).or_default().extend(exits);
            }
            batches.push(batch(began, *clocks.iter().max().unwrap(), &[(1, 99, "vm")], vcpus));
        }
        let (read, written) = written(&batches);
        prop_assert_eq!(written.told, steps.len() as u64);
        for (of, exits) in all {
            let slices = &read.slices[&read.named(&format!("vCPU {of}"))];
            let got: Vec<_> = slices.iter().map(|slice| (slice.began_ns, slice.took_ns, slice.code)).collect();
            let code = |reason: u32| reasons()[reason as usize].code;
            let want: Vec<_> =
                exits.iter().map(|(at, took, why)| (*at, *took, u32::try_from(code(*why)).ok().map(u64::from))).collect();
            prop_assert_eq!(got, want);
        }
    }
}
