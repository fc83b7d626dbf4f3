//! `kvm-bench timer`.

use std::time::Duration;

use clap::Args;

use super::Spec;
use crate::ops::timer;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// How far ahead a timer is set, such as 50us, up to 1s; may be repeated [default: 10us, 100us, 1ms and 10ms]
    #[arg(long, value_name = "T", value_parser = delay)]
    delay: Vec<Duration>,
    /// By how much the kernel may be late on purpose, to take several timers at once: 50us for most programs
    #[arg(long, value_name = "T", value_parser = delay)]
    slack: Option<Duration>,
}

impl Options {
    pub(super) fn specs(&self) -> Vec<Spec> {
        let ns = |time: &Duration| u64::try_from(time.as_nanos()).unwrap_or(timer::LONGEST);
        let mut specs = match self.delay.as_slice() {
            [] => super::usual("timer"),
            delays => timer::usual(&delays.iter().map(ns).collect::<Vec<_>>()),
        };
        if let Some(slack) = &self.slack {
            specs = specs.into_iter().map(|spec| spec.with("slack", format!("{}ns", ns(slack)))).collect();
        }
        specs
    }
}

fn delay(text: &str) -> Result<Duration, String> {
    let delay = super::run::duration(text)?;
    if delay.as_nanos() > timer::LONGEST.into() { Err("1s at most".to_owned()) } else { Ok(delay) }
}
