//! Exit reasons: the kernel's own name, a class that Intel and AMD share, and what a person can do about it. In modules
//! of their own the names of what the drill-downs count, registers for instance.
//!
//! Everything here is pure: numbers in, words out. What has no name is left to the caller, who shows the number.

use std::borrow::Cow;
use std::fmt;

pub mod apic;
mod class;
pub mod cpuid;
pub mod gpa;
pub mod hypercall;
pub mod msr;
pub mod page_fault;
pub mod port;
pub mod reason_filter;
mod svm;
pub mod symbols;
pub mod user_exit;
mod vmx;

pub use class::Class;

/// One row of a vendor's table.
struct Reason {
    code: u32,
    /// As in the kernel's `VMX_EXIT_REASONS` or `SVM_EXIT_REASONS`.
    name: &'static str,
    class: Class,
}

/// Keeps the tables one line per reason.
const fn row(code: u32, name: &'static str, class: Class) -> Reason {
    Reason { code, name, class }
}

/// The tables are sorted by code (a test says so).
fn find(table: &'static [Reason], code: u32) -> Option<&'static Reason> {
    let at = table.binary_search_by_key(&code, |reason| reason.code).ok()?;
    table.get(at)
}

/// Which virtualization instruction set a `kvm_exit` event speaks of: its `isa` field
/// (`KVM_ISA_VMX` and `KVM_ISA_SVM` in the kernel's arch/x86/kvm/trace.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// 1: Intel VMX. TDX guests use it too, KVM translates their exits.
    Vmx,
    /// 2: AMD SVM.
    Svm,
    /// Anything else, e.g. 3 of the out-of-tree PVM. Its codes have no names here: the kernel's print format would
    /// take them for SVM's, which they are not.
    Other(u32),
}

impl Isa {
    /// From the event's `isa` field.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Self {
        match raw {
            1 => Self::Vmx,
            2 => Self::Svm,
            other => Self::Other(other),
        }
    }

    /// The event's `isa` field.
    #[must_use]
    pub const fn raw(self) -> u32 {
        match self {
            Self::Vmx => 1,
            Self::Svm => 2,
            Self::Other(raw) => raw,
        }
    }
}

impl fmt::Display for Isa {
    /// `vmx`, `svm`, or `isa3` and the like.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vmx => f.pad("vmx"),
            Self::Svm => f.pad("svm"),
            Self::Other(raw) => f.pad(&format!("isa{raw}")),
        }
    }
}

/// Why a guest left guest mode: the `exit_reason` field of `kvm_exit`, whole, with the instruction set it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExitReason {
    /// Whose code it is.
    pub isa: Isa,
    /// As the kernel reports it: for VMX with the flag bits, for SVM the low 32 bits of the exit code.
    pub code: u32,
}

impl ExitReason {
    /// A reason from the two fields of the event.
    #[must_use]
    pub const fn new(isa: Isa, code: u32) -> Self {
        Self { isa, code }
    }

    /// The reason without VMX's flag bits (Intel SDM vol. 3, "Format of Exit Reason": bits 15:0). SVM has none, so
    /// its code is returned as it is.
    #[must_use]
    pub const fn basic(self) -> u32 {
        match self.isa {
            Isa::Vmx => self.code & vmx::BASIC,
            Isa::Svm | Isa::Other(_) => self.code,
        }
    }

    /// The same reason without flags: what exits are grouped by.
    #[must_use]
    pub const fn without_flags(self) -> Self {
        Self { isa: self.isa, code: self.basic() }
    }

    fn entry(self) -> Option<&'static Reason> {
        match self.isa {
            Isa::Vmx => find(vmx::REASONS, self.basic()),
            Isa::Svm => find(svm::REASONS, self.code),
            Isa::Other(_) => None,
        }
    }

    /// The kernel's own name for that vendor, as in the print format of `kvm_exit` (the union of Linux 4.18 to
    /// 7.2; up to 5.4 VMX 7 was called `PENDING_INTERRUPT`), without flags. What has no name there is a number in the form in
    /// which the kernel's `__print_symbolic` shows it, `0x` and lower-case hexadecimal digits, for every vendor.
    #[must_use]
    pub fn name(self) -> Cow<'static, str> {
        match self.entry() {
            Some(reason) => Cow::Borrowed(reason.name),
            None => Cow::Owned(format!("{:#x}", self.basic())),
        }
    }

    /// Whether the kernel has a name for it.
    #[must_use]
    pub fn is_named(self) -> bool {
        self.entry().is_some()
    }

    /// VMX's flag bits that are set, lowest first; empty for other vendors. Bit 31 has the kernel's name
    /// `FAILED_VMENTRY`, the others are named after the fields of the kernel's `union vmx_exit_reason`, unknown ones
    /// `bit N`.
    #[must_use]
    pub fn flags(self) -> Vec<Cow<'static, str>> {
        match self.isa {
            Isa::Vmx => vmx::flags(self.code),
            Isa::Svm | Isa::Other(_) => Vec::new(),
        }
    }

    /// The vendor-neutral class. A failed VM entry is one whatever its reason.
    #[must_use]
    pub fn class(self) -> Class {
        match self.isa {
            Isa::Vmx if self.code & vmx::FAILED_VMENTRY != 0 => Class::EntryFailed,
            Isa::Vmx => self.entry().map_or_else(|| vmx::unnamed_class(self.basic()), |reason| reason.class),
            Isa::Svm => self.entry().map_or_else(|| svm::unnamed_class(self.code), |reason| reason.class),
            Isa::Other(_) => Class::Other,
        }
    }

    /// Whether the time until the next entry is the guest waiting for something to do rather than work done for it.
    ///
    /// True for HLT in all its forms. Not for MWAIT: KVM runs it as a no-op and enters the guest again at once
    /// (`kvm_emulate_mwait`), so time spent there is work.
    #[must_use]
    pub fn is_waiting(self) -> bool {
        self.class() == Class::Hlt
    }

    /// Every reason that has a name for `isa`, in the order of its codes.
    pub fn all(isa: Isa) -> impl Iterator<Item = Self> {
        let table: &[Reason] = match isa {
            Isa::Vmx => vmx::REASONS,
            Isa::Svm => svm::REASONS,
            Isa::Other(_) => &[],
        };
        table.iter().map(move |reason| Self::new(isa, reason.code))
    }
}

impl fmt::Display for ExitReason {
    /// The name and its flags, as the kernel prints them: `INVALID_STATE FAILED_VMENTRY`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.name().into_owned();
        for flag in self.flags() {
            text.push(' ');
            text.push_str(&flag);
        }
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests;
