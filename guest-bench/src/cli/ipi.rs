//! `kvm-bench ipi`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use super::cpus::{self, Cpus};
use super::{Spec, run};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// Without an interrupt: what the rest costs
    #[value(name = "self")]
    Oneself,
    /// One source, one target
    Single,
    /// Disjoint pairs at the same time
    Mesh,
    /// To all other CPUs
    Broadcast,
    /// From each CPU to each other one: a heat map
    Matrix,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Numa {
    /// On one node
    Within,
    /// On different nodes
    Across,
    /// Wherever
    #[default]
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Via {
    /// Read of a perf event of the target
    Perf,
    /// membarrier, with a thread that runs on the target
    Membarrier,
    /// Read of the target's MSR device
    Msr,
    /// Signal to a thread that runs on the target
    Signal,
}

#[derive(Debug, Args)]
pub(super) struct Options {
    /// What to do, one after the other [default: self single mesh broadcast]
    #[arg(value_enum, value_name = "SHAPE")]
    shapes: Vec<Shape>,
    #[command(flatten)]
    cpus: Cpus,
    /// Single: the target is halted instead of running
    #[arg(long)]
    halted: bool,
    /// Halted: how long the target is left alone before each interrupt [default: 300us, longer than guests and hosts poll]
    #[arg(long, value_name = "T", value_parser = run::duration, requires = "halted")]
    sleep: Option<Duration>,
    /// Mesh: so many pairs [default: as many as there can be]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pairs: Option<u64>,
    /// Broadcast: so many CPUs send at the same time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    senders: Option<u64>,
    /// Samples, as --samples
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    loops: Option<u64>,
    /// Where source and target are to be
    #[arg(long, value_enum, default_value_t)]
    numa: Numa,
    /// Wait for the answer (the default)
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// Measure the sending alone
    #[arg(long, overrides_with = "wait")]
    no_wait: bool,
    /// Broadcast: each handler takes and releases one lock that they share
    #[arg(long)]
    lock: bool,
    /// How to send [default: the first that is there, of perf, membarrier and msr]
    #[arg(long, value_enum)]
    via: Option<Via>,
}

impl Options {
    pub(super) fn run(&self, common: &run::Options) -> Result<ExitCode> {
        run::run(&self.specs(common)?, &common.with_samples(self.loops))
    }

    fn shapes(&self) -> &[Shape] {
        match self.shapes.as_slice() {
            [] if self.halted => &[Shape::Single],
            [] => &[Shape::Oneself, Shape::Single, Shape::Mesh, Shape::Broadcast],
            shapes => shapes,
        }
    }

    fn specs(&self, common: &run::Options) -> Result<Vec<Spec>> {
        self.cpus.check(common)?;
        let allowed = cpus::allowed()?;
        let shapes = self.shapes();
        let needs = [
            ("--dst", self.cpus.dst.is_some(), Shape::Single, "single"),
            ("--halted", self.halted, Shape::Single, "single"),
            ("--pairs", self.pairs.is_some(), Shape::Mesh, "mesh"),
            ("--senders", self.senders.is_some(), Shape::Broadcast, "broadcast"),
            ("--lock", self.lock, Shape::Broadcast, "broadcast"),
        ];
        for (option, is_given, shape, name) in needs {
            if is_given && !shapes.contains(&shape) {
                bail!("{option} is for `kvm-bench ipi {name}`");
            }
        }
        // With one CPU nothing of it can be measured, which each operation says by itself.
        if allowed.len() > 1 {
            let fits = |count: Option<u64>, most: usize| count.is_none_or(|count| count <= most as u64);
            if !fits(self.pairs, allowed.len() / 2) {
                bail!("--pairs: {} CPUs make {} pairs at most", allowed.len(), allowed.len() / 2);
            }
            if !fits(self.senders, allowed.len()) {
                bail!("--senders: there are {} CPUs", allowed.len());
            }
        }
        let mut specs = Vec::new();
        for shape in shapes {
            match shape {
                Shape::Matrix => {
                    let row = |&src: &usize| self.common(Spec::new("ipi:matrix").with("src", src));
                    specs.extend(allowed.iter().map(row));
                }
                one => specs.push(self.one(*one, common)?),
            }
        }
        Ok(specs)
    }

    fn one(&self, shape: Shape, common: &run::Options) -> Result<Spec> {
        let numa = self.numa.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned());
        let with_numa =
            |spec: Spec| if self.numa == Numa::Any { spec } else { spec.with("numa", numa.clone()) };
        let from = |spec: Spec| match self.cpus.src {
            Some(src) => spec.with("src", src),
            None => spec,
        };
        Ok(match shape {
            Shape::Oneself => self.way(from(Spec::new("ipi:self"))),
            Shape::Single => {
                let spec = Spec::new(if self.halted { "ipi:halted" } else { "ipi:single" });
                let mut spec = self.common(with_numa(self.cpus.pair(spec, common, &numa)?));
                if let Some(sleep) = self.sleep {
                    spec = spec.with("sleep_us", u64::try_from(sleep.as_micros()).unwrap_or(u64::MAX));
                }
                spec
            }
            Shape::Mesh => {
                let spec = self.common(with_numa(from(Spec::new("ipi:mesh"))));
                self.pairs.iter().fold(spec, |spec, pairs| spec.with("pairs", *pairs))
            }
            Shape::Broadcast => {
                let spec = self.common(from(Spec::new("ipi:broadcast")));
                let spec = self.senders.iter().fold(spec, |spec, senders| spec.with("senders", *senders));
                if self.lock { spec.with("lock", true) } else { spec }
            }
            Shape::Matrix => self.common(Spec::new("ipi:matrix")),
        })
    }

    /// With the way to send and what it waits for.
    fn common(&self, spec: Spec) -> Spec {
        let spec = self.way(spec);
        if self.no_wait { spec.with("no_wait", true) } else { spec }
    }

    fn way(&self, spec: Spec) -> Spec {
        match self.via.and_then(|via| via.to_possible_value()) {
            Some(via) => spec.with("via", via.get_name()),
            None => spec,
        }
    }
}
