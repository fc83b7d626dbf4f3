//! What tests need of the machine.

use std::{env, path::PathBuf};

use super::harness::Skip;

/// A program of Debian's package prometheus: in the directory that `cargo xtask test` unpacks it into, or in PATH.
pub fn prometheus(program: &str) -> Result<PathBuf, Skip> {
    let unpacked = env::var_os("KVM_UTILS_PROMETHEUS").map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places =
        unpacked.into_iter().chain(env::split_paths(&path)).map(|directory| directory.join(program));
    places.find(|file| file.is_file()).ok_or_else(|| {
        Skip(format!("needs {program} (Debian package prometheus, which cargo xtask test unpacks)"))
    })
}

/// systemd-analyze, which need not run under systemd to judge a unit.
pub fn systemd_analyze() -> Result<PathBuf, Skip> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places = env::split_paths(&path).map(|directory| directory.join("systemd-analyze"));
    places
        .find(|file| file.is_file())
        .ok_or_else(|| Skip("needs systemd-analyze (package systemd)".to_owned()))
}
