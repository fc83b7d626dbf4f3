//! `kvm-bench jitter`.

use clap::Args;

use super::Spec;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The shortest gap that counts, such as 1us, which is the default
    #[arg(long, value_name = "T", value_parser = super::run::duration)]
    threshold: Option<std::time::Duration>,
}

impl Options {
    pub(super) fn specs(&self) -> Vec<Spec> {
        let spec = Spec::new("jitter");
        vec![match self.threshold {
            Some(threshold) => {
                spec.with("threshold_ns", u64::try_from(threshold.as_nanos()).unwrap_or(u64::MAX))
            }
            None => spec,
        }]
    }
}
