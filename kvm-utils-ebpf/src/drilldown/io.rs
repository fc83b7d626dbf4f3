//! io: accesses to ports and to memory-mapped registers, and how long the exits took that they are part of.

use kvm_utils_common::{
    config::mode::{IO_PAGES, IO_TIMES},
    io::{
        DETAIL_PAGE, DETAIL_SIZE, EXIT_IO, EXIT_MMIO, KIND_MMIO_ASKED, KIND_MMIO_FAST, KIND_MMIO_READ,
        KIND_MMIO_WRITE, KIND_PORT_IN, KIND_PORT_OUT, MMIO_READ, MMIO_READ_UNSATISFIED, PAGE_OFFSET, PIO_OUT,
        is_plain,
    },
    rows::{RowKey, RowNoun},
};

use crate::{globals, hook::event::Fields, rows, vcpu};

/// The tracepoint kvm_pio: (rw, port, size, count).
#[inline(always)]
pub fn port([rw, port, size, units]: Fields) {
    let kind = if rw == PIO_OUT { KIND_PORT_OUT } else { KIND_PORT_IN };
    count(kind, size & DETAIL_SIZE, port, units);
}

/// The tracepoint kvm_mmio: (type, len, gpa).
#[inline(always)]
pub fn memory([access, size, address, _]: Fields) {
    let kind = if access == MMIO_READ_UNSATISFIED {
        KIND_MMIO_ASKED
    } else if access == MMIO_READ {
        KIND_MMIO_READ
    } else {
        KIND_MMIO_WRITE
    };
    at(kind, size & DETAIL_SIZE, address);
}

/// The tracepoint kvm_fast_mmio: (gpa).
#[inline(always)]
pub fn doorbell([address, ..]: Fields) {
    at(KIND_MMIO_FAST, 0, address);
}

#[inline(always)]
fn at(kind: u8, size: u64, address: u64) {
    if globals::MODE.load() & IO_PAGES != 0 || is_plain(address) {
        count(kind, size | DETAIL_PAGE, address & !PAGE_OFFSET, 1);
    } else {
        count(kind, size, address, 1);
    }
}

#[inline(always)]
fn count(kind: u8, detail: u64, a: u64, units: u64) {
    let mut current = vcpu::current();
    let row = rows::count(&mut current, RowKey::new(RowNoun::Io, kind, detail, a), units);
    // The answer to an unanswered read is an event of its own.
    if globals::MODE.load() & IO_TIMES != 0
        && kind != KIND_MMIO_ASKED
        && let Some(record) = &mut current.record
        && record.pending_since != 0
    {
        record.pending_row = row;
    }
}

/// The tracepoint kvm_userspace_exit: (reason, errno). It fires after the vCPU was taken off its thread.
#[inline(always)]
pub fn to_user([reason, errno, ..]: Fields) {
    if (reason == EXIT_IO || reason == EXIT_MMIO)
        && errno == 0
        && let Some(record) = vcpu::by_thread()
    {
        record.pending_user = 1;
    }
}
