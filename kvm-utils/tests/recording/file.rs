//! Files: written, read, cut off, damaged, and not recordings at all.

use std::{collections::BTreeMap, fs, io::Write as _, path::Path};

use kvm_utils::{
    drilldown::sample::Sample,
    host::qmp::DeviceMap,
    recording::{
        MAGIC, Recorder, Recording, RecordingError, VERSION,
        frame::{Kind, Packer},
        wire::{End, Header},
    },
};
use proptest::{prelude::*, strategy::ValueTree as _};

use crate::sample::sample;

const MTREE: &str = include_str!("../fixtures/mtree/10.0/pc.txt");

fn header(samples: &[Sample]) -> Header {
    let facts =
        [("kernel", "6.1"), ("cpu", "a cpu")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    Header {
        nouns: samples.iter().map(|sample| sample.noun.name.to_owned()).collect(),
        facts: BTreeMap::from(facts),
        interval: 1_000_000_000,
        ..Header::default()
    }
}

/// Writes intervals, the samples of all of which are of the same drill-downs; returns where each frame of one ends.
fn write(path: &Path, intervals: &[Vec<Sample>], end: bool) -> Vec<u64> {
    let mut recorder = Recorder::create(path, header(&intervals[0])).unwrap();
    let mut ends = vec![recorder.length()];
    for samples in intervals {
        recorder.interval(samples, []).unwrap();
        ends.push(recorder.length());
    }
    if end {
        recorder.finish(&End { time: 7, status: Some(3) }).unwrap();
    }
    ends
}

fn read(recording: &Recording) -> Vec<&Sample> {
    recording.series.iter().flat_map(|series| &series.samples).collect()
}

fn same(a: &Sample, b: &Sample) -> bool {
    // A sample holds functions, which compare by nothing that matters.
    format!("{a:?}") == format!("{b:?}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_read_is_what_was_written(sample in sample()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.kvmrec");
        write(&path, &[vec![sample.clone()]], true);
        let recording = Recording::open(&path).unwrap();
        prop_assert!(recording.notes.is_empty());
        prop_assert_eq!(recording.end.as_ref().unwrap().status, Some(3));
        let back = read(&recording);
        prop_assert_eq!(back.len(), 1);
        prop_assert!(same(back[0], &sample), "{:?}\n{sample:?}", back[0]);
    }

    #[test]
    fn a_file_that_is_cut_off_has_its_whole_intervals(first in sample(), more in prop::collection::vec(sample(), 0..3),
                                                      at in any::<prop::sample::Index>()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.kvmrec");
        let mut intervals = vec![vec![first]];
        for sample in more {
            let noun = intervals[0][0].noun;
            intervals.push(vec![Sample { noun, ..sample }]);
        }
        let ends = write(&path, &intervals, false);
        let bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len() + 1);
        fs::write(&path, &bytes[..at]).unwrap();
        let whole = ends[1..].iter().filter(|end| **end <= at as u64).count();
        match Recording::open(&path) {
            Ok(recording) => {
                prop_assert_eq!(read(&recording).len(), whole);
                prop_assert!(recording.notes[0].contains("cut off"));
            }
            Err(RecordingError::Empty(_)) => prop_assert_eq!(whole, 0),
            Err(error) => prop_assert!(false, "{error}"),
        }
    }

    #[test]
    fn any_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..99), magic in any::<bool>()) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        if magic {
            file.write_all(b"KVMUREC1").unwrap();
        }
        file.write_all(&bytes).unwrap();
        let _ = Recording::open(file.path());
    }
}

#[test]
fn only_a_recording_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("letter.txt");
    fs::write(&path, "Dear reader").unwrap();
    let Err(error) = Recorder::create(&path, Header::default()) else { panic!("replaced") };
    assert!(error.to_string().contains("no recording; name a new one"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "Dear reader");
    let error = Recording::open(&path).unwrap_err();
    assert!(matches!(error, RecordingError::Foreign(_)), "{error}");

    let path = dir.path().join("a.kvmrec");
    Recorder::create(&path, Header { tool: "x".repeat(10_000), ..Header::default() }).unwrap();
    Recorder::create(&path, Header::default()).unwrap();
    assert!(matches!(Recording::open(&path).unwrap_err(), RecordingError::Empty(_)));
}

#[test]
fn what_is_no_regular_file_can_be_recorded_to() {
    let mut recorder = Recorder::create(Path::new("/dev/null"), Header::default()).unwrap();
    recorder.interval(&[], []).unwrap();
    let whole = recorder.length();
    assert!(recorder.finish(&End { time: 7, status: None }).unwrap() > whole);
}

/// A file of one frame after the header.
fn file(header: &Header, kind: Kind, payload: &[u8]) -> tempfile::NamedTempFile {
    let mut packer = Packer::new();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(MAGIC).unwrap();
    let header = serde_json::to_vec(header).unwrap();
    file.write_all(&packer.frame(Kind::Header, &header).unwrap()).unwrap();
    file.write_all(&packer.frame(kind, payload).unwrap()).unwrap();
    file
}

#[test]
fn a_later_version_is_refused_and_a_noun_of_one_is_named() {
    let later = file(&Header { version: VERSION + 1, ..Header::default() }, Kind::Other(9), b"");
    let error = Recording::open(later.path()).unwrap_err().to_string();
    assert!(error.contains("use a newer one"), "{error}");

    let nouns = ["exits", "sparks"].map(str::to_owned).to_vec();
    let interval = r#"{"s":[{"n":0,"t":7,"i":5,"later":1},{"n":1,"t":7}]}"#;
    let newer = file(&Header { nouns, ..Header::default() }, Kind::Interval, interval.as_bytes());
    let recording = Recording::open(newer.path()).unwrap();
    assert_eq!(read(&recording).len(), 1);
    assert!(recording.notes[0].contains("`sparks`"), "{:?}", recording.notes);
}

#[test]
fn a_whole_frame_that_says_nonsense_is_named_damaged() {
    for (kind, payload) in [(Kind::Interval, "{\"s\":7}"), (Kind::End, "no"), (Kind::Interval, "\u{0}")] {
        let file = file(&Header::default(), kind, payload.as_bytes());
        let error = Recording::open(file.path()).unwrap_err();
        assert!(matches!(error, RecordingError::Damaged { .. }), "{error}");
    }
}

#[test]
fn names_of_devices_are_kept_and_written_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.kvmrec");
    let map = DeviceMap::parse(MTREE).unwrap();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let one = sample().new_tree(&mut runner).unwrap().current();
    let mut recorder = Recorder::create(&path, header(std::slice::from_ref(&one))).unwrap();
    recorder.interval(std::slice::from_ref(&one), [(7, &map)]).unwrap();
    let first = recorder.length();
    recorder.interval(std::slice::from_ref(&one), [(7, &map)]).unwrap();
    assert!(recorder.length() - first < first / 2, "{first}, {}", recorder.length());
    drop(recorder);
    assert_eq!(Recording::open(&path).unwrap().devices, BTreeMap::from([(7, map)]));
}
