//! From what a person typed (`--pid`, `--vm`) to VMs.

use std::collections::BTreeMap;

use super::{
    identity::Answer,
    names::near,
    process::{Stat, process_of},
    root::{Peek, ProcRoot},
    scan::Scan,
    vm::VmProcess,
};

/// What to trace; all VMs if empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selectors {
    /// `--pid`: process ids as the user sees them.
    pub pids: Vec<u32>,
    /// `--vm`: names, UUIDs, ids, what VMs run in, or patterns with `*` and `?`.
    pub names: Vec<String>,
}

impl Selectors {
    /// Whether nothing is selected, which means all VMs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pids.is_empty() && self.names.is_empty()
    }
}

/// Why a selector finds no VM.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// No process has this id.
    #[error("--pid {pid}: no such process; {}", there_are(.vms))]
    NoProcess {
        /// The id.
        pid: u32,
        /// Pid and name of the VMs there are.
        vms: Vec<(u32, String)>,
    },
    /// The process has ended.
    #[error(
        "--pid {pid}: the process ({name}) has ended; start the VM again, then use its new pid or --vm NAME"
    )]
    Ended {
        /// The id.
        pid: u32,
        /// Name of the VM or process.
        name: String,
    },
    /// The id is that of a thread.
    #[error("--pid {tid}: this is a thread ({comm}) of process {pid}; use --pid {pid}")]
    Thread {
        /// The id.
        tid: u32,
        /// The thread's name.
        comm: String,
        /// The process it belongs to.
        pid: u32,
    },
    /// The process runs no VM.
    #[error("--pid {pid}: process {comm} runs no VM (it holds no kvm-vm or kvm-vcpu file); {}", there_are(.vms))]
    NotVm {
        /// The id.
        pid: u32,
        /// The process's name.
        comm: String,
        /// Pid and name of the VMs there are.
        vms: Vec<(u32, String)>,
    },
    /// The process holds the VM of another process.
    #[error(
        "--pid {pid}: this process helps the VM of process {owner} and runs none itself; use --pid {owner}"
    )]
    Helper {
        /// The id.
        pid: u32,
        /// The VM's process.
        owner: u32,
    },
    /// This user may not look into the process.
    #[error(
        "--pid {pid}: not allowed to look into process {comm}; run as root, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
    )]
    Denied {
        /// The id.
        pid: u32,
        /// The process's name.
        comm: String,
    },
    /// No VM has this name.
    #[error("--vm {name}: no VM of this name{}; {}{}", did_you_mean(.near), there_are(.vms), not_allowed(.hidden))]
    NoName {
        /// The name or pattern.
        name: String,
        /// Names that may have been meant.
        near: Vec<String>,
        /// Pid and name of the VMs there are.
        vms: Vec<(u32, String)>,
        /// Pid and name of VMMs that this user may not look into.
        hidden: Vec<(u32, String)>,
    },
    /// Several VMs have this name, UUID or id.
    #[error("--vm {name}: {} VMs have this {what}; use {}", .pids.len(), either_pid(.pids))]
    Ambiguous {
        /// What was typed.
        name: String,
        /// What it is to them: `name` or `id`.
        what: &'static str,
        /// Their process ids.
        pids: Vec<u32>,
    },
}

impl FindError {
    /// Whether a later try can succeed because the VM may yet start.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::NoName { .. } | Self::NotVm { .. })
    }

    /// Whether the cause is what this user may do, not what was typed.
    #[must_use]
    pub fn needs_privileges(&self) -> bool {
        matches!(self, Self::Denied { .. })
            || matches!(self, Self::NoName { hidden, .. } if !hidden.is_empty())
    }
}

/// More than this many VMs are counted, not listed, in a message.
const LISTED: usize = 8;

fn there_are(vms: &[(u32, String)]) -> String {
    if vms.is_empty() { "no VM runs now".to_owned() } else { format!("running VMs: {}", listed(vms)) }
}

fn listed(processes: &[(u32, String)]) -> String {
    let mut list: Vec<String> =
        processes.iter().take(LISTED).map(|(pid, name)| format!("{name} ({pid})")).collect();
    if processes.len() > LISTED {
        list.push(format!("{} more", processes.len() - LISTED));
    }
    list.join(", ")
}

fn did_you_mean(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(" or ")) }
}

fn not_allowed(vmms: &[(u32, String)]) -> String {
    if vmms.is_empty() {
        return String::new();
    }
    format!(
        "; not allowed to look into {}: run as root, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
        listed(vmms)
    )
}

fn either_pid(pids: &[u32]) -> String {
    pids.iter().map(|pid| format!("--pid {pid}")).collect::<Vec<_>>().join(" or ")
}

/// What the selectors mean now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The VMs selected, by pid, each once.
    pub vms: Vec<VmProcess>,
    /// Selectors that find none, in the order given.
    pub errors: Vec<FindError>,
}

/// Resolves selectors, time after time. A selector stays with the process it found while that lives: a second VM of
/// the same name does not make it ambiguous, and a pid that passes to another process is not followed.
#[derive(Clone, Debug, Default)]
pub struct Finder {
    selectors: Selectors,
    /// Start time and name of the process that each pid meant first.
    pids: BTreeMap<u32, (u64, String)>,
    /// Pid and start time of the process that each exact name meant last.
    names: BTreeMap<String, (u32, u64)>,
}

impl Finder {
    /// A finder of what `selectors` name.
    #[must_use]
    pub fn new(selectors: Selectors) -> Self {
        Self { selectors, ..Self::default() }
    }

    /// Resolves the selectors among the VMs of `scan`, which was made of `proc`.
    pub fn resolve(&mut self, scan: &Scan, proc: &ProcRoot) -> Found {
        if self.selectors.is_empty() {
            return Found { vms: scan.vms.clone(), errors: Vec::new() };
        }
        let mut found: BTreeMap<u32, VmProcess> = BTreeMap::new();
        let mut errors = Vec::new();
        for pid in self.selectors.pids.clone() {
            match self.by_pid(pid, scan, proc) {
                Ok(vm) => _ = found.insert(vm.pid, vm),
                Err(error) => errors.push(error),
            }
        }
        for name in self.selectors.names.clone() {
            match self.by_name(&name, scan) {
                Ok(vms) => found.extend(vms.into_iter().map(|vm| (vm.pid, vm))),
                Err(error) => errors.push(error),
            }
        }
        Found { vms: found.into_values().collect(), errors }
    }

    fn by_pid(&mut self, pid: u32, scan: &Scan, proc: &ProcRoot) -> Result<VmProcess, FindError> {
        let stat = match Stat::read(proc, pid) {
            Peek::Seen(stat) if !stat.has_ended() => stat,
            Peek::Seen(stat) => return Err(FindError::Ended { pid, name: self.name_of(pid, &stat.comm) }),
            Peek::Gone | Peek::Denied => {
                return Err(match self.pids.get(&pid) {
                    Some((_, name)) => FindError::Ended { pid, name: name.clone() },
                    None => FindError::NoProcess { pid, vms: list(scan) },
                });
            }
        };
        if let Some((start_time, name)) = self.pids.get(&pid)
            && *start_time != stat.start_time
        {
            return Err(FindError::Ended { pid, name: name.clone() });
        }
        if let Some(process) = process_of(proc, pid).filter(|process| *process != pid) {
            return Err(FindError::Thread { tid: pid, comm: stat.comm, pid: process });
        }
        if let Some((_, owner)) = scan.helpers.iter().find(|(helper, _)| *helper == pid) {
            return Err(FindError::Helper { pid, owner: *owner });
        }
        // The scan may be older than the process's last deed.
        let vm = match scan.vm(pid).filter(|vm| vm.start_time == stat.start_time) {
            Some(vm) => Peek::Seen(Some(vm.clone())),
            None => VmProcess::complete(proc, &stat),
        };
        let comm = stat.comm;
        match vm {
            Peek::Seen(Some(vm)) => {
                self.pids.entry(pid).or_insert_with(|| (vm.start_time, vm.identity.name.clone()));
                Ok(vm)
            }
            Peek::Seen(None) => Err(FindError::NotVm { pid, comm, vms: list(scan) }),
            Peek::Gone => Err(FindError::Ended { pid, name: self.name_of(pid, &comm) }),
            Peek::Denied => Err(FindError::Denied { pid, comm }),
        }
    }

    fn name_of(&self, pid: u32, comm: &str) -> String {
        self.pids.get(&pid).map_or_else(|| comm.to_owned(), |(_, name)| name.clone())
    }

    fn by_name(&mut self, name: &str, scan: &Scan) -> Result<Vec<VmProcess>, FindError> {
        let bound = self.names.get(name).copied();
        let answers: Vec<(Answer, &VmProcess)> =
            scan.vms.iter().filter_map(|vm| Some((vm.identity.answer(name)?, vm))).collect();
        // The name of one VM may be the id of another, or that of what another runs in.
        let best = answers.iter().map(|(answer, _)| *answer).min();
        let exact: Vec<&VmProcess> =
            answers.iter().filter(|(answer, _)| Some(*answer) == best).map(|(_, vm)| *vm).collect();
        let what = match best {
            Some(Answer::Name) => "name",
            Some(Answer::Id) => "id",
            Some(Answer::Place) => return Ok(exact.into_iter().cloned().collect()),
            None => {
                let all: Vec<VmProcess> =
                    scan.vms.iter().filter(|vm| vm.identity.fits(name)).cloned().collect();
                return if all.is_empty() { Err(no_name(name, scan)) } else { Ok(all) };
            }
        };
        if let Some(vm) = exact.iter().find(|vm| Some((vm.pid, vm.start_time)) == bound) {
            return Ok(vec![(*vm).clone()]);
        }
        match exact.as_slice() {
            [vm] => {
                self.names.insert(name.to_owned(), (vm.pid, vm.start_time));
                Ok(vec![(*vm).clone()])
            }
            several => {
                let pids = several.iter().map(|vm| vm.pid).collect();
                Err(FindError::Ambiguous { name: name.to_owned(), what, pids })
            }
        }
    }
}

fn no_name(name: &str, scan: &Scan) -> FindError {
    FindError::NoName {
        name: name.to_owned(),
        near: near(name, scan.vms.iter().map(|vm| vm.identity.name.as_str()))
            .into_iter()
            .map(str::to_owned)
            .collect(),
        vms: list(scan),
        hidden: scan.denied_vmms.clone(),
    }
}

fn list(scan: &Scan) -> Vec<(u32, String)> {
    scan.vms.iter().map(|vm| (vm.pid, vm.identity.name.clone())).collect()
}
