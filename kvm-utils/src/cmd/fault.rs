//! `kvm-utils fault`: which pages of guests' memory fault.

use std::{fs, process::ExitCode};

use clap::{Args as ClapArgs, builder::PossibleValuesParser};

use super::{
    options::{Common, HOW, TRUST},
    trace::{self, Plan},
};
use crate::{
    bpf::source::SourceChoice,
    drilldown::fault::{COLUMNS, NOUN},
    error::Failure,
    host::SysRoot,
};

/// Count nested page faults by guest page
///
/// Shows which pages of the guests' physical memory were not mapped for what the guests did: reading, writing or fetching
/// instructions, in RAM or in the memory of a device. Lines with the page `all` are sums. A fault in RAM comes once for
/// each page that the guest touches first, and again when the host takes the page away or protects it (ballooning, swapping,
/// merging, migration).
#[derive(ClapArgs, Debug)]
#[command(after_help = concat!("Examples:
  kvm-utils fault                    all VMs, live
  kvm-utils fault --vm web-1 -d 10s  ten seconds of one VM
  kvm-utils fault --top 1000 -o csv  the thousand pages that fault most

A Linux guest from its start on, the first rows of kvm-utils fault --summary:
  PAGE              ACCESS  MEMORY      COUNT       /s  SHARE  DEVICE
  all               write   MMIO          738       30  49.5%  -
      2 pages
  0xfec00000        write   MMIO          693       28  46.5%  IOAPIC
  all               read    MMIO          373       15  25.0%  -
      3 pages
  all               read    RAM           330       13  22.1%  -
      330 pages

", super::exit_codes!()))]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Sort rows by this column
    #[arg(long, value_name = "COLUMN", default_value = "count", help_heading = HOW,
          value_parser = PossibleValuesParser::new(COLUMNS.iter().map(|column| column.id)))]
    sort: String,
    /// How to learn of them
    #[arg(long, value_name = "SOURCE", value_enum, default_value = "auto", help_heading = TRUST)]
    source: SourceChoice,
}

/// Traces until told to stop.
///
/// # Errors
///
/// With cause and remedy.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(parameter) = shadow_paging(&SysRoot::default()) {
        let why = format!(
            "KVM uses no nested paging here ({parameter} is off), so that page faults are those of the guests' own page \
             tables; `kvm-utils exits` counts them, or load the module with {parameter}=1"
        );
        return Err(Failure::host(why).into());
    }
    trace::run(&args.common, &Plan { noun: &NOUN, sort: &args.sort, source: args.source })
}

/// The module's parameter that switches nested paging off, where it does.
fn shadow_paging(root: &SysRoot) -> Option<&'static str> {
    let off = |parameter: &str| {
        let path = root.path(format!("/sys/module/{}", parameter.replace('.', "/parameters/")));
        fs::read_to_string(path).is_ok_and(|value| matches!(value.trim(), "N" | "0"))
    };
    ["kvm_amd.npt", "kvm_intel.ept"].into_iter().find(|parameter| off(parameter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shadow_paging_is_found_in_the_modules_parameters() {
        let dir = tempfile::tempdir().unwrap();
        let root = SysRoot::at(dir.path());
        assert_eq!(shadow_paging(&root), None);
        let parameters = dir.path().join("sys/module/kvm_intel/parameters");
        fs::create_dir_all(&parameters).unwrap();
        fs::write(parameters.join("ept"), "Y\n").unwrap();
        assert_eq!(shadow_paging(&root), None);
        fs::write(parameters.join("ept"), "N\n").unwrap();
        assert_eq!(shadow_paging(&root), Some("kvm_intel.ept"));
    }
}
