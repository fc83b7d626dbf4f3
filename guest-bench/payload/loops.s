# The loops around the trapping instructions. Written in assembly so that what exits, and how often, can be read here:
# between a loop's label and its `ret` there is the instruction named, counting in memory, and nothing else that traps.
#
# Called by call_op: rdi = count (at least 1), rsi = arg, rdx = value, rcx = the step. Interrupts are disabled. Every
# register may be clobbered. GS base is the control page.

.macro op name
    .globl \name
    .type \name, @function
\name:
    mov r8, rdi
    mov r9, rcx
    mov r10, rsi
    mov r11, rdx
.endm

# one execution more; again until count is reached
.macro next
    inc qword ptr [r9 + {EXECUTED}]
    dec r8
    jnz 1b
.endm

.macro endop name
    mov [r9 + {RESULT}], rax
    ret
    .size \name, . - \name
.endm

op op_cpuid
1:  mov eax, r10d
    xor ecx, ecx
    cpuid
    next
endop op_cpuid

op op_port_in
    xor eax, eax
    mov edx, r10d
1:  in al, dx
    next
endop op_port_in

op op_port_out
    mov eax, r11d
    mov edx, r10d
1:  out dx, al
    next
endop op_port_out

# The buffer is the page below the one that the stack is in, which is the stack's as well: a string that crosses no page
# is transferred in one go.
.macro buffer register
    mov \register, rsp
    and \register, -4096
    sub \register, 4096
    mov rcx, r11
    mov edx, r10d
.endm

op op_port_in_string
    cld
1:  buffer rdi
    rep insb
    next
endop op_port_in_string

op op_port_out_string
    cld
1:  buffer rsi
    rep outsb
    next
endop op_port_out_string

op op_mmio_read
1:  mov eax, [r10]
    next
endop op_mmio_read

op op_mmio_write
    mov eax, r11d
1:  mov [r10], eax
    next
endop op_mmio_write

op op_rdmsr
    mov ecx, r10d
1:  rdmsr
    next
    shl rdx, 32
    or rax, rdx
endop op_rdmsr

op op_wrmsr
    mov ecx, r10d
    mov eax, r11d
    mov rdx, r11
    shr rdx, 32
1:  wrmsr
    next
endop op_wrmsr

op op_vmcall
1:  mov rax, r10
    vmcall
    next
endop op_vmcall

op op_vmmcall
1:  mov rax, r10
    vmmcall
    next
endop op_vmmcall

# Halting loops. The interrupt comes in the shadow of sti, so hlt is always reached and wakes at once if the interrupt
# was pending. An emulator that forgets the shadow when a host interrupt exits between the two (QEMU's does) would
# deliver it before hlt, which then would wait for ever: interrupt_stub continues behind hlt in that case, and the
# loop counts no execution. What wakes hlt without our interrupt makes the loop halt again: one execution more.
.macro halt name
    sti
.L\name\()_hlt:
    hlt
    inc qword ptr [r9 + {EXECUTED}]
.L\name\()_awake:
    cli
.endm

op op_hlt_timer
1:  mov r12, gs:[{INTERRUPTS}]
    rdtsc
    shl rdx, 32
    or rax, rdx
    add rax, r10
    mov rdx, rax
    shr rdx, 32
    mov ecx, {IA32_TSC_DEADLINE}
    wrmsr
2:  halt op_hlt_timer
    cmp gs:[{INTERRUPTS}], r12
    je 2b
    dec r8
    jnz 1b
endop op_hlt_timer

op op_hlt_message
    add r8, gs:[{INTERRUPTS}]
1:  inc qword ptr gs:[{WAITS}]
    halt op_hlt_message
    cmp gs:[{INTERRUPTS}], r8
    jb 1b
endop op_hlt_message

op op_touch
    xor eax, eax
1:  mov byte ptr [r10], 1
    add r10, r11
    next
endop op_touch

# The values of CR0 and CR4 come from the control page: reading CR4 exits on AMD.
op op_cr0_write
    mov rax, gs:[{CR0}]
1:  xor eax, {CR0_AM}
    mov cr0, rax
    next
    mov gs:[{CR0}], rax
endop op_cr0_write

op op_cr4_write
    mov rax, gs:[{CR4}]
1:  xor eax, {CR4_MCE}
    mov cr4, rax
    next
    mov gs:[{CR4}], rax
endop op_cr4_write

op op_cr4_read
1:  mov rax, cr4
    next
endop op_cr4_read

op op_dr7_read
1:  mov r12, dr7
    xor eax, eax
    xor ecx, ecx
    cpuid
    next
    mov rax, r12
endop op_dr7_read

op op_wbinvd
    xor eax, eax
1:  wbinvd
    next
endop op_wbinvd

op op_invd
    xor eax, eax
1:  invd
    next
endop op_invd

op op_xsetbv
    xor ecx, ecx
    xgetbv
1:  xsetbv
    next
endop op_xsetbv

op op_ud2
    xor eax, eax
    mov dword ptr gs:[{UD_SKIP}], 2
1:  ud2
    next
    mov dword ptr gs:[{UD_SKIP}], 0
endop op_ud2

op op_spin_cpuid
1:  mov eax, r10d
    xor ecx, ecx
    cpuid
    inc qword ptr [r9 + {EXECUTED}]
    cmp dword ptr gs:[{STOP}], 0
    je 1b
endop op_spin_cpuid

# Interrupts enabled: under Bochs a loop that never exits keeps the host's interrupts out while they are disabled.
op op_spin_quiet
    xor eax, eax
    sti
1:  inc qword ptr [r9 + {EXECUTED}]
    cmp dword ptr gs:[{STOP}], 0
    je 1b
    cli
endop op_spin_quiet

# r10 is the address of the interrupt counter of the vCPU that the message goes to. Waiting for it keeps two messages
# from merging into one pending vector.
op op_send_ipi
    mov ecx, {X2APIC_ICR}
    sti
1:  mov r12, [r10]
    mov eax, r11d
    mov rdx, r11
    shr rdx, 32
    wrmsr
2:  cmp [r10], r12
    je 2b
    next
    cli
endop op_send_ipi

op op_await_interrupts
    mov r12, gs:[{INTERRUPTS}]
    sti
1:  mov rax, gs:[{INTERRUPTS}]
    sub rax, r12
    mov [r9 + {EXECUTED}], rax
    cmp rax, r8
    jb 1b
    cli
endop op_await_interrupts
