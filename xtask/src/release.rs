//! The release build: what is installed and what the lab runs.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::process::tie;
use crate::project::{Project, cargo};
use crate::ui;

/// The executables of a build.
pub(crate) struct Release {
    /// `kvm-utils` itself.
    pub(crate) kvm_utils: PathBuf,
    /// `kvm-bench`, the program for guests.
    pub(crate) kvm_bench: PathBuf,
    /// The program with the tests that run inside the lab.
    pub(crate) lab: PathBuf,
}

/// Builds them, to be tried: the same whatever the commit, so that a commit alone changes nothing.
pub(crate) fn build(project: &Project) -> Result<Release> {
    build_as(project, env!("CARGO_PKG_VERSION"))
}

/// Builds them, with what `--version` tells.
pub(crate) fn build_as(project: &Project, version: &str) -> Result<Release> {
    ui::step("building kvm-utils and kvm-bench (release)");
    let mut cargo = cargo();
    cargo.current_dir(&project.root).args([
        "build",
        "--release",
        "--package",
        "kvm-utils",
        "--package",
        "kvm-bench",
        "--bins",
        "--examples",
    ]);
    cargo.env("KVM_UTILS_VERSION", version);
    cargo.args(["--message-format", "json-render-diagnostics"]).stderr(Stdio::inherit());
    tie(&mut cargo, Signal::TERM);
    let output = cargo.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the release build failed ({})", output.status);
    }
    let messages = String::from_utf8(output.stdout).context("cargo did not print UTF-8")?;
    let find = |kind, name| {
        executable(&messages, kind, name).with_context(|| format!("cargo built no {kind} {name}"))
    };
    Ok(Release {
        kvm_utils: find("bin", "kvm-utils")?,
        kvm_bench: find("bin", "kvm-bench")?,
        lab: find("example", "lab")?,
    })
}

/// Finds a target's executable in cargo's JSON messages.
fn executable(messages: &str, kind: &str, name: &str) -> Option<PathBuf> {
    messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()).find_map(
        |message| {
            let target = &message["target"];
            let is_it = target["name"] == name && target["kind"].as_array()?.iter().any(|k| k == kind);
            if is_it { message["executable"].as_str().map(PathBuf::from) } else { None }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_found_among_the_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"lab"},"executable":null}
{"reason":"compiler-artifact","target":{"kind":["example"],"name":"lab"},"executable":"/t/examples/lab"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "example", "lab"), Some("/t/examples/lab".into()));
        assert_eq!(executable(messages, "bin", "lab"), None);
    }
}
