//! Keys of the noun rip.

use crate::rows::{RowKey, RowNoun};

/// Kind: exits. [`RowKey::a`] is the guest's instruction pointer, the detail is the reason, with the instruction set above
/// its 32 bits.
pub const KIND_EXIT: u8 = 0;

/// The key of an exit, from the fields of the event.
#[inline(always)]
#[must_use]
pub const fn key(isa: u32, reason: u32, rip: u64) -> RowKey {
    RowKey::new(RowNoun::Rip, KIND_EXIT, reason as u64 | (isa as u64) << 32, rip)
}

/// Instruction set and reason of a key.
#[must_use]
pub const fn isa_and_reason(key: RowKey) -> (u32, u32) {
    ((key.detail() >> 32) as u32, key.detail() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_the_flags_of_a_reason() {
        let key = key(1, 0x8000_0021, 0xffff_ffff_8100_1234);
        assert_eq!((isa_and_reason(key), key.a), ((1, 0x8000_0021), 0xffff_ffff_8100_1234));
    }
}
