//! Names of model-specific registers (MSRs).
//!
//! Spelled as people search for them: `IA32_...` and `MSR_...` as in Intel's manual, where the kernel's name is
//! `MSR_IA32_...`; AMD's as in the kernel's arch/x86/include/asm/msr-index.h; those of hypervisors as in their own
//! interface; x2APIC's registers as `x2APIC_...`. Numbers are constants of the `x86` crate where it has them, else
//! from the source that each table names.

use std::borrow::Cow;

use super::Isa;

mod amd;
mod common;
mod intel;
mod synthetic;
mod x2apic;

#[cfg(test)]
mod tests;

/// One register.
struct Msr {
    index: u32,
    name: &'static str,
}

/// Keeps the tables one line per register.
const fn row(index: u32, name: &'static str) -> Msr {
    Msr { index, name }
}

/// Registers that differ by a number in their name: the n-th (from 0) has the index `first + n * step` and is called
/// `before`, n, `after`.
struct Run {
    first: u32,
    step: u32,
    count: u32,
    before: &'static str,
    after: &'static str,
}

/// Keeps the tables one line per run.
const fn run(first: u32, step: u32, count: u32, before: &'static str, after: &'static str) -> Run {
    Run { first, step, count, before, after }
}

impl Run {
    /// Which one of the run this index is.
    fn position(&self, index: u32) -> Option<u32> {
        let distance = index.checked_sub(self.first)?;
        let n = distance / self.step;
        (distance % self.step == 0 && n < self.count).then_some(n)
    }
}

/// Registers of one kind. No index has two names within a set (a test says so).
struct Set {
    /// Sorted by index (a test says so).
    registers: &'static [Msr],
    runs: &'static [Run],
}

impl Set {
    fn name(&self, index: u32) -> Option<Cow<'static, str>> {
        if let Ok(at) = self.registers.binary_search_by_key(&index, |msr| msr.index) {
            return self.registers.get(at).map(|msr| Cow::Borrowed(msr.name));
        }
        self.runs.iter().find_map(|run| {
            let n = run.position(index)?;
            Some(Cow::Owned(format!("{}{n}{}", run.before, run.after)))
        })
    }
}

/// The name of the register `index` (the guest's ECX at RDMSR or WRMSR).
///
/// `isa` is the host's. It decides where Intel and AMD use one index for different registers or under different names;
/// without it (or with one that is neither) such an index has the older name. A register that only the other vendor
/// has is named all the same: guests try them, and KVM answers for some.
#[must_use]
pub fn name(index: u32, isa: Option<Isa>) -> Option<Cow<'static, str>> {
    const ANY: [&Set; 3] = [&synthetic::SET, &x2apic::SET, &common::SET];
    let any = || ANY.into_iter().find_map(|set| set.name(index));
    let intel = || intel::SET.name(index);
    let amd = || amd::SET.name(index);
    match isa {
        Some(Isa::Vmx) => intel().or_else(any).or_else(amd),
        Some(Isa::Svm) => amd().or_else(any).or_else(intel),
        // Intel's and AMD's own sets have no index in common (a test says so).
        Some(Isa::Other(_)) | None => any().or_else(intel).or_else(amd),
    }
}
