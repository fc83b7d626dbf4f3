//! The stream of exits: each one that is over, told as it is. It comes on top of counting and is no part of it.

use aya_ebpf::{bindings::BPF_RB_NO_WAKEUP, macros::map, maps::RingBuf};
use kvm_utils_common::{stream::ExitEvent, vcpu::VcpuRecord};

/// A page, until user space asks for events and for more room.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Tells of the pending exit that it is over. Nobody is woken up: that would cost an interrupt per event. User space comes to
/// look.
#[inline(always)]
pub fn tell(record: &mut VcpuRecord, code: u64, took_ns: u64) {
    // Read again: who keeps it at hand until here pays for that where nothing is told.
    // SAFETY: a whole aligned word of the record.
    let began_ns = unsafe { (&raw const record.pending_since).read_volatile() };
    // Two calls of the kernel, and yet fewer instructions than the one that copies.
    match EVENTS.reserve::<ExitEvent>(0) {
        Some(mut entry) => {
            entry.write(ExitEvent { began_ns, took_ns, code, slot: record.slot, isa: record.isa });
            entry.submit(u64::from(BPF_RB_NO_WAKEUP));
        }
        // Written by the CPU that runs the vCPU only, as all of the record.
        None => record.events_lost += 1,
    }
}
