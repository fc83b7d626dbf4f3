//! `kvm-utils rip`: where in the guests exits happen.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args as ClapArgs, builder::PossibleValuesParser};

use super::{
    options::{Common, HOW, TRUST, WHAT},
    trace::{self, Plan},
};
use crate::{
    bpf::source::SourceChoice,
    decode::{reason_filter::ReasonFilter, symbols::Symbols},
    drilldown::{
        noun::Aids,
        rip::{COLUMNS, NOUN},
    },
    error::Failure,
};

/// Larger than any kernel's list of symbols.
const MOST_BYTES: u64 = 1 << 28;

/// Count exits by the guest's instruction pointer
///
/// Shows which instructions of the guests exit, by reason. Lines with the address `all` are sums. With the guest's
/// symbols, the functions that these instructions are in. SPACE goes by the address alone: `kernel` is the upper half of
/// the address space, `user` the lower one, where programs run, but boot loaders and firmware as well.
#[derive(ClapArgs, Debug)]
#[command(after_help = concat!("Examples:
  kvm-utils rip                            all VMs, live
  kvm-utils rip --vm web-1 -d 10s          ten seconds of one VM
  kvm-utils rip --reason io --reason msr   only these reasons
  kvm-utils rip --symbols guest.kallsyms   with names of the guest's functions

Symbols: as root in the guest, cat /proc/kallsyms >guest.kallsyms, each time it
has booted. Its kernel's System.map will do if the guest was started with
nokaslr; if not, add --symbols-offset: the address of _text in the guest's
/proc/kallsyms less that in System.map.

A Linux guest from its start on, some rows of kvm-utils rip --summary --symbols:
  RIP                 REASON         COUNT       /s  SHARE  SYMBOL
  all                 msr            4,989      142  24.5%  -
      11 addresses, <0.1 % in user space
  0xffffffff8107e914  msr            4,295      122  21.1%  native_write_msr+0x4
  0xffffffff81a4e8ca  hlt            1,527       43   7.5%  native_safe_halt+0xa
  0x40f2e8            cpuid          1,331       38   6.5%  -

", super::exit_codes!()))]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Sort rows by this column
    #[arg(long, value_name = "COLUMN", default_value = "count", help_heading = HOW,
          value_parser = PossibleValuesParser::new(COLUMNS.iter().map(|column| column.id)))]
    sort: String,
    /// How to read the numbers.
    #[command(flatten)]
    reading: Reading,
    /// How to learn of vCPUs; where they are is always read from the classic tracepoint
    #[arg(long, value_name = "SOURCE", value_enum, default_value = "auto", help_heading = TRUST)]
    source: SourceChoice,
}

/// What is given for reading the numbers.
#[derive(ClapArgs, Clone, Debug)]
pub struct Reading {
    /// Show only exits for this reason: its name, its class, or a number; may be given several times
    #[arg(long = "reason", value_name = "NAME", value_parser = ReasonFilter::parse, help_heading = WHAT)]
    reasons: Vec<ReasonFilter>,
    /// The guest's /proc/kallsyms, or System.map
    #[arg(long, value_name = "FILE", help_heading = HOW)]
    symbols: Option<PathBuf>,
    /// Add this to the addresses in FILE, hexadecimal
    #[arg(long, value_name = "OFFSET", value_parser = offset, allow_hyphen_values = true, requires = "symbols",
          default_value = "0", hide_default_value = true, help_heading = HOW)]
    symbols_offset: u64,
}

impl Reading {
    /// What to read the numbers with.
    ///
    /// # Errors
    ///
    /// If the symbols cannot be read.
    pub fn aids(&self) -> Result<Aids, Failure> {
        let symbols = match &self.symbols {
            Some(path) => Some(read(path)?.moved(self.symbols_offset)),
            None => None,
        };
        Ok(Aids { symbols, reasons: self.reasons.clone() })
    }
}

/// Traces until told to stop.
///
/// # Errors
///
/// With cause and remedy.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let aids = args.reading.aids()?;
    let plan = Plan { noun: &NOUN, sort: &args.sort, source: args.source };
    trace::run_with(&args.common, &plan, |session| session.set_aids(aids))
}

fn read(path: &Path) -> Result<Symbols, Failure> {
    let failure =
        |why: String| Failure::usage(format!("cannot use the symbols in {}: {why}", path.display()));
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|e| failure(e.to_string()))?;
    file.take(MOST_BYTES).read_to_end(&mut bytes).map_err(|e| failure(e.to_string()))?;
    // Names in it are ASCII; a stray byte elsewhere is no reason to refuse it.
    Symbols::parse(&String::from_utf8_lossy(&bytes)).map_err(|e| failure(e.to_string()))
}

/// Parses `1b600000`, `0x1b600000`, `-0x200000`.
fn offset(text: &str) -> Result<u64, String> {
    let (minus, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    let number = if digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        u64::from_str_radix(digits, 16).ok()
    } else {
        None
    };
    let number = number.ok_or("this is no offset; write a hexadecimal number, like 0x1b600000")?;
    Ok(if minus { number.wrapping_neg() } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_hexadecimal_and_may_be_negative() {
        assert_eq!(offset("0x1b600000"), Ok(0x1b60_0000));
        assert_eq!(offset("1b600000"), Ok(0x1b60_0000));
        assert_eq!(offset("-0x200000").map(|offset| offset.wrapping_add(0x200_000)), Ok(0));
        for bad in ["", "-", "0x", "+1", "--1", "1g", "0x10000000000000000"] {
            assert!(offset(bad).is_err(), "{bad}");
        }
    }
}
