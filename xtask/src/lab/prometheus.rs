//! Prometheus and promtool, which tests run on this machine: unpacked from the archive, never installed, since the package
//! would start a server.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::Suite;
use super::cache::Cache;
use super::newest::Thing;
use super::packages;
use crate::project::Project;

/// The oldest suite with one that takes OpenMetrics: it asks least of this machine's libraries.
const SUITE: Suite = Suite::Bookworm;
const PACKAGE: &str = "prometheus";

/// The directory of both programs.
pub(crate) fn prepare(project: &Project) -> Result<PathBuf> {
    packages::ensure(&packages::UNPACK)?;
    let cache = Cache::open(project)?;
    let thing = Thing { what: "Prometheus", suite: SUITE, home: PACKAGE };
    let root = thing.prepare(
        &cache,
        |archive| Ok(vec![archive.package(PACKAGE)?]),
        |dir| {
            let programs = dir.join("usr/bin");
            programs.join("promtool").metadata().context("the package holds no promtool")?;
            Ok(())
        },
    )?;
    Ok(root.join("usr/bin"))
}
