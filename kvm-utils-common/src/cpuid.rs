//! Keys of the noun cpuid.

use crate::rows::{RowKey, RowNoun};

/// Kind: queries. [`RowKey::a`] is the leaf, with the subleaf in its upper half; the detail is made of the `DETAIL_*` bits.
pub const KIND_QUERY: u8 = 0;

/// The VMM gave the guest an answer for this leaf and subleaf.
pub const DETAIL_FOUND: u64 = 1 << 0;
/// It did not, and the guest got what the highest basic leaf says, as on Intel's processors.
pub const DETAIL_MAX_BASIC: u64 = 1 << 1;

/// Whether a leaf has no subleaves, so that whatever the guest left in ECX is of no meaning (and may differ each time):
/// Intel SDM volume 2, CPUID, table 3-17; AMD APM volume 3, appendix E. Leaves that are not known to be such have some.
#[inline(always)]
#[must_use]
pub const fn has_no_subleaf(leaf: u32) -> bool {
    /// A bit for each of the leaves 0 to 0x1f, and for those from 0x8000_0000 on.
    const BASIC: u32 = bits(&[0x0, 0x1, 0x2, 0x3, 0x5, 0x6, 0x8, 0x9, 0xa, 0x11, 0x13, 0x15, 0x16]);
    const EXTENDED: u32 = bits(&[
        0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x0a, 0x19, 0x1a, 0x1b, 0x1c, 0x1e, 0x1f,
    ]);
    let low = leaf & 0x1f;
    match leaf & !0x1f {
        0 => BASIC >> low & 1 != 0,
        0x8000_0000 => EXTENDED >> low & 1 != 0,
        // Where guests look for a hypervisor, 0x4000_0000, 0x4000_0100 and so on: its signature and the next leaf.
        _ => leaf & 0xffff_00fe == 0x4000_0000,
    }
}

const fn bits(leaves: &[u32]) -> u32 {
    let (mut all, mut i) = (0, 0);
    while i < leaves.len() {
        all |= 1 << leaves[i];
        i += 1;
    }
    all
}

/// The key of a query.
#[inline(always)]
#[must_use]
pub const fn key(leaf: u32, subleaf: u32, found: bool, max_basic: bool) -> RowKey {
    let subleaf = if has_no_subleaf(leaf) { 0 } else { subleaf };
    let detail = if found { DETAIL_FOUND } else { 0 } | if max_basic { DETAIL_MAX_BASIC } else { 0 };
    RowKey::new(RowNoun::Cpuid, KIND_QUERY, detail, leaf as u64 | (subleaf as u64) << 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_left_in_ecx_makes_no_rows_of_its_own() {
        assert_eq!(key(1, 7, true, false), key(1, 0xdead_beef, true, false));
        assert_eq!(key(0x8000_0008, 7, true, false), key(0x8000_0008, 0, true, false));
        assert_eq!(key(0x4000_0100, 0x87, false, false), key(0x4000_0100, 0, false, false));
        assert_ne!(key(4, 1, true, false), key(4, 2, true, false));
        assert_ne!(key(0x8000_001d, 1, true, false), key(0x8000_001d, 2, true, false));
        // Nobody knows these: they keep what was asked.
        for leaf in [0x20, 0x24, 0x4000_0003, 0x4001_0000, 0x8000_0020, 0x8000_0026, 0xc000_0000] {
            assert_ne!(key(leaf, 1, false, false), key(leaf, 0, false, false), "{leaf:#x}");
        }
        assert_ne!(key(4, 1, true, false), key(4, 1, false, true));
    }
}
