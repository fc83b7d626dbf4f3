//! CPUID. Its EBX belongs to the compiler, which `__cpuid_count` minds.

use std::arch::x86_64::__cpuid_count;
use std::hint::black_box;

use super::{Noun, Refusal, Simple, Spec};

pub(super) const NOUN: Noun = Noun {
    name: "cpuid",
    usual: || vec![Spec::new("cpuid")],
    open: |spec, _| {
        let (leaf, subleaf) = (spec.number("leaf", 0)?, spec.number("subleaf", 0)?);
        let narrow = |value: u64| {
            u32::try_from(value)
                .map_err(|_| Refusal::new(format!("{value:#x} is no leaf"), "leaves have 32 bits"))
        };
        let (leaf, subleaf) = (narrow(leaf)?, narrow(subleaf)?);
        Ok(Box::new(Simple(move || {
            black_box(__cpuid_count(black_box(leaf), black_box(subleaf)));
        })))
    },
};
