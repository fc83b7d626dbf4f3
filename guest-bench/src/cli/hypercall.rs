//! `kvm-bench hypercall`.

use clap::Args;

use super::Spec;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Its number; one that KVM does not know by default
    #[arg(long, value_name = "NR", value_parser = super::run::number)]
    nr: Option<u64>,
}

impl Options {
    pub(super) fn specs(&self) -> Vec<Spec> {
        let spec = Spec::new("hypercall");
        vec![match self.nr {
            Some(number) => spec.with("nr", format!("{number:#x}")),
            None => spec,
        }]
    }
}
