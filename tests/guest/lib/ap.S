/*
 * Where application processors start (smp.c): in real mode at AP_START, to which this is copied.
 * Takes the page tables, GDT and IDT of the bootstrap processor, a stack and an index of its own,
 * and calls ap_main(index).
 */
#define AP_START 0x8000

        .section .rodata
        .globl  ap_begin, ap_end
        .code16
ap_begin:
        cli
        xor     %ax, %ax
        mov     %ax, %ds
        lgdtl   AP_START + (ap_gdt_pointer - ap_begin)
        mov     %cr0, %eax
        or      $1, %eax
        mov     %eax, %cr0
        ljmpl   $0x18, $AP_START + (1f - ap_begin)
        .code32
1:      mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     $0x620, %eax            /* as boot.S does */
        mov     %eax, %cr4
        mov     ap_cr3, %eax
        mov     %eax, %cr3
        mov     $0xc0000080, %ecx
        mov     $0x900, %eax
        xor     %edx, %edx
        wrmsr
        mov     $0x80010033, %eax
        mov     %eax, %cr0
        ljmp    $0x08, $AP_START + (1f - ap_begin)
        .code64
1:      mov     $1, %edi
        lock xadd %edi, ap_next
        mov     %rdi, %rax
        shl     $12, %rax
        lea     ap_stacks(%rax), %rsp
        lidt    ap_idt_pointer
        call    *ap_entry
1:      hlt
        jmp     1b
        .balign 8
ap_gdt_pointer:
        .word   0x37
        .long   gdt
ap_end:

        .data
        .globl  ap_cr3, ap_next, ap_entry, ap_idt_pointer
        .balign 8
ap_cr3: .quad   0
ap_entry:
        .quad   0
ap_idt_pointer:
        .skip   16
ap_next:
        .long   1               /* the index of the next one to come */

        .bss
        .balign 16
ap_stacks:                      /* 4 KiB for each of 1 to 15; 0 is the bootstrap processor */
        .skip   16 * 4096

        .section .note.GNU-stack, "", @progbits
