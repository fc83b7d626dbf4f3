//! A run that sees nothing though VMs are there must not look like a host without VMs.

use std::time::{Duration, Instant};

use super::options::Which;
use crate::{
    drilldown::noun::Noun,
    host::{ProcRoot, Scanner, VmProcess},
    model::Report,
    session::Select,
};

/// A guest that is not asleep makes exits many times a second, if only for its host's timer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Watches for the first event of a run.
pub struct Silence {
    began: Instant,
    scanner: Scanner,
    /// Processes that are traced; empty = all.
    tgids: Vec<u32>,
    select: Select,
    some_vcpus: bool,
    noun: &'static Noun,
    broken: bool,
}

impl Silence {
    /// The run begins now, for these processes and VMs.
    pub fn new(which: &Which, noun: &'static Noun, tgids: &[u32], select: &Select) -> Self {
        Self {
            began: Instant::now(),
            scanner: Scanner::new(ProcRoot::default()),
            tgids: tgids.to_vec(),
            select: select.clone(),
            some_vcpus: !which.vcpus.is_empty(),
            noun,
            broken: false,
        }
    }

    /// Adds to a report what the reader must know, if there was no event for long, or to the end of the run.
    pub fn note(&mut self, report: &mut Report, last: bool) {
        self.broken |= report.events > 0;
        if self.broken || !(last || report.summary || self.began.elapsed() >= PATIENCE) {
            return;
        }
        // Without /proc there is nothing to say.
        let Ok(scan) = self.scanner.scan() else { return };
        let wanted = |vm: &&VmProcess| {
            (self.tgids.is_empty() || self.tgids.contains(&vm.pid)) && self.select.wants(vm.pid, &vm.identity)
        };
        let vms: usize = scan.vms.iter().filter(wanted).map(VmProcess::vm_count).sum();
        if let Some(note) = sentence(self.noun, vms, self.some_vcpus) {
            report.notes.push(note);
        }
    }
}

fn sentence(noun: &Noun, vms: usize, some_vcpus: bool) -> Option<String> {
    let whose = match (vms, some_vcpus) {
        (0, _) => return None,
        (1, false) => "the VM that runs".to_owned(),
        (1, true) => "these vCPUs of the VM that runs".to_owned(),
        (n, false) => format!("any of the {n} VMs that run"),
        (n, true) => format!("these vCPUs of any of the {n} VMs that run"),
    };
    if noun.build.is_some() {
        return Some(format!("no {} of {whose} was seen", noun.counting.0));
    }
    Some(format!(
        "no exit of {whose} was seen: idle guests, or a KVM that never fires kvm_exit; `kvm-utils selftest` tells which"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drilldown::exits::NOUN;

    #[test]
    fn only_vms_that_run_make_silence_remarkable() {
        assert_eq!(sentence(&NOUN, 0, false), None);
        assert_eq!(
            sentence(&NOUN, 2, false).unwrap(),
            "no exit of any of the 2 VMs that run was seen: idle guests, or a KVM that never fires kvm_exit; \
             `kvm-utils selftest` tells which"
        );
        assert!(
            sentence(&NOUN, 1, true)
                .unwrap()
                .starts_with("no exit of these vCPUs of the VM that runs was seen")
        );
    }
}
