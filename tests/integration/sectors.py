"""Boot sectors: 512 bytes of real-mode code that a BIOS loads from a disk, assembled on request.

A sector's source is entered at 0:0x7c00 with all segments 0 and interrupts off, and can use the macros
of PRELUDE.
"""

import subprocess

PRELUDE = """
        .equ SERIAL, 0x3f8
        .equ DEBUG_EXIT, 0xf4
        .equ CMOS, 0x70

        .macro outb value, port
        mov     $\\port, %dx
        mov     $\\value, %al
        out     %al, %dx
        .endm

        # Writes a zero-terminated string to the serial port.
        .macro print label
        mov     $\\label, %si
        call    print_string
        .endm

        .macro exit value
        outb    \\value, DEBUG_EXIT
        .endm

        .section .text
        .code16
        .globl  _start
_start: cli
        cld
        ljmp    $0, $1f
1:      xor     %ax, %ax
        mov     %ax, %ds
        mov     %ax, %es
        mov     %ax, %ss
        mov     $0x7c00, %sp
        jmp     main

print_string:
        mov     $SERIAL + 5, %dx
2:      in      %dx, %al
        test    $0x20, %al
        jz      2b
        lodsb
        test    %al, %al
        jz      3f
        mov     $SERIAL, %dx
        out     %al, %dx
        jmp     print_string
3:      ret
main:
"""

SOURCES = {
    "hello": """
        print   text
        exit    3
1:      hlt
        jmp     1b
text:   .asciz  "the boot sector runs\\n"
    """,
    # Prints the first file of the firmware configuration device, up to a zero.
    "fw-cfg": """
        mov     $0x510, %dx
        mov     $0x20, %ax
        out     %ax, %dx
        mov     $buffer, %di
1:      mov     $0x511, %dx
        in      %dx, %al
        stosb
        test    %al, %al
        jnz     1b
        print   buffer
        exit    1
        .equ    buffer, 0x8000
    """,
    # Says how many starts there were, which CMOS remembers, and resets in another way each time.
    "resets": """
        print   text
        mov     $0x7e, %al
        out     %al, $CMOS
        in      $CMOS + 1, %al
        inc     %al
        out     %al, $CMOS + 1
        cmp     $1, %al
        je      by_cf9
        cmp     $2, %al
        je      by_8042
        cmp     $3, %al
        je      by_92
        cmp     $4, %al
        je      by_fault
        exit    5
by_cf9: outb    6, 0xcf9
1:      jmp     1b
by_8042:
        outb    0xfe, 0x64
1:      jmp     1b
by_92:  outb    1, 0x92
1:      jmp     1b
by_fault:
        lidt    none
        ud2
none:   .word   0
        .long   0
text:   .asciz  "start\\n"
    """,
    # Runs code at 0xd0000 while the PAM register of that segment changes: 3 is RAM, 1 RAM that is not
    # written, 2 writes only, 0 nothing.
    "shadow": """
        mov     $3, %bl
        call    set_pam
        movl    $0x00cb01b0, %es:0          # mov $1, %al; lret
        mov     $1, %bh
        call    expect
        mov     $1, %bl
        call    set_pam
        movb    $2, %es:1
        call    expect                      # still 1
        mov     $2, %bl
        call    set_pam
        movb    $3, %es:1
        cmpb    $0xff, %es:0
        jne     wrong
        mov     $1, %bl
        call    set_pam
        mov     $3, %bh
        call    expect
        mov     $0, %bl
        call    set_pam
        movb    $4, %es:1
        cmpw    $0xffff, %es:0
        jne     wrong
        mov     $3, %bl
        call    set_pam
        call    expect                      # still 3
        movb    $5, %es:1
        mov     $5, %bh
        call    expect
        exit    1
wrong:  exit    2
set_pam:
        mov     $0xcf8, %dx
        mov     $0x80000090, %eax
        out     %eax, %dx
        mov     $0xcff, %dx
        mov     %bl, %al
        out     %al, %dx
        mov     $0xd000, %ax
        mov     %ax, %es
        ret
expect: mov     $3, %cx                     # more than once: the second time is another way
1:      lcall   $0xd000, $0
        cmp     %bh, %al
        jne     wrong
        loop    1b
        ret
    """,
    # The BIOS area and the ROM below 4 GiB keep what they have, whatever is written. Protected mode
    # leaves a limit of 4 GiB behind in %fs.
    "rom": """
        lgdt    gdt_pointer
        mov     %cr0, %eax
        or      $1, %al
        mov     %eax, %cr0
        mov     $8, %bx
        mov     %bx, %fs
        and     $0xfe, %al
        mov     %eax, %cr0
        mov     $0xfffffff0, %ebx
        mov     $0xffff0, %ecx
        mov     %fs:(%ebx), %eax
        notl    %fs:(%ebx)
        cmp     %fs:(%ebx), %eax
        jne     changed
        mov     %fs:(%ecx), %eax
        notl    %fs:(%ecx)
        cmp     %fs:(%ecx), %eax
        jne     changed
        exit    1
changed:
        exit    2
        .balign 8
gdt:    .quad   0, 0x00cf92000000ffff
gdt_pointer:
        .word   15
        .long   gdt
    """,
    # What the BIOS does for programs: reads block 1 of the medium that it boots from (int 13h), shows it
    # on the screen (int 10h), takes a line of keys (int 16h), and writes it to block 1 if it can.
    "services": """
        sti
        mov     %dl, drive
        mov     $0x2, %ah
        call    transfer
        jc      wrong
        mov     $BUFFER, %si
1:      lodsb
        test    %al, %al
        jz      2f
        call    show
        jmp     1b
2:      mov     $BUFFER, %di
3:      xor     %ah, %ah
        int     $0x16
        call    show
        stosb
        cmp     $'\\r', %al
        jne     3b
        mov     $0x3, %ah
        call    transfer
        jc      wrong
        exit    1
wrong:  exit    2
show:   mov     $0xe, %ah
        mov     $7, %bx
        int     $0x10
        ret
transfer:                                   # 2 in %ah reads, 3 writes
        mov     drive, %dl
        cmp     $0x80, %dl
        jae     1f
        mov     $1, %al
        mov     $2, %cx                     # cylinder 0, sector 2
        mov     $0, %dh
        mov     $BUFFER, %bx
        int     $0x13
        ret
1:      or      $0x40, %ah
        xor     %al, %al
        mov     $packet, %si
        int     $0x13
        ret
drive:  .byte   0
        .balign 4
packet: .word   16, 1
        .word   BUFFER, 0
        .quad   1
        .equ    BUFFER, 0x8000
    """,
    # Waits for the real-time clock's three interrupts, each alone: periodic, at the end of an update,
    # and an alarm in any second. Ends with the sum of their flags, times 16.
    "clock": """
        movw    $tick, 0x70 * 4
        movw    $0, 0x70 * 4 + 2
        in      $0xa1, %al
        and     $0xfe, %al
        out     %al, $0xa1
        in      $0x21, %al
        and     $0xfb, %al
        out     %al, $0x21
        mov     $0xc0, %bl                  # in any hour, minute, second
        mov     $1, %bh
        call    put
        mov     $3, %bh
        call    put
        mov     $5, %bh
        call    put
        mov     $0x40, %bl
        call    wait
        mov     $0x10, %bl
        call    wait
        mov     $0x20, %bl
        call    wait
        mov     seen, %al
        shr     $4, %al
        out     %al, $DEBUG_EXIT
put:    mov     %bh, %al                    # %bl into register %bh
        out     %al, $CMOS
        mov     %bl, %al
        out     %al, $CMOS + 1
        ret
wait:   or      $2, %bl                     # 24 hours
        mov     $0xb, %bh
        call    put
        and     $0x70, %bl
1:      sti
        hlt
        cli
        test    %bl, seen
        jz      1b
        ret
tick:   mov     $0xc, %al
        out     %al, $CMOS
        in      $CMOS + 1, %al
        and     %bl, %al
        or      %al, seen
        mov     $0x20, %al
        out     %al, $0xa0
        out     %al, $0x20
        iret
seen:   .byte   0
    """,
}


def build(folder, name):
    """Assembles a sector and returns the path of a disk image that begins with it."""
    image = folder / f"{name}.img"
    subprocess.run(["as", "--32", "-o", folder / f"{name}.o"],
                   input=(PRELUDE + SOURCES[name]).encode(), check=True)
    subprocess.run(["ld", "-m", "elf_i386", "-Ttext=0x7c00", "--oformat", "binary", "-o", image,
                    folder / f"{name}.o"], check=True)
    code = image.read_bytes()
    assert len(code) <= 510
    image.write_bytes(code.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
    return image


def disc(folder, sector):
    """The path of an ISO image that boots from a sector, without emulation of another drive."""
    tree = folder / f"{sector.stem}.tree"
    tree.mkdir()
    (tree / "sector").write_bytes(sector.read_bytes()[:2048])
    image = folder / f"{sector.stem}.iso"
    subprocess.run(["xorriso", "-as", "mkisofs", "-b", "sector", "-no-emul-boot", "-boot-load-size",
                    "4", "-o", image, tree], check=True, capture_output=True)
    return image
