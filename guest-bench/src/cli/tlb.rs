//! `kvm-bench tlb`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use super::{Spec, cpus, run};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Removal {
    /// madvise(DONTNEED)
    Madvise,
    /// munmap
    Munmap,
    /// mprotect to reading only, and back
    Mprotect,
}

#[derive(Debug, Args)]
pub(super) struct Options {
    /// How the page is removed [default: every way]
    #[arg(value_enum, value_name = "HOW")]
    how: Vec<Removal>,
    /// Threads that have the page in their TLBs, each on a CPU of its own [default: on all other CPUs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    threads: Option<u64>,
    /// Samples, as --samples
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    loops: Option<u64>,
}

impl Options {
    pub(super) fn run(&self, common: &run::Options) -> Result<ExitCode> {
        let others = cpus::allowed()?.len() - 1;
        if let Some(threads) = self.threads.filter(|threads| others > 0 && *threads > others as u64) {
            bail!("--threads {threads}: there are {others} other CPUs");
        }
        let how = if self.how.is_empty() { Removal::value_variants() } else { &self.how };
        let spec = |how: &Removal| {
            let name = how.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned());
            let spec = Spec::new(&format!("tlb:{name}"));
            self.threads.iter().fold(spec, |spec, threads| spec.with("threads", *threads))
        };
        run::run(&how.iter().map(spec).collect::<Vec<_>>(), &common.with_samples(self.loops))
    }
}
