//! Several drill-downs of the same VMs at a time, each a session of its own: for commands that keep, serve or show more than
//! one.

use std::path::PathBuf;

use super::{
    options::Which,
    trace::{self, Plan, Target, able, host_error, incomparable},
};
use crate::{
    bpf::source::SourceChoice,
    drilldown::{derived, exits, io, noun::Noun, registry::REGISTRY, report::Order, sample::Sample},
    error::{Failure, say},
    host::{SysRoot, info::vendor_isa},
    model::Report,
    session::Session,
};

/// Drill-downs that can be named, each once: of those with variants the plain one.
#[must_use]
pub fn names() -> Vec<&'static str> {
    let mut names = Vec::new();
    for noun in REGISTRY.iter().filter(|noun| !std::ptr::eq(**noun, &derived::NOUN)) {
        if !names.contains(&noun.name) {
            names.push(noun.name);
        }
    }
    names
}

/// The drill-down of this name; of those with variants the plain one.
#[must_use]
pub fn named(name: &str) -> Option<&'static Noun> {
    REGISTRY.iter().find(|noun| noun.name == name).copied()
}

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
    sessions: Vec<Session>,
}

impl Watch {
    /// Attaches the programs of all of `nouns`. Where kvm_exit may never fire, `exits` brings `derived` along.
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
        let target = able(which)?;
        let mut watch = Self { which: which.clone(), target, source, devices, sessions: Vec::new() };
        for noun in nouns {
            watch.add(noun)?;
            if std::ptr::eq(*noun, &exits::NOUN) && vendor_isa(&SysRoot::default()).is_none() {
                watch.add(&derived::NOUN)?;
            }
        }
        Ok(watch)
    }

    /// Attaches the programs of one more; nothing if it runs already.
    ///
    /// # Errors
    ///
    /// With cause and remedy; the others go on.
    pub fn add(&mut self, noun: &'static Noun) -> Result<(), Failure> {
        if self.nouns().any(|of| std::ptr::eq(of, noun)) {
            return Ok(());
        }
        let mut settings = self.target.settings(&self.which, noun, self.source)?;
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
        Ok(())
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
        let report = |session: &mut Session| session.summary(&Order::of(session.noun())).map_err(host_error);
        self.sessions.iter_mut().map(report).collect()
    }

    /// The sessions, to read more from than samples.
    pub fn sessions(&mut self) -> &mut [Session] {
        &mut self.sessions
    }

    /// Whether all that was asked for by process id has ended.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.sessions.first().is_some_and(|session| trace::selected_ended(&self.which, session))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_names_a_drill_down_and_derived_has_none() {
        let names = names();
        assert!(names.starts_with(&["exits", "msr", "wrmsr"]), "{names:?}");
        assert!(names.iter().all(|name| named(name).is_some_and(|noun| noun.name == *name)));
        assert!(!names.contains(&"derived"));
        assert!(std::ptr::eq(named("io").unwrap(), &io::IO));
    }
}
