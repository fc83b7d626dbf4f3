# Entry, exceptions and interrupts. GS base is the control page of this vCPU throughout.

    .section .text.entry, "ax", @progbits
    .globl _start
_start:                         # rdi = control page, rsp = top of the stack (16-byte aligned): the VMM sets both
    xor ebp, ebp
    call guest_main
    ud2

    .text
# u32 call_op(op: fn, step: *const Step): runs one loop; returns status::DONE, or status::FAULT after an exception
    .globl call_op
call_op:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov gs:[{RESUME_RSP}], rsp
    mov rax, rdi
    mov rcx, rsi
    mov rdi, [rcx + {COUNT}]
    mov rsi, [rcx + {ARG}]
    mov rdx, [rcx + {VALUE}]
    call rax
    mov eax, {DONE}
1:  mov qword ptr gs:[{RESUME_RSP}], 0
    mov dword ptr gs:[{UD_SKIP}], 0
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
call_op_fault:                  # the exception handler returns here, with rsp as saved above
    mov eax, {FAULT}
    jmp 1b

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
    cmp qword ptr [rsp + 8], 6
    jne 1f
    mov eax, gs:[{UD_SKIP}]
    test eax, eax
    jz 1f
    add [rsp + 24], rax         # an expected #UD: go on behind it
    jmp 2f
1:  mov rax, [rsp + 8]
    inc rax
    mov gs:[{FAULT_VECTOR}], rax
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
    lea rax, [rip + call_op_fault]
    mov [rsp + 24], rax
    and dword ptr [rsp + 40], ~0x200    # interrupts off
2:  pop rax
    add rsp, 16
    iretq
3:  mov edx, {DONE_PORT}        # outside a step nothing can be repeated: the VMM finds the fault in the control page
    out dx, al
    jmp 3b

    .balign 16
    .globl interrupt_stub
interrupt_stub:
    inc qword ptr gs:[{INTERRUPTS}]
    cmp qword ptr [rsp], offset .Lop_hlt_timer_hlt        # see the halting loops
    jne 3f
    mov qword ptr [rsp], offset .Lop_hlt_timer_awake
3:  cmp qword ptr [rsp], offset .Lop_hlt_message_hlt
    jne 4f
    mov qword ptr [rsp], offset .Lop_hlt_message_awake
4:  lock btr dword ptr gs:[{PV_EOI}], 0
    jc 2f                       # KVM had said that it takes the interrupt as ended: no exit
    inc qword ptr gs:[{EOI_WRITES}]
    push rax
    cmp dword ptr gs:[{X2APIC}], 0
    jne 1f
    mov eax, {XAPIC_EOI}
    mov dword ptr [rax], 0
    pop rax
    iretq
1:  push rcx
    push rdx
    xor eax, eax
    xor edx, edx
    mov ecx, {X2APIC_EOI}
    wrmsr
    pop rdx
    pop rcx
    pop rax
2:  iretq

    .globl spurious_stub
spurious_stub:
    iretq
