/*
 * The loop that runs cases (insn.h). It is copied to RUNNER_BASE in this process and in the guest, and
 * reaches its variables by absolute addresses, so that while a case runs all registers, the stack
 * pointer too, belong to the case.
 */
#include "insn.h"

#define GPR(state, number) (CASE_##state + STATE_GPR + 8 * number)

        .section .rodata
        .globl  runner_begin, runner_save_next, runner_save_taken, runner_guest_exit, runner_far, runner_end

        .balign 16
runner_begin:
        mov     CONTROL_CURRENT, %rbp
        cmp     CONTROL_END, %rbp
        jne     1f
        jmp     *CONTROL_FINISH
1:      mov     CASE_ENTRY(%rbp), %rax
        mov     %rax, CONTROL_TARGET
        mov     CASE_FAR(%rbp), %rax
        mov     %rax, CONTROL_FAR
        mov     CASE_SELECTOR(%rbp), %eax
        test    %eax, %eax
        jz      2f
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
2:      cld
        lea     CASE_IN+STATE_MEMORY(%rbp), %rsi
        mov     CASE_WINDOW(%rbp), %rdi
        mov     $MEMORY_BYTES/8, %ecx
        rep movsq
        mov     $CASE_XSAVE_MASK, %eax
        xor     %edx, %edx
        xrstor64 CASE_IN+STATE_XSAVE(%rbp)
        mov     $CONTROL_STACK, %esp
        pushq   CASE_IN+STATE_RFLAGS(%rbp)
        mov     GPR(IN, 0)(%rbp), %rax
        mov     GPR(IN, 1)(%rbp), %rcx
        mov     GPR(IN, 2)(%rbp), %rdx
        mov     GPR(IN, 3)(%rbp), %rbx
        mov     GPR(IN, 6)(%rbp), %rsi
        mov     GPR(IN, 7)(%rbp), %rdi
        mov     GPR(IN, 8)(%rbp), %r8
        mov     GPR(IN, 9)(%rbp), %r9
        mov     GPR(IN, 10)(%rbp), %r10
        mov     GPR(IN, 11)(%rbp), %r11
        mov     GPR(IN, 12)(%rbp), %r12
        mov     GPR(IN, 13)(%rbp), %r13
        mov     GPR(IN, 14)(%rbp), %r14
        mov     GPR(IN, 15)(%rbp), %r15
        popfq
        mov     GPR(IN, 4)(%rbp), %rsp
        mov     GPR(IN, 5)(%rbp), %rbp
        jmp     *CONTROL_TARGET
runner_far:
        ljmpl   *CONTROL_FAR

runner_save_taken:
        movq    $PATH_TAKEN, CONTROL_PATH
        jmp     1f
runner_save_next:
        movq    $PATH_NEXT, CONTROL_PATH
1:      mov     %rsp, CONTROL_RSP
        mov     $CONTROL_STACK, %esp
        pushfq
        push    %rbp
        mov     CONTROL_CURRENT, %rbp
        popq    GPR(OUT, 5)(%rbp)
        popq    CASE_OUT+STATE_RFLAGS(%rbp)
        pushq   $2              /* a case may have set DF, AC or NT */
        popfq
        mov     %rax, GPR(OUT, 0)(%rbp)
        mov     %rcx, GPR(OUT, 1)(%rbp)
        mov     %rdx, GPR(OUT, 2)(%rbp)
        mov     %rbx, GPR(OUT, 3)(%rbp)
        mov     CONTROL_RSP, %rax
        mov     %rax, GPR(OUT, 4)(%rbp)
        mov     %rsi, GPR(OUT, 6)(%rbp)
        mov     %rdi, GPR(OUT, 7)(%rbp)
        mov     %r8, GPR(OUT, 8)(%rbp)
        mov     %r9, GPR(OUT, 9)(%rbp)
        mov     %r10, GPR(OUT, 10)(%rbp)
        mov     %r11, GPR(OUT, 11)(%rbp)
        mov     %r12, GPR(OUT, 12)(%rbp)
        mov     %r13, GPR(OUT, 13)(%rbp)
        mov     %r14, GPR(OUT, 14)(%rbp)
        mov     %r15, GPR(OUT, 15)(%rbp)
        mov     CONTROL_PATH, %rax
        mov     %rax, CASE_OUT+STATE_PATH(%rbp)
        cmpl    $0, CASE_SELECTOR(%rbp)
        je      2f
        mov     %ds, CASE_OUT+STATE_SELECTORS(%rbp)
        mov     %es, CASE_OUT+STATE_SELECTORS+2(%rbp)
        mov     %ss, CASE_OUT+STATE_SELECTORS+4(%rbp)
        mov     %fs, CASE_OUT+STATE_SELECTORS+6(%rbp)
        mov     %gs, CASE_OUT+STATE_SELECTORS+8(%rbp)
        rdfsbase %rax
        mov     %rax, CASE_OUT+STATE_FS_BASE(%rbp)
        rdgsbase %rax
        mov     %rax, CASE_OUT+STATE_GS_BASE(%rbp)
        mov     $SELECTOR_USER_SS, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     %eax, %fs
        mov     %eax, %gs
        mov     $CASE_FS_BASE, %eax
        wrfsbase %rax
        mov     $CASE_GS_BASE, %rax
        wrgsbase %rax
2:        mov     $CASE_XSAVE_MASK, %eax
        xor     %edx, %edx
        xsave64 CASE_OUT+STATE_XSAVE(%rbp)
        lea     CASE_OUT+STATE_MEMORY(%rbp), %rdi
        mov     CASE_WINDOW(%rbp), %rsi
        mov     $MEMORY_BYTES/8, %ecx
        rep movsq
        add     $CASE_BYTES, %rbp
        mov     %rbp, CONTROL_CURRENT
        jmp     runner_begin

        /* An exception that the supervisor knows by its address. */
runner_guest_exit:
        ud2
runner_end:

/*
 * The guest's supervisor: an entry for each of the 32 exceptions, which notes it in the current case
 * and returns to where results are saved. The one at runner_guest_exit means that all cases are
 * done: that goes to the outside, and then the loop starts again.
 */
        .globl  supervisor_begin, supervisor_end
        .balign 16
supervisor_begin:
        .set    vector, 0
        .rept   32
        .balign SUPERVISOR_STUB
        /* #DF, #TS, #NP, #SS, #GP, #PF, #AC, #CP push an error code themselves. */
        .if     !((0x00227d00 >> vector) & 1)
        push    $0
        .endif
        push    $vector
        jmp     common
        .set    vector, vector + 1
        .endr
common: push    %rax
        push    %rbx
        cmpq    $RUNNER_BASE + (runner_guest_exit - runner_begin), 32(%rsp)
        jne     1f
        outb    %al, $EXIT_PORT
        movq    $RUNNER_BASE, 32(%rsp)
        jmp     2f
1:      mov     CONTROL_CURRENT, %rax
        mov     16(%rsp), %rbx
        mov     %rbx, CASE_FAULT_VECTOR(%rax)
        mov     24(%rsp), %rbx
        mov     %rbx, CASE_FAULT_ERROR(%rax)
        mov     32(%rsp), %rbx
        mov     %rbx, CASE_FAULT_RIP(%rax)
        mov     %cr2, %rbx
        mov     %rbx, CASE_FAULT_ADDRESS(%rax)
        movq    $RUNNER_BASE + (runner_save_next - runner_begin), 32(%rsp)
        movq    $SELECTOR_USER, 40(%rsp)
        andl    $~0x100, 48(%rsp) /* a case may have set TF */
2:      pop     %rbx
        pop     %rax
        add     $16, %rsp
        iretq
supervisor_end:

/* runner_call(code, fs_base, gs_base): enters the loop from C and comes back from it. */
        .text
        .globl  runner_call
        .type   runner_call, @function
runner_call:
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        rdfsbase %rax
        push    %rax
        sub     $8, %rsp
        stmxcsr (%rsp)
        fnstcw  4(%rsp)
        mov     %rsp, native_stack(%rip)
        lea     1f(%rip), %rax
        mov     %rax, CONTROL_FINISH
        mov     $SELECTOR_USER_SS, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %fs
        mov     %eax, %gs
        wrfsbase %rsi
        wrgsbase %rdx
        jmp     *%rdi
1:      mov     native_stack(%rip), %rsp
        fninit
        ldmxcsr (%rsp)
        fldcw   4(%rsp)
        add     $8, %rsp
        vzeroupper
        pop     %rax
        xor     %ecx, %ecx
        mov     %ecx, %ds
        mov     %ecx, %es
        mov     %ecx, %fs
        mov     %ecx, %gs
        wrfsbase %rax
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        ret
        .size   runner_call, . - runner_call

        .local  native_stack
        .comm   native_stack, 8, 8
        .section .note.GNU-stack, "", @progbits
