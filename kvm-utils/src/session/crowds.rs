//! Processes on whose threads there were events while they had no vCPU loaded: who they are, and for which VM they work.

use std::collections::BTreeMap;

use kvm_utils_common::rows::INTERRUPTS;

use crate::{
    drilldown::sample::Owner,
    host::{
        ProcRoot,
        process::{Stat, printable},
    },
};

/// Name under which events are shown that came in interrupts of the host.
const IN_INTERRUPTS: &str = "(host interrupts)";
/// Names of threads of the kernel that work for one process; a thread of that process follows, in the initial pid namespace
/// (vhost_dev_set_owner, drivers/vhost/vhost.c, before 6.4; kvm_create_pit, arch/x86/kvm/i8254.c).
const HELPERS: [&str; 2] = ["vhost-", "kvm-pit/"];

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Crowd {
    name: String,
    /// A thread of the kernel.
    kernel: bool,
    /// The process that it works for, if it is a helper.
    works_for: Option<u32>,
}

/// All that were seen, by process in the initial pid namespace.
#[derive(Debug)]
pub struct Crowds {
    proc: ProcRoot,
    /// /proc shows them by the same numbers.
    numbered_alike: bool,
    known: BTreeMap<u32, Crowd>,
}

impl Crowds {
    /// None yet.
    pub fn new(proc: ProcRoot, numbered_alike: bool) -> Self {
        Self { proc, numbered_alike, known: BTreeMap::new() }
    }

    /// Looks at a process, as long as it lives. `seen` is the name that the programs saw.
    pub fn meet<E>(
        &mut self,
        tgid: u32,
        seen: impl FnOnce() -> Result<Option<[u8; 16]>, E>,
    ) -> Result<(), E> {
        if tgid == INTERRUPTS || self.known.contains_key(&tgid) {
            return Ok(());
        }
        let thread = seen()?.map(|name| {
            let name: Vec<u8> = name.iter().copied().take_while(|b| *b != 0).collect();
            printable(&name)
        });
        let stat = if self.numbered_alike { Stat::read(&self.proc, tgid).seen() } else { None };
        // Of one that is gone already it is not known, but nobody else uses such names.
        let kernel = stat.as_ref().map(Stat::is_kernel_thread);
        let works_for = thread
            .as_deref()
            .filter(|_| kernel != Some(false))
            .and_then(helped)
            .map(|thread| self.process_of(thread));
        let name = stat.map(|stat| stat.comm).or(thread).unwrap_or_else(|| format!("process {tgid}"));
        let kernel = kernel.unwrap_or(works_for.is_some());
        self.known.insert(tgid, Crowd { name, kernel, works_for });
        Ok(())
    }

    /// The process of a thread; if it cannot be asked the thread is taken for the main one, as it mostly is.
    fn process_of(&self, thread: u32) -> u32 {
        let status = if self.numbered_alike { self.proc.read(thread, "status").seen() } else { None };
        let text = status.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        text.as_deref()
            .and_then(|text| text.lines().find_map(|line| line.strip_prefix("Tgid:")))
            .and_then(|tgid| tgid.trim().parse().ok())
            .unwrap_or(thread)
    }

    /// For whom a process works. `has_vm` says whether a process has one that is wanted; `all` that every VM is.
    pub fn owner(&self, tgid: u32, has_vm: impl Fn(u32) -> bool, all: bool) -> Owner {
        if tgid == INTERRUPTS {
            return if all { Owner::Nobody(IN_INTERRUPTS.to_owned()) } else { Owner::Unknown };
        }
        if has_vm(tgid) {
            return Owner::Vm(tgid);
        }
        let crowd = self.known.get(&tgid);
        match crowd.and_then(|crowd| crowd.works_for) {
            Some(of) if has_vm(of) => return Owner::Vm(of),
            Some(_) if !all => return Owner::Unwanted,
            _ => {}
        }
        match crowd {
            Some(crowd) if all => Owner::Nobody(crowd.name.clone()),
            None if all => Owner::Nobody(format!("process {tgid}")),
            Some(crowd) if !crowd.kernel => Owner::Unwanted,
            _ => Owner::Unknown,
        }
    }
}

/// The thread that is named in the name of a helper.
fn helped(name: &str) -> Option<u32> {
    HELPERS.iter().find_map(|helper| name.strip_prefix(helper)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Seen = Result<Option<[u8; 16]>, ()>;

    fn name(text: &str) -> Seen {
        let mut name = [0; 16];
        name[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Some(name))
    }

    /// A /proc of these processes: number, name, flags, and the process that a thread of it belongs to.
    fn crowds(processes: &[(u32, &str, u32, u32)]) -> (tempfile::TempDir, Crowds) {
        let root = tempfile::tempdir().unwrap();
        for (pid, comm, flags, tgid) in processes {
            let directory = root.path().join(pid.to_string());
            std::fs::create_dir_all(&directory).unwrap();
            let stat = format!("{pid} ({comm}) S 2 0 0 0 -1 {flags} 0 0 0 0 0 0 0 0 20 0 1 0 7 0 0\n");
            std::fs::write(directory.join("stat"), stat).unwrap();
            std::fs::write(directory.join("status"), format!("Name:\t{comm}\nTgid:\t{tgid}\n")).unwrap();
        }
        let crowds = Crowds::new(ProcRoot::at(root.path()), true);
        (root, crowds)
    }

    const KERNEL: u32 = 0x0020_8040;

    #[test]
    fn helpers_of_the_kernel_work_for_the_process_in_their_name() {
        let (_root, mut crowds) = crowds(&[
            (77, "vhost-4712", KERNEL, 77),
            (78, "kvm-pit/4711", KERNEL, 78),
            (79, "vhost-4712", 0, 79),
            (80, "kworker/0:1", KERNEL, 80),
            (4711, "qemu", 0, 4711),
            (4712, "CPU 0/KVM", 0, 4711),
        ]);
        for (tgid, comm) in
            [(77, "vhost-4712"), (78, "kvm-pit/4711"), (79, "vhost-4712"), (80, "kworker/0:1")]
        {
            crowds.meet(tgid, || name(comm)).unwrap();
        }
        let owner = |tgid, all| crowds.owner(tgid, |of| of == 4711, all);
        assert_eq!(owner(4711, false), Owner::Vm(4711));
        assert_eq!((owner(77, false), owner(78, true)), (Owner::Vm(4711), Owner::Vm(4711)));
        // Anybody may call a process so.
        assert_eq!(owner(79, true), Owner::Nobody("vhost-4712".to_owned()));
        assert_eq!(owner(79, false), Owner::Unwanted);
        assert_eq!(owner(80, true), Owner::Nobody("kworker/0:1".to_owned()));
        assert_eq!((owner(80, false), owner(0, false)), (Owner::Unknown, Owner::Unknown));
        assert_eq!(owner(0, true), Owner::Nobody("(host interrupts)".to_owned()));
        // The helper of another VM.
        assert_eq!(crowds.owner(77, |of| of == 9, false), Owner::Unwanted);
    }

    #[test]
    fn what_is_gone_has_the_name_that_the_programs_saw() {
        let (_root, mut crowds) = crowds(&[]);
        crowds.meet(77, || name("vhost-4711")).unwrap();
        crowds.meet(78, || name("worker")).unwrap();
        crowds.meet(79, || Seen::Ok(None)).unwrap();
        assert_eq!(crowds.owner(77, |of| of == 4711, true), Owner::Vm(4711));
        assert_eq!(crowds.owner(78, |_| false, true), Owner::Nobody("worker".to_owned()));
        assert_eq!(crowds.owner(79, |_| false, true), Owner::Nobody("process 79".to_owned()));
    }
}
