//! What a person writes for an exit reason: the kernel's name, a class that both vendors share, or a number.

use super::{ExitReason, Isa};

/// Some exit reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReasonFilter {
    /// Those of this name (in any case) or class.
    Name(String),
    /// The one with this number, without VMX's flags.
    Number(u32),
}

impl ReasonFilter {
    /// Reads `io`, `EPT_VIOLATION`, `msr-write`, `0x400` or `30`.
    ///
    /// # Errors
    ///
    /// A sentence that says what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let number = match text.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        };
        if let Some(number) = number {
            return Ok(Self::Number(number));
        }
        let known =
            [Isa::Vmx, Isa::Svm].into_iter().flat_map(ExitReason::all).any(|reason| named(reason, text));
        if known {
            return Ok(Self::Name(text.to_owned()));
        }
        Err("no exit reason or class has this name; write what `kvm-utils exits` shows, for instance io, hlt, npf or \
             EPT_VIOLATION, or a number"
            .to_owned())
    }

    /// Whether this reason is meant.
    #[must_use]
    pub fn matches(&self, reason: ExitReason) -> bool {
        match self {
            Self::Name(name) => named(reason, name),
            Self::Number(number) => reason.basic() == *number,
        }
    }
}

fn named(reason: ExitReason, name: &str) -> bool {
    reason.name().eq_ignore_ascii_case(name) || reason.class().id() == name
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reasons_are_meant_by_name_class_or_number() {
        let hlt = [ExitReason::new(Isa::Vmx, 12), ExitReason::new(Isa::Svm, 0x78)];
        let violation = ExitReason::new(Isa::Vmx, 48);
        for text in ["hlt", "HLT"] {
            let filter = ReasonFilter::parse(text).unwrap();
            assert!(hlt.iter().all(|reason| filter.matches(*reason)), "{text}");
            assert!(!filter.matches(violation));
        }
        for text in ["ept", "EPT_VIOLATION", "ept_violation", "48", "0x30"] {
            assert!(ReasonFilter::parse(text).unwrap().matches(violation), "{text}");
        }
        // With the flag for a failed entry.
        assert!(ReasonFilter::parse("33").unwrap().matches(ExitReason::new(Isa::Vmx, 0x8000_0021)));
        assert!(ReasonFilter::parse("hallt").unwrap_err().contains("kvm-utils exits"));
    }

    proptest! {
        #[test]
        fn any_text_gives_a_filter_or_a_sentence(text in "\\PC*", isa in 0u32..4, code in any::<u32>()) {
            if let Ok(filter) = ReasonFilter::parse(&text) {
                let _ = filter.matches(ExitReason::new(Isa::from_raw(isa), code));
            }
        }
    }
}
