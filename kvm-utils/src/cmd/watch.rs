//! Several drill-downs of the same VMs at a time, each a session of its own: for commands that keep, serve or show more than
//! one.

use std::{path::PathBuf, time::Duration};

use super::{
    options::Which,
    silence::Silence,
    trace::{self, Plan, Target, able, host_error, incomparable},
};
use crate::{
    bpf::source::SourceChoice,
    drilldown::{derived, exits, io, noun::Noun, report::Order, sample::Sample},
    error::{Failure, say},
    host::{SysRoot, info::vendor_isa, qmp::DeviceMap},
    model::{EventBatch, Report},
    session::Session,
};

/// Whether the VMMs may be asked what their devices are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Devices {
    /// At a monitor of their own that nobody uses.
    Ask,
    /// At this socket.
    AskAt(PathBuf),
    /// Leave them alone.
    WellKnown,
}

/// Drill-downs that run beside each other.
pub struct Watch {
    which: Which,
    target: Target,
    source: SourceChoice,
    devices: Devices,
    /// Bytes of the ring buffer for exits one by one, if they are asked for.
    events_ring: Option<u32>,
    sessions: Vec<Session>,
}

impl Watch {
    /// Attaches the programs of all of `nouns`, see [`Watch::add`].
    ///
    /// # Errors
    ///
    /// With cause and remedy; nothing stays attached.
    pub fn start(
        which: &Which,
        nouns: &[&'static Noun],
        source: SourceChoice,
        devices: Devices,
    ) -> Result<Self, Failure> {
        Self::of(which, able(which)?, nouns, source, devices)
    }

    /// The same, only of VMs that processes below this one run.
    ///
    /// # Errors
    ///
    /// As [`Watch::start`].
    pub fn start_below(
        ancestor: u32,
        which: &Which,
        nouns: &[&'static Noun],
        source: SourceChoice,
        devices: Devices,
    ) -> Result<Self, Failure> {
        let mut target = able(which)?;
        target.select.below = Some(ancestor);
        Self::of(which, target, nouns, source, devices)
    }

    fn of(
        which: &Which,
        target: Target,
        nouns: &[&'static Noun],
        source: SourceChoice,
        devices: Devices,
    ) -> Result<Self, Failure> {
        let which = which.clone();
        let mut watch = Self { which, target, source, devices, events_ring: None, sessions: Vec::new() };
        nouns.iter().try_for_each(|noun| watch.add(noun))?;
        Ok(watch)
    }

    /// From now on who adds `exits` has them told one by one as well, through a ring buffer of this size.
    pub fn tell_exits(&mut self, ring_bytes: u32) {
        self.events_ring = Some(ring_bytes);
    }

    /// Attaches the programs of one more; nothing if it runs already. `exits` brings `derived` along where kvm_exit may never
    /// fire.
    ///
    /// # Errors
    ///
    /// With cause and remedy; the others go on.
    pub fn add(&mut self, noun: &'static Noun) -> Result<(), Failure> {
        if self.nouns().any(|of| std::ptr::eq(of, noun)) {
            return Ok(());
        }
        let is_exits = std::ptr::eq(noun, &exits::NOUN);
        let mut settings = self.target.settings(&self.which, noun, self.source)?;
        settings.events_ring = self.events_ring.filter(|_| is_exits);
        let plan = Plan { noun, sort: noun.sort, source: self.source };
        let mut session = trace::start(&plan, &mut settings, &self.target.select, incomparable(&self.which))?;
        if std::ptr::eq(noun, &io::IO) {
            match &self.devices {
                Devices::Ask => session.ask_for_devices(None),
                Devices::AskAt(path) => session.ask_for_devices(Some(path.clone())),
                Devices::WellKnown => {}
            }
        }
        self.sessions.push(session);
        if is_exits && vendor_isa(&SysRoot::default()).is_none() {
            self.add(&derived::NOUN)?;
        }
        Ok(())
    }

    /// Reads exits one by one where they are told; to be called when [`Watch::events_pace`] has passed. How many were read and
    /// not taken.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to change a map.
    pub fn read_events(&mut self) -> Result<u64, Failure> {
        self.sessions.iter_mut().try_for_each(|session| session.read_events().map_err(host_error))?;
        Ok(self.sessions.iter().map(Session::events_waiting).sum())
    }

    /// The exits that ended since the last call, one by one; none if they are not told.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to change a map.
    pub fn take_events(&mut self) -> Result<Option<EventBatch>, Failure> {
        for session in &mut self.sessions {
            if let Some(batch) = session.take_events().map_err(host_error)? {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// How long exits may be left unread; none if they are not told.
    #[must_use]
    pub fn events_pace(&self) -> Option<Duration> {
        self.sessions.iter().find_map(Session::events_pace)
    }

    /// What runs, in the order in which it was asked for.
    pub fn nouns(&self) -> impl Iterator<Item = &'static Noun> {
        self.sessions.iter().map(Session::noun)
    }

    /// Says on standard error what is attached.
    pub fn tell(&self) {
        let names: Vec<&str> = self.nouns().map(|noun| noun.name).collect();
        let Some(first) = self.sessions.first() else { return };
        say(format_args!(
            "attached ({}) for {}, room for {} vCPUs",
            first.source().name(),
            names.join(", "),
            self.target.max_vcpus
        ));
    }

    /// See [`Session::housekeep`]; to be called every [`trace::HOUSEKEEPING`].
    ///
    /// # Errors
    ///
    /// If the kernel refuses to change a map.
    pub fn housekeep(&mut self) -> Result<(), Failure> {
        self.sessions.iter_mut().try_for_each(|session| session.housekeep().map_err(host_error))
    }

    /// Ends the interval and returns what was counted in it, of each drill-down.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to change a map.
    pub fn samples(&mut self) -> Result<Vec<Sample>, Failure> {
        self.sessions.iter_mut().map(|session| session.interval_sample().map_err(host_error)).collect()
    }

    /// The same, each with what was counted in the whole run up to the same moment.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to change a map.
    pub fn last_samples(&mut self) -> Result<Vec<(Sample, Sample)>, Failure> {
        self.sessions.iter_mut().map(|session| session.last_samples().map_err(host_error)).collect()
    }

    /// Ends the interval and reports it, of each drill-down: all rows, in the order of its own.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to change a map.
    pub fn interval(&mut self) -> Result<Vec<Report>, Failure> {
        let report = |session: &mut Session| session.interval(&Order::of(session.noun())).map_err(host_error);
        self.sessions.iter_mut().map(report).collect()
    }

    /// Reports the whole run so far, of each drill-down: all rows, in the order of its own.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to change a map.
    pub fn summary(&mut self) -> Result<Vec<Report>, Failure> {
        self.summary_by(&Order::of)
    }

    /// The same with the rows of each drill-down in the order that `order` says.
    ///
    /// # Errors
    ///
    /// As [`Watch::summary`].
    pub fn summary_by(&mut self, order: &dyn Fn(&'static Noun) -> Order) -> Result<Vec<Report>, Failure> {
        let report = |session: &mut Session| session.summary(&order(session.noun())).map_err(host_error);
        self.sessions.iter_mut().map(report).collect()
    }

    /// Watches for the first event of `noun`, which runs from now on.
    pub(super) fn silence(&self, which: &Which, noun: &'static Noun) -> Silence {
        Silence::new(which, noun, &self.target.tgids, &self.target.select)
    }

    /// What devices are called, by process, as far as it is known.
    pub fn device_maps(&self) -> impl Iterator<Item = (u32, &DeviceMap)> {
        self.sessions.iter().flat_map(Session::device_maps)
    }

    /// Whether every VM seen so far has ended; `None` before the first.
    #[must_use]
    pub fn all_ended(&self) -> Option<bool> {
        self.sessions.first().and_then(Session::all_ended)
    }

    /// Whether all that was asked for by process id has ended.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.sessions.first().is_some_and(|session| trace::selected_ended(&self.which, session))
    }
}
