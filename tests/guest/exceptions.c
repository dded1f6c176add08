/*
 * Every exception that 64-bit code can raise: its vector, error code, the pushed RIP (a fault's
 * instruction or a trap's successor), RFLAGS.RF (set for faults) and CR2. Intel SDM volume 3, 6.15.
 */
#include "lib/guest.h"

static const uint64_t not_canonical = 0x0000800000000000ull;

static void expect(const char *what, uint64_t vector, uint64_t error)
{
    check_equal(what, trap.vector, vector);
    if (trap.vector == vector && trap.error != error)
        check_equal("    its error code", trap.error, error);
}

static void expect_fault(const char *what, uint64_t vector, uint64_t error)
{
    expect(what, vector, error);
    if (trap.vector == vector) {
        if (trap.rip != trap_start)
            check_equal("    RIP is the instruction's", trap.rip, trap_start);
        if (!(trap.rflags & FLAG_RF) && !on_tcg())
            check("    RF is set in the pushed flags", false);
    }
}

static void divide(void)
{
    uint64_t rax = 1, rdx = 0;

    TRY("div %2", : "+a"(rax), "+d"(rdx) : "r"(0ull));
    expect_fault("#DE: divide by zero", DE, 0);
    rax = 0;
    rdx = 1;
    TRY("div %2", : "+a"(rax), "+d"(rdx) : "r"(1ull));
    expect_fault("#DE: quotient too large", DE, 0);
    check("    registers are unchanged", rax == 0 && rdx == 1);
    rax = 1ull << 63;
    rdx = ~0ull;
    TRY("idiv %2", : "+a"(rax), "+d"(rdx) : "r"(-1ll));
    expect_fault("#DE: the most negative number by -1", DE, 0);
    rax = 0x100;
    TRY("divb %b1", : "+a"(rax) : "r"(1ull));
    expect_fault("#DE: byte quotient too large", DE, 0);
}

static void traps(void)
{
    TRY("int3", ::);
    expect("#BP: INT3", BP, 0);
    check_equal("    RIP is behind it", trap.rip, trap_start + 1);
    TRY(".byte 0xf1", ::);
    expect("#DB: INT1", DB, 0);
    check_equal("    RIP is behind it", trap.rip, trap_start + 1);
    TRY("int $0x55", ::);
    expect("INT n", 0x55, 0);
    check_equal("    RIP is behind it", trap.rip, trap_start + 2);
}

static void undefined(void)
{
    TRY("ud2", ::);
    expect_fault("#UD: UD2", UD, 0);
    TRY(".byte 0x0f, 0xff, 0xc0", ::);
    expect_fault("#UD: UD0", UD, 0);
    TRY(".byte 0x06", ::);
    expect_fault("#UD: PUSH ES in 64-bit mode", UD, 0);
    TRY("lock; .byte 0x48, 0x89, 0xc0", ::);
    expect_fault("#UD: LOCK on a register move", UD, 0);
    TRY(".byte 0xc7, 0xc8, 0, 0, 0, 0", ::);
    expect_fault("#UD: reserved ModRM digit", UD, 0);
    uint64_t cr4 = read_cr4();
    write_cr4(cr4 & ~CR4_OSFXSR);
    TRY("movaps %%xmm0, %%xmm1", ::);
    expect_fault("#UD: SSE without OSFXSR", UD, 0);
    TRY("pshufw $0, %%mm0, %%mm0; emms", ::);
    expect("SSE's instructions for MMX registers need no OSFXSR", NO_TRAP, 0);
    write_cr4(cr4);
    TRY("mov %%cr1, %%rax", ::: "rax");
    expect_fault("#UD: CR1", UD, 0);
}

static void too_long(void)
{
    uint8_t *pages = page_new(), *second = page_new();

    TRY(".fill 14, 1, 0x66; nop", ::);
    expect("an instruction of 15 bytes", NO_TRAP, 0);
    TRY(".fill 15, 1, 0x66; nop", ::);
    expect_fault("#GP: an instruction of 16 bytes", GP, 0);
    TRY("xor %%eax, %%eax; " HERE ".fill 10, 1, 0x2e; movabs $0, %%rax", : : : "rax", "cc");
    expect_fault("#GP: an immediate beyond 15 bytes", GP, 0);
    if (second != pages + PAGE_SIZE) {
        check("two pages in a row", false);
        return;
    }
    for (unsigned i = 0; i < 16; i++)
        second[(int)i - 8] = 0x66;
    TRY("mov %0, trap_start; jmp *%0", : : "r"(second - 8));
    expect_fault("#GP: 16 bytes on two pages", GP, 0);
}

static void no_fpu(void)
{
    uint64_t cr0 = read_cr0();

    write_cr0(cr0 | CR0_TS);
    TRY("fld1", ::);
    expect_fault("#NM: x87 with TS", NM, 0);
    TRY("movaps %%xmm0, %%xmm1", ::);
    expect_fault("#NM: SSE with TS", NM, 0);
    TRY("fwait", ::);
    expect_fault("#NM: FWAIT with TS and MP", NM, 0);
    write_cr0((cr0 | CR0_TS) & ~CR0_MP);
    TRY("fwait", ::);
    expect("FWAIT with TS without MP", NO_TRAP, 0);
    asm volatile("clts");
    check("CLTS clears TS", !(read_cr0() & CR0_TS));
    write_cr0(cr0 | CR0_EM);
    TRY("fld1", ::);
    expect_fault("#NM: x87 with EM", NM, 0);
    TRY("movaps %%xmm0, %%xmm1", ::);
    expect_fault("#UD: SSE with EM", UD, 0);
    write_cr0(cr0);
    asm volatile("fninit");
}

static void segments(void)
{
    gdt[SEL_SPARE / 8] = 0x00cf13000000ffff; /* data, not present */
    TRY("mov %0, %%ds", : : "r"(SEL_SPARE));
    expect_fault("#NP: DS from a descriptor that is not present", NP, SEL_SPARE);
    TRY("mov %0, %%ss", : : "r"(SEL_SPARE));
    expect_fault("#SS: SS from a descriptor that is not present", SS, SEL_SPARE);
    TRY("mov %0, %%ds", : : "r"(0x2f0));
    expect_fault("#GP: selector beyond the GDT", GP, 0x2f0);
    TRY("mov %0, %%ds", : : "r"(SEL_TSS));
    expect_fault("#GP: DS from a TSS descriptor", GP, SEL_TSS);
    TRY("mov %0, %%ss", : : "r"(SEL_CODE));
    expect_fault("#GP: SS from a code segment", GP, SEL_CODE);
    TRY("mov %0, %%ss", : : "r"(SEL_USER_DATA));
    expect_fault("#GP: SS with the wrong RPL", GP, SEL_USER_DATA & ~3);
    TRY("mov %0, %%ds", : : "r"(0x14));
    expect_fault("#GP: LDT selector without an LDT", GP, 0x14);
    TRY("mov %0, %%fs", : : "r"(0));
    expect("a null selector in FS", NO_TRAP, 0);
    TRY("ltr %w0", : : "r"(SEL_TSS));
    expect_fault("#GP: LTR of a busy TSS", GP, SEL_TSS);
    TRY("lldt %w0", : : "r"(SEL_DATA));
    expect_fault("#GP: LLDT of a data segment", GP, SEL_DATA);
    gdt[SEL_SPARE / 8] = 0x0000820000000fff; /* an LDT */
    gdt[SEL_SPARE / 8 + 1] = 0x8000;         /* at 1 << 47 */
    TRY("lldt %w0", : : "r"(SEL_SPARE));
    expect_fault("#GP: LLDT of a non-canonical base", GP, SEL_SPARE);
    gdt[SEL_SPARE / 8] = 0x0000890000000067; /* a TSS */
    TRY("ltr %w0", : : "r"(SEL_SPARE));
    expect_fault("#GP: LTR of a non-canonical base", GP, SEL_SPARE);
    set_gate(0x56, false, 14, 0, 1);
    TRY("int $0x56", ::);
    expect_fault("#NP: a gate that is not present", NP, 0x56 * 8 + 2);
    set_gate(0x56, true, 5, 0, 1);
    TRY("int $0x56", ::);
    expect_fault("#GP: a gate of a wrong type", GP, 0x56 * 8 + 2);
    set_gate(0x56, true, 14, 0, 1);
}

static void stack(void)
{
    TRY("mov %0, %%rsp; " HERE "push %%rax", : : "r"(not_canonical + 64));
    expect_fault("#SS: push to a non-canonical address", SS, 0);
    TRY("mov %0, %%rsp; " HERE "mov (%%rsp), %%al", : : "r"(not_canonical) : "rax");
    expect_fault("#SS: load by RSP from a non-canonical address", SS, 0);
}

static void protection(void)
{
    uint64_t value;

    TRY("mov (%1), %0", : "=r"(value) : "r"(not_canonical));
    expect_fault("#GP: load from a non-canonical address", GP, 0);
    TRY("mov %1, (%0)", : : "r"(0xffff7fffffffffffull), "r"(0ull));
    expect_fault("#GP: store to a non-canonical address", GP, 0);
    /* Addresses that look-up tables might use for "nothing here". */
    TRY("cmp %%eax, %%ebx; " HERE "mov (%1), %%eax; setz %b0",
        : "=r"(value)
        : "r"(0x7fffffffffffffffull)
        : "rax");
    expect_fault("#GP: load from the last address of the lower half", GP, 0);
    check_equal("#GP: jump to 0xffff000000000000",
                TRY("jmp *%0",
                    :
                    : "r"(0xffff000000000000ull)),
                GP);
    if (!on_tcg()) { /* which would accept them */
        TRY("mov %0, %%cr0", : : "r"(read_cr0() & ~CR0_PE));
        expect_fault("#GP: CR0 with PG but not PE", GP, 0);
        TRY("mov %0, %%cr4", : : "r"(read_cr4() & ~CR4_PAE));
        expect_fault("#GP: CR4 without PAE in long mode", GP, 0);
    }
    TRY("mov %0, %%cr4", : : "r"(read_cr4() | 1ull << 40));
    expect_fault("#GP: reserved bit in CR4", GP, 0);
    TRY("mov %0, %%cr8", : : "r"(0x10ull));
    expect_fault("#GP: CR8 above 15", GP, 0);
    TRY("rdmsr", : : "c"(0x12345678) : "rax", "rdx");
    expect_fault("#GP: unknown MSR", GP, 0);
    TRY("wrmsr", : : "c"(MSR_LSTAR), "a"(0), "d"(0x8000));
    expect_fault("#GP: non-canonical LSTAR", GP, 0);
    TRY("wrmsr", : : "c"(MSR_EFER), "a"(0), "d"(1));
    expect_fault("#GP: reserved bit in EFER", GP, 0);
    TRY("movaps (%0), %%xmm0", : : "r"(FREE_MEMORY + 8));
    expect_fault("#GP: unaligned MOVAPS", GP, 0);
    TRY("mov %0, %%dr7", : : "r"(1ull << 32));
    expect_fault("#GP: upper half of DR7", GP, 0);
}

static USER_CODE uint64_t user_cli(uint64_t x)
{
    asm volatile("cli");
    return x;
}

static USER_CODE uint64_t user_hlt(uint64_t x)
{
    asm volatile("hlt");
    return x;
}

static USER_CODE uint64_t user_in(uint64_t port)
{
    uint8_t value;
    asm volatile("inb %w1, %0" : "=a"(value) : "d"(port));
    return value;
}

static USER_CODE uint64_t user_int(uint64_t x)
{
    asm volatile("int $0x55");
    return x;
}

static USER_CODE uint64_t user_read_cr(uint64_t x)
{
    asm volatile("mov %%cr0, %0" : "=r"(x));
    return x;
}

static USER_CODE uint64_t user_load(uint64_t address)
{
    return *(volatile uint64_t *)address;
}

static USER_CODE uint64_t user_add(uint64_t x)
{
    return x + 1;
}

static void user(void)
{
    check_equal("user mode returns a value", user_call(user_add, 41), 42);
    check_equal("    and raises nothing", trap.vector, NO_TRAP);
    check_equal("    from CPL 3", trap.cs, SEL_USER_CODE);
    check_equal("    with the user's SS", trap.ss, SEL_USER_DATA);
    user_call(user_cli, 0);
    expect("#GP: CLI in user mode", GP, 0);
    user_call(user_hlt, 0);
    expect("#GP: HLT in user mode", GP, 0);
    user_call(user_in, 0x80);
    expect("#GP: IN in user mode", GP, 0);
    user_call(user_int, 0);
    expect("#GP: INT to a gate of DPL 0", GP, 0x55 * 8 + 2);
    user_call(user_read_cr, 0);
    expect("#GP: MOV from CR0 in user mode", GP, 0);
    user_call(user_load, 0x100000);
    expect("#PF: the supervisor's page in user mode", PF, PF_P | PF_U);
    check_equal("    CR2", trap.cr2, 0x100000);
}

static USER_CODE uint64_t user_unaligned(uint64_t x)
{
    /* AC, then a load that is not aligned. */
    asm volatile("pushfq; orl $0x40000, (%%rsp); popfq; mov -23(%%rsp), %0; pushfq; "
                 "andl $~0x40000, (%%rsp); popfq"
                 : "=r"(x));
    return x;
}

static void alignment(void)
{
    user_call(user_unaligned, 0);
    expect("no #AC without CR0.AM", NO_TRAP, 0);
    write_cr0(read_cr0() | CR0_AM);
    user_call(user_unaligned, 0);
    expect("#AC: unaligned load in user mode", AC, 0);
    write_cr0(read_cr0() & ~CR0_AM);
}

static void floating(void)
{
    static const uint16_t zero_divide_unmasked = 0x037b;
    static const uint32_t all_unmasked = 0, all_masked = 0x1f80;

    asm volatile("fninit; fldcw %0" : : "m"(zero_divide_unmasked));
    asm volatile("fld1; fldz; fdivrp");
    TRY("fwait", ::);
    expect_fault("#MF: on the next waiting instruction", MF, 0);
    asm volatile("fnclex; fninit");
    asm volatile("ldmxcsr %0" : : "m"(all_unmasked));
    TRY("xorps %%xmm0, %%xmm0; " HERE "divps %%xmm0, %%xmm0", ::);
    expect_fault("#XM: division of zero by zero", XM, 0);
    asm volatile("ldmxcsr %0" : : "m"(all_masked));
}

/* A fault while delivering a fault, by a gate that leads nowhere. */
static void double_fault(void)
{
    set_gate(GP, false, 14, 0, 1);
    TRY("mov %0, %%cr8", : : "r"(0x10ull));
    expect("#DF: #NP while delivering #GP", DF, 0);
    set_gate(GP, true, 14, 0, 1);
    set_gate(PF, false, 14, 0, 1);
    TRY("mov (%0), %%al", : : "r"(0x100000000000ull) : "rax");
    expect("#DF: #NP while delivering #PF", DF, 0);
    set_gate(PF, true, 14, 0, 1);
    set_gate(UD, false, 14, 0, 1);
    TRY("ud2", ::);
    /* EXT, since it is an exception that was being delivered. */
    expect("#NP, no #DF, while delivering #UD", NP, UD * 8 + 2 + 1);
    set_gate(UD, true, 14, 0, 1);
}

static void jumps_astray(void)
{
    static const uint64_t targets[] = {0x0000800000000000, 0xffff000000000000, 0xdeadbeefdeadbeef};
    uint8_t *last = page_new();

    for (unsigned i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        uint64_t target = targets[i];

        TRY("jmp *%0", : : "r"(target));
        expect_fault("#GP: jump to a non-canonical address", GP, 0);
        TRY("jmp *%0", : : "m"(target));
        expect_fault("#GP: jump there by memory", GP, 0);
        TRY("call *%0", : : "r"(target) : "memory");
        expect_fault("#GP: call", GP, 0);
        check_equal("    leaves the stack pointer alone", trap.rsp, trap_rsp);
        TRY("push %0; " HERE "ret $24", : : "r"(target) : "memory");
        expect_fault("#GP: return", GP, 0);
        check_equal("    leaves the stack pointer alone", trap.rsp, trap_rsp - 8);
    }

    /* Going on behind the last canonical address is another thing. */
    last[PAGE_SIZE - 1] = 0x90;
    page_map(not_canonical - PAGE_SIZE, (uint64_t)last, PTE_P | PTE_W);
    TRY("jmp *%0", : : "r"(not_canonical - 1));
    check_equal("#GP: behind the end of canonical addresses", trap.vector, GP);
    check_equal("    at the first that is none", trap.rip, not_canonical);
}

void guest_main(void)
{
    divide();
    traps();
    undefined();
    jumps_astray();
    too_long();
    no_fpu();
    segments();
    stack();
    protection();
    user();
    alignment();
    floating();
    double_fault();
}
