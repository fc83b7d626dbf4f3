//! `kvm-bench clock`.

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::Spec;
use crate::ops::{clock, clocksource};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// This clock instead of the usual ones; may be repeated
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(clock::CLOCKS.map(|(name, _)| name)))]
    clock: Vec<String>,
    /// Each clock source that the kernel offers, one after the other. Every program on this machine uses it meanwhile; the
    /// one before is put back
    #[arg(long, conflicts_with = "clock")]
    each_source: bool,
}

impl Options {
    pub(super) fn specs(&self) -> anyhow::Result<Vec<Spec>> {
        if self.each_source {
            let sources = clocksource::available();
            if sources.is_empty() {
                anyhow::bail!("the kernel names no clock sources; mount /sys");
            }
            let both = |source: &String| {
                let spec = Spec::new("clock:source").with("source", source.as_str());
                [spec.clone(), spec.with("via", "syscall")]
            };
            return Ok(sources.iter().flat_map(both).collect());
        }
        if self.clock.is_empty() {
            return Ok(super::usual("clock"));
        }
        let both = |clock: &String| {
            let spec = Spec::new("clock:gettime").with("clock", clock.as_str());
            [spec.clone(), spec.with("via", "syscall")]
        };
        Ok(self.clock.iter().flat_map(both).collect())
    }
}
