//! A program for inside the Intel lab that copies its standard input to I/O port 0xe9.
//!
//! Bochs prints what a guest writes to that port (`port_e9_hack`), here at a write to port 0xea (see the corrections
//! in `bochs.rs`). The serial port would be paced at 115,200 baud of emulated time. The program is a static ELF file of one page, made here from its instructions, so that the
//! lab needs neither a compiler nor a second Rust target.

use std::slice;

core::arch::global_asm!(
    ".pushsection .rodata.kvm_lab_port_e9, \"a\", @progbits",
    ".code64",
    "kvm_lab_port_e9:",
    "    movl $172, %eax", // iopl(3): all ports allowed
    "    movl $3, %edi",
    "    syscall",
    "    testl %eax, %eax",
    "    jnz 3f",
    "    subq $65536, %rsp",
    "2:  xorl %eax, %eax", // read(0, stack, 65536)
    "    xorl %edi, %edi",
    "    movq %rsp, %rsi",
    "    movl $65536, %edx",
    "    syscall",
    "    testq %rax, %rax",
    "    jle 3f",
    "    movl %eax, %ecx",
    "    movl $0xe9, %edx",
    "    rep outsb",       // RSI is the buffer still
    "    outb %al, $0xea", // let it appear
    "    jmp 2b",
    "3:  negl %eax", // 0 at the end of the input, else the error number
    "    movl %eax, %edi",
    "    movl $60, %eax", // exit
    "    syscall",
    "kvm_lab_port_e9_end:",
    ".popsection",
    options(att_syntax),
);

unsafe extern "C" {
    #[link_name = "kvm_lab_port_e9"]
    static CODE_START: u8;
    #[link_name = "kvm_lab_port_e9_end"]
    static CODE_END: u8;
}

const ADDRESS: u64 = 0x40_0000;
const HEADERS: usize = 64 + 56;

/// The program as an ELF file (elf(5)): a file header, one program header, the instructions.
pub(crate) fn elf() -> Vec<u8> {
    let (start, end) = (&raw const CODE_START, &raw const CODE_END);
    // SAFETY: both symbols bound one read-only section of this binary, start before end.
    let code = unsafe { slice::from_raw_parts(start, end.addr() - start.addr()) };
    let size = (HEADERS + code.len()) as u64;
    let mut file = Vec::new();
    // 64-bit, little-endian, version 1; ET_EXEC, EM_X86_64
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0");
    // entry point, offsets of the program and section headers
    for number in [ADDRESS + HEADERS as u64, 64, 0] {
        file.extend(number.to_le_bytes());
    }
    // flags 0, header size 64, one program header of 56 bytes, no section headers of 64
    file.extend(b"\0\0\0\0\x40\0\x38\0\x01\0\x40\0\0\0\0\0");
    // PT_LOAD, readable and executable
    file.extend(b"\x01\0\0\0\x05\0\0\0");
    // offset, virtual and physical address, size in the file and in memory, alignment
    for number in [0, ADDRESS, ADDRESS, size, size, 4096] {
        file.extend(number.to_le_bytes());
    }
    file.extend(code);
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_elf_file_is_whole() {
        let file = elf();
        let number = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
        assert_eq!(&file[..4], b"\x7fELF");
        assert_eq!(number(0x18), ADDRESS + HEADERS as u64, "entry point");
        assert_eq!(number(0x20), 64, "program headers");
        assert_eq!((number(64 + 0x20), number(64 + 0x28)), (file.len() as u64, file.len() as u64));
        // mov $172, %eax and the last instruction, syscall
        assert_eq!(file[HEADERS..HEADERS + 5], [0xb8, 172, 0, 0, 0]);
        assert_eq!(file[file.len() - 2..], [0x0f, 0x05]);
    }
}
