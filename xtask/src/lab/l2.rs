//! The Linux guest that runs inside the lab, under the lab's own KVM: level 2.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::Suite;
use super::cache::Cache;
use super::cpio::Archive;
use super::initramfs::{self, BUSYBOX};
use super::kernel::{self, Flavour};
use super::l2_load;
use super::packages;

/// What the guest does after booting; see there for its `work=` parameter.
const INIT: &str = include_str!("l2-init.sh");

/// The guest's modules: devices that give CPUID and MSRs of each processor, and drivers of virtual devices.
const MODULES: [&str; 6] = ["cpuid", "msr", "virtio_pci", "virtio_blk", "virtio-rng", "virtio_net"];

/// What a VMM needs to start the guest, with `console=ttyS0 quiet work=SECONDS` (or another `work=`, see [`INIT`]) as
/// its kernel command line.
pub(crate) struct L2 {
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
}

impl L2 {
    /// The same with a program on board, at `/` and its name; each call replaces the file of the one before.
    pub(crate) fn with_program(&self, cache: &Cache, name: &str, program: &Path) -> Result<PathBuf> {
        let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let mut more = Archive::default();
        more.file(&format!("/{name}"), 0o755, read(program)?);
        // The kernel unpacks one archive after the other: Documentation/driver-api/early-userspace/buffer-format.rst.
        let mut both = read(&self.initramfs)?;
        both.extend(more.to_vec()?);
        let path = self.initramfs.with_file_name(format!("l2-{name}.cpio"));
        cache.publish_file(&path, &both)?;
        Ok(path)
    }

    /// Environment variables that name the files to a command in the lab.
    pub(crate) fn env(&self) -> [(String, String); 2] {
        [("L2_KERNEL", &self.kernel), ("L2_INITRAMFS", &self.initramfs)]
            .map(|(name, path)| (name.to_owned(), path.to_string_lossy().into_owned()))
    }
}

/// What a QEMU needs besides itself: its firmware and option ROMs. With QEMU, for a lab that has to carry them.
pub(crate) const QEMU: [&str; 3] = ["qemu-system-x86_64", "/usr/share/qemu", "/usr/share/seabios"];

/// Gets the guest's kernel, the same for every lab, and builds its initramfs.
pub(crate) fn prepare(cache: &Cache) -> Result<L2> {
    packages::ensure(packages::BOOT.iter().chain([&packages::QEMU]))?;
    let kernel = kernel::prepare(cache, Suite::Bookworm, Flavour::Cloud)?;
    let busybox = fs::read(BUSYBOX).with_context(|| format!("cannot read {BUSYBOX}"))?;
    let (load, modules) = (l2_load::elf(), MODULES.join(" "));
    let key = Sha256::new_with_prefix(INIT).chain_update(modules).chain_update(&busybox).chain_update(&load);
    let key = key.finalize();
    let path = kernel.dir.join(format!("l2-{key:x}.cpio"));
    let _lock = cache.lock("initramfs")?;
    if !path.exists() {
        let mut archive = Archive::default();
        archive.dir("/proc").dir("/sys").dir("/dev").dir("/tmp");
        archive.file(BUSYBOX, 0o755, busybox).file("/init", 0o755, INIT);
        archive.file("/load", 0o755, load);
        initramfs::add_modules(&mut archive, &kernel, &MODULES)?;
        cache.publish_file(&path, &archive.to_vec()?)?;
    }
    Ok(L2 { kernel: kernel.image(), initramfs: path })
}
