//! The stream of exits: a record of each exit that is over, for those who ask for them one by one. It says nothing that the
//! counters do not know, and it may have gaps, which are counted: see [`crate::vcpu::VcpuRecord::events_lost`].

/// An exit that is over, as the programs put it into the ring buffer `EVENTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitEvent {
    /// When the vCPU left the guest, `bpf_ktime_get_ns()`.
    pub began_ns: u64,
    /// Time until it entered it again, ns: what was added to [`crate::exits::ExitCell::total_ns`].
    pub took_ns: u64,
    /// As [`crate::exits::ExitCell::code`].
    pub code: u64,
    /// Index of the vCPU's record. It is given to another vCPU only when user space has read all events up to then.
    pub slot: u32,
    /// As [`crate::vcpu::VcpuRecord::isa`].
    pub isa: u32,
}

/// Bytes of an [`ExitEvent`].
pub const EVENT_BYTES: usize = size_of::<ExitEvent>();
/// Bytes that it takes in the ring buffer: the kernel puts a header before each record (`BPF_RINGBUF_HDR_SZ`,
/// include/uapi/linux/bpf.h).
pub const EVENT_BYTES_IN_RING: usize = EVENT_BYTES + 8;

impl ExitEvent {
    /// From the bytes that a program wrote.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; EVENT_BYTES]) -> Self {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_ne_bytes(word)
        };
        let last = word(24);
        Self {
            began_ns: word(0),
            took_ns: word(8),
            code: word(16),
            // x86-64 is little-endian: the first of the two is the lower half.
            slot: last as u32,
            isa: (last >> 32) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_as_it_lies_in_memory() {
        let event = ExitEvent {
            began_ns: 0x0102_0304_0506_0708,
            took_ns: u64::MAX - 1,
            code: 2 << 32,
            slot: 7,
            isa: 0x8000_0002,
        };
        // SAFETY: five integers without padding between them.
        let bytes: [u8; EVENT_BYTES] = unsafe { core::mem::transmute(event) };
        assert_eq!(ExitEvent::from_bytes(&bytes), event);
        assert_eq!(EVENT_BYTES % 8, 0, "the ring buffer aligns records to 8 bytes");
    }
}
