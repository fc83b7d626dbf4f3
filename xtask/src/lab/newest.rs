//! Things of the archive that are kept unpacked in the cache and renewed when the archive has newer ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use super::Suite;
use super::cache::Cache;
use super::mirror::{Archive, Index, Package};
use crate::process::{capture, tool};
use crate::ui;

/// How long a thing counts as the newest before the archive is asked again.
const FRESH: Duration = Duration::from_secs(7 * 24 * 3600);

/// One such thing.
pub(crate) struct Thing<'a> {
    /// As a person calls it: `the amd64 kernel`.
    pub(crate) what: &'a str,
    /// The Debian suite it comes from.
    pub(crate) suite: Suite,
    /// Its directory in the cache, which holds a directory for each version.
    pub(crate) home: &'a str,
}

impl Thing<'_> {
    /// The directory of the newest version: from the cache, or from the archive, where `choose` names the packages,
    /// the first of which names the version, and `arrange` finishes what they unpack to. Without a way to the
    /// archive an older version will do.
    pub(crate) fn prepare(
        &self,
        cache: &Cache,
        choose: impl FnOnce(&Archive) -> Result<Vec<Package>>,
        arrange: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let _lock = cache.lock(&self.home.replace('/', "-"))?;
        let home = cache.path(self.home);
        // Names the directory of the newest version; written last, its age is that of the last look.
        let newest = home.join("newest");
        let cached = fs::read_to_string(&newest).ok().map(|name| home.join(name)).filter(|dir| dir.is_dir());
        let age = fs::metadata(&newest).and_then(|m| m.modified()).ok();
        let is_fresh =
            age.and_then(|t| SystemTime::now().duration_since(t).ok()).is_some_and(|age| age < FRESH);
        match cached {
            Some(dir) if is_fresh => Ok(dir),
            Some(dir) => self.update(cache, &home, choose, arrange).or_else(|error| {
                let name = dir.file_name().unwrap_or_default().to_string_lossy();
                ui::warn(format_args!("using the cached {name}, cannot look for a newer: {error:#}"));
                Ok(dir)
            }),
            None => self
                .update(cache, &home, choose, arrange)
                .with_context(|| format!("cannot get {} of Debian {}", self.what, self.suite)),
        }
    }

    fn update(
        &self,
        cache: &Cache,
        home: &Path,
        choose: impl FnOnce(&Archive) -> Result<Vec<Package>>,
        arrange: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        ui::step(format_args!("looking for {} of Debian {}", self.what, self.suite));
        let temp = cache.temp_dir()?;
        let archive = Archive::fetch(self.suite, Index::Binary, temp.path())?;
        let packages = choose(&archive)?;
        let first = packages.first().with_context(|| format!("Debian {} has no such package", self.suite))?;
        // An epoch's colon separates in lists of paths.
        let name = format!("{}_{}", first.name, first.version.replace(':', "%3a"));
        let dir = home.join(&name);
        if !dir.exists() {
            cache.publish(&dir, |dir| {
                let debs = archive.download_all(&packages, temp.path())?;
                ui::step(format_args!("unpacking {name}"));
                for deb in debs {
                    capture(tool("dpkg-deb").arg("-x").arg(&deb).arg(dir))?;
                    fs::remove_file(&deb)?;
                }
                arrange(dir)
            })?;
        }
        cache.publish_file(&home.join("newest"), name.as_bytes())?;
        for entry in fs::read_dir(home)? {
            let path = entry?.path();
            if path.is_dir() && path != dir {
                let _ = fs::remove_dir_all(path);
            }
        }
        Ok(dir)
    }
}
