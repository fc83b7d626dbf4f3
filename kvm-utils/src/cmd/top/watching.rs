//! The numbers of this host's VMs.

use std::collections::BTreeMap;

use super::source::{Source, offers};
use crate::{
    bpf::source::SourceChoice,
    cmd::{
        options::Which,
        silence::Silence,
        watch::{Devices, Watch},
    },
    drilldown::{derived, exits, noun::Noun, registry::named, report::Order, time},
    error::{Failure, say},
    model::Report,
    view::tui::Offer,
};

/// Said where other events stand in for exits.
const DERIVED: &str =
    "kvm_exit does not fire on this KVM (out-of-tree PVM, for one): shown is what its other events tell";

/// Drill-downs of VMs of this host.
pub struct Watching {
    watch: Watch,
    silence: Silence,
    /// What could not be started, and why.
    failures: BTreeMap<&'static str, String>,
    over: bool,
    exits_seen: bool,
}

impl Watching {
    /// Attaches `exits`, the ledger unless it is not wanted, and `nouns`. A host that has no ledger is shown without.
    ///
    /// # Errors
    ///
    /// With cause and remedy.
    pub fn start(
        which: &Which,
        nouns: &[&'static Noun],
        ledger: bool,
        source: SourceChoice,
        devices: Devices,
    ) -> Result<Self, Failure> {
        let mut watch = Watch::start(which, &[&exits::NOUN], source, devices)?;
        let mut failures = BTreeMap::new();
        if ledger && let Err(error) = watch.add(&time::TIME) {
            say(format_args!("without time: {error}"));
            failures.insert(time::TIME.name, error.to_string());
        }
        for noun in nouns {
            watch.add(noun)?;
        }
        watch.tell();
        let silence = watch.silence(which, &exits::NOUN);
        Ok(Self { watch, silence, failures, over: false, exits_seen: false })
    }

    /// Whether the process that was to be seen has ended.
    pub const fn is_over(&self) -> bool {
        self.over
    }

    /// Reports of the whole run, of drill-downs with at most `top` rows in a table.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to change a map.
    pub fn summaries(&mut self, top: usize) -> Result<Vec<Report>, Failure> {
        let order = |noun: &'static Noun| Order { top: noun.build.map(|_| top), ..Order::of(noun) };
        let reports = self.watch.summary_by(&order)?;
        Ok(self.complete(reports, true))
    }

    /// Puts what other events tell in the place of exits, where there are none, and adds why there may be none.
    fn complete(&mut self, reports: Vec<Report>, last: bool) -> Vec<Report> {
        let (derived, mut reports): (Vec<_>, Vec<_>) =
            reports.into_iter().partition(|report| report.noun == derived::NOUN.name);
        if let Some(exits) = reports.iter_mut().find(|report| report.noun == exits::NOUN.name) {
            self.exits_seen |= exits.events > 0;
            match derived.into_iter().next().filter(|derived| derived.events > 0) {
                Some(mut derived) if !self.exits_seen => {
                    derived.notes.push(DERIVED.to_owned());
                    // To the screen these are the reasons.
                    *exits = if last { derived } else { Report { noun: exits::NOUN.name, ..derived } };
                }
                _ => self.silence.note(exits, last),
            }
        }
        reports
    }
}

impl Source for Watching {
    fn offers(&self) -> Vec<Offer> {
        let runs = |noun: &str| self.watch.nouns().any(|of| of.name == noun);
        let mut offers = offers(runs, true);
        for offer in &mut offers {
            offer.failure = self.failures.get(offer.noun).cloned();
        }
        offers
    }

    fn poll(&mut self) -> anyhow::Result<Vec<Report>> {
        let reports = self.watch.interval()?;
        Ok(self.complete(reports, false))
    }

    fn housekeep(&mut self) -> anyhow::Result<bool> {
        self.watch.housekeep()?;
        self.over = self.watch.ended();
        Ok(self.over)
    }

    fn start(&mut self, noun: &'static str) {
        let Some(of) = named(noun) else { return };
        match self.watch.add(of) {
            Ok(()) => self.failures.remove(noun),
            Err(error) => self.failures.insert(noun, error.to_string()),
        };
    }
}
