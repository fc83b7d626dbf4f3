//! Rows: what drill-downs count, per vCPU and key.
//!
//! A vCPU has a table of its own, an open-addressed part of the `ROWS` map, written only by the CPU that runs it. Keys that
//! find no place there go to the hash map `MORE_ROWS`, together with events that happen on no vCPU's thread; keys that find
//! no place there either are counted in [`crate::vcpu::VcpuRecord::other`]. No event goes uncounted.

/// Nouns that count rows. The number is the upper byte of [`RowKey::b`], so it is never 0.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowNoun {
    /// Accesses to model-specific registers.
    Msr = 1,
    /// Port and memory-mapped I/O.
    Io = 2,
    /// CPUID.
    Cpuid = 3,
    /// Hypercalls.
    Hypercall = 4,
    /// Nested page faults.
    Fault = 5,
    /// Halts and halt polling.
    Halt = 6,
    /// Interrupts.
    Irq = 7,
    /// Guest instruction pointers.
    Rip = 8,
    /// What user space is asked for.
    User = 9,
}

/// One more than the greatest [`RowNoun`].
pub const NOUNS: usize = 10;

/// Most of a vCPU's own table, as a power of two.
pub const MOST_ROW_BITS: u32 = 14;
/// Rows looked at for a key before `MORE_ROWS` is asked.
pub const PROBES: u64 = 8;

/// What a row is about.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// Whatever the noun looks at: an MSR's index, a port, an address.
    pub a: u64,
    /// Noun in bits 63:56, the noun's own kind in 55:48, its details below; 0 only in a row that is free.
    pub b: u64,
}

impl RowKey {
    /// A key of `noun`, of the noun's kind `kind`, with `detail` below 2^48.
    #[inline(always)]
    #[must_use]
    pub const fn new(noun: RowNoun, kind: u8, detail: u64, a: u64) -> Self {
        Self { a, b: ((noun as u64) << 56) | ((kind as u64) << 48) | (detail & DETAIL) }
    }

    /// Number of the [`RowNoun`].
    #[inline(always)]
    #[must_use]
    pub const fn noun(self) -> u8 {
        (self.b >> 56) as u8
    }

    /// The noun's own kind.
    #[must_use]
    pub const fn kind(self) -> u8 {
        (self.b >> 48) as u8
    }

    /// What the noun put there.
    #[must_use]
    pub const fn detail(self) -> u64 {
        self.b & DETAIL
    }
}

const DETAIL: u64 = (1 << 48) - 1;

/// Numbers of one (vCPU, key).
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub struct RowCell {
    /// See [`RowKey`].
    pub key: RowKey,
    /// Events.
    pub count: u64,
    /// A second number, whose meaning is the noun's.
    pub extra: u64,
    /// Events whose exit's duration is known.
    pub timed: u64,
    /// Sum of those durations, ns.
    pub total_ns: u64,
    /// Longest of them, ns.
    pub max_ns: u64,
    /// Of those exits, how many went to user space.
    pub user: u64,
}

/// Stands for a process in [`MoreKey::tgid`] and in the map `CROWDS` where an event came in an interrupt, which has nothing to
/// do with the thread that it came upon. The threads of this process, 0, only idle.
pub const INTERRUPTS: u32 = 0;

/// Key of `MORE_ROWS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MoreKey {
    /// Record of the vCPU; 0 = the event happened on no vCPU's thread.
    pub slot: u32,
    /// Process on whose thread it happened, in the initial pid namespace, or [`INTERRUPTS`]; 0 where `slot` is not.
    pub tgid: u32,
    /// What it is about.
    pub key: RowKey,
}

/// Value of `MORE_ROWS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MoreRow {
    /// Events.
    pub count: u64,
    /// As [`RowCell::extra`].
    pub extra: u64,
}

/// Where in a table of `1 << bits` rows the search for a key begins. Fibonacci hashing (Knuth, TAOCP volume 3, 6.4).
#[inline(always)]
#[must_use]
pub const fn home(key: RowKey) -> u64 {
    const PHI: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = (key.a ^ key.b.rotate_left(17)).wrapping_mul(PHI);
    mixed >> 40
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_its_parts() {
        let key = RowKey::new(RowNoun::Io, 3, 0x1234_5678_9abc, 0xfee0_0000);
        assert_eq!((key.noun(), key.kind(), key.detail()), (2, 3, 0x1234_5678_9abc));
        assert_ne!(RowKey::new(RowNoun::Msr, 0, 0, 0).b, 0);
        assert_eq!(RowKey::new(RowNoun::Msr, 0, u64::MAX, 0).noun(), 1);
    }

    #[test]
    fn a_row_is_one_cache_line() {
        assert_eq!(size_of::<RowCell>(), 64);
        assert!((RowNoun::User as usize) < NOUNS);
    }

    #[test]
    fn neighbours_do_not_crowd_a_table() {
        // Consecutive ports, registers or pages, as guests use them: few tables of 256 rows need more than PROBES.
        let mut table = [false; 256];
        let mut homeless = 0;
        for a in 0..128 {
            let home = home(RowKey::new(RowNoun::Io, 0, 1, 0xc000 + a));
            match (0..PROBES).map(|i| ((home + i) & 255) as usize).find(|i| !table[*i]) {
                Some(free) => table[free] = true,
                None => homeless += 1,
            }
        }
        assert!(homeless <= 4, "{homeless} of 128");
    }
}
