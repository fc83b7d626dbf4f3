//! The freestanding guest as bytes, to be copied into guest memory. Its source is in `payload/`.
//!
//! It expects 64-bit mode at CPL 0 with interrupts off; the first 4 GiB mapped one to one and writable; the selectors
//! of [`protocol`](crate::protocol) in the GDT, a 64-bit TSS loaded; rdi and GS base pointing to an
//! initialised [`Control`](crate::protocol::Control) page that begins a vCPU's private area, and rsp to the area's end.

mod generated {
    #![allow(missing_docs)]
    include!(concat!(env!("OUT_DIR"), "/payload.rs"));
}

/// The payload that measures: one ELF64 file that boots by PVH (the note with its 32-bit entry) and by multiboot 1, says JSON
/// lines on COM1 and turns the machine off. Its source is in `bench-payload/`.
pub static BENCH_ELF: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bench-payload.elf"));

/// The flat image.
pub static IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/payload.bin"));
/// Guest-physical address of the image's first byte.
pub const LOAD_ADDRESS: u64 = generated::LOAD_ADDRESS;
/// Guest-physical address at which every vCPU starts.
pub const ENTRY: u64 = generated::ENTRY;
/// Bytes of memory that the image needs from [`LOAD_ADDRESS`] on; what exceeds [`IMAGE`] must be zero.
pub const MEMORY_SIZE: u64 = generated::MEMORY_SIZE;
