//! What the devices of each VM are called, asked of its VMM beside the run: an answer may take a second, and nothing here
//! waits for it but the summary.

use std::{
    cell::Cell,
    collections::HashMap,
    path::PathBuf,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use crate::{
    drilldown::io,
    host::{
        SysRoot,
        qmp::{self, DeviceMap, NoMap},
    },
    model::Row,
};

/// A guest moves its devices while it boots, so that a map gets old. While the guest uses addresses that it does not name it is
/// asked for again, after this time, then after twice that time, and so on: QEMU is not to be bothered for addresses where
/// there is nothing.
const OLD: Duration = Duration::from_secs(5);
/// VMs whose missing map is explained one by one.
const EXPLAINED: usize = 3;

/// A question, and its answer.
type Ask = (u32, Option<PathBuf>);
type Answer = (u32, Result<DeviceMap, Refusal>);

/// Why there is no map.
#[derive(Clone, Debug)]
struct Refusal {
    why: String,
    /// Another time there may be one: QEMU took too long, for instance.
    passing: bool,
}

/// A VM's map, or why there is none.
#[derive(Debug)]
struct Known {
    name: String,
    answer: Option<Result<DeviceMap, Refusal>>,
    /// The question that was asked last.
    asked: Instant,
    waiting: bool,
    /// When there may be another question, after the last.
    old: Duration,
    /// The guest used addresses that have no name.
    lacking: Cell<bool>,
}

/// The maps of all VMs, by process as seen from here.
#[derive(Debug)]
pub struct Devices {
    given: Option<PathBuf>,
    ask: Sender<Ask>,
    answers: Receiver<Answer>,
    known: HashMap<u32, Known>,
}

impl Devices {
    /// Nothing is known yet. `given` is the monitor of the only VM.
    #[must_use]
    pub fn new(given: Option<PathBuf>) -> Self {
        let (ask, questions) = channel::<Ask>();
        let (answer, answers) = channel();
        // It ends with the run, or with the process: no question is left half asked by that but for the monitor's client,
        // whose end QEMU notices.
        thread::spawn(move || {
            let root = SysRoot::default();
            for (pid, given) in questions {
                let map = qmp::device_map(&root, pid, given.as_deref());
                let map = map.map_err(|error| Refusal {
                    passing: matches!(error, NoMap::Talk { .. }),
                    why: error.to_string(),
                });
                if answer.send((pid, map)).is_err() {
                    return;
                }
            }
        });
        Self { given, ask, answers, known: HashMap::new() }
    }

    /// Asks for the VMs not asked for before: processes of QEMU that run, with their names.
    pub fn meet<'a>(&mut self, vms: impl Iterator<Item = (u32, &'a str)>) {
        self.listen();
        for (pid, name) in vms {
            if !self.known.contains_key(&pid) {
                self.put(pid, name.to_owned());
            }
        }
    }

    /// Whether a monitor was named.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.given.is_some()
    }

    /// The maps that are known, by process as seen from here.
    pub fn maps(&self) -> impl Iterator<Item = (u32, &DeviceMap)> {
        let known = self.known.iter();
        known.filter_map(|(pid, known)| Some((*pid, known.answer.as_ref()?.as_ref().ok()?)))
    }

    /// Calls the devices in the rows of a VM what it calls them.
    pub fn name(&self, pid: u32, rows: &mut [Row]) {
        let Some(known) = self.known.get(&pid) else { return };
        match &known.answer {
            Some(Ok(map)) if io::name_devices(rows, map) => {}
            _ => known.lacking.set(true),
        }
    }

    /// Asks the VMM of a guest again that used addresses without a name, if it is time. Whether it is asked.
    pub fn miss(&mut self, pid: u32) -> bool {
        let old = |known: &&mut Known| {
            let may_tell = match &known.answer {
                Some(Ok(_)) => true,
                Some(Err(refusal)) => refusal.passing,
                None => false,
            };
            !known.waiting && known.lacking.get() && may_tell && known.asked.elapsed() >= known.old
        };
        if let Some(known) = self.known.get_mut(&pid).filter(old) {
            (known.asked, known.waiting, known.old) = (Instant::now(), true, 2 * known.old);
            known.lacking.set(false);
            let given = self.given.clone();
            // The thread lives as long as this.
            let _ = self.ask.send((pid, given));
            return true;
        }
        false
    }

    fn put(&mut self, pid: u32, name: String) {
        let known = Known {
            name,
            answer: None,
            asked: Instant::now(),
            waiting: true,
            old: OLD,
            lacking: Cell::new(false),
        };
        self.known.insert(pid, known);
        // As above.
        let _ = self.ask.send((pid, self.given.clone()));
    }

    /// Takes over what was answered.
    fn listen(&mut self) {
        while let Ok(answer) = self.answers.try_recv() {
            self.take(answer);
        }
    }

    fn take(&mut self, (pid, answer): Answer) {
        if let Some(known) = self.known.get_mut(&pid) {
            known.waiting = false;
            // A VM that has ended keeps the map it had.
            if answer.is_ok() || !matches!(known.answer, Some(Ok(_))) {
                known.answer = Some(answer);
            }
        }
    }

    /// Waits for answers, but not for long.
    pub fn settle(&mut self) {
        let end = Instant::now() + qmp::LIMIT;
        while self.known.values().any(|known| known.waiting) {
            match self.answers.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(answer) => self.take(answer),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Where names come from.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut with: Vec<&str> = Vec::new();
        let mut without: Vec<String> = Vec::new();
        let mut all: Vec<(&u32, &Known)> = self.known.iter().collect();
        all.sort_by_key(|(pid, _)| **pid);
        for (_, known) in all {
            match &known.answer {
                Some(Ok(_)) => with.push(&known.name),
                Some(Err(Refusal { why, .. })) => without.push(format!("{}: {why}", known.name)),
                None => {}
            }
        }
        let mut notes = Vec::new();
        if !with.is_empty() {
            notes.push(format!("devices of {} are named by QEMU itself", listed(&with)));
        }
        let more = without.len().saturating_sub(EXPLAINED);
        notes.extend(
            without.into_iter().take(EXPLAINED).map(|why| format!("well-known device names only, {why}")),
        );
        if more > 0 {
            notes.push(format!("well-known device names only for {more} more VMs"));
        }
        notes
    }
}

fn listed(names: &[&str]) -> String {
    if names.len() > EXPLAINED { format!("{} VMs", names.len()) } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTREE: &str = include_str!("../../tests/fixtures/mtree/10.0/pc.txt");

    fn refused(why: &str) -> Result<DeviceMap, Refusal> {
        Err(Refusal { why: why.to_owned(), passing: false })
    }

    fn devices() -> Devices {
        // No question is ever answered here but by the test.
        let (ask, questions) = channel();
        std::mem::forget(questions);
        let (_, answers) = channel();
        Devices { given: None, ask, answers, known: HashMap::new() }
    }

    #[test]
    fn a_vm_that_has_ended_keeps_its_map() {
        let mut devices = devices();
        devices.meet([(7, "web-1")].into_iter());
        let map = DeviceMap::parse(MTREE).unwrap();
        devices.take((7, Ok(map)));
        devices.take((7, refused("it has ended")));
        assert!(matches!(devices.known[&7].answer, Some(Ok(_))));
        assert_eq!(devices.notes(), ["devices of web-1 are named by QEMU itself"]);
    }

    #[test]
    fn who_cannot_be_asked_is_told_with_the_reason() {
        let mut devices = devices();
        let names = ["a", "b", "c", "d", "e"];
        devices.meet((1..).zip(names));
        for pid in 1..=5 {
            devices.take((pid, refused("QEMU has no monitor; start it with one")));
        }
        let notes = devices.notes();
        assert_eq!(notes.len(), EXPLAINED + 1);
        assert_eq!(notes[0], "well-known device names only, a: QEMU has no monitor; start it with one");
        assert_eq!(notes[EXPLAINED], "well-known device names only for 2 more VMs");
    }

    #[test]
    fn an_old_map_that_lacks_names_is_asked_for_again_less_and_less_often() {
        let mut devices = devices();
        let later = |devices: &mut Devices, pid, by: Duration| {
            devices.known.get_mut(&pid).unwrap().asked -= by;
        };
        devices.meet([(7, "web-1")].into_iter());
        devices.take((7, Ok(DeviceMap::parse(MTREE).unwrap())));
        later(&mut devices, 7, OLD);
        assert!(!devices.miss(7), "nothing lacked a name");
        devices.known[&7].lacking.set(true);
        assert!(devices.miss(7) && !devices.miss(7));
        devices.take((7, Ok(DeviceMap::parse(MTREE).unwrap())));
        devices.known[&7].lacking.set(true);
        later(&mut devices, 7, OLD);
        assert!(!devices.miss(7), "too soon");
        later(&mut devices, 7, OLD);
        assert!(devices.miss(7));
        // Nobody who refused is asked again.
        devices.meet([(8, "db-1")].into_iter());
        devices.take((8, refused("busy")));
        devices.known[&8].lacking.set(true);
        later(&mut devices, 8, OLD);
        assert!(!devices.miss(8));
        devices.take((8, Err(Refusal { why: "no answer in time".to_owned(), passing: true })));
        assert!(devices.miss(8));
    }
}
