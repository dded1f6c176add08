"""Tiny guests: multiboot 1 kernels of a few instructions, assembled when a test asks for one.

A guest's source runs in 32-bit protected mode with flat segments and no stack. It can use the macros
of PRELUDE; `exit V` ends the run with status (V << 1) | 1 where the VM has the debug-exit device.
"""

import hashlib
import subprocess

PRELUDE = """
        .equ SERIAL, 0x3f8
        .equ DEBUG_EXIT, 0xf4

        .macro outb value, port
        mov     $\\port, %dx
        mov     $\\value, %al
        out     %al, %dx
        .endm

        .macro outw value, port
        mov     $\\port, %dx
        mov     $\\value, %ax
        out     %ax, %dx
        .endm

        # Writes a zero-terminated string to the serial port.
        .macro print label
        mov     $\\label, %esi
        mov     $SERIAL, %dx
101:    lodsb
        test    %al, %al
        jz      102f
        out     %al, %dx
        jmp     101b
102:
        .endm

        .macro exit value
        outb    \\value, DEBUG_EXIT
        stop
        .endm

        .macro stop
103:    hlt
        jmp     103b
        .endm

        .section .text
        .code32
        .balign 4
        .long   0x1badb002, 0, -0x1badb002
        .globl  _start
_start: cld
"""

# Each is a whole program; see the tests for what is expected of it.
SOURCES = {
    "exit": "exit 0x10",
    "exit-zero": "exit 0",
    "hello": """
        print text
        exit 1
text:   .asciz  "hello from the guest\\n"
    """,
    # PM1a control: SLP_EN and the sleep type of S5 (dev/legacy/acpi_pm.h).
    "power-off": "outw (1 << 13 | 7 << 10), 0x604; stop",
    # An exception without an interrupt table, then without one for the double fault.
    "triple-fault": """
        lidt    none
        ud2
none:   .word   0
        .long   0
    """,
    "panic": "outb 1, 0x505; stop",
    "reset-cf9": "outb 6, 0xcf9; stop",
    "reset-8042": "outb 0xfe, 0x64; stop",
    "reset-92": "outb 1, 0x92; stop",
    # Memory keeps what it has over a reset, but the kernel is loaded anew.
    "reset-once": """
        print text
        movb    $'x', text
        cmpl    $0x5e7, 0x200000
        je      again
        movl    $0x5e7, 0x200000
        outb    6, 0xcf9
        stop
again:  exit 3
text:   .asciz  "start\\n"
    """,
    "halt": """
        print text
        cli
        stop
text:   .asciz  "halted\\n"
    """,
    "spin": """
        print text
1:      jmp     1b
text:   .asciz  "spinning\\n"
    """,
    # Sends back what comes, and ends at an exclamation mark.
    "echo": """
        print text
1:      mov     $SERIAL + 5, %dx
        in      %dx, %al
        test    $1, %al
        jz      1b
        mov     $SERIAL, %dx
        in      %dx, %al
        out     %al, %dx
        cmp     $'!', %al
        jne     1b
        exit    2
text:   .asciz  "ready\\n"
    """,
    # One byte to the debug console.
    "debugcon": "outb 'D', 0xe9; exit 1",
    # Real mode: counts to 3 at 0x0800:0, where `again` is at 0x0800:0x10, and ends with that.
    "real-mode": """
        mov     $real, %esi
        mov     $0x8000, %edi
        mov     $real_end - real, %ecx
        rep     movsb
        lgdt    table
        ljmp    $8, $0x8000 + leave - real
        .code16
real:   mov     $3, %cx
        xor     %bx, %bx
        jmp     again
        .org    real + 0x10
again:  inc     %bx
        loop    again
        mov     $DEBUG_EXIT, %dx
        mov     %bx, %ax
        out     %al, %dx
1:      hlt
        jmp     1b
leave:  mov     %cr0, %eax
        and     $~1, %eax
        mov     %eax, %cr0
        ljmp    $0x800, $0
real_end:
        .balign 8
gdt:    .quad   0, 0x00009a000000ffff
table:  .word   15
        .long   gdt
    """,
    # For a debugger: counts 2, 4, 6 in memory, reads it, and ends with what it read.
    "count": """
        .globl  again, counted, done, counter
        mov     $3, %ecx
        xor     %eax, %eax
again:  add     $2, %eax
        mov     %eax, counter
counted:
        loop    again
        mov     counter, %ebx
done:   mov     $DEBUG_EXIT, %dx
        mov     %bl, %al
        out     %al, %dx
        stop
        .balign 4
counter: .long  0
    """,
    # Writes 100000 functions, each behind the last in a ring of 1 MiB, and calls each once. Ends with 5
    # if each call ran what was written.
    "churn": """
        mov     $0x80000, %esp
        xor     %esi, %esi
        xor     %edi, %edi
1:      inc     %esi
        add     $16, %edi
        and     $0xfffff, %edi
        lea     0x200000(%edi), %ebx
        movb    $0xb8, (%ebx)           # mov, ret
        mov     %esi, 1(%ebx)
        movb    $0xc3, 5(%ebx)
        call    *%ebx
        cmp     %esi, %eax
        jne     2f
        cmp     $100000, %esi
        jne     1b
        exit    2
2:      exit    3
    """,
    # The same with one function, in the page of its caller.
    "rewrite": """
        mov     $0x80000, %esp
        xor     %esi, %esi
1:      inc     %esi
        mov     %esi, function + 1
        call    function
        cmp     %esi, %eax
        jne     2f
        cmp     $20000, %esi
        jne     1b
        exit    2
2:      exit    3
        .balign 64
function:
        mov     $0, %eax
        ret
    """,
    # Much output, as fast as it goes: 64 KiB.
    "flood": """
        mov     $0x10000, %ecx
        mov     $SERIAL, %dx
        mov     $'.', %al
1:      out     %al, %dx
        loop    1b
        exit    1
    """,
    # The text of the multiboot command line, whose address is at 16 of the information.
    "command-line": """
        mov     16(%ebx), %esi
        mov     $SERIAL, %dx
1:      lodsb
        test    %al, %al
        jz      2f
        out     %al, %dx
        jmp     1b
2:      exit    1
    """,
}


def build(folder, name):
    """Assembles a guest of SOURCES into `folder` and returns its path."""
    source = PRELUDE + SOURCES[name].replace(";", "\n") + '\n.section .note.GNU-stack,"",@progbits\n'
    target = folder / f"{name}-{hashlib.sha256(source.encode()).hexdigest()[:8]}.elf"
    if not target.exists():
        assembly = folder / f"{name}.s"
        assembly.write_text(source)
        subprocess.run(["gcc", "-m32", "-nostdlib", "-static", "-no-pie", "-Wl,-Ttext=0x100000,-n",
                        "-Wl,--build-id=none", "-o", target, assembly], check=True)
    return target
