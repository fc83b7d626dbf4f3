# Exceptions, interrupts, and the one place where vCPUs halt. GS base is this vCPU's `Cpu` throughout.

    .text
# u32 guarded_call(function, argument): 0, or 1 after an exception
    .globl guarded_call
guarded_call:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    sub rsp, 8
    mov gs:[{RESUME_RSP}], rsp
    mov rax, rdi
    mov rdi, rsi
    call rax
    xor eax, eax
1:  mov qword ptr gs:[{RESUME_RSP}], 0
    add rsp, 8
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
guarded_fault:                  # the exception's handler returns here, with rsp as saved above
    mov eax, 1
    jmp 1b

# Interrupts come in the shadow of sti, so hlt is always reached. An emulator that forgets the shadow would deliver one
# before hlt, which then would wait for ever: the handlers continue behind hlt in that case, and do not count it.
    .globl halt_once
halt_once:
    sti
halt_at:
    hlt
halt_behind:
    cli
    ret

# One stub per exception, 16 bytes each: pushes a zero where the processor pushes no error code, then the vector.
    .balign 16
    .globl exception_stubs
exception_stubs:
    .set vector, 0
    .rept 32
    .balign 16
    .if !((vector == 8) | ((vector >= 10) & (vector <= 14)) | (vector == 17) | (vector == 21) | (vector == 29) | (vector == 30))
    push 0
    .endif
    push vector
    jmp exception
    .set vector, vector + 1
    .endr

exception:                      # rsp: vector, error code, rip, cs, rflags, rsp, ss
    push rax
    mov rax, [rsp + 8]
    cmp rax, 2
    je 2f                       # an NMI: nobody here sends any
leave_guarded:
    inc rax
    mov gs:[{FAULT}], rax
    mov rax, [rsp + 16]
    mov gs:[{FAULT_ERROR}], rax
    mov rax, [rsp + 24]
    mov gs:[{FAULT_RIP}], rax
    mov rax, cr2
    mov gs:[{FAULT_ADDRESS}], rax
    mov rax, gs:[{RESUME_RSP}]
    test rax, rax
    jz 3f
    mov [rsp + 48], rax
    lea rax, [rip + guarded_fault]
    mov [rsp + 24], rax
    and dword ptr [rsp + 40], ~0x200    # interrupts off
2:  pop rax
exception_return:
    add rsp, 16
    iretq
3:  call fatal_exception

# rsp: rdx, rcx, rax, rip: notes whether the vCPU was halted
.macro begin
    push rax
    push rcx
    push rdx
    cmp qword ptr [rsp + 24], offset halt_behind
    jne 1f
    inc qword ptr gs:[{HALTED}]
1:  cmp qword ptr [rsp + 24], offset halt_at
    jne 2f
    mov qword ptr [rsp + 24], offset halt_behind
2:
.endm

.macro end_of_interrupt
    cmp dword ptr [rip + in_x2apic_mode], 0
    je 3f
    xor eax, eax
    xor edx, edx
    mov ecx, {X2APIC_EOI}
    wrmsr
    jmp 4f
3:  mov eax, {XAPIC_EOI}
    mov dword ptr [rax], 0
4:
.endm

.macro return
    pop rdx
    pop rcx
    pop rax
    iretq
.endm

    .balign 16
    .globl message_stub
message_stub:
    begin
    inc qword ptr gs:[{HANDLED}]
    end_of_interrupt
    inc qword ptr gs:[{ENDED}]
    return

    .balign 16
    .globl timer_stub
timer_stub:
    begin
    rdtsc
    shl rdx, 32
    or rax, rdx
    mov gs:[{STAMP}], rax
    inc qword ptr gs:[{HANDLED}]
    end_of_interrupt
    inc qword ptr gs:[{ENDED}]
    return

# The same bracket as shared/bracket.rs, around the end of the interrupt.
    .balign 16
    .globl timed_stub
timed_stub:
    begin
    inc qword ptr gs:[{HANDLED}]
    push rbx
    lfence
    rdtsc
    lfence
    shl rdx, 32
    or rax, rdx
    mov rbx, rax
    end_of_interrupt
    lfence
    rdtsc
    lfence
    shl rdx, 32
    or rax, rdx
    sub rax, rbx
    mov gs:[{EOI_CYCLES}], rax
    pop rbx
    inc qword ptr gs:[{ENDED}]
    return

# The time is up for what was guarded: it ends as by an exception.
    .balign 16
    .globl watchdog_stub
watchdog_stub:
    push 0
    push {WATCHDOG}
    push rax
    push rcx
    push rdx
    end_of_interrupt
    pop rdx
    pop rcx
    cmp qword ptr gs:[{RESUME_RSP}], 0
    mov rax, [rsp + 8]
    jne leave_guarded
    pop rax
    jmp exception_return

    .balign 16
    .globl strange_stub
strange_stub:
    begin
    inc qword ptr gs:[{STRANGE}]
    end_of_interrupt
    return

    .balign 16
    .globl spurious_stub
spurious_stub:
    iretq

    .data
    .balign 4
    .globl in_x2apic_mode
in_x2apic_mode:
    .long 0
    .text
