//! `kvm-bench hypercall`.

use clap::Args;

use super::Spec;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Its number; one that KVM does not know by default
    #[arg(long, value_name = "NR", value_parser = super::run::number)]
    nr: Option<u64>,
    /// The instruction of this vendor, intel or amd, whoever's the processor is: the wrong one is none
    #[arg(long, value_name = "VENDOR", hide = true)]
    vendor: Option<String>,
}

impl Options {
    pub(super) fn specs(&self) -> Vec<Spec> {
        let spec = Spec::new("hypercall");
        let spec = match &self.vendor {
            Some(vendor) => spec.with("vendor", vendor.as_str()),
            None => spec,
        };
        vec![match self.nr {
            Some(number) => spec.with("nr", format!("{number:#x}")),
            None => spec,
        }]
    }
}
