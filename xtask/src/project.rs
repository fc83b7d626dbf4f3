//! Where the project and its build directory are.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{self, tool};

/// The checkout this xtask belongs to.
pub(crate) struct Project {
    /// The workspace's root directory.
    pub(crate) root: PathBuf,
    /// Cargo's target directory, which configuration and environment may put elsewhere.
    pub(crate) target: PathBuf,
}

impl Project {
    /// Asks cargo, which alone knows every way the target directory can be set.
    pub(crate) fn locate() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let mut command = cargo();
        command.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(manifest);
        let output = process::capture(&mut command)?;
        let metadata: serde_json::Value =
            serde_json::from_str(&output).context("cargo metadata did not print JSON")?;
        let path = |key: &str| {
            metadata[key]
                .as_str()
                .map(PathBuf::from)
                .with_context(|| format!("cargo metadata names no {key}"))
        };
        Ok(Self { root: path("workspace_root")?, target: path("target_directory")? })
    }
}

/// The cargo that runs this task (stable), or the one on the path when started by hand.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// A tool of the nightly toolchain. Goes through `rustup run`, which unlike `cargo +nightly` also
/// works when the cargo first on the path is a toolchain's own and not rustup's.
pub(crate) fn nightly(program: &str) -> Command {
    let mut command = tool("rustup");
    command.args(["run", "nightly", program]);
    // Set by the stable cargo and rustup around this process; they would win over the toolchain asked for.
    for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
        command.env_remove(name);
    }
    command
}
