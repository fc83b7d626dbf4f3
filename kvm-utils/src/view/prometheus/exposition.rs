//! From reports to families, with a memory of what was shown.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant, UNIX_EPOCH},
};

use super::{
    Family, Labels, Value, own,
    proof::{self, Said},
    rows::Rows,
};
use crate::model::{Host, NO_VM, Report, Vm};

/// In place of a VM's name: the host and processes without a VM, all together.
const NOWHERE: &str = "(no VM)";

/// What is shown, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A drill-down has no more time series than this, but for one row more of each VM.
    pub max_series: usize,
    /// Series are of vCPUs instead of VMs.
    pub per_vcpu: bool,
    /// Tell since when each series counts: OpenMetrics' `_created`, which Prometheus takes for more series unless told
    /// otherwise.
    pub created: bool,
    /// How long the series of a VM are shown after its end, so that its last numbers are seen.
    pub keep: Duration,
}

/// What is shown of each VM and drill-down.
#[derive(Clone, Debug)]
pub struct Exposition {
    limits: Limits,
    host: Option<Host>,
    vms: BTreeMap<Labels, Seen>,
    rows: Vec<Rows>,
    said: Vec<Said>,
    /// When the last reports were made, seconds since 1970.
    updated: Option<f64>,
}

/// A VM; two in one process cannot be told apart and are one.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// Who it is.
    info: Labels,
    vcpus: usize,
    alive: bool,
    ended: Option<Instant>,
    /// It ended long enough ago.
    gone: bool,
}

impl Exposition {
    /// Nothing is shown yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, host: None, vms: BTreeMap::new(), rows: Vec::new(), said: Vec::new(), updated: None }
    }

    /// Takes over reports of the whole run so far, one for each drill-down.
    pub fn update(&mut self, reports: &[Report], now: Instant) {
        self.see(reports, now);
        for report in reports {
            self.host = Some(report.host.clone());
            let at = match self.rows.iter().position(|rows| rows.noun() == report.noun) {
                Some(at) => Some(at),
                None => Rows::of(report, self.limits.max_series).map(|rows| {
                    self.rows.push(rows);
                    self.rows.len() - 1
                }),
            };
            // What is new now was not there at the last time, or when the run began.
            let began =
                report.time.checked_sub(report.interval).and_then(|t| t.duration_since(UNIX_EPOCH).ok());
            let before = self.updated.or(began.map(|t| t.as_secs_f64())).unwrap_or(0.0);
            let vms = &self.vms;
            let shown = |vm: &Vm| Some(key(vm)).filter(|key| !vms.get(key).is_some_and(|seen| seen.gone));
            let (mut unbinned, mut folded) = (0, 0);
            if let Some(rows) = at.and_then(|at| self.rows.get_mut(at)) {
                rows.update(report, self.limits.per_vcpu, shown, before);
                (unbinned, folded) = (rows.unbinned(), rows.folded());
            }
            let said = match self.said.iter().position(|said| said.noun() == report.noun) {
                Some(at) => self.said.get_mut(at),
                None => {
                    self.said.push(Said::new(report));
                    self.said.last_mut()
                }
            };
            if let Some(said) = said {
                said.update(report, unbinned, folded);
            }
        }
        let times = reports.iter().filter_map(|report| report.time.duration_since(UNIX_EPOCH).ok());
        self.updated = times.max().map(|time| time.as_secs_f64()).or(self.updated);
    }

    /// Which VMs there are, live, or are gone.
    fn see(&mut self, reports: &[Report], now: Instant) {
        self.vms.values_mut().for_each(|seen| (seen.alive, seen.vcpus) = (false, 0));
        let mut present = BTreeSet::new();
        for report in reports {
            let mut vcpus: BTreeMap<Labels, usize> = BTreeMap::new();
            for vm in &report.vms {
                let key = key(vm);
                let seen = self.vms.entry(key.clone()).or_default();
                // Of those in one process the one that lives.
                if !vm.ended || !seen.alive {
                    seen.info = info(vm);
                }
                seen.alive |= !vm.ended;
                let living = vm.vcpus.iter().filter(|vcpu| !vm.ended && !vcpu.others).count();
                *vcpus.entry(key.clone()).or_default() += living;
                present.insert(key);
            }
            // A drill-down may not have seen all of them.
            for (key, count) in vcpus {
                if let Some(seen) = self.vms.get_mut(&key) {
                    seen.vcpus = seen.vcpus.max(count);
                }
            }
        }
        let keep = self.limits.keep;
        for seen in self.vms.values_mut() {
            if seen.alive {
                (seen.ended, seen.gone) = (None, false);
            } else {
                seen.gone = now.saturating_duration_since(*seen.ended.get_or_insert(now)) >= keep;
            }
        }
        for (key, _) in self.vms.iter().filter(|(_, seen)| seen.gone) {
            self.rows.iter_mut().for_each(|rows| rows.forget(key));
        }
        self.vms.retain(|key, seen| !seen.gone || present.contains(key));
    }

    /// What is to be shown; `version` is this program's.
    #[must_use]
    pub fn families(&self, version: &str) -> Vec<Family> {
        let mut families = Vec::new();
        if let Some(host) = &self.host {
            let labels = Labels::of("version", version)
                .and("kernel", &host.kernel)
                .and("isa", &host.isa)
                .and("cpu", &host.cpu);
            families.push(own::info().with(labels, Value::Count(1)));
            families.push(own::host_cpus().with(Labels::default(), Value::Count(host.cpus.into())));
        }
        families.extend(proof::families(&self.said));
        let (mut who, mut vcpus) = (own::vm(), own::vcpus());
        let no_vm = Labels::of("vm", NOWHERE);
        for (key, seen) in self.vms.iter().filter(|(key, seen)| !seen.gone && **key != no_vm) {
            who.push(key.clone().join(&seen.info), Value::Count(1));
            vcpus.push(key.clone(), Value::Count(seen.vcpus as u64));
        }
        families.extend([who, vcpus]);
        families.extend(self.rows.iter().flat_map(|rows| rows.families(self.limits.created)));
        families
    }
}

/// The labels that tell a VM from others on this host, and stay the same while it lives. What belongs to no VM is one.
fn key(vm: &Vm) -> Labels {
    if vm.vmm == NO_VM {
        return Labels::of("vm", NOWHERE);
    }
    Labels::of("vm", &vm.name).and("pid", &vm.pid.to_string())
}

/// What else is known of it.
fn info(vm: &Vm) -> Labels {
    let mut labels = Labels::of("vmm", &vm.vmm)
        .and("uuid", vm.uuid.as_deref().unwrap_or_default())
        .and("id", vm.id.as_deref().unwrap_or_default());
    // The innermost of each kind.
    let mut kinds = BTreeMap::new();
    kinds.extend(vm.within.iter().map(|place| (place.kind, place.name.as_str())));
    kinds.into_iter().for_each(|(kind, name)| labels.add(kind, name));
    labels
}
