//! The exits of one vCPU by reason.

/// Cells per vCPU.
pub const CELLS: usize = 256;

/// Histograms per vCPU, the first of which is not given out. A Linux guest makes 10 to 20 kinds of exits in its life.
pub const HISTS: usize = 32;

/// Codes below this have the cell of the same number: all of VMX (at most 77) and the low range of SVM (at most
/// 0xa5) in arch/x86/include/uapi/asm/{vmx,svm}.h.
pub const DIRECT_CODES: u64 = 0xd0;
/// First code of SVM's second range: 0x400 NPF, AVIC, VMGEXIT.
pub const SVM_HIGH_CODES: u64 = 0x400;
/// Number of codes of the second range that have a fixed cell, from [`DIRECT_CODES`] on.
pub const SVM_HIGH_COUNT: u64 = 8;
/// First of the cells that are given to any other code when it appears: flagged VMX reasons, SVM's software codes,
/// codes unknown to this tool.
pub const EXTRA_CELLS: u64 = DIRECT_CODES + SVM_HIGH_COUNT;
/// The cell of all codes that found no extra cell; its code is [`CODE_OTHER`].
pub const OTHER_CELL: u64 = CELLS as u64 - 1;

/// Pseudo code: reasons beyond the room for unusual ones.
pub const CODE_OTHER: u64 = 1 << 32;
/// Pseudo code: the reason could not be read.
pub const CODE_UNREADABLE: u64 = 2 << 32;

/// Numbers of one (vCPU, reason). `count` is written at the exit, the rest at the entry that ends it.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub struct ExitCell {
    /// Exits.
    pub count: u64,
    /// Exits whose duration is known.
    pub timed: u64,
    /// Sum of the durations, ns.
    pub total_ns: u64,
    /// Shortest duration, ns; meaningless while `timed` is 0.
    pub min_ns: u64,
    /// Longest duration, ns.
    pub max_ns: u64,
    /// The event's exit_reason, or a pseudo code above `u32::MAX`.
    pub code: u64,
    /// Index into the vCPU's histograms; 0 = none could be had.
    pub hist: u32,
    /// Room up to the next cache line.
    pub reserved: [u32; 3],
}

/// The fixed cell of an exit code, or `None` where it must be looked for among the extra cells.
#[inline(always)]
#[must_use]
pub const fn direct_cell(code: u64) -> Option<u64> {
    if code < DIRECT_CODES {
        Some(code)
    } else if code.wrapping_sub(SVM_HIGH_CODES) < SVM_HIGH_COUNT {
        Some(DIRECT_CODES + (code - SVM_HIGH_CODES))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn direct_cells_are_distinct_and_below_the_extra_ones() {
        let mut seen = [false; CELLS];
        for code in 0..0x10_0000 {
            if let Some(cell) = direct_cell(code) {
                assert!(cell < EXTRA_CELLS, "code {code:#x}");
                assert!(!seen[cell as usize], "code {code:#x}");
                seen[cell as usize] = true;
            }
        }
        assert!(seen[..EXTRA_CELLS as usize].iter().all(|s| *s));
        assert_eq!(direct_cell(0xffff_ffff), None);
        assert_eq!(direct_cell(0x8000_0021), None);
        assert_eq!(direct_cell(CODE_OTHER + 5), None);
        assert_eq!(direct_cell(CODE_UNREADABLE), None);
    }

    #[test]
    fn a_cell_is_one_cache_line() {
        assert_eq!(size_of::<ExitCell>(), 64);
        assert_eq!(core::mem::offset_of!(crate::vcpu::VcpuRecord, cells) % 64, 0);
    }
}
