# From the loader to 64-bit mode. Both protocols enter in 32-bit protected mode with flat segments and paging off:
#   PVH        ebx = struct hvm_start_info    (Xen, docs/misc/pvh.pandoc; include/public/arch-x86/hvm/start_info.h)
#   multiboot  ebx = multiboot information, eax = 0x2badb002    (Multiboot Specification 0.6.96, 3.1 and 3.2)

    .set MULTIBOOT_MAGIC, 0x1badb002
    .set MULTIBOOT_FLAGS, (1 << 1) | (1 << 16)      # the memory's size, please; addresses are below, not in ELF headers
    .set CODE64, 0x08
    .set DATA, 0x10
    .set CODE32, 0x18

    .section .boot, "awx", @progbits
    .globl multiboot_header
    .balign 4
multiboot_header:
    .long MULTIBOOT_MAGIC
    .long MULTIBOOT_FLAGS
    .long -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)
    .long multiboot_header
    .long image_start
    .long data_end
    .long image_end
    .long multiboot_start

    .code32
    .globl pvh_start
pvh_start:
    mov edi, {PROTOCOL_PVH}
    jmp 1f
multiboot_start:
    mov edi, {PROTOCOL_MULTIBOOT}
1:  cli
    cld
    mov esi, ebx                    # the arguments of payload_main
    lgdt [gdt_pointer]
    mov eax, DATA
    mov ds, eax
    mov es, eax
    mov ss, eax

# One to one: four page directories of 2 MiB pages. The last gigabyte, where devices are, is not cached.
    mov eax, offset page_directory_pointers + 3
    mov [page_map], eax
    mov eax, offset page_directories + 3
    mov ecx, 0
2:  mov [page_directory_pointers + ecx * 8], eax
    add eax, 4096
    inc ecx
    cmp ecx, 4
    jne 2b
    mov eax, 0x83                   # present, writable, 2 MiB
    xor ecx, ecx
3:  cmp ecx, 3 * 512
    jne 4f
    or eax, 0x18                    # write-through, not cached
4:  mov [page_directories + ecx * 8], eax
    add eax, 0x200000
    inc ecx
    cmp ecx, 4 * 512
    jne 3b

    mov esp, offset boot_stack_end
    mov edx, offset long_mode
    jmp enter_long_mode

# Also where the other vCPUs come by: edx = where to go on in 64-bit mode, with esi and edi as they are.
enter_long_mode:
    mov eax, cr4
    or eax, 0x620                   # PAE, OSFXSR, OSXMMEXCPT
    mov cr4, eax
    mov eax, offset page_map
    mov cr3, eax
    mov ecx, 0xc0000080             # EFER
    push edx
    rdmsr
    or eax, 0x100                   # LME
    wrmsr
    pop edx
    mov eax, cr0
    and eax, ~0x6000000c            # no emulation of the FPU, no lazy switching; caches on
    or eax, 0x80010023              # paging, write protection, NE, MP, PE
    mov cr0, eax
    push CODE64
    push edx
    retf

    .code64
long_mode:
    lea rsp, [rip + boot_stack_end]
    xor ebp, ebp
    mov edi, edi
    mov esi, esi
    call payload_main
    ud2

    .balign 8
gdt:
    .quad 0
    .quad 0x00209b0000000000        # 64-bit code, accessed already: nobody has to write here
    .quad 0x00cf93000000ffff        # flat data
    .quad 0x00cf9b000000ffff        # flat 32-bit code
gdt_end:
    .globl gdt_pointer
gdt_pointer:
    .word gdt_end - gdt - 1
    .quad gdt

# XEN_ELFNOTE_PHYS32_ENTRY (xen/include/public/elfnote.h)
    .section .note.pvh, "a", @note
    .balign 4
    .long 4
    .long 8
    .long 18
    .asciz "Xen"
    .balign 4
    .quad pvh_start

    .section .bss, "aw", @nobits
    .balign 4096
page_map:
    .skip 4096
page_directory_pointers:
    .skip 4096
page_directories:
    .skip 4 * 4096
    .skip 65536
    .globl boot_stack_end
boot_stack_end:
