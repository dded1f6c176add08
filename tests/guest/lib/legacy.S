/*
 * Entry, exception stubs and the GDT of 32-bit guests (legacy.h): the flat protected mode that a
 * multiboot 1 loader provides, without paging.
 */
#define MULTIBOOT_MAGIC 0x1badb002

        .section .multiboot, "a"
        .balign 4
        .long   MULTIBOOT_MAGIC, 0, -MULTIBOOT_MAGIC

        .data
        .balign 8
        .globl  gdt
gdt:    .quad   0
        .quad   0x00cf9b000000ffff      /* 08: code */
        .quad   0x00cf93000000ffff      /* 10: data */
        .skip   8 * 13                  /* 18 on: for tests */
gdt_end:
gdt_pointer:
        .word   gdt_end - gdt - 1
        .long   gdt

        .bss
        .balign 16
        .skip   16384
stack_top:

        .text
        .code32
        .globl  _start
_start: cli
        lgdt    gdt_pointer
        ljmp    $0x08, $1f
1:      mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %fs
        mov     %eax, %gs
        mov     %eax, %ss
        mov     $stack_top, %esp
        call    legacy_start
1:      hlt
        jmp     1b

        .balign 16
        .globl  trap_stubs
trap_stubs:
        .set    vector, 0
        .rept   64
        .balign 16
        .if     vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21
        .else
        push    $0
        .endif
        push    $vector
        jmp     common
        .set    vector, vector + 1
        .endr
common: push    %gs
        push    %fs
        push    %ds
        push    %es
        pusha
        mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss               /* a test may have loaded another of base 0 */
        mov     %esp, %eax
        cld
        push    %eax
        call    trap_enter
        add     $4, %esp
        popa
        pop     %es
        pop     %ds
        pop     %fs
        pop     %gs
        add     $8, %esp
        iret

        .section .note.GNU-stack, "", @progbits
