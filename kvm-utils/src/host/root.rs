//! Where /proc, /sys and /dev are, and how reading there can fail.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A directory that holds `proc`, `sys` and `dev`: `/`, or a tree of fixtures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SysRoot(PathBuf);

impl Default for SysRoot {
    fn default() -> Self {
        Self(PathBuf::from("/"))
    }
}

impl SysRoot {
    /// The tree below `prefix`.
    #[must_use]
    pub fn at(prefix: impl Into<PathBuf>) -> Self {
        Self(prefix.into())
    }

    /// Whether this is the running kernel's own tree, so that system calls speak of the same things as the files.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// The file that `absolute` (for instance `/sys/kernel/btf`) names in this tree.
    #[must_use]
    pub fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let absolute = absolute.as_ref();
        self.0.join(absolute.strip_prefix("/").unwrap_or(absolute))
    }

    /// The tree's /proc.
    #[must_use]
    pub fn proc(&self) -> ProcRoot {
        ProcRoot(self.path("/proc"))
    }

    /// The text of a file, without white space at its ends.
    ///
    /// # Errors
    /// Those of reading the file.
    pub fn text(&self, absolute: impl AsRef<Path>) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.path(absolute))?).trim().to_owned())
    }
}

/// A directory laid out as proc(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcRoot(PathBuf);

impl Default for ProcRoot {
    fn default() -> Self {
        Self(PathBuf::from("/proc"))
    }
}

impl ProcRoot {
    /// The tree at `path`.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The tree itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Whether this is the running kernel's own tree.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.0 == Path::new("/proc")
    }

    /// The directory `run` beside this one, where managers of VMs keep their state.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.0.with_file_name("run")
    }

    /// The file `name` of process or thread `pid`.
    #[must_use]
    pub fn of(&self, pid: u32, name: &str) -> PathBuf {
        self.0.join(pid.to_string()).join(name)
    }

    /// The content of the file `name` of process or thread `pid`.
    #[must_use]
    pub fn read(&self, pid: u32, name: &str) -> Peek<Vec<u8>> {
        fs::read(self.of(pid, name)).into()
    }
}

/// An attempt to look at a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peek<T> {
    /// What was seen.
    Seen(T),
    /// No such process, or no longer.
    Gone,
    /// This user may not look.
    Denied,
}

impl<T> Peek<T> {
    /// What was seen, if anything.
    #[must_use]
    pub fn seen(self) -> Option<T> {
        match self {
            Self::Seen(value) => Some(value),
            Self::Gone | Self::Denied => None,
        }
    }
}

impl<T> From<io::Result<T>> for Peek<T> {
    /// A process dies at any moment, with whatever error the file in question has for that (ENOENT, ESRCH, EINVAL,
    /// EIO); only a refusal says that it lives.
    fn from(result: io::Result<T>) -> Self {
        match result {
            Ok(value) => Self::Seen(value),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Self::Denied,
            Err(_) => Self::Gone,
        }
    }
}
