//! What the eBPF object is built with: nightly Rust, the sources of its library, and bpf-linker.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cleanup::TempDir;
use crate::process::{self, capture, tool};
use crate::project::{Project, nightly};
use crate::ui;

/// The linker and the version that goes with the nightly compiler's LLVM.
const LINKER: &str = "bpf-linker";
const LINKER_VERSION: &str = "0.10.4";

/// The variable that names a tar.xz of Rust's `library/` directory.
const SOURCES_VARIABLE: &str = "KVM_UTILS_RUST_SRC";

/// Everything needed is here but the sources of Rust's own library.
#[derive(Debug)]
pub(crate) struct MissingSources(String);

impl std::fmt::Display for MissingSources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for MissingSources {}

/// A toolchain that can build the object.
pub(super) struct Toolchain {
    /// What `rustc --version` says.
    pub(super) rustc: String,
    /// What `bpf-linker --version` says.
    pub(super) linker: String,
    /// The linker's program.
    pub(super) linker_path: PathBuf,
    /// The compiler's own directory.
    pub(super) sysroot: PathBuf,
    /// The sources of Rust's library, when they are not in their place in the sysroot.
    pub(super) library: Option<PathBuf>,
    /// Cargo's directory.
    pub(super) cargo_home: PathBuf,
    /// Where cargo unpacks the packages of each registry.
    pub(super) registries: Vec<PathBuf>,
}

impl Toolchain {
    /// Finds the toolchain and gets what is missing of it.
    ///
    /// # Errors
    /// [`MissingSources`] when the library's sources cannot be had; anything else when the rest cannot.
    pub(super) fn prepare(project: &Project) -> Result<Self> {
        let rustc = capture(nightly("rustc").arg("--version")).context(
            "the eBPF object needs nightly Rust through rustup; type: rustup toolchain install nightly --component rust-src",
        )?;
        let sysroot = PathBuf::from(capture(nightly("rustc").args(["--print", "sysroot"]))?.trim());
        let library = ensure_sources(project, &sysroot)?;
        let linker_path = ensure_linker(project)?;
        let linker = version_of(&linker_path).context("bpf-linker does not run")?;
        let cargo_home = cargo_home()?;
        // A build needs the packages before cargo knows where it will put them.
        process::show(nightly("cargo").current_dir(&project.root).args(["fetch", "--quiet"]))
            .context("cannot fetch the packages that Cargo.lock names")?;
        let registries = fs::read_dir(cargo_home.join("registry/src"))
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
            .unwrap_or_default();
        Ok(Self {
            rustc: rustc.trim().to_owned(),
            linker,
            linker_path,
            sysroot,
            library,
            cargo_home,
            registries,
        })
    }
}

fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = std::env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    let home = std::env::home_dir().context("cannot tell the home directory; set CARGO_HOME")?;
    Ok(home.join(".cargo"))
}

/// Sees to it that the library's sources are there: in the sysroot, by rustup, or from the tarball, which is
/// unpacked beside our own files because rustup would stumble over what it has not put in the sysroot itself.
fn ensure_sources(project: &Project, sysroot: &Path) -> Result<Option<PathBuf>> {
    if sysroot.join("lib/rustlib/src/rust/library/core").exists() {
        return Ok(None);
    }
    let own = project.target.join("rust-src");
    if own.join("library/core").exists() {
        return Ok(Some(own.join("library")));
    }
    ui::step("adding the component rust-src to nightly Rust");
    let add = capture(tool("rustup").args(["component", "add", "rust-src", "--toolchain", "nightly"]));
    let Err(refusal) = add else { return Ok(None) };
    let refusal = format!("{refusal:#}").lines().next().unwrap_or_default().to_owned();
    let Some(tarball) = std::env::var_os(SOURCES_VARIABLE) else {
        return Err(MissingSources(format!(
            "Rust's library sources are not installed and rustup cannot get them ({refusal}); set {SOURCES_VARIABLE} to a \
             tar.xz of the library/ directory of the same Rust version"
        ))
        .into());
    };
    unpack_sources(Path::new(&tarball), &own).with_context(|| format!("rustup said: {refusal}"))?;
    Ok(Some(own.join("library")))
}

/// Unpacks a tarball whose top directory is `library/` into `own`, whole or not at all.
fn unpack_sources(tarball: &Path, own: &Path) -> Result<()> {
    ui::step(format_args!("unpacking {}", tarball.display()));
    let temp = TempDir::create(own.with_extension(format!("{}.new", std::process::id())))?;
    capture(tool("tar").arg("-xJf").arg(tarball).arg("-C").arg(temp.path()))
        .map_err(|error| MissingSources(format!("{SOURCES_VARIABLE} names no usable tar.xz: {error:#}")))?;
    if !temp.path().join("library/core").exists() {
        bail!(MissingSources(format!("{} has no library/core in it", tarball.display())));
    }
    match fs::rename(temp.path(), own) {
        // Another run may have been faster; its result is as good.
        Err(_) if own.join("library/core").exists() => Ok(()),
        result => result.with_context(|| format!("cannot put the sources into {}", own.display())),
    }
}

/// The linker of the right version: the installed one, else one of our own below the target directory.
fn ensure_linker(project: &Project) -> Result<PathBuf> {
    let wanted = format!("{LINKER} {LINKER_VERSION}");
    let own = project.target.join(LINKER);
    let places = [process::find(LINKER), Some(own.join("bin").join(LINKER))];
    for place in places.into_iter().flatten() {
        if version_of(&place).is_ok_and(|version| version == wanted) {
            return Ok(place);
        }
    }
    ui::step(format_args!("installing {wanted} to {} (a few minutes)", own.display()));
    let mut install = nightly("cargo");
    // From elsewhere: the workspace's configuration makes static programs, and this one loads rustc's LLVM.
    install
        .current_dir("/")
        .args(["install", LINKER, "--version", LINKER_VERSION, "--locked", "--root"])
        .arg(&own);
    process::show(&mut install).with_context(|| {
        format!("cannot install {wanted}; type: cargo +nightly install {LINKER} --version {LINKER_VERSION} --locked")
    })?;
    Ok(own.join("bin").join(LINKER))
}

fn version_of(linker: &Path) -> Result<String> {
    capture(tool(&linker.to_string_lossy()).arg("--version")).map(|version| version.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_tarball_leaves_nothing() {
        let dir = std::env::temp_dir().join(format!("xtask-toolchain-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let tarball = dir.join("bad.tar.xz");
        fs::write(&tarball, "not a tarball").unwrap();
        let error = unpack_sources(&tarball, &dir.join("rust-src")).unwrap_err();
        assert!(error.downcast_ref::<MissingSources>().is_some(), "{error:#}");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::remove_dir_all(&dir).unwrap();
    }
}
