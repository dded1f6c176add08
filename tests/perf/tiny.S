/*
 * The smallest guest there is: a multiboot 1 kernel that writes one byte to the serial port and ends
 * the machine through debug-exit. bench.py takes the time from the start of the process to that
 * byte: what a machine costs before its first instruction.
 */
#define MULTIBOOT_MAGIC 0x1badb002
#define SERIAL_DATA     0x3f8
#define DEBUG_EXIT      0xf4

        .section .text
        .code32
        .balign 4
        .long   MULTIBOOT_MAGIC, 0, -MULTIBOOT_MAGIC
        .globl  _start
_start: mov     $SERIAL_DATA, %dx
        mov     $'S', %al
        out     %al, %dx
        mov     $0x10, %al
        out     %al, $DEBUG_EXIT
1:      hlt
        jmp     1b

        .section .note.GNU-stack, "", @progbits
