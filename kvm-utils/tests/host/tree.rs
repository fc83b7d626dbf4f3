//! Builds directories that look like /proc and /sys to whoever reads them.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use kvm_utils::host::{ProcRoot, SysRoot};
use tempfile::TempDir;

/// A root directory with proc and sys.
pub(crate) struct Tree(TempDir);

/// One process to be put into a tree.
pub(crate) struct Fake<'a> {
    pub(crate) pid: u32,
    pub(crate) start_time: u64,
    pub(crate) ppid: u32,
    pub(crate) comm: &'a str,
    pub(crate) exe: &'a str,
    pub(crate) cmdline: &'a [&'a str],
    /// Targets of descriptors 0, 1, 2, ...
    pub(crate) fds: &'a [&'a str],
    /// Threads besides the main one.
    pub(crate) threads: &'a [(u32, &'a str)],
    pub(crate) minor_faults: u64,
    /// The text of its cgroup file.
    pub(crate) cgroup: &'a str,
}

impl Default for Fake<'_> {
    fn default() -> Self {
        Self {
            pid: 100,
            start_time: 5000,
            ppid: 1,
            comm: "qemu-system-x86",
            exe: "/usr/bin/qemu-system-x86_64",
            cmdline: &["qemu-system-x86_64"],
            fds: &["/dev/null"],
            threads: &[],
            minor_faults: 0,
            cgroup: "0::/\n",
        }
    }
}

impl Tree {
    pub(crate) fn new() -> Self {
        let tree = Self(tempfile::tempdir().expect("temporary directory"));
        fs::create_dir(tree.path("proc")).expect("proc");
        // Entries that are no processes.
        tree.write("proc/cpuinfo", "");
        fs::create_dir(tree.path("proc/sys")).expect("proc/sys");
        tree
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.0.path().join(relative)
    }

    pub(crate) fn root(&self) -> SysRoot {
        SysRoot::at(self.0.path())
    }

    pub(crate) fn proc(&self) -> ProcRoot {
        self.root().proc()
    }

    pub(crate) fn write(&self, relative: &str, content: &str) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().expect("has a parent")).expect("directories");
        fs::write(path, content).expect("file");
    }

    pub(crate) fn remove(&self, relative: &str) {
        fs::remove_dir_all(self.path(relative)).expect("removed");
    }

    /// Adds the process, in place of any of the same pid.
    pub(crate) fn add(&self, fake: &Fake) {
        let directory = self.path(&format!("proc/{}", fake.pid));
        if directory.exists() {
            fs::remove_dir_all(&directory).expect("removed");
        }
        self.thread(&directory, fake, fake.pid, fake.comm);
        symlink_all(&directory.join("fd"), fake.fds);
        symlink(fake.exe, directory.join("exe")).expect("exe");
        self.task(&directory, fake.pid, fake.comm);
        for (tid, comm) in fake.threads {
            self.task(&directory, *tid, comm);
        }
    }

    /// Adds the directory proc/TID of each of the process's threads. In /proc it can be opened but is not listed, so
    /// a scan must come before.
    pub(crate) fn add_thread_directories(&self, fake: &Fake) {
        for (tid, comm) in fake.threads {
            let directory = self.path(&format!("proc/{tid}"));
            self.thread(&directory, fake, *tid, comm);
            symlink_all(&directory.join("fd"), fake.fds);
        }
    }

    fn thread(&self, directory: &Path, fake: &Fake, tid: u32, comm: &str) {
        fs::create_dir_all(directory.join("fd")).expect("fd");
        let stat = format!(
            "{tid} ({comm}) S {} 0 0 0 -1 4194304 {} 0 0 0 0 0 0 0 20 0 {} 0 {} 385519616 8551 18446744073709551615\n",
            fake.ppid,
            fake.minor_faults,
            1 + fake.threads.len(),
            fake.start_time,
        );
        fs::write(directory.join("stat"), stat).expect("stat");
        let status =
            format!("Name:\t{comm}\nUmask:\t0022\nTgid:\t{}\nPid:\t{tid}\nNSpid:\t{tid}\n", fake.pid);
        fs::write(directory.join("status"), status).expect("status");
        fs::write(directory.join("cgroup"), fake.cgroup).expect("cgroup");
        fs::write(
            directory.join("cmdline"),
            fake.cmdline.iter().map(|a| format!("{a}\0")).collect::<String>(),
        )
        .expect("cmdline");
    }

    fn task(&self, directory: &Path, tid: u32, comm: &str) {
        let task = directory.join(format!("task/{tid}"));
        fs::create_dir_all(&task).expect("task");
        fs::write(task.join("comm"), format!("{comm}\n")).expect("comm");
    }
}

fn symlink_all(directory: &Path, targets: &[&str]) {
    for (fd, target) in targets.iter().enumerate() {
        symlink(target, directory.join(fd.to_string())).expect("descriptor");
    }
}
