//! Keys of the noun io.

/// Kind: reads of a port. [`crate::rows::RowKey::a`] is the port, the detail the size of a unit in bytes, and the row's
/// extra number the units transferred: a string instruction transfers several in one event.
pub const KIND_PORT_IN: u8 = 0;
/// Kind: writes to a port, as [`KIND_PORT_IN`].
pub const KIND_PORT_OUT: u8 = 1;
/// Kind: reads of memory that is no memory. `a` is the guest-physical address, the detail the size in bytes, with
/// [`DETAIL_PAGE`] where `a` is the page's address; the extra number is the units, one each.
pub const KIND_MMIO_READ: u8 = 2;
/// Kind: writes, as [`KIND_MMIO_READ`].
pub const KIND_MMIO_WRITE: u8 = 3;
/// Kind: reads that the kernel could not answer, as [`KIND_MMIO_READ`]. They say more of reads: each is followed by one of
/// [`KIND_MMIO_READ`] once the VMM has answered (`emulator_read_write`, arch/x86/kvm/x86.c).
pub const KIND_MMIO_ASKED: u8 = 4;
/// Kind: writes that only ring an ioeventfd, of which KVM does not look at size and value (`kvm_fast_mmio`). As
/// [`KIND_MMIO_WRITE`] with size 0.
pub const KIND_MMIO_FAST: u8 = 5;

/// Bits of the detail that hold the size in bytes.
pub const DETAIL_SIZE: u64 = 0xffff;
/// Detail: the address is that of the page, whatever was accessed in it.
pub const DETAIL_PAGE: u64 = 1 << 16;
/// Bits of an address that lie within a page.
pub const PAGE_OFFSET: u64 = 0xfff;

/// Whether what is at this guest-physical address is counted by page in any case, because it is no registers but a memory
/// that is written address by address: the frame buffer of old graphics cards, and the firmware's flash memory below
/// 4 GiB (QEMU: hw/display/vga.c, hw/i386/pc_sysfw.c).
#[inline(always)]
#[must_use]
pub const fn is_plain(address: u64) -> bool {
    address.wrapping_sub(0xa_0000) < 0x2_0000 || address.wrapping_sub(0xff00_0000) < 0x100_0000
}

/// `KVM_PIO_OUT`, arch/x86/kvm/trace.h.
pub const PIO_OUT: u64 = 1;
/// `KVM_TRACE_MMIO_READ_UNSATISFIED`, include/trace/events/kvm.h.
pub const MMIO_READ_UNSATISFIED: u64 = 0;
/// `KVM_TRACE_MMIO_READ`, there as well.
pub const MMIO_READ: u64 = 1;

/// `KVM_EXIT_IO`, include/uapi/linux/kvm.h.
pub const EXIT_IO: u64 = 2;
/// `KVM_EXIT_MMIO`, there as well.
pub const EXIT_MMIO: u64 = 6;

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn registers_are_not_counted_by_page() {
        assert!([0xa_0000, 0xb_8000, 0xb_ffff, 0xff00_0000, 0xffff_ffff].into_iter().all(is_plain));
        let others = [0, 0x9_ffff, 0xc_0000, 0xfee0_0000, 0xfeff_ffff, 0x1_0000_0000, u64::MAX];
        assert!(!others.into_iter().any(is_plain));
    }
}
