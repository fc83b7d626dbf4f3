//! Reading a recording.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{BufReader, Read as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::de::DeserializeOwned;

use super::{
    MAGIC, RecordingError, VERSION,
    events::{self, EventsError},
    frame::{Kind, Stop, Unpacker},
    wire::{End, Header, Interval, time},
};
use crate::{
    drilldown::{
        io,
        noun::{Aids, NO_AIDS, Noun},
        registry,
        report::{Order, report},
        sample::{Sample, Scope},
    },
    host::qmp::DeviceMap,
    model::{EventBatch, Fingerprint, History, Report, Row, Vm},
};

/// A recording.
#[derive(Debug)]
pub struct Recording {
    /// What it says of itself.
    pub header: Header,
    /// The drill-downs, in the order in which they were asked for.
    pub series: Vec<Series>,
    /// Batches of single exits, see `recording::events`.
    pub events: Vec<Vec<u8>>,
    /// What devices were called at the end, by process.
    pub devices: BTreeMap<u32, DeviceMap>,
    /// How it ended; `None` if it was cut off.
    pub end: Option<End>,
    /// What the reader must know: that it was cut off, or holds what is not known here.
    pub notes: Vec<String>,
}

/// What was recorded of one drill-down.
#[derive(Clone, Debug)]
pub struct Series {
    /// The drill-down.
    pub noun: &'static Noun,
    /// Its intervals, one after the other.
    pub samples: Vec<Sample>,
}

impl Recording {
    /// Reads a file, up to its last whole frame.
    ///
    /// # Errors
    ///
    /// See [`RecordingError`].
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        let fail = |what, error| RecordingError::File { what, path: path.to_owned(), error };
        let mut file = BufReader::new(File::open(path).map_err(|error| fail("open", error))?);
        let mut magic = Vec::new();
        (&mut file).take(MAGIC.len() as u64).read_to_end(&mut magic).map_err(|error| fail("read", error))?;
        if magic != MAGIC {
            let cut = MAGIC.starts_with(&magic);
            return Err(if cut { RecordingError::Empty } else { RecordingError::Foreign }(path.to_owned()));
        }
        let mut unpacker = Unpacker::new(file);
        let mut next = || match unpacker.frame() {
            Ok(frame) => Ok(Some(frame)),
            Err(Stop::Io(error)) => Err(fail("read", error)),
            Err(Stop::End | Stop::Torn) => Ok(None),
        };
        let header = match next()? {
            None => return Err(RecordingError::Empty(path.to_owned())),
            Some((Kind::Header, payload)) => parse(&payload, path)?,
            Some(_) => return Err(damaged(path, "its first frame is no header")),
        };
        let mut reader = Reader::new(path.to_owned(), header)?;
        while let Some((kind, payload)) = next()? {
            reader.take(kind, &payload)?;
        }
        reader.finish()
    }

    /// The exits one by one, batch by batch.
    ///
    /// # Errors
    ///
    /// If a batch does not say what it should.
    pub fn batches(&self) -> impl Iterator<Item = Result<EventBatch, EventsError>> {
        self.events.iter().map(|bytes| events::decode(bytes))
    }

    /// Puts what the VM's monitor calls its devices into rows.
    pub fn name_devices(&self, pid: u32, rows: &mut [Row]) {
        if let Some(map) = self.devices.get(&pid) {
            io::name_devices(rows, map);
        }
    }

    /// The report of a sample of this recording.
    #[must_use]
    pub fn report(&self, sample: &Sample, order: &Order, aids: &Aids) -> Report {
        report(sample, order, aids, &|pid, rows| self.name_devices(pid, rows))
    }

    /// Facts about the machine and its guests.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut facts = self.header.facts.clone();
        let mut vms: Vec<String> = Vec::new();
        let whole = self.series.iter().filter_map(|series| series.over(&series.samples));
        let most = whole.max_by_key(|sample| sample.vms.len());
        for vm in most.iter().flat_map(|sample| &sample.vms) {
            let Vm { name, vmm, .. } = &vm.who;
            vms.push(format!("{name} ({vmm}, {} vCPUs)", vm.vcpus.len()));
        }
        vms.sort();
        facts.insert("vms".to_owned(), vms.join(", "));
        Fingerprint { facts }
    }

    /// Each drill-down's intervals and their sum as reports, all rows.
    #[must_use]
    pub fn histories(&self) -> Vec<History> {
        let fingerprint = self.fingerprint();
        let history = |series: &Series| {
            let order = Order::of(series.noun);
            let report = |sample: &Sample| self.report(sample, &order, &NO_AIDS);
            Some(History {
                fingerprint: fingerprint.clone(),
                intervals: series.samples.iter().map(report).collect(),
                whole: report(&series.over(&series.samples)?),
            })
        };
        self.series.iter().filter_map(history).collect()
    }

    /// When it began, and when its last interval ended.
    #[must_use]
    pub fn span(&self) -> (SystemTime, SystemTime) {
        let began = time(self.header.began);
        let ends = self.series.iter().filter_map(|series| Some(series.samples.last()?.time));
        (began, ends.max().unwrap_or(began))
    }
}

impl Series {
    /// The sum of successive samples, as a report of a whole run has it; `None` of none.
    #[must_use]
    pub fn over(&self, samples: &[Sample]) -> Option<Sample> {
        let (first, rest) = samples.split_first()?;
        let mut sum = Sample { scope: Scope::Run, ..first.clone() };
        for sample in rest {
            sum.follow(sample.clone());
        }
        Some(sum)
    }

    /// The samples between two moments: those of which at least half lies there.
    #[must_use]
    pub fn between(&self, from: SystemTime, to: SystemTime) -> &[Sample] {
        let middle = |sample: &Sample| sample.time.checked_sub(sample.interval / 2).unwrap_or(sample.time);
        let first = self.samples.partition_point(|sample| middle(sample) < from);
        let end = self.samples.partition_point(|sample| middle(sample) <= to);
        self.samples.get(first..end).unwrap_or_default()
    }
}

struct Reader {
    path: PathBuf,
    header: Header,
    /// By position in the header; none for a drill-down that is not known here.
    series: Vec<Option<Series>>,
    who: HashMap<(usize, u64), Vm>,
    devices: BTreeMap<u32, DeviceMap>,
    events: Vec<Vec<u8>>,
    end: Option<End>,
}

impl Reader {
    fn new(path: PathBuf, header: Header) -> Result<Self, RecordingError> {
        if header.version > VERSION {
            return Err(RecordingError::Later { path, version: header.version });
        }
        let series = |name: &String| Some(Series { noun: registry::named(name)?, samples: Vec::new() });
        Ok(Self {
            path,
            series: header.nouns.iter().map(series).collect(),
            header,
            who: HashMap::new(),
            devices: BTreeMap::new(),
            events: Vec::new(),
            end: None,
        })
    }

    fn take(&mut self, kind: Kind, payload: &[u8]) -> Result<(), RecordingError> {
        match kind {
            Kind::Interval => self.interval(parse(payload, &self.path)?),
            Kind::Events => self.events.push(payload.to_vec()),
            Kind::End => self.end = Some(parse(payload, &self.path)?),
            Kind::Header | Kind::Other(_) => {}
        }
        Ok(())
    }

    fn interval(&mut self, interval: Interval) {
        for (noun, serial, who) in interval.who {
            self.who.insert((noun, serial), who.vm());
        }
        self.devices.extend(interval.devices);
        let fact = |name: &str| self.header.facts.get(name).map_or("unknown", String::as_str);
        let (kernel, cpu) = (fact("kernel"), fact("cpu"));
        for wire in interval.samples {
            let noun = wire.noun();
            let Some(Some(series)) = self.series.get_mut(noun) else { continue };
            let who = |serial| self.who.get(&(noun, serial)).cloned().unwrap_or_default();
            series.samples.push(wire.sample(series.noun, kernel, cpu, &who));
        }
    }

    fn finish(self) -> Result<Recording, RecordingError> {
        let mut notes = Vec::new();
        let unknown = self.series.iter().zip(&self.header.nouns).filter(|(series, _)| series.is_none());
        for (_, name) in unknown {
            notes
                .push(format!("it also holds `{name}`, which this kvm-utils does not know: use a newer one"));
        }
        let series: Vec<Series> = self.series.into_iter().flatten().collect();
        if series.iter().all(|series| series.samples.is_empty()) {
            return Err(RecordingError::Empty(self.path));
        }
        if self.end.is_none() {
            notes.push(
                "the recording was cut off: shown is what was whole, up to its last interval".to_owned(),
            );
        }
        Ok(Recording {
            header: self.header,
            series,
            events: self.events,
            devices: self.devices,
            end: self.end,
            notes,
        })
    }
}

fn parse<T: DeserializeOwned>(payload: &[u8], path: &Path) -> Result<T, RecordingError> {
    serde_json::from_slice(payload).map_err(|error| damaged(path, &error.to_string()))
}

fn damaged(path: &Path, why: &str) -> RecordingError {
    RecordingError::Damaged { path: path.to_owned(), why: why.to_owned() }
}
