//! Beside `exits`, on a KVM without a vendor module of Linux's: what its other events tell, in case kvm_exit never fires.

use crate::{
    bpf::{source::SourceChoice, tracer::Settings},
    drilldown::{derived, exits, report::Order},
    error::{Failure, say},
    host::{ProcRoot, Scanner, SysRoot, info::vendor_isa},
    model::Report,
    session::{Select, Session},
};

use super::trace::{Plan, base_settings, host_error, start};

/// How many calls of [`Derived::housekeep`] pass between looking for VMs: about a second.
const LOOK_FOR_VMS: u32 = 5;

/// A second trace, of the events that come of exits.
pub(super) struct Derived {
    /// What the first is of; none if kvm_exit is known to fire.
    of: Option<(Settings, Select)>,
    session: Option<Session>,
    told: bool,
    /// Calls of [`Derived::housekeep`].
    ticks: u32,
}

impl Derived {
    /// None as yet. There will be one if `plan` is for exits by whatever source there is, and kvm_exit may never fire: all
    /// that is known to fire it are kvm_intel and kvm_amd.
    pub fn new(plan: &Plan<'_>, settings: &Settings, select: &Select) -> Self {
        let exits = std::ptr::eq(plan.noun, &exits::NOUN) && plan.source == SourceChoice::Auto;
        let may_fire = !exits || vendor_isa(&SysRoot::default()).is_some();
        Self {
            of: (!may_fire).then(|| (settings.clone(), select.clone())),
            session: None,
            told: false,
            ticks: 0,
        }
    }

    /// Starts it, if there is to be one.
    pub fn start(&mut self) {
        let Some((of, select)) = self.of.take() else { return };
        let plan = Plan { noun: &derived::NOUN, sort: derived::NOUN.sort, source: SourceChoice::Auto };
        let begin = || {
            let mut settings = Settings {
                max_vcpus: of.max_vcpus,
                tgids: of.tgids.clone(),
                vcpu_ids: of.vcpu_ids.clone(),
                ..base_settings(plan.noun, plan.source)?
            };
            start(&plan, &mut settings, &select, None)
        };
        match begin() {
            Ok(session) => self.session = Some(session),
            Err(error) => {
                say(format_args!("if kvm_exit does not fire here, nothing else can be shown: {error}"));
            }
        }
    }

    /// See [`Session::housekeep`]. Starts it when the first VM appears.
    pub fn housekeep(&mut self) -> Result<(), Failure> {
        self.ticks += 1;
        if self.of.is_some() && self.ticks.is_multiple_of(LOOK_FOR_VMS) && has_vms() {
            self.start();
        }
        self.session.as_mut().map_or(Ok(()), |session| session.housekeep().map_err(host_error))
    }

    /// The report of the same interval or run, if there were no exits in `report`, but events that come of such.
    pub fn instead(&mut self, report: Report, order: &Order) -> Result<Report, Failure> {
        let Some(session) = &mut self.session else { return Ok(report) };
        let order = Order { sort: derived::NOUN.sort.to_owned(), top: order.top };
        let derived = if report.summary { session.summary(&order) } else { session.interval(&order) }
            .map_err(host_error)?;
        if report.events > 0 || derived.events == 0 {
            return Ok(report);
        }
        if !std::mem::replace(&mut self.told, true) {
            say(
                "kvm_exit does not fire on this KVM (out-of-tree PVM, for one): shown is what its other events tell",
            );
        }
        Ok(derived)
    }
}

/// Whether there are VMs on this host.
fn has_vms() -> bool {
    Scanner::new(ProcRoot::default()).scan().is_ok_and(|scan| !scan.vms.is_empty())
}
