//! Whose numbers a picture shows: all VMs', or one's.

use crate::model::{Report, Row, Vm};

/// So many VMs have pictures and tables of their own, the busiest.
pub const MOST: usize = 24;

/// The VMs that have pictures and tables of their own; a VM is known by its process and name, so that several VMs of
/// one process and name are shown together.
#[derive(Debug)]
pub struct Scopes {
    vms: Vec<(u32, String)>,
    /// VMs in all.
    pub all: usize,
}

impl Scopes {
    /// From all that was recorded, a report of the whole run for each drill-down; the VMs of the first drill-down first. One VM alone needs no scope but "all".
    pub fn new<'a>(wholes: impl Iterator<Item = &'a Report>) -> Self {
        let mut vms: Vec<(u32, String)> = Vec::new();
        for vm in wholes.flat_map(|whole| &whole.vms) {
            if !vms.iter().any(|(pid, name)| *pid == vm.pid && *name == vm.name) {
                vms.push((vm.pid, vm.name.clone()));
            }
        }
        let all = vms.len();
        vms.truncate(if all == 1 { 0 } else { MOST });
        Self { vms, all }
    }

    /// How many there are, "all" included.
    pub fn len(&self) -> usize {
        self.vms.len() + 1
    }

    /// That of a VM, 1 or more; `None` if it has none of its own.
    pub fn of(&self, vm: &Vm) -> Option<usize> {
        self.vms.iter().position(|(pid, name)| *pid == vm.pid && *name == vm.name).map(|at| at + 1)
    }

    /// The VMs of a report that belong to a scope; none to "all".
    pub fn vms<'a>(&self, report: &'a Report, scope: usize) -> impl Iterator<Item = &'a Vm> + use<'a, '_> {
        report.vms.iter().filter(move |vm| self.of(vm) == Some(scope))
    }

    /// Calls `see` with each scope's rows and events in a report.
    pub fn each<'a>(&self, report: &'a Report, mut see: impl FnMut(usize, &'a [Row], u64)) {
        see(0, &report.totals, report.events);
        if self.vms.is_empty() {
            return;
        }
        for vm in &report.vms {
            if let Some(scope) = self.of(vm) {
                see(scope, &vm.rows, vm.events);
            }
        }
    }
}
