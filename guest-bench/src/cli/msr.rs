//! `kvm-bench msr`.

use clap::Args;

use super::Spec;
use crate::ops::msr;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// This register instead of the usual ones, by name or number, such as power_ctl or 0x1fc; may be repeated
    #[arg(long, value_name = "MSR", value_parser = register)]
    index: Vec<String>,
    /// Write instead: what the register holds. The kernel notes it in its log and is marked as tainted
    #[arg(long)]
    write: bool,
}

impl Options {
    pub(super) fn specs(&self) -> Vec<Spec> {
        let usual: &[&str] = if self.write { &msr::WRITTEN } else { &[] };
        if self.index.is_empty() && usual.is_empty() {
            return super::usual("msr");
        }
        let names = if self.index.is_empty() {
            usual.iter().map(|name| (*name).to_owned()).collect()
        } else {
            self.index.clone()
        };
        let op = if self.write { "msr:write" } else { "msr:read" };
        names.into_iter().map(|name| Spec::new(op).with("msr", name)).collect()
    }
}

/// A register by its name, if it has one.
fn register(text: &str) -> Result<String, String> {
    let number =
        msr::names::number(text).ok_or("give a name such as power_ctl, or a number such as 0x1fc")?;
    Ok(msr::names::name(number))
}
