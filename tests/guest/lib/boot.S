/*
 * Entry of the test guests: from the 32-bit protected mode that a multiboot 1 loader provides to
 * 64-bit mode with the memory map that guest.h describes. Then guest_start() (trap.c).
 */
#define MULTIBOOT_MAGIC 0x1badb002

#define PAGE_SUPERVISOR 0x83    /* present, writable, 2 MiB */
#define PAGE_USER       0x87
#define TABLE           0x07

        .section .multiboot, "a"
        .balign 4
        .long   MULTIBOOT_MAGIC, 0, -MULTIBOOT_MAGIC

        .section .bss
        .balign 4096
pml4:   .skip   4096
pdpt:   .skip   4096
pd:     .skip   4 * 4096        /* the first 4 GiB */
stack:  .skip   65536
stack_top:

        .section .data
        .balign 16
        .globl  gdt
gdt:    .quad   0
        .quad   0x00af9b000000ffff      /* 08: 64-bit code */
        .quad   0x00cf93000000ffff      /* 10: data */
        .quad   0x00cf9b000000ffff      /* 18: 32-bit code */
        .quad   0x00cffb000000ffff      /* 23: user 32-bit code */
        .quad   0x00cff3000000ffff      /* 2b: user data */
        .quad   0x00affb000000ffff      /* 33: user 64-bit code */
        .quad   0
        .quad   0, 0                    /* 40: the TSS, filled by trap.c */
        .quad   0, 0                    /* 50: for tests */
gdt_end:
gdt_pointer:
        .word   gdt_end - gdt - 1
        .quad   gdt

        .section .text
        .code32
        .globl  _start
_start: cli
        mov     $stack_top, %esp
        /* The image's BSS need not be zero where loaders do not say so. */
        mov     $pdpt + TABLE, %eax
        mov     %eax, pml4
        mov     $pd + TABLE, %eax
        mov     $pdpt, %edi
        mov     $4, %ecx
1:      mov     %eax, (%edi)
        add     $4096, %eax
        add     $8, %edi
        loop    1b

        mov     $pd, %edi
        mov     $PAGE_SUPERVISOR, %eax
        mov     $2048, %ecx
1:      mov     %eax, (%edi)
        add     $0x200000, %eax
        add     $8, %edi
        loop    1b
        movl    $0x400000 + PAGE_USER, pd + 2 * 8

        mov     %cr4, %eax
        or      $0x620, %eax            /* PAE, OSFXSR, OSXMMEXCPT */
        mov     %eax, %cr4
        mov     $pml4, %eax
        mov     %eax, %cr3
        mov     $0xc0000080, %ecx       /* EFER: LME, NXE */
        rdmsr
        or      $0x900, %eax
        wrmsr
        mov     $0x80010033, %eax       /* PG, WP, NE, ET, MP, PE */
        mov     %eax, %cr0
        lgdt    gdt_pointer
        ljmp    $0x08, $1f
        .code64
1:      mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        xor     %eax, %eax
        mov     %eax, %fs
        mov     %eax, %gs
        mov     $stack_top, %rsp
        xor     %ebp, %ebp
        call    guest_start
1:      hlt
        jmp     1b

        .section .note.GNU-stack, "", @progbits
