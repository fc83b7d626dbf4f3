//! What makes a VM, a vCPU or a row the same one in the next report.

use crate::model::{Cell, Column, Report, Role, Row, Vcpu, Vm};

/// A VM: its process, and the thread of its first vCPU, since a process may run several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VmKey {
    /// The process.
    pub pid: u32,
    /// The thread; 0 = it has no vCPU.
    pub tid: u32,
}

impl VmKey {
    /// Of a report's VM.
    #[must_use]
    pub fn of(vm: &Vm) -> Self {
        let tid = vm.vcpus.iter().filter(|vcpu| !vcpu.others).map(|vcpu| vcpu.tid).min();
        Self { pid: vm.pid, tid: tid.unwrap_or(0) }
    }

    /// The VM in a report, also if its first vCPU is not the same there but its process has no other VM.
    #[must_use]
    pub fn find(self, report: &Report) -> Option<&Vm> {
        let mut of_process = report.vms.iter().filter(|vm| vm.pid == self.pid);
        let exact = of_process.clone().find(|vm| Self::of(vm) == self);
        exact.or_else(|| {
            let only = of_process.next();
            if of_process.next().is_none() { only } else { None }
        })
    }
}

/// A vCPU, or what stands for other threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VcpuKey {
    /// KVM's id.
    pub id: Option<u32>,
    /// The thread.
    pub tid: u32,
    /// It stands for other threads.
    pub others: bool,
}

impl VcpuKey {
    /// Of a report's vCPU.
    #[must_use]
    pub const fn of(vcpu: &Vcpu) -> Self {
        Self { id: vcpu.vcpu, tid: vcpu.tid, others: vcpu.others }
    }

    /// The vCPU in a VM.
    #[must_use]
    pub fn find(self, vm: &Vm) -> Option<&Vcpu> {
        vm.vcpus.iter().find(|vcpu| Self::of(vcpu) == self)
    }

    /// What people call it.
    #[must_use]
    pub fn name(self) -> String {
        match self.id {
            _ if self.others => "other threads".to_owned(),
            Some(id) => format!("vcpu {id}"),
            None => format!("vcpu ? (tid {})", self.tid),
        }
    }
}

/// Whose rows: a whole VM's, or those of one of its vCPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// All its vCPUs.
    All,
    /// One of them.
    Vcpu(VcpuKey),
}

impl Scope {
    /// What people call it.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::All => "all vCPUs".to_owned(),
            Self::Vcpu(vcpu) => vcpu.name(),
        }
    }
}

/// Something that can be selected.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ItemKey {
    /// A VM.
    Vm(VmKey),
    /// A vCPU or all.
    Scope(Scope),
    /// A row by what its key columns say.
    Row(String),
}

/// What the key columns of a row say, in one text.
#[must_use]
pub fn row_key(columns: &[Column], row: &Row) -> String {
    let mut key = String::new();
    for (column, cell) in columns.iter().zip(&row.cells) {
        if column.role != Role::Key {
            continue;
        }
        match cell {
            Cell::Text(text) => key.push_str(text),
            Cell::List(texts) => texts.iter().for_each(|text| {
                key.push_str(text);
                key.push(',');
            }),
            Cell::Number(number) => key.push_str(&number.to_string()),
            Cell::Real(real) => key.push_str(&real.to_string()),
            Cell::Unknown => {}
        }
        key.push('\u{1f}');
    }
    key
}
