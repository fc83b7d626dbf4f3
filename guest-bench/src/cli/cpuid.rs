//! `kvm-bench cpuid`.

use clap::Args;

use super::Spec;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Leaf, such as 1 or 0x40000000; may be repeated
    #[arg(long, value_name = "LEAF", default_value = "0x0", value_parser = super::run::number)]
    leaf: Vec<u64>,
    /// Subleaf of all of them
    #[arg(long, value_name = "N", default_value = "0", value_parser = super::run::number)]
    subleaf: u64,
}

impl Options {
    pub(super) fn specs(&self) -> Vec<Spec> {
        let spec = |leaf: &u64| {
            let spec = Spec::new("cpuid").with("leaf", format!("{leaf:#x}"));
            if self.subleaf == 0 { spec } else { spec.with("subleaf", format!("{:#x}", self.subleaf)) }
        };
        self.leaf.iter().map(spec).collect()
    }
}
