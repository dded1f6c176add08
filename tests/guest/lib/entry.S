/* Entry stubs of the 256 vectors, and the way to user mode and back (trap.c). */
#include "selectors.h"

        .section .text
        .globl  trap_stubs
        .balign 16
trap_stubs:
        .set    vector, 0
        .rept   256
        .balign 16
        /* The CPU pushes an error code for these alone. */
        .if     vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21
        .else
        push    $0
        .endif
        push    $vector
        jmp     common
        .set    vector, vector + 1
        .endr

common: push    %rax
        push    %rcx
        push    %rdx
        push    %rbx
        push    %rbp
        push    %rsi
        push    %rdi
        push    %r8
        push    %r9
        push    %r10
        push    %r11
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        cld
        mov     %rsp, %rdi
        mov     %rsp, %rbx
        and     $-16, %rsp
        call    trap_enter
        mov     %rbx, %rsp
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %r11
        pop     %r10
        pop     %r9
        pop     %r8
        pop     %rdi
        pop     %rsi
        pop     %rbp
        pop     %rbx
        pop     %rdx
        pop     %rcx
        pop     %rax
        add     $16, %rsp
        iretq

/* uint64_t user_enter(rip, argument, rsp): trap.c sends it back to user_resume. */
        .globl  user_enter, user_resume
user_enter:
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        mov     %rsp, user_saved_rsp
        push    $SEL_USER_DATA
        push    %rdx
        push    $2
        push    $SEL_USER_CODE
        push    %rdi
        mov     %rsi, %rdi
        iretq
user_resume:
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        ret

        .section .user.text, "ax"
        .globl  user_return
user_return:
        int     $0x40

        .section .bss
        .balign 8
        .globl  user_saved_rsp
user_saved_rsp:
        .skip   8

        .section .note.GNU-stack, "", @progbits
