//! Where this kernel keeps its preemption counter, whose bits tell whether an interrupt is being dealt with.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use super::files::BtfFiles;

/// The kernel's symbols and where they are.
pub const KALLSYMS: &str = "/proc/kallsyms";

/// Addresses in the running kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreemptCount {
    /// `__per_cpu_offset[]`: what to add, by CPU, to a per-CPU variable's address (arch/x86/kernel/setup_percpu.c).
    pub per_cpu_offsets: u64,
    /// `__preempt_count` or `pcpu_hot.preempt_count`, 4 bytes, before that (arch/x86/include/asm/preempt.h).
    pub address: u64,
}

/// What kernels have that count other things in bits 16 to 23 of the counter: interrupts disabled. Which of its bits say that
/// one is being dealt with is not known of them.
const OTHER_BITS: [&str; 3] = ["_raw_spin_lock_irq_disable", "local_interrupt_disable_state", "nmi_nesting"];

impl PreemptCount {
    /// Looks among the symbols of the running kernel; `None` where it does not show them, or has the counter elsewhere.
    #[must_use]
    pub fn find(btf: &Path) -> Option<Self> {
        let symbols = BufReader::new(File::open(KALLSYMS).ok()?);
        let in_hot = || {
            let files = BtfFiles::read(btf).ok()?;
            let member = files.base().ok()?.member_offset("pcpu_hot", "preempt_count").ok()?;
            (member.size == 4).then_some(member.offset)
        };
        Self::among(symbols, in_hot).ok().flatten()
    }

    /// `in_hot` tells where the counter lies in the `struct pcpu_hot`, if that is asked.
    fn among(mut symbols: impl BufRead, in_hot: impl Fn() -> Option<u32>) -> io::Result<Option<Self>> {
        let (mut offsets, mut count, mut hot) = (None, None, None);
        let mut line = Vec::new();
        loop {
            line.clear();
            if symbols.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            let mut words = line.split(u8::is_ascii_whitespace);
            let (Some(address), Some(_), Some(name)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            let found = match name {
                b"__per_cpu_offset" => &mut offsets,
                b"__preempt_count" => &mut count,
                b"pcpu_hot" => &mut hot,
                _ if OTHER_BITS.iter().any(|other| other.as_bytes() == name) => return Ok(None),
                _ => continue,
            };
            // Zeros are what a reader without privileges is shown.
            *found = std::str::from_utf8(address)
                .ok()
                .and_then(|text| u64::from_str_radix(text, 16).ok())
                .filter(|at| *at != 0);
        }
        let address = match (count, hot) {
            (Some(count), _) => Some(count),
            (None, Some(hot)) => in_hot().map(|offset| hot + u64::from(offset)),
            (None, None) => None,
        };
        Ok(offsets.zip(address).map(|(per_cpu_offsets, address)| Self { per_cpu_offsets, address }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn among(symbols: &str) -> Option<PreemptCount> {
        PreemptCount::among(symbols.as_bytes(), || Some(8)).unwrap()
    }

    #[test]
    fn three_generations_of_kernels() {
        // 5.10, 6.12, 7.2
        let old = "000000000001fb80 A __preempt_count\nffffffff82181920 D __per_cpu_offset\n";
        assert_eq!(
            among(old),
            Some(PreemptCount { per_cpu_offsets: 0xffff_ffff_8218_1920, address: 0x1_fb80 })
        );
        let hot = "00000000000351c0 A pcpu_hot\nffffffff825f9e20 D __per_cpu_offset\n";
        assert_eq!(among(hot).map(|found| found.address), Some(0x3_51c8));
        let new = "ffffffff82b380e0 D __per_cpu_offset\nffffffff83e24030 D __preempt_count\n\
                   ffffffffc0a00000 t kvm_init\t[kvm]\n";
        assert_eq!(among(new).map(|found| found.address), Some(0xffff_ffff_83e2_4030));
    }

    #[test]
    fn nothing_is_guessed() {
        let symbols = "0000000000000000 A __preempt_count\n0000000000000000 D __per_cpu_offset\n";
        assert_eq!(among(symbols), None);
        assert_eq!(among("000000000001fb80 A __preempt_count\n"), None);
        let other = "ffffffff82b380e0 D __per_cpu_offset\nffffffff83e24030 D __preempt_count\n\
                     ffffffff83e24034 D nmi_nesting\n";
        assert_eq!(among(other), None);
        assert_eq!(among(""), None);
    }
}
