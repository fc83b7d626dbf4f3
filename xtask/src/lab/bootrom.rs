//! The boot ROM of the Intel lab: what the emulated BIOS runs instead of a boot loader.
//!
//! Bochs puts files into the emulated memory before the first instruction, so the kernel (uncompressed) and the
//! initramfs are in place when the BIOS starts, and no disk, CD or boot loader is needed. What is left to do
//! fits in an option ROM: ask the BIOS for the memory map, enter long mode, jump to the kernel. That is the
//! 64-bit boot protocol of Linux (Documentation/arch/x86/boot.rst, "64-bit Boot Protocol").
//!
//! The ROM takes the place of the VGA ROM at 0xc0000, which the BIOS calls once memory, PCI and the ACPI
//! tables are set up, and before it looks for disks. It never returns to the BIOS.

use std::ops::Range;
use std::slice;

use anyhow::{Result, ensure};

use super::vmlinux::Vmlinux;

// Where the ROM puts what the kernel reads, in low memory that the BIOS does not use.
/// The zero page, `struct boot_params` (arch/x86/include/uapi/asm/bootparam.h).
const ZERO_PAGE: u32 = 0x1_0000;
const COMMAND_LINE: u32 = 0x1_1000;
const PML4: u32 = 0x1_2000;
const PDPT: u32 = 0x1_3000;
const PAGE_DIRECTORY: u32 = 0x1_4000;
const PAGE: usize = 4096;
/// Pages that the ROM copies to `ZERO_PAGE` and up.
const PAGES: usize = 5;

/// Offset of the pages in the ROM; the code is in front of them.
const CODE_SIZE: usize = 512;

/// The kernel's `COMMAND_LINE_SIZE` on x86, with the final NUL.
const COMMAND_LINE_SIZE: usize = 2048;

// Fields of the zero page (Documentation/arch/x86/zero-page.rst and boot.rst).
const SETUP_HEADER: usize = 0x1f1;
const TYPE_OF_LOADER: usize = 0x210;
const RAMDISK_IMAGE: usize = 0x218;
const RAMDISK_SIZE: usize = 0x21c;
const CMD_LINE_PTR: usize = 0x228;

// Page table bits (Intel SDM volume 3, 4.5): present, writable, accessed; dirty and 2 MiB page for a leaf.
const TABLE: u64 = 0x23;
const LEAF: u64 = 0xe3;
const LEAF_SIZE: u64 = 2 << 20;

core::arch::global_asm!(
    ".pushsection .rodata.kvm_lab_bootrom, \"a\", @progbits",
    ".code16",
    "kvm_lab_bootrom:",
    // Option ROM header: signature, length in 512-byte blocks (filled in by `image`), entry point.
    "    .byte 0x55, 0xaa, 0",
    "    cli",
    "    cld",
    // Copy the pages behind the code to 0x10000 and up.
    "    movw %cs, %ax",
    "    movw %ax, %ds",
    "    movw $({zero_page} >> 4), %ax",
    "    movw %ax, %es",
    "    movw ${code_size}, %si",
    "    xorw %di, %di",
    "    movw $({pages} * 1024), %cx",
    "    rep movsl",
    // The memory map: BIOS function e820 fills e820_table (0x2d0), 20 bytes an entry; e820_entries (0x1e8) counts.
    "    movw $0x2d0, %di",
    "    xorl %ebx, %ebx",
    "1:  movl $0xe820, %eax",
    "    movl $0x534d4150, %edx", // "SMAP"
    "    movl $20, %ecx",
    "    int $0x15",
    "    jc 2f",
    "    addw $20, %di",
    "    incb %es:0x1e8",
    "    testl %ebx, %ebx",
    "    jnz 1b",
    "2:  cli",
    // Address line 20 on, through port 0x92.
    "    inb $0x92, %al",
    "    orb $2, %al",
    "    outb %al, $0x92",
    // Long mode in one step: PAE, page tables, EFER.LME, then protection and paging together.
    "    lgdt kvm_lab_bootrom_gdtr - kvm_lab_bootrom",
    "    movl %cr4, %eax",
    "    orl $0x20, %eax",
    "    movl %eax, %cr4",
    "    movl ${pml4}, %eax",
    "    movl %eax, %cr3",
    "    movl $0xc0000080, %ecx",
    "    rdmsr",
    "    orl $0x100, %eax",
    "    wrmsr",
    "    movl %cr0, %eax",
    "    orl $0x80000001, %eax",
    "    movl %eax, %cr0",
    "    ljmpl $0x10, $(0xc0000 + 3f - kvm_lab_bootrom)",
    ".code64",
    // The state the protocol asks for: flat segments, interrupts off, RSI = the zero page.
    "3:  movl $0x18, %eax",
    "    movl %eax, %ds",
    "    movl %eax, %es",
    "    movl %eax, %ss",
    "    xorl %eax, %eax",
    "    movl %eax, %fs",
    "    movl %eax, %gs",
    "    movl ${zero_page}, %esi",
    "    movl kvm_lab_bootrom_entry(%rip), %eax",
    "    jmpq *%rax",
    ".balign 8",
    // Selectors 0x10 (64-bit code) and 0x18 (data), as the protocol wants them; "accessed" is set already,
    // since the processor could not set it in ROM.
    "kvm_lab_bootrom_gdt: .quad 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff",
    "kvm_lab_bootrom_gdtr: .word . - kvm_lab_bootrom_gdt - 1",
    "    .long 0xc0000 + kvm_lab_bootrom_gdt - kvm_lab_bootrom",
    // The kernel's entry point, filled in by `image`; it is the last word of the code.
    "kvm_lab_bootrom_entry: .long 0",
    "kvm_lab_bootrom_end:",
    ".popsection",
    zero_page = const ZERO_PAGE,
    code_size = const CODE_SIZE,
    pages = const PAGES,
    pml4 = const PML4,
    options(att_syntax),
);

unsafe extern "C" {
    #[link_name = "kvm_lab_bootrom"]
    static CODE_START: u8;
    #[link_name = "kvm_lab_bootrom_end"]
    static CODE_END: u8;
}

fn code() -> &'static [u8] {
    let (start, end) = (&raw const CODE_START, &raw const CODE_END);
    // SAFETY: both symbols bound one read-only section of this binary, start before end.
    unsafe { slice::from_raw_parts(start, end.addr() - start.addr()) }
}

/// The ROM that boots `kernel` with `command_line` and the initramfs that lies at `initramfs` (physical addresses).
///
/// # Errors
/// The command line is longer than the kernel takes, or an address does not fit in the protocol's 32 bits.
pub(crate) fn image(kernel: &Vmlinux, initramfs: Range<u64>, command_line: &str) -> Result<Vec<u8>> {
    let code = code();
    // The last byte in front of the pages is the checksum's.
    ensure!(code.len() < CODE_SIZE, "the boot ROM's code is {} bytes, too many for {CODE_SIZE}", code.len());
    ensure!(
        command_line.len() < COMMAND_LINE_SIZE && !command_line.contains('\0'),
        "the kernel command line is {} bytes long, the kernel takes {}: pass fewer parameters",
        command_line.len(),
        COMMAND_LINE_SIZE - 1
    );
    let mut rom = vec![0; CODE_SIZE + PAGES * PAGE];
    rom[..code.len()].copy_from_slice(code);
    let entry = u32::try_from(kernel.entry)?;
    rom[code.len() - 4..code.len()].copy_from_slice(&entry.to_le_bytes());
    rom[2] = u8::try_from(rom.len() / 512)?;

    let page = |address: u32| CODE_SIZE + (address - ZERO_PAGE) as usize;
    let put32 = |rom: &mut [u8], field: usize, value: u32| {
        let at = page(ZERO_PAGE) + field;
        rom[at..at + 4].copy_from_slice(&value.to_le_bytes());
    };
    let header = page(ZERO_PAGE) + SETUP_HEADER;
    rom[header..header + kernel.setup_header.len()].copy_from_slice(&kernel.setup_header);
    rom[page(ZERO_PAGE) + TYPE_OF_LOADER] = 0xff; // an undefined boot loader
    put32(&mut rom, RAMDISK_IMAGE, u32::try_from(initramfs.start)?);
    put32(&mut rom, RAMDISK_SIZE, u32::try_from(initramfs.end - initramfs.start)?);
    put32(&mut rom, CMD_LINE_PTR, COMMAND_LINE);
    rom[page(COMMAND_LINE)..][..command_line.len()].copy_from_slice(command_line.as_bytes());

    // The first GiB, mapped to itself in 2 MiB pages.
    let mut entry = |table: u32, index: usize, value: u64| {
        let at = page(table) + index * 8;
        rom[at..at + 8].copy_from_slice(&value.to_le_bytes());
    };
    entry(PML4, 0, u64::from(PDPT) | TABLE);
    entry(PDPT, 0, u64::from(PAGE_DIRECTORY) | TABLE);
    for (index, address) in (0..512).zip((0..).step_by(LEAF_SIZE as usize)) {
        entry(PAGE_DIRECTORY, index, address | LEAF);
    }

    // The BIOS runs a ROM only if its bytes add up to 0.
    let sum = rom.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    rom[CODE_SIZE - 1] = sum.wrapping_neg();
    Ok(rom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel() -> Vmlinux {
        Vmlinux { entry: 0x123_4567, load: 0x100_0000, end: 0x400_0000, setup_header: vec![0xab; 0x7b] }
    }

    fn word(rom: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(rom[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn the_bios_takes_the_rom() {
        let rom = image(&kernel(), 0x800_0000..0x800_1000, "quiet").unwrap();
        assert_eq!(rom.len() % 512, 0);
        assert_eq!((rom[0], rom[1], usize::from(rom[2]) * 512), (0x55, 0xaa, rom.len()));
        assert_eq!(rom.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0);
        assert_eq!(rom[3], 0xfa, "the entry point is cli");
    }

    #[test]
    fn the_kernel_finds_its_parameters() {
        let rom = image(&kernel(), 0x800_0000..0x800_1000, "quiet").unwrap();
        assert_eq!(word(&rom, code().len() - 4), 0x123_4567);
        let page = |address: u32| CODE_SIZE + (address - ZERO_PAGE) as usize;
        let zero_page = page(ZERO_PAGE);
        assert_eq!(rom[zero_page + SETUP_HEADER], 0xab);
        assert_eq!(rom[zero_page + TYPE_OF_LOADER], 0xff);
        assert_eq!(word(&rom, zero_page + RAMDISK_IMAGE), 0x800_0000);
        assert_eq!(word(&rom, zero_page + RAMDISK_SIZE), 0x1000);
        assert_eq!(word(&rom, zero_page + CMD_LINE_PTR), COMMAND_LINE);
        assert_eq!(&rom[page(COMMAND_LINE)..][..6], b"quiet\0");
        assert_eq!(word(&rom, page(PML4)), PDPT | 0x23);
        assert_eq!(word(&rom, page(PAGE_DIRECTORY) + 8), 0x20_0000 | 0xe3);
        assert_eq!(word(&rom, page(PAGE_DIRECTORY) + 511 * 8), 0x3fe0_0000 | 0xe3);
    }

    #[test]
    fn a_command_line_the_kernel_would_cut_is_refused() {
        let error = image(&kernel(), 0..1, &"x".repeat(2048)).unwrap_err().to_string();
        assert!(error.contains("2048") && error.contains("2047"), "{error}");
    }
}
