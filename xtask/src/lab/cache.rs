//! The lab's cache: kernels and initramfs images that take long to get, and the directories of runs under way.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::cleanup::TempDir;
use crate::project::Project;
use crate::ui;

/// A directory that may be deleted at any time when no lab runs.
pub(crate) struct Cache {
    root: PathBuf,
}

/// An advisory lock that ends with the guard, or with the process however that ends.
pub(crate) struct Lock(#[expect(dead_code, reason = "the lock lives as long as the open file")] File);

/// The directory of one run, locked for as long as the run lives.
pub(crate) struct RunDir {
    dir: TempDir,
    _lock: Lock,
}

impl RunDir {
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Cache {
    /// `$KVM_UTILS_LAB_CACHE`, or `lab` in cargo's target directory.
    pub(crate) fn open(project: &Project) -> Result<Self> {
        let root =
            std::env::var_os("KVM_UTILS_LAB_CACHE").map_or_else(|| project.target.join("lab"), PathBuf::from);
        fs::create_dir_all(&root).with_context(|| {
            format!(
                "cannot create the lab's cache {}; set KVM_UTILS_LAB_CACHE to a place you can write",
                root.display()
            )
        })?;
        Ok(Self { root: fs::canonicalize(root)? })
    }

    /// A path in the cache.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// Waits until no other process holds the lock `name`.
    pub(crate) fn lock(&self, name: &str) -> Result<Lock> {
        let path = self.path(format!("{name}.lock"));
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            ui::step(format_args!("waiting for another xtask that prepares {name}"));
            flock(&file, FlockOperation::LockExclusive)
                .with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(Lock(file))
    }

    /// A new empty directory in the cache that vanishes with the guard.
    pub(crate) fn temp_dir(&self) -> Result<TempDir> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        TempDir::create(self.path(format!("tmp/{}-{number}", std::process::id())))
    }

    /// Makes `path` appear whole or not at all: `fill` gets a temporary directory, whose content moves to
    /// `path` at the end. The caller holds the lock that guards `path`.
    pub(crate) fn publish(&self, path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let temp = self.temp_dir()?;
        let content = temp.path().join("content");
        fs::create_dir(&content)?;
        fill(&content)?;
        if path.exists() {
            fs::remove_dir_all(path).with_context(|| format!("cannot replace {}", path.display()))?;
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::rename(&content, path).with_context(|| format!("cannot publish {}", path.display()))
    }

    /// Makes a file appear whole or not at all.
    pub(crate) fn publish_file(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let temp = self.temp_dir()?;
        let content = temp.path().join("content");
        fs::write(&content, bytes).with_context(|| format!("cannot write {}", content.display()))?;
        fs::rename(&content, path).with_context(|| format!("cannot publish {}", path.display()))
    }

    /// A directory for one run. First removes those that killed runs left behind.
    pub(crate) fn run_dir(&self) -> Result<RunDir> {
        let _guard = self.lock("run")?;
        let runs = self.path("run");
        fs::create_dir_all(&runs)?;
        for entry in fs::read_dir(&runs)? {
            let dir = entry?.path();
            let alive = File::open(dir.join("lock")).is_ok_and(|file| {
                flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
            });
            if !alive {
                let _ = fs::remove_dir_all(&dir);
            }
        }
        let mut number = 0;
        let path = loop {
            let path = runs.join(format!("{number}"));
            if !path.exists() {
                break path;
            }
            number += 1;
        };
        let dir = TempDir::create(path)?;
        let file = File::create(dir.path().join("lock"))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).context("cannot lock the run's directory")?;
        Ok(RunDir { dir, _lock: Lock(file) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> Cache {
        let root = std::env::temp_dir().join(format!("xtask-cache-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        Cache { root }
    }

    #[test]
    fn a_failed_fill_publishes_nothing() {
        let cache = scratch("publish");
        let target = cache.path("kernels/x");
        assert!(cache.publish(&target, |_| anyhow::bail!("no network")).is_err());
        assert!(!target.exists());
        cache.publish(&target, |dir| Ok(fs::write(dir.join("a"), "1")?)).unwrap();
        cache.publish(&target, |dir| Ok(fs::write(dir.join("b"), "2")?)).unwrap();
        assert!(!target.join("a").exists() && target.join("b").exists());
        fs::remove_dir_all(&cache.root).unwrap();
    }

    #[test]
    fn directories_of_dead_runs_are_swept_and_live_ones_kept() {
        let cache = scratch("run");
        fs::create_dir_all(cache.path("run/7")).unwrap();
        fs::write(cache.path("run/7/lock"), "").unwrap();
        let first = cache.run_dir().unwrap();
        let second = cache.run_dir().unwrap();
        assert!(!cache.path("run/7").exists());
        assert!(first.path().exists() && second.path().exists() && first.path() != second.path());
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists());
        drop(second);
        fs::remove_dir_all(&cache.root).unwrap();
    }
}
