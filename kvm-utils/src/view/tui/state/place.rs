//! Where one is: all VMs, a VM's vCPUs, reasons, a drill-down.

use super::{
    data::EXITS,
    ident::{Scope, VmKey},
};

/// What is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The VM, with the name it had when it was chosen; none = all are listed.
    pub vm: Option<(VmKey, String)>,
    /// Whose rows; none = its vCPUs are listed.
    pub scope: Option<Scope>,
    /// The drill-down; none = the reasons of exits.
    pub noun: Option<&'static str>,
}

/// A table: what it is of, so that each keeps its order, filter and selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// The VMs.
    Vms,
    /// The vCPUs of one.
    Vcpus,
    /// Rows of a drill-down, `exits` too.
    Rows(&'static str),
}

impl Place {
    /// The table that is shown.
    #[must_use]
    pub fn table(&self) -> Table {
        match self {
            Self { vm: None, .. } => Table::Vms,
            Self { scope: None, .. } => Table::Vcpus,
            Self { noun, .. } => Table::Rows(noun.unwrap_or(EXITS)),
        }
    }

    /// One level up; none from the top.
    #[must_use]
    pub fn up(&self) -> Option<Self> {
        let mut up = self.clone();
        if up.noun.take().is_some() || up.scope.take().is_some() || up.vm.take().is_some() {
            Some(up)
        } else {
            None
        }
    }
}
