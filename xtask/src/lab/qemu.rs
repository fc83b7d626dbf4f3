//! The QEMU that emulates the AMD lab: unpacked from the archive with all its libraries, never installed.
//!
//! Not the machine's own: QEMU before 8.1 lets one vCPU keep a translation of code that another one is just
//! changing. Linux changes its code all the time (tracepoints, static keys), and one lab in a few hundred
//! created or destroyed virtual machines would spin for ever on a breakpoint that is long gone. What the newer
//! one lacks: reading CR4 does not leave the guest, though KVM asks for it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::Suite;
use super::cache::Cache;
use super::mirror::{Archive, Package};
use super::newest::Thing;
use crate::process::{capture, tool};

/// The oldest suite whose QEMU is new enough.
const SUITE: Suite = Suite::Trixie;
/// The package.
const PACKAGE: &str = "qemu-system-x86";
/// What of its dependencies is needed to run it: libraries and firmware, not what configures a system.
const PREFIXES: [&str; 4] = ["lib", "zlib", "qemu-system-", "seabios"];
/// Where the libraries and their loader are, relative to the root.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// An unpacked QEMU.
pub(crate) struct Qemu {
    root: PathBuf,
}

impl Qemu {
    /// A command that runs it with its own loader and libraries.
    pub(crate) fn command(&self) -> Command {
        let libraries = self.root.join(LIBRARIES);
        let mut command = tool(&libraries.join("ld-linux-x86-64.so.2").to_string_lossy());
        command.arg("--library-path").arg(&libraries).arg(self.root.join("usr/bin/qemu-system-x86_64"));
        for firmware in ["qemu", "seabios"] {
            command.arg("-L").arg(self.root.join("usr/share").join(firmware));
        }
        command
    }
}

/// QEMU from the cache or the archive.
pub(crate) fn prepare(cache: &Cache) -> Result<Qemu> {
    let thing = Thing { what: "QEMU", suite: SUITE, home: "qemu" };
    let root =
        thing.prepare(cache, |archive: &Archive| closure(PACKAGE, |name| archive.find(name)), arrange)?;
    Ok(Qemu { root })
}

/// A package and all it depends on, as far as [`PREFIXES`] go. Names without a package of their own (virtual ones,
/// alternatives of another architecture) are left out; whether something is missing shows when QEMU is started.
fn closure(name: &str, find: impl Fn(&str) -> Option<Package>) -> Result<Vec<Package>> {
    let first = find(name).with_context(|| format!("there is no package {name}"))?;
    let mut packages = vec![first];
    let mut next = 0;
    while let Some(package) = packages.get(next) {
        let wanted = |name: &&String| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        for name in package.depends.clone().iter().filter(wanted) {
            if !packages.iter().any(|known| known.name == *name) {
                packages.extend(find(name));
            }
        }
        next += 1;
    }
    Ok(packages)
}

/// Starts it once: it loads all its libraries.
fn arrange(root: &Path) -> Result<()> {
    let qemu = Qemu { root: root.to_owned() };
    capture(qemu.command().arg("--version")).context("the unpacked QEMU does not run")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_followed_once_and_as_far_as_needed() {
        let find = |name: &str| {
            let depends: &[&str] = match name {
                "qemu-system-x86" => &["libc6", "libglib2.0-0t64", "adduser", "libvirtual"],
                "libglib2.0-0t64" => &["libc6", "zlib1g"],
                "libc6" => &["libgcc-s1"],
                "libgcc-s1" => &["libc6"],
                "zlib1g" | "adduser" => &[],
                _ => return None,
            };
            Some(Package::for_test(name, depends))
        };
        let names: Vec<_> = closure(PACKAGE, find).unwrap().into_iter().map(|p| p.name).collect();
        assert_eq!(names, ["qemu-system-x86", "libc6", "libglib2.0-0t64", "libgcc-s1", "zlib1g"]);
        assert!(closure("nothing", find).is_err());
    }
}
