//! What the committed eBPF object was built from. Shared by `cargo xtask ebpf`, which writes the stamp, and the
//! build script of kvm-utils, which refuses an object whose sources have changed.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The object and its stamp, relative to the workspace.
pub const OBJECT: &str = "kvm-utils-ebpf/prebuilt/kvm-utils.bpf.o";
/// See [`OBJECT`].
pub const STAMP: &str = "kvm-utils-ebpf/prebuilt/stamp.toml";
/// Where the sources are, relative to the workspace: files, and directories with all that is below.
pub const SOURCES: [&str; 4] = [
    "kvm-utils-common/Cargo.toml",
    "kvm-utils-common/src",
    "kvm-utils-ebpf/Cargo.toml",
    "kvm-utils-ebpf/src",
];
/// Where the versions of the libraries are.
pub const LOCK: &str = "Cargo.lock";
/// The command that makes a new object.
pub const REMEDY: &str = "cargo xtask ebpf";

/// What is known about a built object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// [`sources`] at the time of the build.
    pub sources: String,
    /// SHA256 of the object, hexadecimal.
    pub object: String,
    /// What `rustc --version` said.
    pub rustc: String,
    /// What `bpf-linker --version` said.
    pub linker: String,
}

impl Stamp {
    const KEYS: [&'static str; 4] = ["sources", "object", "rustc", "linker"];

    /// Reads what [`fmt::Display`] writes; None when a key is missing.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let [sources, object, rustc, linker] = Self::KEYS.map(|key| {
            text.lines().find_map(|line| {
                let value = line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"')?;
                Some(value.to_owned())
            })
        });
        Some(Self { sources: sources?, object: object?, rustc: rustc?, linker: linker? })
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Written by `{REMEDY}`: what kvm-utils.bpf.o was built from and with.")?;
        let values = [&self.sources, &self.object, &self.rustc, &self.linker];
        Self::KEYS.iter().zip(values).try_for_each(|(key, value)| writeln!(f, "{key} = \"{value}\""))
    }
}

/// The digest of everything in the workspace that the object is made from: the sources with their paths, and the
/// versions of the aya libraries it links.
///
/// # Errors
/// When a source cannot be read; `NotFound` when the workspace has no such sources.
pub fn sources(workspace: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    for source in SOURCES {
        collect(&workspace.join(source), &mut files)?;
    }
    // Sorted by the path in the workspace, so that the order is the same everywhere.
    files.sort();
    let mut digest = Sha256::new();
    let mut add = |part: &[u8]| {
        // The length first: no two different lists of parts read the same.
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    };
    for file in files {
        let name = file.strip_prefix(workspace).unwrap_or(&file);
        add(name.as_os_str().as_encoded_bytes());
        add(&fs::read(&file)?);
    }
    for library in libraries(&fs::read_to_string(workspace.join(LOCK))?) {
        add(library.as_bytes());
    }
    Ok(hex(digest))
}

/// The SHA256 of some bytes, hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::new_with_prefix(bytes))
}

fn hex(digest: Sha256) -> String {
    format!("{:x}", digest.finalize())
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !fs::metadata(path)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // Editors leave hidden files beside sources.
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            collect(&entry.path(), files)?;
        }
    }
    Ok(())
}

/// `name version` of every aya-ebpf library in a Cargo.lock.
fn libraries(lock: &str) -> Vec<String> {
    let value = |line: &str, key: &str| Some(line.strip_prefix(key)?.trim_end_matches('"').to_owned());
    let mut libraries = Vec::new();
    let mut lines = lock.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = value(line, "name = \"").filter(|name| name.starts_with("aya-ebpf")) {
            let version = lines.next().and_then(|line| value(line, "version = \"")).unwrap_or_default();
            libraries.push(format!("{name} {version}"));
        }
    }
    libraries
}
