//! A hypercall with a number that nobody knows. From ring 3 KVM refuses any, after the same way out and in.

use std::arch::asm;

use super::{Noun, Opened, Refusal, Simple, Spec};
use crate::cpu::{self, Vendor};

/// Not in include/uapi/linux/kvm_para.h.
const UNKNOWN: u64 = 0x4b56_4d55;

pub(super) const NOUN: Noun =
    Noun { name: "hypercall", usual: || vec![Spec::new("hypercall")], open: |spec, _| open(spec) };

fn open(spec: &Spec) -> Opened {
    let number = spec.number("nr", UNKNOWN)?;
    if cpu::hypervisor().is_none() {
        return Err(Refusal::new("no hypervisor shows itself in CPUID", "run this in a guest"));
    }
    let vendor = match spec.text("vendor")? {
        None => cpu::vendor(),
        Some("amd") => Vendor::Amd,
        Some("intel") => Vendor::Intel,
        Some(other) => return Err(Refusal::new(format!("{other} has no hypercall"), "use intel or amd")),
    };
    match vendor {
        // KVM rewrites the other vendor's instruction, which ring 3 cannot have done.
        Vendor::Amd => Ok(Box::new(Simple(move || {
            // SAFETY: a hypercall with a number that the hypervisor does not know returns an error in rax.
            unsafe { asm!("vmmcall", inout("rax") number => _, options(nostack)) };
        }))),
        Vendor::Intel => Ok(Box::new(Simple(move || {
            // SAFETY: as above.
            unsafe { asm!("vmcall", inout("rax") number => _, options(nostack)) };
        }))),
        Vendor::Other => Err(Refusal::new("the processor is neither Intel's nor AMD's", "nothing helps")),
    }
}
