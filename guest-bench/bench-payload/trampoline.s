# From real mode to `enter_long_mode`. This part is copied to {TRAMPOLINE}; CS is that page, everything else unknown.

    .section .rodata
    .globl trampoline, trampoline_end
    .code16
trampoline:
    cli
    cld
    xor ax, ax
    mov ds, ax
    .byte 0xbb                      # mov bx, ...
    .word {TRAMPOLINE} + (trampoline_gdt_pointer - trampoline)
    .byte 0x66, 0x0f, 0x01, 0x17    # lgdt [bx], with 32 bits of base
    mov eax, cr0
    or al, 1
    mov cr0, eax
    .byte 0x66, 0xea                # far jump to 32-bit code
    .long other_start
    .word 0x18
    .balign 4
trampoline_gdt_pointer:
    .word 31
    .long gdt
trampoline_end:

    .text
    .code32
other_start:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov edi, 1
    lock xadd [arrived], edi
    inc edi                         # 1 for the first that comes: 0 is who started it
    cmp edi, {MAX_CPUS}
    jae 2f
    mov esp, edi
    inc esp
    imul esp, esp, {STACK}
    add esp, offset other_stacks
    mov edx, offset other_long_mode
    jmp enter_long_mode
2:  hlt                             # with interrupts off: there is no room for it
    jmp 2b

    .code64
other_long_mode:
    mov esp, esp
    xor ebp, ebp
    mov edi, edi
    call other_main
    ud2

    .section .bss, "aw", @nobits
    .balign 16
other_stacks:
    .skip {STACKS}
    .balign 64
    .globl arrived
arrived:
    .skip 4
    .text
