//! One process as proc(5) shows it.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, path::Path};

use super::root::{Peek, ProcRoot};

/// PF_KTHREAD, include/linux/sched.h: a thread of the kernel, which has no files.
const PF_KTHREAD: u32 = 0x0020_0000;

/// What /proc/PID/stat says, as far as it is of use here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Process id, or thread id if the directory is a thread's.
    pub pid: u32,
    /// Name of the main thread, at most 15 bytes; control characters are replaced by `?`.
    pub comm: String,
    /// State letter; `Z` is a zombie, `X` and `x` are dead.
    pub state: char,
    /// Parent process.
    pub ppid: u32,
    flags: u32,
    /// Page faults so far that needed no disk, of all threads.
    pub minor_faults: u64,
    /// Number of threads.
    pub threads: u32,
    /// Start, in clock ticks (`sysconf(_SC_CLK_TCK)`) since boot: with `pid` it names a process for good.
    pub start_time: u64,
    /// Size of the address space, bytes.
    pub virtual_size: u64,
}

impl Stat {
    /// Whether a process is `ancestor` or was started by it, directly or not; `None` if that cannot be told because the
    /// process, or one between, is gone.
    #[must_use]
    pub fn descends(proc: &ProcRoot, pid: u32, ancestor: u32) -> Option<bool> {
        let mut pid = pid;
        // A process that is older than its parent is impossible, but /proc is not read at one moment.
        for _ in 0..1000 {
            if pid == ancestor {
                return Some(true);
            }
            if pid <= 1 {
                return Some(false);
            }
            pid = Self::read(proc, pid).seen()?.ppid;
        }
        None
    }

    /// Reads the stat file of `pid`.
    #[must_use]
    pub fn read(proc: &ProcRoot, pid: u32) -> Peek<Self> {
        match proc.read(pid, "stat") {
            Peek::Seen(text) => Self::parse(&text).map_or(Peek::Gone, Peek::Seen),
            Peek::Gone => Peek::Gone,
            Peek::Denied => Peek::Denied,
        }
    }

    /// Parses a stat line. The name in it is unquoted and may hold spaces and parentheses, hence ends at the last one.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let open = text.iter().position(|b| *b == b'(')?;
        let close = text.iter().rposition(|b| *b == b')')?;
        let pid = std::str::from_utf8(&text[..open]).ok()?.trim().parse().ok()?;
        let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
        // proc(5) numbers the fields from 1; the first one here is number 3.
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            pid,
            comm: printable(text.get(open + 1..close)?),
            state: field(3)?.chars().next()?,
            ppid: field(4)?.parse().ok()?,
            flags: field(9)?.parse().ok()?,
            minor_faults: field(10)?.parse().ok()?,
            threads: field(20)?.parse().ok()?,
            start_time: field(22)?.parse().ok()?,
            virtual_size: field(23)?.parse().ok()?,
        })
    }

    /// Whether this is a thread of the kernel.
    #[must_use]
    pub fn is_kernel_thread(&self) -> bool {
        self.flags & PF_KTHREAD != 0
    }

    /// Whether it has ended and only waits to be reaped.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Process id as this /proc shows it.
    pub pid: u32,
    /// Start, in clock ticks since boot.
    pub start_time: u64,
    /// Parent process.
    pub ppid: u32,
    /// Name of the main thread.
    pub comm: String,
    /// Its arguments, the program's name first; empty for kernel threads and the dead.
    pub cmdline: Vec<String>,
    /// File name of its program; `None` where this user may not look.
    pub exe: Option<String>,
    /// Its ids from this /proc's pid namespace inwards; empty where the kernel does not tell.
    pub ns_pids: Vec<u32>,
    /// The text of its cgroup file; empty where it cannot be read.
    pub cgroup: String,
}

impl Process {
    /// Reads process `pid`.
    #[must_use]
    pub fn read(proc: &ProcRoot, pid: u32) -> Peek<Self> {
        match Stat::read(proc, pid) {
            Peek::Seen(stat) => Self::complete(proc, &stat),
            Peek::Gone => Peek::Gone,
            Peek::Denied => Peek::Denied,
        }
    }

    /// Reads the rest of a process whose stat file was read.
    #[must_use]
    pub fn complete(proc: &ProcRoot, stat: &Stat) -> Peek<Self> {
        let pid = stat.pid;
        let cmdline = proc.read(pid, "cmdline").seen().unwrap_or_default();
        let status = proc.read(pid, "status").seen().unwrap_or_default();
        let cgroup = proc.read(pid, "cgroup").seen().unwrap_or_default();
        let exe = fs::read_link(proc.of(pid, "exe")).ok().and_then(|path| program_name(&path));
        // The pid may have passed to another process between these reads.
        match Stat::read(proc, pid) {
            Peek::Seen(again) if again.start_time == stat.start_time => {}
            _ => return Peek::Gone,
        }
        Peek::Seen(Self {
            pid,
            start_time: stat.start_time,
            ppid: stat.ppid,
            comm: stat.comm.clone(),
            cmdline: split_cmdline(&cmdline),
            exe,
            ns_pids: status_field(&status, "NSpid")
                .map(|ids| ids.split_ascii_whitespace().filter_map(|id| id.parse().ok()).collect())
                .unwrap_or_default(),
            cgroup: String::from_utf8_lossy(&cgroup).into_owned(),
        })
    }
}

/// The process that thread `tid` belongs to, which is `tid` itself for a main thread.
#[must_use]
pub fn process_of(proc: &ProcRoot, tid: u32) -> Option<u32> {
    status_field(&proc.read(tid, "status").seen()?, "Tgid")?.parse().ok()
}

/// The value of a line `name:<tab>value` of a status file. Names of processes cannot fake a line: the kernel escapes
/// line ends in them.
#[must_use]
pub fn status_field(status: &[u8], name: &str) -> Option<String> {
    String::from_utf8_lossy(status)
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(|value| value.trim().to_owned()))
}

/// The text in `bytes`, safe to print: control characters, which could steer a terminal, become `?`.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn split_cmdline(cmdline: &[u8]) -> Vec<String> {
    let cmdline = cmdline.strip_suffix(b"\0").unwrap_or(cmdline);
    if cmdline.is_empty() {
        return Vec::new();
    }
    cmdline.split(|b| *b == 0).map(|argument| String::from_utf8_lossy(argument).into_owned()).collect()
}

/// The last part of an exe link; the kernel appends ` (deleted)` when the file was replaced, for instance by an
/// upgrade while the VM runs.
fn program_name(link: &Path) -> Option<String> {
    let name = link.file_name()?.as_bytes();
    Some(printable(OsStr::from_bytes(name.strip_suffix(b" (deleted)").unwrap_or(name)).as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(comm: &str) -> String {
        // A real line (Linux 7.2, QEMU); only the name is varied.
        format!(
            "133 ({comm}) S 131 0 0 0 -1 138412416 4620 0 104 0 31 44 0 0 20 0 4 0 304 385527808 8579 \
             18446744073709551615 1 1 0 0 0 0 268444224 4100 16963 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
        )
    }

    #[test]
    fn stat_is_parsed_whatever_the_name() {
        for comm in ["qemu-system-x86", "CPU 1/KVM", ") S 1 (", "a) R 9 9", "((", "", "x y z"] {
            let stat = Stat::parse(line(comm).as_bytes()).expect(comm);
            assert_eq!((stat.pid, stat.comm.as_str(), stat.state, stat.ppid), (133, comm, 'S', 131));
            assert_eq!((stat.threads, stat.start_time, stat.minor_faults), (4, 304, 4620));
            assert_eq!(stat.virtual_size, 385_527_808);
            assert!(!stat.is_kernel_thread() && !stat.has_ended());
        }
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(Stat::parse(line("a\u{1b}[2Jb").as_bytes()).expect("parses").comm, "a?[2Jb");
        assert_eq!(Stat::parse(line("a\nb").as_bytes()).expect("parses").comm, "a?b");
    }

    #[test]
    fn kernel_threads_and_zombies_are_known() {
        let text = "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 21 0 0";
        assert!(Stat::parse(text.as_bytes()).expect("parses").is_kernel_thread());
        let text = "9 (dead) Z 1 0 0 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 21 0 0";
        assert!(Stat::parse(text.as_bytes()).expect("parses").has_ended());
    }

    #[test]
    fn cut_or_foreign_lines_are_refused() {
        for text in
            ["", "1", "1 (a", "1 (a)", "1 (a) S 2 3", "x (a) S 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"]
        {
            assert_eq!(Stat::parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn cmdline_is_cut_at_its_zeros() {
        assert!(split_cmdline(b"").is_empty());
        assert_eq!(split_cmdline(b"qemu\0-name\0a b\0"), ["qemu", "-name", "a b"]);
        assert_eq!(split_cmdline(b"qemu\0\0x\0"), ["qemu", "", "x"]);
        // A process that rewrote its title leaves no zero at the end.
        assert_eq!(split_cmdline(b"title of mine"), ["title of mine"]);
    }

    #[test]
    fn exe_survives_an_upgrade_of_the_file() {
        assert_eq!(
            program_name(Path::new("/usr/bin/qemu-system-x86_64 (deleted)")).as_deref(),
            Some("qemu-system-x86_64")
        );
        assert_eq!(program_name(Path::new("/")), None);
    }

    #[test]
    fn this_process_is_readable() {
        let me = Process::read(&ProcRoot::default(), std::process::id()).seen().expect("lives");
        assert_eq!(me.ns_pids.first(), Some(&me.pid));
        assert!(!me.cmdline.is_empty() && me.start_time > 0);
        assert_eq!(process_of(&ProcRoot::default(), me.pid), Some(me.pid));
        // The thread that runs this test has an id of its own.
        let tid = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
        assert_eq!(process_of(&ProcRoot::default(), tid), Some(me.pid));
    }
}
