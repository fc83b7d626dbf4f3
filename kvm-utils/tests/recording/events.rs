//! Exits one by one: in a file beside the samples, and as a trace, by the program itself.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kvm_utils::{
    drilldown::{
        exits::{self, rows::Code},
        sample::{Sample, VmSample},
    },
    model::{EventBatch, EventVcpu, EventVm, ExitEvent, VcpuId, Vm},
    recording::{
        Recorder, Recording,
        events::encode,
        wire::{End, Header},
    },
};
use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::TestRunner,
};

use crate::sample::sample;

const BEGAN: u64 = 1_795_170_896;

fn after(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(BEGAN + seconds)
}

/// One second, the monotonic clock being ten behind the recording: two VMs, an exit of each 100 ms after its beginning.
fn batch(second: u64, lost: u64) -> EventBatch {
    let (began_ns, ended_ns) = ((10 + second) * 1_000_000_000, (11 + second) * 1_000_000_000);
    let vm = |serial, pid, name: &str| EventVm { serial, pid, name: name.to_owned() };
    let vcpu = |slot, vm, lost| EventVcpu {
        id: VcpuId { slot, since_ns: 1 },
        vm,
        vcpu: Some(0),
        tid: 100 + slot,
        lost,
        events: vec![ExitEvent { began_ns: began_ns + 100_000_000, took_ns: 1000, reason: 0 }],
    };
    EventBatch {
        reasons: vec![Code { isa: 2, code: 0x72 }.event_reason()],
        vms: vec![vm(3, 50, "web-1"), vm(4, 60, "db-1")],
        vcpus: vec![vcpu(1, 0, lost), vcpu(2, 1, 0)],
        ..EventBatch::new(began_ns, ended_ns, after(second + 1))
    }
}

/// A recording of so many intervals, each with the exits of a frame if there is one.
fn recording(path: &Path, frames: impl IntoIterator<Item = Option<Vec<u8>>>) {
    let any = sample().new_tree(&mut TestRunner::deterministic()).unwrap().current();
    let who = Vm {
        name: "web-1".to_owned(),
        uuid: Some("5c6fa8f7-c3f6-4b3f-b596-d16ea3912302".to_owned()),
        ..Vm::default()
    };
    let vm = VmSample { serial: 3, tgid: 50, who, settled: false, vcpus: Vec::new() };
    let one =
        Sample { noun: &exits::NOUN, time: after(1), interval: Duration::from_secs(1), vms: vec![vm], ..any };
    let header = Header {
        nouns: vec!["exits".to_owned()],
        began: BEGAN * 1_000_000_000,
        tool: "0.1.0".to_owned(),
        ..Header::default()
    };
    let mut recorder = Recorder::create(path, header).unwrap();
    for frame in frames {
        if let Some(frame) = frame {
            recorder.events(&frame).unwrap();
        }
        recorder.interval(std::slice::from_ref(&one), []).unwrap();
    }
    recorder.finish(&End::default()).unwrap();
}

struct Place(tempfile::TempDir);

impl Place {
    fn new(batches: &[EventBatch]) -> Self {
        Self::of_frames(batches.iter().map(|batch| Some(encode(batch))))
    }

    fn of_frames(frames: impl IntoIterator<Item = Option<Vec<u8>>>) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        recording(&place.file("a.kvmrec"), frames);
        place
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn report(&self, options: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-utils"));
        command.current_dir(self.0.path()).args(["report", "a.kvmrec"]).args(options).output().unwrap()
    }

    /// Makes a trace and says how many exits are in it, and what was said.
    fn trace(&self, options: &[&str]) -> (usize, String) {
        let output = self.report(&[&["--perfetto", "a.pftrace"], options].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && output.stdout.is_empty(), "{said}");
        // An end of a slice: nothing else in a packet's event.
        let trace = fs::read(self.file("a.pftrace")).unwrap();
        (trace.windows(4).filter(|bytes| bytes == b"\x5a\x02\x48\x02").count(), said)
    }
}

#[test]
fn batches_are_kept_beside_samples() {
    let batches = [batch(0, 0), batch(1, 7)];
    let place = Place::new(&batches);
    let recording = Recording::open(&place.file("a.kvmrec")).unwrap();
    let read: Vec<_> = recording.batches().map(Result::unwrap).collect();
    assert_eq!(read, batches);
    assert_eq!(recording.series[0].samples.len(), 2);
}

#[test]
fn a_trace_is_made_of_what_is_wanted() {
    let place = Place::new(&[batch(0, 0), batch(1, 7)]);
    let (exits, said) = place.trace(&[]);
    assert_eq!(exits, 4);
    assert_eq!(
        said,
        "kvm-utils: 4 exits in a.pftrace: open it at ui.perfetto.dev\n\
         kvm-utils: 7 of 11 exits are missing in it, the tracks `exits lost` show where: record with more \
         --events-buffer\n"
    );
    assert_eq!(place.trace(&["--from", "1s"]).0, 2);
    assert_eq!(
        place.trace(&["--to", "1s"]),
        (2, "kvm-utils: 2 exits in a.pftrace: open it at ui.perfetto.dev\n".to_owned())
    );
    // By what is known of the VM, and where nothing is, by its name.
    assert_eq!(place.trace(&["--vm", "5c6fa8f7-c3f6-4b3f-b596-d16ea3912302"]).0, 2);
    assert_eq!(place.trace(&["--vm", "db-1", "--vcpu", "0"]).0, 2);
    assert_eq!(place.report(&["--perfetto", "-"]).stdout, {
        place.trace(&[]);
        fs::read(place.file("a.pftrace")).unwrap()
    });
}

#[test]
fn what_cannot_be_a_trace_is_said() {
    let place = Place::new(&[]);
    let some = Place::new(&[batch(0, 0)]);
    for (output, why) in [
        (place.report(&["--perfetto", "a.pftrace"]), "was cut off before its first interval"),
        (some.report(&["--perfetto", "a.pftrace", "--vm", "mail-1"]), "no exit of this recording is of that"),
        (some.report(&["--perfetto", "a.pftrace", "--from", "1h"]), "no exit of this recording is of that"),
        (some.report(&["--perfetto", "a.pftrace", "--strict"]), "cannot be used with"),
        (some.report(&["--perfetto", "no/such/place"]), "cannot write no/such/place"),
    ] {
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(why), "{said}");
        assert!(!some.file("a.pftrace").exists());
    }
    let without = Place::of_frames([None]);
    let output = without.report(&["--perfetto", "a.pftrace"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("record with --events"), "{said}");
}

#[test]
fn a_damaged_batch_is_said_to_be_damaged() {
    let place = Place::of_frames([Some(b"\x01nonsense".to_vec())]);
    let output = place.report(&["--perfetto", "a.pftrace"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(3) && said.contains("are damaged"), "{said}");
}

#[test]
fn the_list_says_how_many_there_are() {
    let place = Place::new(&[batch(0, 0), batch(1, 7)]);
    let output = place.report(&["--list"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("one by one 4 exits, 7 lost\n"), "{text}");
}
