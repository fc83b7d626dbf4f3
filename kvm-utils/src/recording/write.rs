//! Writing a recording.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    MAGIC, RecordingError, VERSION,
    frame::{Kind, Packer},
    wire::{End, Header, Interval, SampleWire, WhoWire},
};
use crate::{
    drilldown::sample::Sample,
    host::qmp::DeviceMap,
    replace::{ReplaceError, replace},
};

/// A recording under way. Each interval is in the file when [`Recorder::interval`] returns: nothing waits in our memory, so
/// that what was recorded stays, however we end.
pub struct Recorder {
    path: PathBuf,
    file: File,
    packer: Packer,
    /// Length of the file as far as it is whole.
    whole: u64,
    /// What was written of each VM, by drill-down and serial.
    who: HashMap<(usize, u64), WhoWire>,
    devices: HashMap<u32, DeviceMap>,
}

impl Recorder {
    /// Creates the file, or empties it if it is a recording; any other file is left as it is.
    ///
    /// # Errors
    ///
    /// If there is another file, or it cannot be written.
    pub fn create(path: &Path, header: Header) -> Result<Self, RecordingError> {
        let file = replace(path, MAGIC).map_err(|error| {
            let error = match error {
                ReplaceError::Foreign => {
                    io::Error::other("there is another file, which is no recording; name a new one")
                }
                ReplaceError::File(error) => error,
            };
            RecordingError::File { what: "write", path: path.to_owned(), error }
        })?;
        let mut recorder = Self {
            path: path.to_owned(),
            file,
            packer: Packer::new(),
            whole: 0,
            who: HashMap::new(),
            devices: HashMap::new(),
        };
        recorder.put(MAGIC)?;
        recorder.json(Kind::Header, &Header { version: VERSION, ..header })?;
        Ok(recorder)
    }

    /// Appends an interval: a sample of each drill-down, in the header's order, and what devices are called.
    ///
    /// # Errors
    ///
    /// If it cannot be written. The file then ends with the interval before.
    pub fn interval<'a>(
        &mut self,
        samples: &[Sample],
        devices: impl IntoIterator<Item = (u32, &'a DeviceMap)>,
    ) -> Result<(), RecordingError> {
        let mut who = Vec::new();
        for (noun, sample) in samples.iter().enumerate() {
            for vm in &sample.vms {
                let said = WhoWire::new(&vm.who);
                if self.who.get(&(noun, vm.serial)) != Some(&said) {
                    self.who.insert((noun, vm.serial), said.clone());
                    who.push((noun, vm.serial, said));
                }
            }
        }
        let mut new = Vec::new();
        for (pid, map) in devices {
            if self.devices.get(&pid) != Some(map) {
                self.devices.insert(pid, map.clone());
                new.push((pid, map.clone()));
            }
        }
        let samples =
            samples.iter().enumerate().map(|(noun, sample)| SampleWire::new(noun, sample)).collect();
        self.json(Kind::Interval, &Interval { samples, who, devices: new })
    }

    /// Appends single exits, see `recording::events`.
    ///
    /// # Errors
    ///
    /// As [`Recorder::interval`].
    pub fn events(&mut self, batch: &[u8]) -> Result<(), RecordingError> {
        self.frame(Kind::Events, batch)
    }

    /// Ends the recording in good order and says how long the file is, bytes.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn finish(mut self, end: &End) -> Result<u64, RecordingError> {
        self.json(Kind::End, end)?;
        match self.file.sync_all() {
            // A pipe, for instance.
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => Err(self.fail(error)),
            _ => Ok(self.whole),
        }
    }

    /// Length of the file so far, bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.whole
    }

    fn json(&mut self, kind: Kind, payload: &impl Serialize) -> Result<(), RecordingError> {
        let payload = serde_json::to_vec(payload).map_err(|error| self.fail(error.into()))?;
        self.frame(kind, &payload)
    }

    fn frame(&mut self, kind: Kind, payload: &[u8]) -> Result<(), RecordingError> {
        let frame = self.packer.frame(kind, payload).map_err(|error| self.fail(error))?;
        self.put(&frame)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), RecordingError> {
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.whole += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                // What was written of it is no use. If that cannot be taken back a reader passes over it.
                let _ = self.file.set_len(self.whole);
                Err(self.fail(error))
            }
        }
    }

    fn fail(&self, error: io::Error) -> RecordingError {
        RecordingError::File { what: "write", path: self.path.clone(), error }
    }
}
