/*
 * 16-bit and segmented code: addresses, stacks and jump targets that wrap at 64 KiB, limits at each
 * end, code segments that begin and end anywhere in a page, real mode with limits left over from
 * protected mode, mixed operand and stack sizes. Intel SDM volume 1, 3.3.7 and 6.2; volume 3, 3.4,
 * 5.3, 21.1.
 *
 * A piece of 16-bit code is copied to where a case wants it, and entered by a far jump in a
 * protected-mode segment or in real mode. It ends by INT VECTOR_DONE, or by an exception; a stub
 * notes which, and the registers, whatever the stack segment is.
 */
#include "lib/legacy.h"

#define SEL_CODE16 0x18
#define SEL_DATA16 0x20
#define SEL_STACK16 0x28
#define SEL_REAL 0x30 /* 16-bit code at REAL_STUB, where real mode is entered and left */

#define DATA 0x50000u
#define STACK 0x60000u
#define REAL_STUB 0x8000u
#define VECTOR_DONE 0x20

/* In the order in which the stubs take them from the stack. */
struct {
    uint32_t vector, error, ip, cs, flags, sp, ax, bx, cx, dx;
} outcome;
uint32_t saved_esp;

/* Stubs for VECTOR_DONE, #SS and #GP: the stack may have any base and 16 or 32 bits, so what is on
 * it is popped. DS is the code's. */
extern const uint8_t done_stub[], ss_stub[], gp_stub[];
asm("done_stub: push $0; push $0x20; jmp note\n"
    "ss_stub: push $12; jmp note\n"
    "gp_stub: push $13\n"
    "note: push $0x10; pop %ds\n"
    "mov %eax, outcome + 24; mov %ebx, outcome + 28; mov %ecx, outcome + 32\n"
    "mov %edx, outcome + 36\n"
    "popl outcome; popl outcome + 4; popl outcome + 8; popl outcome + 12; popl outcome + 16\n"
    "mov %esp, outcome + 20\n"
    "resume: mov $0x10, %eax\n"
    "mov %eax, %ds; mov %eax, %es; mov %eax, %fs; mov %eax, %ss\n"
    "mov saved_esp, %esp\n"
    "popa\n"
    "ret");

struct {
    uint32_t offset;
    uint16_t selector;
} __attribute__((packed)) far_target;
uint32_t first_sp;

/* Runs code at offset `ip` of SEL_CODE16 with SEL_DATA16 in DS, ES and FS, eAX 0 and eCX 7. */
__attribute__((noinline)) static void run(uint32_t ip, uint32_t stack, uint32_t sp)
{
    far_target.offset = ip;
    far_target.selector = SEL_CODE16;
    first_sp = sp;
    asm volatile("push $1f\n"
                 "pusha\n"
                 "mov %%esp, saved_esp\n"
                 "mov %0, %%ss\n"
                 "mov first_sp, %%esp\n"
                 "mov %1, %%es\n"
                 "mov %1, %%fs\n"
                 "mov %1, %%ds\n"
                 "xor %%eax, %%eax\n"
                 "mov $7, %%ecx\n"
                 "ljmp *%%cs:far_target\n"
                 "1:\n"
                 :
                 : "b"(stack), "d"(SEL_DATA16)
                 : "eax", "ecx", "memory", "cc");
}

static void put(uint32_t address, const uint8_t *code, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        ((volatile uint8_t *)address)[i] = code[i];
}
#define PUT(address, ...)                                                                          \
    ({                                                                                             \
        static const uint8_t bytes_[] = {__VA_ARGS__};                                             \
        put(address, bytes_, sizeof(bytes_));                                                      \
        sizeof(bytes_);                                                                            \
    })
#define DONE 0xcd, VECTOR_DONE /* int */

static volatile uint16_t *word_at(uint32_t address)
{
    return (volatile uint16_t *)address;
}

/* Code of `base`, with `limit`, runs from `ip`. */
static void run_code(uint32_t base, uint32_t limit, uint32_t ip)
{
    gdt[SEL_CODE16 / 8] = descriptor(base, limit, 0x09b);
    run(ip, SEL_DATA, 0x90000);
}

static void addresses(void)
{
    gdt[SEL_DATA16 / 8] = descriptor(DATA, 0xffff, 0x093);
    *word_at(DATA + 0x0010) = 0x1234;
    *word_at(DATA + 0xfffe) = 0x5678;
    *word_at(DATA + 0x10010) = 0xdead;

    /* mov bx, 0xfff0; mov ax, [bx + 0x20] */
    PUT(0x70000, 0xbb, 0xf0, 0xff, 0x8b, 0x47, 0x20, DONE);
    run_code(0x70000, 0xffff, 0);
    check_equal("16-bit address: base plus displacement wraps", outcome.ax & 0xffff, 0x1234);
    /* mov bx, 0xfff0; mov si, 0x20; mov ax, [bx + si] */
    PUT(0x70000, 0xbb, 0xf0, 0xff, 0xbe, 0x20, 0x00, 0x8b, 0x00, DONE);
    run_code(0x70000, 0xffff, 0);
    check_equal("    base plus index wraps", outcome.ax & 0xffff, 0x1234);
    /* mov ebx, 0x10010; mov ax, [bx]; then by a 32-bit address */
    PUT(0x70000, 0x66, 0xbb, 0x10, 0x00, 0x01, 0x00, 0x8b, 0x07, 0x67, 0x8b, 0x13, DONE);
    run_code(0x70000, 0xffff, 0);
    check_equal("    upper halves of registers do not count", outcome.ax & 0xffff, 0x1234);
    check_equal("32-bit address beyond 64 KiB", outcome.vector, GP);
    check_equal("    at its instruction", outcome.ip, 8);
    /* mov ax, [0xffff] */
    PUT(0x70000, 0xa1, 0xff, 0xff, DONE);
    run_code(0x70000, 0xffff, 0);
    check_equal("a word at offset 0xffff", outcome.vector, GP);
    /* mov ax, [0xfffe] */
    PUT(0x70000, 0xa1, 0xfe, 0xff, DONE);
    run_code(0x70000, 0xffff, 0);
    check_equal("    at 0xfffe", outcome.ax & 0xffff, 0x5678);
    /* stc; mov ax, [0x10]; adc ax, 0: the checks leave flags alone */
    PUT(0x70000, 0xf9, 0xa1, 0x10, 0x00, 0x15, 0x00, 0x00, DONE);
    run_code(0x70000, 0xffff, 0);
    check_equal("    carry survives a load", outcome.ax & 0xffff, 0x1235);
    /* bts word [0x10], ax with ax = 0x20: two words further */
    *word_at(DATA + 0x14) = 0;
    PUT(0x70000, 0xb8, 0x20, 0x00, 0x0f, 0xab, 0x06, 0x10, 0x00, DONE);
    run_code(0x70000, 0xffff, 0);
    check_equal("    BTS moves by its bit offset", *word_at(DATA + 0x14), 1);
    /* mov ax, cs:[0]; mov word cs:[0], ax */
    PUT(0x70000, 0x2e, 0xa1, 0x00, 0x00, 0x2e, 0xa3, 0x00, 0x00, DONE);
    run_code(0x70000, 0xffff, 0);
    check_equal("a load through CS", outcome.ax & 0xffff, 0xa12e);
    check_equal("    a store raises #GP", outcome.vector, GP);
    check_equal("    at its instruction", outcome.ip, 4);

    /* A data segment with a limit in the middle of a page, then one that expands down. */
    PUT(0x70000, 0xa0, 0x33, 0x02, 0xa1, 0x33, 0x02, DONE); /* mov al, [0x233]; mov ax, [0x233] */
    gdt[SEL_DATA16 / 8] = descriptor(DATA, 0x233, 0x093);
    run_code(0x70000, 0xffff, 0);
    check_equal("a byte at the limit, then a word", outcome.vector, GP);
    check_equal("    at the word", outcome.ip, 3);
    gdt[SEL_DATA16 / 8] = descriptor(DATA, 0x232, 0x097);
    run_code(0x70000, 0xffff, 0);
    check_equal("expand-down: above the limit", outcome.vector, VECTOR_DONE);
    gdt[SEL_DATA16 / 8] = descriptor(DATA, 0x233, 0x097);
    run_code(0x70000, 0xffff, 0);
    check_equal("    at it", outcome.vector, GP);
    check_equal("    at the byte", outcome.ip, 0);
    gdt[SEL_DATA16 / 8] = descriptor(DATA, 0xffff, 0x091);
    PUT(0x70000, 0xa1, 0x10, 0x00, 0xa3, 0x10, 0x00, DONE);
    run_code(0x70000, 0xffff, 0);
    check_equal("a store to a read-only segment", outcome.ip, 3);
    /* fs: its own base */
    gdt[SEL_DATA16 / 8] = descriptor(DATA, 0xffff, 0x093);
    PUT(0x70000, 0x64, 0xa1, 0x10, 0x00, 0x64, 0xff, 0x06, 0x10, 0x00, DONE);
    run_code(0x70000, 0xffff, 0);
    check_equal("FS: a load", outcome.ax & 0xffff, 0x1234);
    check_equal("    and INC in place", *word_at(DATA + 0x10), 0x1235);
}

static void strings(void)
{
    gdt[SEL_STACK16 / 8] = descriptor(STACK, 0xffff, 0x093);
    gdt[SEL_DATA16 / 8] = descriptor(DATA, 0xffff, 0x093);
    gdt[SEL_CODE16 / 8] = descriptor(0x70000, 0xffff, 0x09b);
    *word_at(DATA) = 0x5544;
    *word_at(DATA + 0xfffe) = 0x7766;
    *word_at(DATA + 0x100) = 0;
    /* mov esi, 0x12340000; std; lodsb; mov ebx, esi; lodsb; cld */
    PUT(0x70000, 0x66, 0xbe, 0x00, 0x00, 0x34, 0x12, 0xfd, 0xac, 0x66, 0x89, 0xf3, 0xac, 0xfc,
        DONE);
    run(0, SEL_STACK16, 0x1000);
    check_equal("LODSB downward wraps SI alone", outcome.bx, 0x1234ffff);
    check_equal("    and goes on from the top", outcome.ax & 0xff, 0x77);
    /* mov si, 0xffff; lodsw */
    PUT(0x70000, 0xbe, 0xff, 0xff, 0xad, DONE);
    run(0, SEL_STACK16, 0x1000);
    check_equal("LODSW at offset 0xffff", outcome.vector, GP);
    check_equal("    at its instruction", outcome.ip, 3);
    /* xor si, si; mov di, 0x100; stc; ss: movsw (from the stack); mov bx, di; sbb dx, dx */
    *word_at(STACK) = 0x9988;
    PUT(0x70000, 0x31, 0xf6, 0xbf, 0x00, 0x01, 0xf9, 0x36, 0xa5, 0x89, 0xfb, 0x19, 0xd2, DONE);
    run(0, SEL_STACK16, 0x1000);
    check_equal("MOVSW with SS for DS", *word_at(DATA + 0x100), 0x9988);
    check_equal("    moves DI", outcome.bx & 0xffff, 0x102);
    check_equal("    and leaves the carry", outcome.dx & 0xffff, 0xffff);
    /* mov al, 0x89; mov di, 0x101; scasb of 0x99; sbb bx, bx; xor si, si; cmpsb of 0x44, 0 */
    PUT(0x70000, 0xb0, 0x89, 0xbf, 0x01, 0x01, 0xae, 0x19, 0xdb, 0x31, 0xf6, 0xa6, 0x0f, 0x97, 0xc2,
        DONE);
    run(0, SEL_STACK16, 0x1000);
    check_equal("SCASB compares", outcome.bx & 0xffff, 0xffff);
    check_equal("CMPSB, too", outcome.dx & 0xff, 1);
    /* mov al, 0x77; stosb; to a read-only segment */
    gdt[SEL_DATA16 / 8] = descriptor(DATA, 0xffff, 0x091);
    PUT(0x70000, 0xbf, 0x00, 0x02, 0xaa, DONE);
    run(0, SEL_STACK16, 0x1000);
    check_equal("STOSB to a read-only segment", outcome.vector, GP);
    gdt[SEL_DATA16 / 8] = descriptor(DATA, 0xffff, 0x093);
}

static void code_limits(void)
{
    gdt[SEL_STACK16 / 8] = descriptor(STACK, 0xffff, 0x093);
    gdt[SEL_DATA16 / 8] = descriptor(DATA, 0xffff, 0x093);
    /* jmp short -8 at offset 4: target -2 is 0xfffe, where INT lies. */
    PUT(0x70004, 0xeb, 0xf8);
    PUT(0x7fffe, DONE);
    run_code(0x70000, 0xffff, 4);
    check_equal("a jump backward over offset 0 wraps", outcome.vector, VECTOR_DONE);
    check_equal("    to the end of the segment", outcome.ip, 0x10000);
    /* The same in a segment that begins in the middle of a page. */
    PUT(0x70804, 0xeb, 0xf8);
    PUT(0x707fe, 0xf4, 0xf4);
    PUT(0x807fe, DONE);
    run_code(0x70800, 0xffff, 4);
    check_equal("    in a segment that begins inside a page", outcome.vector, VECTOR_DONE);
    check_equal("    to its end", outcome.ip, 0x10000);
    /* dec cx; jnz -8 in the same place, taken and not taken */
    PUT(0x70804, 0x49, 0x75, 0xf7, DONE);
    PUT(0x807fe, 0xeb, 0x04);
    run_code(0x70800, 0xffff, 4);
    check_equal("    a conditional jump does", outcome.cx, 0);
    check_equal("    and goes on when it is not taken", outcome.ip, 9);
    /* jmp short +0x10 at 0xfffa: target 0xc */
    PUT(0x807fa, 0xeb, 0x10);
    PUT(0x7080c, DONE);
    run_code(0x70800, 0xffff, 0xfffa);
    check_equal("a jump forward over 0xffff wraps", outcome.ip, 0xe);
    /* Falling off the end does not. */
    PUT(0x807fe, 0x40, 0x40, 0x40, 0x40);
    run_code(0x70800, 0xffff, 0xfffe);
    check_equal("running off the end raises #GP", outcome.vector, GP);
    check_equal("    behind it", outcome.ip, 0x10000);
    check_equal("    after what is within", outcome.ax & 0xffff, 2);
    /* The limit cuts an instruction: inc ax; mov bx, imm16 */
    PUT(0x70900, 0x40, 0xbb, 0x11, 0x22, DONE);
    run_code(0x70900, 2, 0);
    check_equal("an instruction that the limit cuts", outcome.vector, GP);
    check_equal("    is where it stops", outcome.ip, 1);
    check_equal("    after the one before", outcome.ax & 0xffff, 1);
    run_code(0x70900, 5, 0);
    check_equal("    with a larger limit it runs", outcome.bx & 0xffff, 0x2211);
    /* Across a page boundary that is the limit. */
    PUT(0x70ffe, 0x40, 0xbb, 0x11, 0x22, DONE);
    run_code(0x70000, 0xfff, 0xffe);
    check_equal("    across the last page's end", outcome.vector, GP);
    check_equal("    there, too", outcome.ip, 0xfff);
    run_code(0x70000, 0xffff, 0xffe);
    check_equal("    and it runs with a larger limit", outcome.ip, 0x1004);

    /* jmp near beyond the limit: nothing has happened yet */
    PUT(0x70000, 0xe9, 0xfd, 0x1f, DONE);
    PUT(0x72000, DONE);
    run_code(0x70000, 0x1fff, 0);
    check_equal("a jump beyond the limit", outcome.vector, GP);
    check_equal("    at the jump", outcome.ip, 0);
    run_code(0x70000, 0x2fff, 0);
    check_equal("    within a larger one", outcome.ip, 0x2002);
    PUT(0x70000, 0xe2, 0x7e, DONE); /* loop to 0x80 */
    PUT(0x70080, DONE);
    run_code(0x70000, 0x7f, 0);
    check_equal("LOOP beyond the limit", outcome.vector, GP);
    check_equal("    keeps its count", outcome.cx, 7);
    run_code(0x70000, 0xff, 0);
    check_equal("    within it counts", outcome.cx, 6);
    PUT(0x70000, 0x66, 0xbb, 0x80, 0x00, 0x01, 0x00, 0xff, 0xe3, DONE); /* mov ebx,..; jmp bx */
    run_code(0x70000, 0xffff, 0);
    check_equal("JMP BX has 16 bits", outcome.ip, 0x82);
    PUT(0x70006, 0x66, 0xff, 0xe3); /* jmp ebx */
    run_code(0x70000, 0xffff, 0);
    check_equal("JMP EBX has 32", outcome.vector, GP);
    check_equal("    and stays", outcome.ip, 6);
    /* A call to beyond leaves the stack alone. */
    PUT(0x70000, 0xe8, 0xfd, 0x1f, DONE);
    gdt[SEL_CODE16 / 8] = descriptor(0x70000, 0x1fff, 0x09b);
    run(0, SEL_STACK16, 0x1000);
    check_equal("CALL beyond the limit", outcome.vector, GP);
    check_equal("    at the call", outcome.ip, 0);
    check_equal("    with the stack as before", outcome.sp, 0x1000);
    /* In 32-bit code a 16-bit jump truncates. */
    PUT(0x20010, 0x66, 0xeb, 0x01, 0xf4, DONE); /* jmp short with 16 bits */
    PUT(0x00013, 0xf4, DONE);
    gdt[SEL_CODE16 / 8] = descriptor(0, 0xfffff, 0xc9b);
    run(0x20010, SEL_DATA, 0x90000);
    check_equal("a jump of 16 bits in flat 32-bit code", outcome.vector, VECTOR_DONE);
    check_equal("    loses the upper half", outcome.ip, 0x16);
}

static void stacks(void)
{
    gdt[SEL_STACK16 / 8] = descriptor(STACK, 0xffff, 0x093);
    gdt[SEL_DATA16 / 8] = descriptor(DATA, 0xffff, 0x093);
    /* push 0x1111; push dword 0x22223333; pop bx; pop ecx: with the stack pointer's upper half set
     */
    PUT(0x70000, 0x68, 0x11, 0x11, 0x66, 0x68, 0x33, 0x33, 0x22, 0x22, 0x89, 0xe2, 0x5b, 0x66, 0x59,
        DONE);
    gdt[SEL_CODE16 / 8] = descriptor(0x70000, 0xffff, 0x09b);
    run(0, SEL_STACK16, 0xabcd1000);
    check_equal("pushes of 16 and 32 bits on a 16-bit stack", outcome.dx & 0xffff, 0xffa);
    check_equal("    POP BX", outcome.bx & 0xffff, 0x3333);
    check_equal("    POP ECX", outcome.cx, 0x11112222);
    /* xor sp, sp; push cx: wraps to 0xfffe. mov sp, 1; push: the word at 0xffff does not fit */
    PUT(0x70000, 0x31, 0xe4, 0x51, 0x89, 0xe2, DONE);
    run(0, SEL_STACK16, 0x1000);
    check_equal("PUSH with SP 0 wraps", outcome.dx & 0xffff, 0xfffe);
    check_equal("    to the top", *word_at(STACK + 0xfffe), 7);
    /* call and ret, with an argument to drop; enter and leave */
    PUT(0x70000, 0x68, 0x44, 0x44, 0xe8, 0x04, 0x00, 0x89, 0xe2, DONE, 0x55, 0x89, 0xe5, 0x8b, 0x5e,
        0x04, 0xc9, 0xc2, 0x02, 0x00);
    run(0, SEL_STACK16, 0x1000);
    check_equal("CALL, an argument by BP, LEAVE and RET n", outcome.bx & 0xffff, 0x4444);
    check_equal("    the stack is as before", outcome.dx & 0xffff, 0x1000);
    /* call [mem]; push [mem]; ret to a 32-bit offset by 66 */
    *word_at(DATA + 0x40) = 0x20;
    PUT(0x70000, 0xff, 0x16, 0x40, 0x00, DONE);
    PUT(0x70020, 0xff, 0x36, 0x40, 0x00, 0x5a, 0xc3);
    run(0, SEL_STACK16, 0x1000);
    check_equal("CALL [mem], PUSH [mem], RET", outcome.dx & 0xffff, 0x20);
    PUT(0x70000, 0x66, 0xe8, 0x02, 0x00, 0x00, 0x00, DONE, 0x66, 0xc3);
    run(0, SEL_STACK16, 0x1000);
    check_equal("CALL and RET of 32 bits in 16-bit code", outcome.ip, 8);
    PUT(0x70000, 0x66, 0x68, 0x00, 0x00, 0x02, 0x00, 0x66, 0xc3, DONE); /* push 0x20000; retd */
    run(0, SEL_STACK16, 0x1000);
    check_equal("RET beyond the limit", outcome.vector, GP);
    check_equal("    at the RET", outcome.ip, 6);
    /* pushf; pop ax; jcxz */
    PUT(0x70000, 0xf9, 0x9c, 0x5b, 0x31, 0xc9, 0xe3, 0x02, 0xf4, 0xf4, DONE);
    run(0, SEL_STACK16, 0x1000);
    check_equal("PUSHF", outcome.bx & 1, 1);
    check_equal("JCXZ", outcome.ip, 11);
    PUT(0x70000, 0x66, 0xb9, 0x00, 0x00, 0x01, 0x00, 0xe3, 0x02, 0xf4, 0xf4, DONE);
    run(0, SEL_STACK16, 0x1000);
    check_equal("    with the upper half of ECX set", outcome.ip, 12);
    PUT(0x70000, 0x66, 0xb9, 0x01, 0x00, 0x01, 0x00, 0xe2, 0xfe, DONE); /* mov ecx; loop self */
    run(0, SEL_STACK16, 0x1000);
    check_equal("LOOP counts CX alone", outcome.cx, 0x10000);

    /* mov bx, 0x1122; pusha; mov [0x80], sp; mov [0x82], the CX on the stack; xor bx, bx; popa;
     * with room, and over the end of the segment */
    PUT(0x70000, 0xbb, 0x22, 0x11, 0x60, 0x89, 0x26, 0x80, 0x00, 0x89, 0xe5, 0x8b, 0x46, 0x0c, 0xa3,
        0x82, 0x00, 0x31, 0xdb, 0x61, DONE);
    for (uint32_t sp = 0x1000; sp; sp = sp == 0x1000 ? 8 : 0) {
        run(0, SEL_STACK16, sp);
        check_equal("PUSHA and POPA", outcome.bx & 0xffff, 0x1122);
        check_equal("    16 bytes", *word_at(DATA + 0x80), (sp - 16) & 0xffff);
        check_equal("    the first is AX, then CX", *word_at(DATA + 0x82), 7);
        check_equal("    the stack is as before", outcome.sp & 0xffff, sp);
    }
    /* push ds; pop ax; push cs; pop bx; mov dx, ss; mov [0x80], es */
    PUT(0x70000, 0x1e, 0x58, 0x0e, 0x5b, 0x8c, 0xd2, 0x8c, 0x06, 0x80, 0x00, DONE);
    run(0, SEL_STACK16, 0x1000);
    check_equal("PUSH DS", outcome.ax & 0xffff, SEL_DATA16);
    check_equal("PUSH CS", outcome.bx & 0xffff, SEL_CODE16);
    check_equal("MOV DX, SS", outcome.dx & 0xffff, SEL_STACK16);
    check_equal("MOV to memory, ES", *word_at(DATA + 0x80), SEL_DATA16);

    /* A stack that ends in the middle of a page. */
    gdt[SEL_STACK16 / 8] = descriptor(STACK, 0x1233, 0x093);
    PUT(0x70000, 0xbc, 0x33, 0x12, 0x5b, DONE); /* mov sp, 0x1233; pop bx */
    run(0, SEL_STACK16, 0x1000);
    check_equal("POP beyond the limit", outcome.vector, SS);
    check_equal("    at the POP", outcome.ip, 3);
    check_equal("    with the stack as before", outcome.sp, 0x1233);
    /* mov sp, 0x1232; pop bx */
    PUT(0x70000, 0xbc, 0x32, 0x12, 0x5b, DONE);
    run(0, SEL_STACK16, 0x1000);
    check_equal("    one byte lower it works", outcome.vector, VECTOR_DONE);
    check_equal("    and moves the stack", outcome.sp, 0x1234);
    gdt[SEL_STACK16 / 8] = descriptor(STACK, 0xffff, 0x093);
    PUT(0x70000, 0xbd, 0xff, 0xff, 0x8b, 0x46, 0x00, DONE); /* mov bp, 0xffff; mov ax, [bp] */
    run(0, SEL_STACK16, 0x1000);
    check_equal("a word at offset 0xffff of the stack", outcome.vector, SS);
    check_equal("    at its instruction", outcome.ip, 3);
}

/* --- real mode --- */

/* Copied to REAL_STUB. The words behind `real_result` are: ax, vector, ip, cs, flags, sp. */
extern const uint8_t real_begin[], real_end[], real_target[], real_result[], real_done[], real_ss[],
    real_gp[];
asm(".pushsection .rodata\n"
    ".code16\n"
    "real_begin:\n"
    "mov %cr0, %eax; and $~1, %al; mov %eax, %cr0\n"
    "ljmp $0x800, $(1f - real_begin)\n"
    "1: lidtw %cs:(real_idt - real_begin)\n"
    "mov $0x5000, %ax; mov %ax, %ds; mov %ax, %es; mov %ax, %fs\n"
    "mov $0x6000, %ax; mov %ax, %ss; mov $0x1000, %sp\n"
    "xor %eax, %eax; mov $7, %ecx\n"
    "ljmp *%cs:(real_target - real_begin)\n"
    "real_target: .long 0\n"
    "real_idt: .word 0x3ff; .long 0\n"
    "real_done: push $0x20; jmp 2f\n"
    "real_ss: push $12; jmp 2f\n"
    "real_gp: push $13\n"
    "2: push %cs; pop %ds\n"
    "mov %ax, real_result - real_begin\n"
    "popw real_result - real_begin + 2; popw real_result - real_begin + 4\n"
    "popw real_result - real_begin + 6; popw real_result - real_begin + 8\n"
    "mov %sp, real_result - real_begin + 10\n"
    "mov %cr0, %eax; or $1, %al; mov %eax, %cr0\n"
    "ljmpl $0x08, $resume\n"
    "real_result: .skip 12\n"
    ".code32\n"
    "real_end:\n"
    ".popsection");

static void set_real_vector(unsigned vector, const uint8_t *stub)
{
    *word_at(vector * 4) = stub - real_begin;
    *word_at(vector * 4 + 2) = REAL_STUB >> 4;
}

/* Runs code at cs:ip in real mode, with DATA >> 4 in DS, ES and FS, STACK >> 4 in SS and SP 0x1000.
 * The limit of FS is that of selector `fs`, those of the others are 64 KiB. */
__attribute__((noinline)) static void run_real(uint16_t cs, uint16_t ip, uint32_t fs)
{
    struct {
        uint16_t limit;
        uint32_t base;
    } __attribute__((packed)) idtr;
    volatile uint16_t *result = word_at(REAL_STUB + (real_result - real_begin));

    *word_at(REAL_STUB + (real_target - real_begin)) = ip;
    *word_at(REAL_STUB + (real_target - real_begin) + 2) = cs;
    asm volatile("sidt %0" : "=m"(idtr));
    asm volatile("push $1f\n"
                 "pusha\n"
                 "mov %%esp, saved_esp\n"
                 "mov %0, %%ss\n"
                 "mov %0, %%es\n"
                 "mov %1, %%fs\n"
                 "mov %0, %%ds\n"
                 "ljmp $0x30, $0\n"
                 "1:\n"
                 :
                 : "b"(SEL_DATA16), "d"(fs)
                 : "memory", "cc");
    asm volatile("lidt %0" : : "m"(idtr));
    outcome.ax = result[0];
    outcome.vector = result[1];
    outcome.ip = result[2];
    outcome.cs = result[3];
    outcome.flags = result[4];
    outcome.sp = result[5];
}

static void real_mode(void)
{
    gdt[SEL_DATA16 / 8] = descriptor(0, 0xffff, 0x093);
    gdt[SEL_REAL / 8] = descriptor(REAL_STUB, 0xffff, 0x09b);
    put(REAL_STUB, real_begin, real_end - real_begin);
    set_real_vector(VECTOR_DONE, real_done);
    set_real_vector(SS, real_ss);
    set_real_vector(GP, real_gp);

    *word_at(DATA + 0x10) = 0x1234;
    *word_at(DATA + 0x20010) = 0xbeef;
    PUT(0x70000, 0xa1, 0x10, 0x00, 0x50, 0x5b, 0x01, 0xd8, DONE); /* mov, push, pop, add */
    run_real(0x7000, 0, SEL_DATA16);
    check_equal("real mode: loads, pushes, sums", outcome.ax, 0x2468);
    PUT(0x70000, 0xb8, 0x01, 0x00, 0xa1, 0xff, 0xff, DONE);
    run_real(0x7000, 0, SEL_DATA16);
    check_equal("    a word at offset 0xffff", outcome.vector, GP);
    check_equal("    at its instruction", outcome.ip, 3);
    check_equal("    nothing loaded", outcome.ax, 1);

    /* One instruction pointer in two code segments, by far calls: each adds to AX. */
    PUT(0x70000, 0x9a, 0x00, 0x01, 0x00, 0x71, 0x9a, 0x00, 0x01, 0x00, 0x72, 0x49, 0x75, 0xf3,
        DONE);
    PUT(0x71100, 0x05, 0x01, 0x00, 0xcb); /* add ax, 1; retf */
    PUT(0x72100, 0x05, 0x00, 0x01, 0xcb); /* add ax, 0x100; retf */
    run_real(0x7000, 0, SEL_DATA16);
    check_equal("two code segments with one instruction pointer", outcome.ax, 0x707);

    /* Between segments that begin inside pages, and on to one that does not: call far by pointer
     * and by memory, push ax, call far to RET 2, jmp far. */
    *word_at(DATA + 0x40) = 0x100;
    *word_at(DATA + 0x42) = 0x7199;
    PUT(0x70800, 0x9a, 0x00, 0x01, 0x88, 0x71, 0xff, 0x1e, 0x40, 0x00, 0x50, 0x9a, 0x10, 0x01, 0x99,
        0x71, 0xea, 0x20, 0x00, 0x00, 0x70);
    PUT(0x71980, 0x05, 0x01, 0x00, 0xcb);
    PUT(0x71a90, 0x05, 0x00, 0x01, 0xcb);
    PUT(0x71aa0, 0x05, 0x00, 0x10, 0xca, 0x02, 0x00);
    PUT(0x70020, DONE);
    run_real(0x7080, 0, SEL_DATA16);
    check_equal("far transfers between segments that begin inside pages", outcome.ax, 0x1101);
    check_equal("    in the end CS", outcome.cs, 0x7000);
    check_equal("    and the stack as before", outcome.sp, 0x1000);
    PUT(0x70800, 0xbc, 0x02, 0x00, 0x9a, 0x00, 0x01, 0x88, 0x71, DONE); /* mov sp, 2; call far */
    run_real(0x7080, 0, SEL_DATA16);
    check_equal("a far return address over the end of the stack segment", outcome.ax, 1);
    check_equal("    goes to its top and is found there", outcome.sp, 2);

    /* The same bytes by two code segments: where one jumps within the page, the other wraps. */
    PUT(0x70804, 0x40, 0xeb, 0xf7); /* inc ax; jmp short -9 */
    PUT(0x707fe, DONE);
    PUT(0x807fe, 0x05, 0x10, 0x00, DONE); /* add ax, 0x10 */
    for (unsigned i = 0; i < 2; i++) {
        run_real(0x7000, 0x804, SEL_DATA16);
        check_equal("a jump inside a page", outcome.ax, 1);
        check_equal("    arrives there", outcome.ip, 0x800);
        run_real(0x7080, 4, SEL_DATA16);
        check_equal("the same bytes where the segment begins behind the target", outcome.ax, 1);
        check_equal("    run off the segment's end", outcome.vector, GP);
    }

    /* Limits that real mode inherits: FS has 4 GiB. */
    PUT(0x70000, 0x66, 0xbb, 0x10, 0x00, 0x02, 0x00, 0x64, 0x67, 0x8b, 0x03, 0x67, 0x03, 0x03,
        DONE);
    run_real(0x7000, 0, SEL_DATA);
    check_equal("a load beyond 64 KiB by FS with its limit from protected mode", outcome.ax,
                0xbeef);
    check_equal("    by DS", outcome.vector, GP);
    check_equal("    at its instruction", outcome.ip, 10);
    run_real(0x7000, 0, SEL_DATA16);
    check_equal("    by FS with a limit of 64 KiB", outcome.ip, 6);
    /* mov ax, 0x5001; mov ds, ax; mov ax, [0]; push ds; pop es; es: add ax, [0] */
    PUT(0x70000, 0xb8, 0x01, 0x50, 0x8e, 0xd8, 0xa1, 0x00, 0x00, 0x1e, 0x07, 0x26, 0x03, 0x06, 0x00,
        0x00, DONE);
    run_real(0x7000, 0, SEL_DATA16);
    check_equal("DS and ES loaded", outcome.ax, 0x2468);
}

void guest_main(void)
{
    set_gate(VECTOR_DONE, SEL_CODE, (uint32_t)done_stub, 0x8e);
    set_gate(SS, SEL_CODE, (uint32_t)ss_stub, 0x8e);
    set_gate(GP, SEL_CODE, (uint32_t)gp_stub, 0x8e);
    addresses();
    strings();
    code_limits();
    stacks();
    real_mode();
}
