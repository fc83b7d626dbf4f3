//! `cargo xtask ebpf`: builds the eBPF object that is committed, or checks that it is what its sources give.

// Some of what it shares is for the build script alone.
#[allow(dead_code, unreachable_pub)]
#[path = "../../../kvm-utils/build/digest.rs"]
mod digest;
mod object;
mod toolchain;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Args;

use crate::cleanup::TempDir;
use crate::process;
use crate::project::Project;
use crate::ui;
use digest::{OBJECT, REMEDY, STAMP, Stamp};
use toolchain::Toolchain;

pub(crate) use toolchain::MissingSources;

/// The target of eBPF programs, little-endian.
pub(crate) const TARGET: &str = "bpfel-unknown-none";
/// The package of the programs, also the name of the file that cargo makes.
pub(crate) const PACKAGE: &str = "kvm-utils-ebpf";
/// The profile of the workspace's Cargo.toml, and the directory of what is built with it.
const PROFILE: &str = "ebpf";

/// Options of `cargo xtask ebpf`.
#[derive(Args)]
pub(crate) struct Options {
    /// Rebuild and compare with the committed object instead of replacing it; exit 1 when they differ
    #[arg(long)]
    verify: bool,
}

/// `cargo xtask ebpf`.
pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    let project = Project::locate()?;
    if !options.verify {
        write(&project)?;
        return Ok(ExitCode::SUCCESS);
    }
    let differences = verify(&project)?;
    for difference in &differences {
        ui::warn(difference);
    }
    if differences.is_empty() {
        ui::step(format_args!("{OBJECT} is what its sources give"));
        return Ok(ExitCode::SUCCESS);
    }
    ui::step(format_args!("run `{REMEDY}` and commit {OBJECT} and {STAMP}"));
    Ok(ExitCode::FAILURE)
}

/// Builds the object and puts it and its stamp in place.
fn write(project: &Project) -> Result<()> {
    let (bytes, stamp) = build(project, &project.target.join("ebpf"))?;
    let object = project.root.join(OBJECT);
    fs::create_dir_all(object.parent().unwrap_or(&project.root))?;
    let parts = [(object, bytes.as_slice()), (project.root.join(STAMP), stamp.to_string().as_bytes())]
        .map(|(path, bytes)| replace(&path, bytes));
    parts.into_iter().collect::<Result<()>>()?;
    ui::step(format_args!("{OBJECT}: {} bytes, {}", bytes.len(), stamp.object));
    Ok(())
}

/// Replaces a file in one step: a build that reads it meanwhile sees the old or the new one.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let temp = path.with_extension("new");
    fs::write(&temp, bytes).with_context(|| format!("cannot write {}", temp.display()))?;
    fs::rename(&temp, path).with_context(|| format!("cannot replace {}", path.display()))
}

/// Rebuilds everything from nothing and tells what differs from what is committed.
///
/// # Errors
/// When the object cannot be built; [`MissingSources`] when only Rust's library sources are missing.
pub(crate) fn verify(project: &Project) -> Result<Vec<String>> {
    let place = TempDir::create(project.target.join(format!("ebpf-verify-{}", std::process::id())))?;
    let (bytes, built) = build(project, place.path())?;
    let committed = fs::read(project.root.join(OBJECT)).with_context(|| format!("cannot read {OBJECT}"))?;
    let text =
        fs::read_to_string(project.root.join(STAMP)).with_context(|| format!("cannot read {STAMP}"))?;
    let stamp = Stamp::parse(&text).with_context(|| format!("{STAMP} is damaged"))?;
    Ok(differences(&committed, &stamp, &bytes, &built))
}

fn differences(committed: &[u8], stamp: &Stamp, bytes: &[u8], built: &Stamp) -> Vec<String> {
    let mut differences = Vec::new();
    if stamp.sources != built.sources {
        differences
            .push(format!("the sources have changed: {} in {STAMP}, {} now", stamp.sources, built.sources));
    }
    if digest::sha256(committed) != stamp.object {
        differences.push(format!("{OBJECT} is not the one that {STAMP} describes"));
    }
    if committed != bytes {
        differences.push(object::difference(committed, bytes));
        for (what, then, now) in
            [("rustc", &stamp.rustc, &built.rustc), ("linker", &stamp.linker, &built.linker)]
        {
            if then != now {
                differences
                    .push(format!("the likely cause: built with {what} {then}, this machine has {now}"));
            }
        }
    }
    differences
}

/// Builds the object with `target` as cargo's target directory.
fn build(project: &Project, target: &Path) -> Result<(Vec<u8>, Stamp)> {
    let toolchain = Toolchain::prepare(project)?;
    // Before the build: a source that changes meanwhile makes the object stale, not wrongly fresh.
    let sources = digest::sources(&project.root).context("cannot read the sources of the eBPF object")?;
    ui::step(format_args!("building {PACKAGE} for {TARGET} with {}", toolchain.rustc));
    let mut cargo = cargo(project, &toolchain, "build", target);
    cargo.args(["--profile", PROFILE]);
    process::show(&mut cargo)?;
    let file = target.join(TARGET).join(PROFILE).join(PACKAGE);
    let linked = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let bytes = object::strip(&linked).with_context(|| format!("in {}", file.display()))?;
    object::refuse_paths(&bytes, &[&project.root, &toolchain.cargo_home, &toolchain.sysroot])?;
    let stamp = Stamp {
        sources,
        object: digest::sha256(&bytes),
        rustc: toolchain.rustc.clone(),
        linker: toolchain.linker.clone(),
    };
    Ok((bytes, stamp))
}

/// A cargo command of the nightly toolchain on the eBPF package.
fn cargo(project: &Project, toolchain: &Toolchain, verb: &str, target: &Path) -> Command {
    let mut cargo = crate::project::nightly("cargo");
    cargo.current_dir(&project.root);
    cargo
        .args([verb, "--package", PACKAGE, "--target", TARGET, "-Z", "build-std=core", "--target-dir"])
        .arg(target);
    // The environment wins over .cargo/config.toml, whose flags are for the host.
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags(project, toolchain).join("\x1f"));
    if let Some(library) = &toolchain.library {
        // Cargo's only way to name other sources than the sysroot's, made for its own tests.
        cargo.env("__CARGO_TESTS_ONLY_SRC_ROOT", library);
    }
    cargo
}

/// rustc's flags: BTF, which is made from the debug information, and no path of this machine in it.
fn flags(project: &Project, toolchain: &Toolchain) -> Vec<String> {
    let mut flags = vec![
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("-Clinker={}", toolchain.linker_path.display()),
    ];
    let mut remap =
        |from: &Path, to: &str| flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    remap(&project.root, "kvm-utils");
    remap(&toolchain.sysroot.join("lib/rustlib/src/rust"), "rust");
    if let Some(sources) = toolchain.library.as_deref().and_then(Path::parent) {
        remap(sources, "rust");
    }
    for registry in &toolchain.registries {
        remap(registry, "registry");
    }
    flags
}

/// `cargo clippy` on the eBPF package, with warnings as errors.
///
/// # Errors
/// As [`verify`], and when clippy has something to say.
pub(crate) fn clippy(project: &Project) -> Result<()> {
    let toolchain = Toolchain::prepare(project)?;
    let mut cargo = cargo(project, &toolchain, "clippy", &project.target.join("ebpf"));
    process::show(cargo.args(["--", "-D", "warnings"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp() -> Stamp {
        let rustc = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)".into();
        Stamp {
            sources: "1".into(),
            object: digest::sha256(b"object"),
            rustc,
            linker: "bpf-linker 0.10.4".into(),
        }
    }

    #[test]
    fn a_stamp_survives_writing() {
        let text = stamp().to_string();
        assert_eq!(Stamp::parse(&text), Some(stamp()));
        assert_eq!(Stamp::parse(&text.replace("linker", "linger")), None);
        assert_eq!(Stamp::parse(""), None);
    }

    #[test]
    fn each_difference_is_told() {
        let stamp = stamp();
        assert!(differences(b"object", &stamp, b"object", &stamp).is_empty());
        let now = Stamp { sources: "2".into(), rustc: "rustc 1.98.0".into(), ..stamp.clone() };
        let told = differences(b"object", &stamp, b"objects", &now).join("\n");
        assert!(
            told.contains("sources") && told.contains("6 bytes") && told.contains("rustc 1.98.0"),
            "{told}"
        );
        let told = differences(b"other", &stamp, b"other", &stamp).join("\n");
        assert!(told.contains("not the one"), "{told}");
    }

    #[test]
    fn the_digest_sees_content_name_and_library() {
        let dir = std::env::temp_dir().join(format!("xtask-digest-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(digest::sources(&dir).unwrap_err().kind(), std::io::ErrorKind::NotFound);
        for package in ["kvm-utils-common", "kvm-utils-ebpf"] {
            write(&format!("{package}/Cargo.toml"), "");
            write(&format!("{package}/src/lib.rs"), "");
        }
        let lock = "[[package]]\nname = \"aya-ebpf\"\nversion = \"0.2.1\"\n";
        write(digest::LOCK, lock);
        let first = digest::sources(&dir).unwrap();
        write("kvm-utils-ebpf/src/.main.rs.swp", "x");
        write(digest::LOCK, &format!("[[package]]\nname = \"clap\"\nversion = \"4\"\n{lock}"));
        assert_eq!(digest::sources(&dir).unwrap(), first);
        write("kvm-utils-ebpf/src/lib.rs", "x");
        let second = digest::sources(&dir).unwrap();
        write(digest::LOCK, &lock.replace("0.2.1", "0.2.2"));
        let third = digest::sources(&dir).unwrap();
        fs::rename(dir.join("kvm-utils-ebpf/src/lib.rs"), dir.join("kvm-utils-ebpf/src/main.rs")).unwrap();
        let fourth = digest::sources(&dir).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        let all = std::collections::BTreeSet::from([&first, &second, &third, &fourth]);
        assert_eq!(all.len(), 4);
    }
}
