//! Builds directories that look like the root of a host.

use std::{
    fs,
    path::{Path, PathBuf},
};

use kvm_utils::{
    bpf::caps::{Answer, Answers, Caps, Support, Verdict},
    host::SysRoot,
};
use tempfile::TempDir;

/// All capabilities, as root has them (Linux 6.18).
const ALL: &str = "000001ffffffffff";

pub(crate) struct Host {
    directory: TempDir,
    pub(crate) answers: Answers,
}

impl Host {
    /// A root shell on a machine with an AMD CPU that runs the kernel of this name in tests/fixtures, all mounted.
    pub(crate) fn amd(kernel: &str) -> Self {
        let host = Self {
            directory: tempfile::tempdir().expect("temporary directory"),
            answers: Answers::uniform(&Answer::Yes),
        };
        host.process("root", ALL, 0);
        host.write("proc/sys/kernel/cap_last_cap", "40\n");
        host.write("proc/self/uid_map", "         0          0 4294967295\n");
        host.write("proc/cpuinfo", "processor\t: 0\nmodel name\t: AMD EPYC 7763\nflags\t\t: fpu svm\n");
        host.write("proc/sys/net/core/bpf_jit_enable", "1\n");
        host.write("sys/kernel/security/lockdown", "[none] integrity confidentiality\n");
        host.write("sys/devices/system/cpu/online", "0-7\n");
        host.write("sys/devices/system/cpu/possible", "0-15\n");
        host.write("sys/module/kvm/initstate", "live\n");
        host.write("sys/module/kvm/parameters/halt_poll_ns", "200000\n");
        host.write("sys/module/kvm_amd/initstate", "live\n");
        host.write("sys/module/kvm_amd/parameters/npt", "Y\n");
        host.write("sys/module/kvm_amd/parameters/avic", "N\n");
        for event in ["kvm_exit", "kvm_entry"] {
            host.write(&format!("sys/kernel/tracing/events/kvm/{event}/id"), "1440\n");
        }
        host.write("sys/kernel/debug/kvm/exits", "31\n");
        // The initial pid namespace cannot be made of files; the tests do not look at what depends on it.
        host.write("proc/self/ns/pid", "");
        for module in ["vmlinux", "kvm", "kvm_amd"] {
            host.btf(kernel, module);
        }
        host
    }

    pub(crate) fn btf(&self, kernel: &str, module: &str) {
        let fixture = Path::new("tests/fixtures/btf").join(kernel).join(module);
        if fixture.exists() {
            fs::create_dir_all(self.path("sys/kernel/btf")).expect("directory");
            fs::copy(&fixture, self.path("sys/kernel/btf").join(module)).expect("fixture");
        }
    }

    pub(crate) fn process(&self, comm: &str, capabilities: &str, seccomp: u32) {
        let uid = if capabilities == ALL { 0 } else { 1000 };
        self.write(
            "proc/self/status",
            &format!(
                "Name:\t{comm}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nCapEff:\t{capabilities}\nSeccomp:\t{seccomp}\n"
            ),
        );
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.directory.path().join(relative)
    }

    pub(crate) fn write(&self, relative: &str, content: &str) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().expect("has a parent")).expect("directories");
        fs::write(path, content).expect("file");
    }

    pub(crate) fn remove(&self, relative: &str) {
        let path = self.path(relative);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("removed");
    }

    pub(crate) fn caps(&self) -> Caps {
        Caps::assess(&SysRoot::at(self.directory.path()), &self.answers)
    }
}

/// The support of an item.
#[track_caller]
pub(crate) fn support<'a>(caps: &'a Caps, id: &str) -> &'a Support {
    &caps.get(id).unwrap_or_else(|| panic!("no item {id}")).support
}

/// Item, cause and remedy of each blocker.
#[track_caller]
pub(crate) fn blockers(caps: &Caps) -> Vec<(&'static str, String, String)> {
    match caps.exits() {
        Verdict::Runs { source } => panic!("runs with {}", source.name()),
        Verdict::Blocked(blockers) => {
            assert!(!blockers.is_empty());
            blockers.into_iter().map(|b| (b.item, b.why, b.remedy)).collect()
        }
    }
}
