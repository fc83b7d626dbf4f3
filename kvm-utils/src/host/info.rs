//! The machine.

use std::fs;

use super::root::SysRoot;
use crate::decode::Isa;

/// What machine this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostInfo {
    /// Kernel release (uname -r).
    pub kernel: String,
    /// Machine (uname -m).
    pub arch: String,
    /// Model name of the first CPU; `unknown` if /proc/cpuinfo has none.
    pub cpu: String,
    /// CPUs online.
    pub cpus_online: u32,
    /// CPUs that may ever be online without a reboot: per-CPU maps have this many values.
    pub cpus_possible: u32,
}

impl HostInfo {
    /// Asks the kernel; what it does not tell is `unknown`, and there is at least one CPU.
    #[must_use]
    pub fn gather(root: &SysRoot) -> Self {
        let uname = rustix::system::uname();
        let cpus = |which: &str| {
            let list = root.text(format!("/sys/devices/system/cpu/{which}")).ok();
            list.and_then(|list| count_list(&list)).unwrap_or(1)
        };
        let cpuinfo = fs::read_to_string(root.path("/proc/cpuinfo")).unwrap_or_default();
        Self {
            kernel: uname.release().to_string_lossy().into_owned(),
            arch: uname.machine().to_string_lossy().into_owned(),
            cpu: model(&cpuinfo).unwrap_or("unknown").to_owned(),
            cpus_online: cpus("online"),
            cpus_possible: cpus("possible"),
        }
    }
}

/// Instruction set of the KVM that is loaded, by its vendor module, also one that is built in; `None` if there is none or
/// another than Linux's.
#[must_use]
pub fn vendor_isa(root: &SysRoot) -> Option<Isa> {
    let loaded = |module: &str| root.path(format!("/sys/module/{module}")).exists();
    match (loaded("kvm_intel"), loaded("kvm_amd")) {
        (true, false) => Some(Isa::Vmx),
        (false, true) => Some(Isa::Svm),
        _ => None,
    }
}

fn model(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim()).filter(|model| !model.is_empty())
}

/// Members of a kernel list such as `0-3,8,10-11` (Documentation/admin-guide/kernel-parameters.rst, "cpu lists").
fn count_list(list: &str) -> Option<u32> {
    list.split(',').try_fold(0u32, |count, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        count.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists() {
        assert_eq!(count_list("0"), Some(1));
        assert_eq!(count_list("0-1"), Some(2));
        assert_eq!(count_list("0-3,8,10-11"), Some(7));
        for bad in ["", "a", "3-1", "0-", "0-4294967295"] {
            assert_eq!(count_list(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_model_is_the_first_cpus() {
        assert_eq!(
            model("processor\t: 0\nmodel name\t: AMD EPYC 7B13\nmodel name\t: x\n"),
            Some("AMD EPYC 7B13")
        );
        assert_eq!(model("model name\t: \n"), None);
        assert_eq!(model(""), None);
    }

    #[test]
    fn this_machine_is_known() {
        let host = HostInfo::gather(&SysRoot::default());
        assert!(host.cpus_online >= 1 && host.cpus_possible >= host.cpus_online);
        assert_eq!(
            format!("{}\n", host.kernel),
            fs::read_to_string("/proc/sys/kernel/osrelease").expect("osrelease")
        );
    }
}
