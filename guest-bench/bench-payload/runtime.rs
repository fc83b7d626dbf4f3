//! What the compiler takes for granted: memory functions, without SSE, and what happens at a panic.

use core::arch::global_asm;

global_asm!(
    ".globl memcpy, memmove, memset, memcmp, bcmp, rust_eh_personality",
    "rust_eh_personality:", // the core library names it; nothing unwinds
    "    ud2",
    "memcpy:",
    "    mov rax, rdi",
    "    mov rcx, rdx",
    "    rep movsb",
    "    ret",
    "memmove:",
    "    mov rax, rdi",
    "    mov rcx, rdx",
    "    mov r8, rdi",
    "    sub r8, rsi",
    "    cmp r8, rdx", // overlaps behind its source: from the end
    "    jae 2f",
    "    lea rdi, [rdi + rcx - 1]",
    "    lea rsi, [rsi + rcx - 1]",
    "    std",
    "2:  rep movsb",
    "    cld",
    "    ret",
    "memset:",
    "    mov r8, rdi",
    "    mov eax, esi",
    "    mov rcx, rdx",
    "    rep stosb",
    "    mov rax, r8",
    "    ret",
    "memcmp:",
    "bcmp:",
    "    xor eax, eax",
    "    xor ecx, ecx",
    "3:  cmp rcx, rdx",
    "    je 4f",
    "    movzx eax, byte ptr [rdi + rcx]",
    "    movzx r8d, byte ptr [rsi + rcx]",
    "    inc rcx",
    "    sub eax, r8d",
    "    je 3b",
    "4:  ret",
);

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    let mut serial = crate::serial::Serial::open();
    serial.raw("\n{\"fatal\":{\"reason\":\"panic\",\"line\":");
    serial.number(info.location().map_or(0, |location| location.line().into()));
    serial.raw("}}\n");
    crate::power::off()
}
