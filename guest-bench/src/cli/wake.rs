//! `kvm-bench wake`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};

use super::cpus::Cpus;
use super::{Spec, run};
use crate::ops::WAKE_SLEEPS_US;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Means {
    /// A futex
    Futex,
    /// An eventfd
    Eventfd,
    /// A pipe
    Pipe,
}

#[derive(Debug, Args)]
pub(super) struct Options {
    /// What the thread sleeps on [default: every one]
    #[arg(value_enum, value_name = "MEANS")]
    means: Vec<Means>,
    #[command(flatten)]
    cpus: Cpus,
    /// How long it has slept when it is woken; may be repeated [default: 0, 10us, 50us, 200us and 1ms]
    #[arg(long, value_name = "T", value_parser = sleep)]
    sleep: Vec<Duration>,
    /// It wakes the waker in turn, which sleeps meanwhile
    #[arg(long)]
    round_trip: bool,
    /// Samples, as --samples
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    loops: Option<u64>,
}

/// A time, or none at all.
fn sleep(text: &str) -> Result<Duration, String> {
    if matches!(text, "0" | "0s" | "0us" | "0ms") { Ok(Duration::ZERO) } else { run::duration(text) }
}

impl Options {
    pub(super) fn run(&self, common: &run::Options) -> Result<ExitCode> {
        self.cpus.check(common)?;
        let means = if self.means.is_empty() { Means::value_variants() } else { &self.means };
        let given = self.sleep.iter().map(|sleep| u64::try_from(sleep.as_micros()).unwrap_or(u64::MAX));
        let sleeps: Vec<u64> = if self.sleep.is_empty() { WAKE_SLEEPS_US.into() } else { given.collect() };
        let mut specs = Vec::new();
        for means in means {
            let name = means.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned());
            for &sleep in &sleeps {
                let spec = Spec::new(&format!("wake:{name}")).with("sleep_us", sleep);
                let spec = if self.round_trip { spec.with("round_trip", true) } else { spec };
                specs.push(self.cpus.pair(spec, common, "any")?);
            }
        }
        run::run(&specs, &common.with_samples(self.loops))
    }
}
