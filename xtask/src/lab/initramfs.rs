//! What the lab kernel boots into: its modules, busybox, and an init that runs the command.
//!
//! The image is two archives behind each other, as the kernel allows: one per kernel, made once and
//! cached, and a small one per run with the command.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::cache::Cache;
use super::cpio::Archive;
use super::kernel::Kernel;
use crate::process::tool;

/// The statically linked busybox (package busybox-static).
pub(crate) const BUSYBOX: &str = "/bin/busybox";

/// The first process of a lab that has this machine's files over 9p.
const INIT: &str = concat!(include_str!("init-head.sh"), include_str!("init-9p.sh"));

/// What that init needs, in any order; dependencies are added.
const MODULES: [&str; 7] = ["virtio_pci", "9pnet_virtio", "9p", "overlay", "kvm_amd", "kvm_intel", "msr"];

/// The cached archive for a kernel: modules, busybox, init.
pub(crate) fn base(cache: &Cache, kernel: &Kernel) -> Result<PathBuf> {
    let busybox = fs::read(BUSYBOX).with_context(|| format!("cannot read {BUSYBOX}"))?;
    let mut key = Sha256::new();
    for part in [INIT.as_bytes(), MODULES.join(" ").as_bytes(), &busybox] {
        key.update(Sha256::digest(part));
    }
    let path = kernel.dir.join(format!("initramfs-{:x}.cpio", key.finalize()));
    let _lock = cache.lock("initramfs")?;
    if path.exists() {
        return Ok(path);
    }
    let mut archive = Archive::default();
    archive.dir("/proc").dir("/sys").dir("/dev");
    archive.file(BUSYBOX, 0o755, busybox).file("/init", 0o755, INIT);
    add_modules(&mut archive, kernel, &MODULES)?;
    cache.publish_file(&path, &archive.to_vec()?)?;
    Ok(path)
}

/// Writes the cached archive and the run's own behind each other.
pub(crate) fn join(base: &Path, run: &Archive, out: &Path) -> Result<()> {
    let mut image = File::create(out).with_context(|| format!("cannot create {}", out.display()))?;
    let mut base = File::open(base).with_context(|| format!("cannot open {}", base.display()))?;
    std::io::copy(&mut base, &mut image)?;
    run.write(&mut image)?;
    image.flush().with_context(|| format!("cannot write {}", out.display()))
}

/// Puts modules and what they depend on into `/mod`, with their order in `/mod/list`, which the init reads.
pub(crate) fn add_modules(archive: &mut Archive, kernel: &Kernel, names: &[&str]) -> Result<()> {
    let modules = modules(kernel, names)?;
    let list: String = modules.iter().map(|(name, _)| format!("{name}\n")).collect();
    archive.file("/mod/list", 0o644, list);
    for (name, data) in modules {
        archive.file(&format!("/mod/{name}"), 0o644, data);
    }
    Ok(())
}

/// The modules of these names and all they depend on, as `name.ko` with uncompressed content, in an order
/// in which they load. Modules built into the kernel are left out.
pub(crate) fn modules(kernel: &Kernel, names: &[&str]) -> Result<Vec<(String, Vec<u8>)>> {
    let dir = kernel.modules();
    let read = |file: &str| {
        let path = dir.join(file);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let order = load_order(&read("modules.dep")?, &read("modules.builtin")?, names)
        .with_context(|| format!("in the modules of {}", kernel.version))?;
    order.iter().map(|file| Ok((format!("{}.ko", stem(file)), unpack(&dir.join(file))?))).collect()
}

/// Orders module files by `modules.dep`, whose lines are `file: dependency...`, the last to be loaded first.
fn load_order(dep: &str, builtin: &str, names: &[&str]) -> Result<Vec<String>> {
    let mut order: Vec<String> = Vec::new();
    for name in names {
        let wanted = name.replace('-', "_");
        let is_wanted = |file: &str| stem(file).replace('-', "_") == wanted;
        let line = dep.lines().filter_map(|line| line.split_once(':')).find(|(file, _)| is_wanted(file));
        let Some((file, needs)) = line else {
            if builtin.lines().any(is_wanted) {
                continue;
            }
            bail!("there is no module {name}");
        };
        for file in needs.split_whitespace().rev().chain([file]) {
            if !order.iter().any(|known| known == file) {
                order.push(file.to_owned());
            }
        }
    }
    Ok(order)
}

/// `kvm-amd` of `kernel/arch/x86/kvm/kvm-amd.ko.xz`.
fn stem(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split_once(".ko").map_or(name, |(stem, _)| stem)
}

fn unpack(path: &Path) -> Result<Vec<u8>> {
    let program = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return fs::read(path).with_context(|| format!("cannot read {}", path.display())),
    };
    let output = tool(program).args(["-d", "-c", "-q"]).arg(path).output();
    let output = output.with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!(
            "{program} cannot unpack {}: {}",
            path.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "kernel/a/kvm-amd.ko.xz: kernel/a/kvm.ko.xz kernel/v/irqbypass.ko.xz kernel/c/ccp.ko.xz\n\
                       kernel/a/kvm.ko.xz: kernel/v/irqbypass.ko.xz\nkernel/n/9p.ko: kernel/n/9pnet.ko\n";

    #[test]
    fn dependencies_load_first_and_once() {
        let order = load_order(DEP, "kernel/fs/overlay.ko\n", &["kvm", "kvm_amd", "overlay", "9p"]).unwrap();
        let stems: Vec<_> = order.iter().map(|file| stem(file)).collect();
        assert_eq!(stems, ["irqbypass", "kvm", "ccp", "kvm-amd", "9pnet", "9p"]);
    }

    #[test]
    fn a_module_that_is_nowhere_is_an_error() {
        assert!(load_order(DEP, "", &["overlay"]).unwrap_err().to_string().contains("overlay"));
    }
}
