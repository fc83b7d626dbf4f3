//! Stock Debian kernels, unpacked into the cache and never installed.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Suite;
use super::cache::Cache;
use super::mirror::Package;
use super::newest::Thing;
use crate::process::{capture, tool};

/// Which of Debian's builds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// The general one, with every driver: the lab's own kernel.
    Generic,
    /// The small one for virtual machines: what runs inside the lab.
    Cloud,
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Generic => "amd64",
            Self::Cloud => "cloud-amd64",
        })
    }
}

/// An unpacked kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// Its directory: `vmlinuz` and `lib/modules/VERSION`.
    pub(crate) dir: PathBuf,
    /// The release as `uname -r` prints it.
    pub(crate) version: String,
}

impl Kernel {
    fn at(dir: PathBuf) -> Result<Self> {
        let modules = dir.join("lib/modules");
        let mut versions =
            fs::read_dir(&modules).and_then(Iterator::collect::<Result<Vec<_>, _>>).with_context(|| {
                format!("cannot list {}; delete {} to unpack it anew", modules.display(), dir.display())
            })?;
        let (Some(version), None) = (versions.pop(), versions.pop()) else {
            bail!("{} does not hold exactly one kernel; delete it to unpack it anew", dir.display());
        };
        Ok(Self { version: version.file_name().to_string_lossy().into_owned(), dir })
    }

    /// The bootable image.
    pub(crate) fn image(&self) -> PathBuf {
        self.dir.join("vmlinuz")
    }

    /// The directory with `kernel/` and `modules.dep`.
    pub(crate) fn modules(&self) -> PathBuf {
        self.dir.join("lib/modules").join(&self.version)
    }
}

/// The upstream series of a release, `6.1` of `6.1.0-50-amd64`.
pub(crate) fn series(release: &str) -> String {
    release.splitn(3, '.').take(2).collect::<Vec<_>>().join(".")
}

/// The newest kernel of a suite, from the cache or from the archive.
pub(crate) fn prepare(cache: &Cache, suite: Suite, flavour: Flavour) -> Result<Kernel> {
    let (what, home) = (format!("the {flavour} kernel"), format!("kernels/{suite}-{flavour}"));
    let thing = Thing { what: &what, suite, home: &home };
    Kernel::at(thing.prepare(cache, |archive| resolve(flavour, |name| archive.package(name)), arrange)?)
}

/// The packages that make up a flavour's newest kernel, the image first: one package up to 6.x, since 7.x
/// the image proper and the modules are packages of their own.
fn resolve(flavour: Flavour, package: impl Fn(&str) -> Result<Package>) -> Result<Vec<Package>> {
    let versioned = |name: &str, stems: &[&str]| {
        let rest = stems.iter().find_map(|stem| name.strip_prefix(stem));
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let meta = package(&format!("linux-image-{flavour}"))?;
    let name = meta.depends.iter().find(|name| versioned(name, &["linux-image-"]));
    let image = package(name.with_context(|| format!("{} depends on no kernel", meta.name))?)?;
    let mut packages = Vec::new();
    for name in image
        .depends
        .iter()
        .filter(|name| versioned(name, &["linux-binary-", "linux-modules-", "linux-base-"]))
    {
        packages.push(package(name)?);
    }
    packages.insert(0, image);
    Ok(packages)
}

/// Brings the two layouts (`/boot` and `/lib`, or all in `/usr/lib/modules`) into one and indexes the modules.
fn arrange(dir: &Path) -> Result<()> {
    let merged = dir.join("usr/lib/modules");
    let modules = dir.join("lib/modules");
    if merged.exists() {
        fs::create_dir_all(dir.join("lib"))?;
        fs::rename(merged, &modules)?;
    }
    let kernel = Kernel::at(dir.to_owned())?;
    let places =
        [dir.join("boot").join(format!("vmlinuz-{}", kernel.version)), kernel.modules().join("vmlinuz")];
    let Some(image) = places.iter().find(|place| place.exists()) else {
        bail!("the packages hold no vmlinuz; looked for {} and {}", places[0].display(), places[1].display());
    };
    fs::rename(image, kernel.image())?;
    let _ = fs::remove_dir_all(dir.join("usr"));
    capture(tool("depmod").arg("-b").arg(dir).arg(&kernel.version))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(name: &str) -> Result<Package> {
        let depends: &[&str] = match name {
            "linux-image-amd64" => &["linux-base-amd64", "linux-image-7.2.12+deb14-amd64"],
            "linux-image-7.2.12+deb14-amd64" => {
                &["linux-base", "linux-binary-7.2.12+deb14-amd64", "kmod", "linux-modules-7.2.12+deb14-amd64"]
            }
            "linux-image-cloud-amd64" => &["linux-image-6.1.0-50-cloud-amd64"],
            _ => &["kmod", "linux-base", "initramfs-tools"],
        };
        Ok(Package::for_test(name, depends))
    }

    #[test]
    fn both_ways_of_packaging_are_resolved() {
        let names =
            |flavour| resolve(flavour, index).unwrap().into_iter().map(|p| p.name).collect::<Vec<_>>();
        assert_eq!(
            names(Flavour::Generic),
            [
                "linux-image-7.2.12+deb14-amd64",
                "linux-binary-7.2.12+deb14-amd64",
                "linux-modules-7.2.12+deb14-amd64"
            ]
        );
        assert_eq!(names(Flavour::Cloud), ["linux-image-6.1.0-50-cloud-amd64"]);
    }

    #[test]
    fn the_series_is_the_first_two_numbers() {
        assert_eq!(series("6.1.0-50-amd64"), "6.1");
        assert_eq!(series("7.2.12+deb14-amd64"), "7.2");
    }
}
