//! Source and target CPUs of operations between two.

use anyhow::{Context, Result, bail};
use clap::Args;

use super::{Spec, run};
use crate::cpu;

#[derive(Debug, Args)]
pub(super) struct Cpus {
    /// CPU that sends [default: as --cpu]
    #[arg(long, value_name = "N")]
    pub src: Option<usize>,
    /// CPU that receives [default: the first other one]
    #[arg(long, value_name = "N")]
    pub dst: Option<usize>,
}

/// The CPUs that may be used.
pub(super) fn allowed() -> Result<Vec<usize>> {
    cpu::allowed().context("cannot tell which CPUs may be used")
}

impl Cpus {
    /// Refuses what cannot be: a CPU that is not there, or twice the same.
    pub(super) fn check(&self, common: &run::Options) -> Result<()> {
        let allowed = allowed()?;
        for (name, cpu) in [("--src", self.src), ("--dst", self.dst)] {
            if let Some(cpu) = cpu.filter(|cpu| !allowed.contains(cpu)) {
                bail!("{name} {cpu}: this CPU is offline or outside of this cpuset; there are {allowed:?}");
            }
        }
        if let (Some(src), Some(dst)) = (self.src.or(common.cpu()), self.dst)
            && src == dst
        {
            bail!("CPU {src} is both source and target; choose two, or `kvm-bench ipi self`");
        }
        Ok(())
    }

    /// Adds what is asked for, and what follows from it; what cannot be is left for the operation to refuse.
    pub(super) fn pair(&self, mut spec: Spec, common: &run::Options, numa: &str) -> Result<Spec> {
        if let Some((src, dst)) = crate::ops::pair(&allowed()?, self.source(common)?, self.dst, numa) {
            spec = spec.with("src", src).with("dst", dst);
        } else if let Some(dst) = self.dst {
            spec = spec.with("dst", dst);
        }
        Ok(spec)
    }

    /// The source. With a target and no source it is one that is not the target.
    pub(super) fn source(&self, common: &run::Options) -> Result<usize> {
        if let Some(src) = self.src.or(common.cpu()) {
            return Ok(src);
        }
        let allowed = allowed()?;
        let others = allowed.iter().rev().find(|&&cpu| Some(cpu) != self.dst);
        others.copied().map_or_else(|| common.cpu_or_last(), Ok)
    }
}
