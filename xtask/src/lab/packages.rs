//! The Debian packages the lab needs: installed when they may be, else named in the line to type.

use std::path::Path;

use anyhow::{Result, bail};

use crate::process::{find, show, tool};
use crate::ui;

/// Something the lab uses and the package that brings it.
pub(crate) struct Need {
    /// A program's name, looked up in PATH, or the absolute path of any file.
    pub(crate) what: &'static str,
    /// The Debian package.
    pub(crate) package: &'static str,
}

impl Need {
    pub(crate) const fn new(what: &'static str, package: &'static str) -> Self {
        Self { what, package }
    }

    pub(crate) fn is_met(&self) -> bool {
        if self.what.starts_with('/') { Path::new(self.what).exists() } else { find(self.what).is_some() }
    }
}

/// What getting a kernel and making an initramfs takes.
pub(crate) const BOOT: [Need; 5] = [
    Need::new(super::initramfs::BUSYBOX, "busybox-static"),
    Need::new("depmod", "kmod"),
    Need::new("xz", "xz-utils"),
    Need::new("zstd", "zstd"),
    Need::new("dpkg-deb", "dpkg"),
];

/// What unpacking something of the archive takes.
pub(crate) const UNPACK: [Need; 2] = [Need::new("xz", "xz-utils"), Need::new("dpkg-deb", "dpkg")];

/// QEMU, for guests inside a lab.
pub(crate) const QEMU: Need = Need::new("qemu-system-x86_64", "qemu-system-x86");

/// Terminals for programs inside a lab.
pub(crate) const TMUX: Need = Need::new("tmux", "tmux");

/// Sees to it that everything needed is there.
///
/// # Errors
/// When packages are missing and this is not root, or when apt cannot install them.
pub(crate) fn ensure<'a>(needs: impl IntoIterator<Item = &'a Need> + Clone) -> Result<()> {
    let packages = missing(needs.clone());
    if packages.is_empty() {
        return Ok(());
    }
    let line = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    if find("apt-get").is_none() {
        bail!("{} are missing and this system has no apt-get; install them by hand", packages.join(", "));
    }
    if !rustix::process::geteuid().is_root() {
        bail!("packages are missing; type: sudo {line}");
    }
    ui::step(format_args!("installing {}", packages.join(" ")));
    if install(&packages).is_err() {
        // A fresh machine has no package lists, or old ones that name files which are gone.
        ui::step("updating the package lists");
        show(apt().arg("update"))?;
        install(&packages)?;
    }
    match missing(needs).as_slice() {
        [] => Ok(()),
        still => bail!("installed {} but still cannot find what they bring; try: {line}", still.join(", ")),
    }
}

fn missing<'a>(needs: impl IntoIterator<Item = &'a Need>) -> Vec<&'static str> {
    let mut packages: Vec<_> =
        needs.into_iter().filter(|need| !need.is_met()).map(|need| need.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn install(packages: &[&str]) -> Result<()> {
    show(apt().args(["install", "--yes", "--no-install-recommends"]).args(packages))
}

/// apt-get that asks nothing, waits for another apt, and keeps stdout free for what the task prints.
fn apt() -> std::process::Command {
    let mut apt = tool("apt-get");
    apt.args(["-q", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]);
    apt.env("DEBIAN_FRONTEND", "noninteractive").stdout(std::io::stderr());
    apt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_named_once() {
        let needs = [
            Need::new("sh", "dash"),
            Need::new("/no/such/file", "b-package"),
            Need::new("no-such-program", "a-package"),
            Need::new("no-such-program-either", "a-package"),
        ];
        assert_eq!(missing(&needs), ["a-package", "b-package"]);
    }
}
