/*
 * System calls and the other ways between privilege levels: SYSCALL and SYSRET, SYSENTER and
 * SYSEXIT, SWAPGS, call gates by far call, IRET to 64-bit, to compatibility mode and back, and what
 * they leave in registers and flags. Intel SDM volume 2 and volume 3, 5.8.
 */
#include "lib/guest.h"

#define MSR_SYSENTER_CS 0x174
#define MSR_SYSENTER_ESP 0x175
#define MSR_SYSENTER_EIP 0x176

/* What the entry stubs saw. */
uint64_t seen_rcx, seen_r11, seen_rflags, seen_cs, seen_ss, seen_rsp, seen_gs, seen_rax;
uint8_t entry_stack[4096] __attribute__((aligned(16)));
static struct tss *const task = &tss;

void syscall_entry(void);
void sysenter_entry(void);
void gate_entry(void);
void step_entry(void);
void peek_entry(void);

/* SYSCALL: notes the state and returns 1 more than RDI. */
asm(".text\n"
    "syscall_entry:\n"
    "mov %rcx, seen_rcx\n"
    "mov %r11, seen_r11\n"
    "mov %rsp, seen_rsp\n"
    "mov $entry_stack + 4096, %esp\n"
    "pushfq\n"
    "popq seen_rflags\n"
    "mov %cs, seen_cs\n"
    "mov %ss, seen_ss\n"
    "swapgs\n"
    "mov %gs:0, %rax\n"
    "mov %rax, seen_gs\n"
    "swapgs\n"
    "lea 1(%rdi), %rax\n"
    "mov seen_rsp, %rsp\n"
    "sysretq\n"
    "sysenter_entry:\n"
    "mov %rsp, seen_rsp\n"
    "mov %cs, seen_cs\n"
    "mov %ss, seen_ss\n"
    "pushfq\n"
    "popq seen_rflags\n"
    "lea 2(%rdi), %rax\n"
    "rex.w sysexit\n"
    "step_entry:\n" /* SYSCALL: returns with TF on */
    "mov %rcx, seen_rcx\n"
    "or $0x100, %r11\n"
    "sysretq\n"
    "peek_entry:\n" /* SYSCALL: loads from RDI */
    "mov (%rdi), %rax\n"
    "sysretq\n"
    "gate_entry:\n"
    "mov %cs, seen_cs\n"
    "mov %rsp, seen_rsp\n"
    "mov 8(%rsp), %rax\n" /* the caller's CS */
    "mov %rax, seen_rax\n"
    "lea 3(%rdi), %rax\n"
    "lretq\n");

static USER_CODE uint64_t user_syscall(uint64_t argument)
{
    uint64_t result;
    asm volatile("stc\n"
                 "syscall"
                 : "=a"(result)
                 : "D"(argument)
                 : "rcx", "r11", "memory", "cc");
    return result;
}

static USER_CODE uint64_t user_sysenter(uint64_t argument)
{
    uint64_t result;
    asm volatile("mov %%rsp, %%rcx\n"
                 "lea 1f(%%rip), %%rdx\n"
                 "sysenter\n"
                 "1:"
                 : "=a"(result)
                 : "D"(argument)
                 : "rcx", "rdx", "memory", "cc");
    return result;
}

static USER_DATA struct {
    uint32_t offset;
    uint16_t selector;
} __attribute__((packed)) gate_pointer = {0, SEL_SPARE | 3};

static USER_CODE uint64_t user_gate(uint64_t argument)
{
    uint64_t result;
    asm volatile("lcall *%2" : "=a"(result) : "D"(argument), "m"(gate_pointer) : "memory", "cc");
    return result;
}

static USER_CODE uint64_t user_flags(uint64_t x)
{
    asm volatile("pushfq; pop %0" : "=r"(x));
    return x;
}

static uint64_t gs_word = 0x1234567890abcdef;

static void fast_calls(void)
{
    write_msr(MSR_EFER, read_msr(MSR_EFER) & ~EFER_SCE);
    user_call(user_syscall, 0);
    check_equal("SYSCALL without EFER.SCE raises #UD", trap.vector, UD);

    write_msr(MSR_EFER, read_msr(MSR_EFER) | EFER_SCE);
    write_msr(MSR_STAR, (uint64_t)SEL_CODE << 32 | (uint64_t)SEL_USER_CODE32 << 48);
    write_msr(MSR_LSTAR, (uint64_t)syscall_entry);
    write_msr(MSR_SFMASK, FLAG_CF | FLAG_IF | FLAG_DF);
    write_msr(MSR_KERNEL_GS_BASE, (uint64_t)&gs_word);
    check_equal("SYSCALL and SYSRET", user_call(user_syscall, 41), 42);
    check_equal("    nothing raised", trap.vector, NO_TRAP);
    check("    RCX is the address behind", seen_rcx >= 0x400000 && seen_rcx < 0x600000);
    check_equal("    R11 has the flags, CF too", seen_r11 & FLAG_CF, FLAG_CF);
    check_equal("    SFMASK cleared CF", seen_rflags & FLAG_CF, 0);
    check_equal("    CS", seen_cs & 0xffff, SEL_CODE);
    check_equal("    SS", seen_ss & 0xffff, SEL_DATA);
    check_equal("    SWAPGS", seen_gs, gs_word);
    check_equal("    back in CS", trap.cs, SEL_USER_CODE);
    check_equal("    back in SS", trap.ss, SEL_USER_DATA);
}

/* SYSCALL with these flags; what they are afterwards. */
static USER_CODE uint64_t user_syscall_flags(uint64_t flags)
{
    uint64_t after;
    asm volatile("push %1\n"
                 "popfq\n"
                 "syscall\n"
                 "pushfq\n"
                 "cld\n"
                 "pop %0"
                 : "=r"(after)
                 : "r"(flags)
                 : "rax", "rcx", "r11", "memory", "cc");
    return after;
}

static USER_DATA uint64_t user_value = 77;

static bool peek_failed;

static void on_peek(struct frame *frame)
{
    peek_failed = true;
    frame->rip += 3; /* over the load */
}

/* Often the same, so that an engine may remember what they do, until something changes that. */
static void repeated(void)
{
    const uint64_t mask = 0x257fd5, arithmetic = 0xcd5; /* with DF */
    bool flags = true, cleared = true, result = true;

    write_msr(MSR_LSTAR, (uint64_t)syscall_entry);
    write_msr(MSR_SFMASK, mask);
    for (uint64_t i = 0; i < 64; i++) {
        uint64_t set = (i & 1) | (i & 2) << 1 | (i & 4) << 2 | (i & 24) << 3 | (i & 32) << 6 |
                       (i % 3 == 0 ? FLAG_DF : 0) | 0x202;

        flags &= (user_call(user_syscall_flags, set) & arithmetic) == (set & arithmetic);
        flags &= (seen_r11 & (arithmetic | 2)) == (set & (arithmetic | 2));
        cleared &= (seen_rflags & mask) == 0;
        result &= user_call(user_syscall, i) == i + 1 && trap.cs == SEL_USER_CODE &&
                  trap.ss == SEL_USER_DATA;
    }
    check("many system calls", result);
    check("    the flags come back and are in R11", flags);
    check("    SFMASK clears them", cleared);
    check_equal("    with AC", user_call(user_syscall_flags, 0x202 | FLAG_AC) & FLAG_AC, FLAG_AC);
    check_equal("    in R11", seen_r11 & FLAG_AC, FLAG_AC);
    write_msr(MSR_SFMASK, mask & ~FLAG_ZF);
    user_call(user_syscall_flags, 0x202 | FLAG_ZF);
    check_equal("another SFMASK", seen_rflags & FLAG_ZF, FLAG_ZF);
    write_msr(MSR_SFMASK, mask);
    for (unsigned i = 0; i < 3; i++) {
        write_msr(MSR_LSTAR, (uint64_t)peek_entry);
        check_equal("another LSTAR", user_call(user_syscall, (uint64_t)&user_value), 77);
        write_msr(MSR_LSTAR, (uint64_t)syscall_entry);
        check_equal("    and back", user_call(user_syscall, 5), 6);
    }
    if (cpu_has(7, 1, 20)) {
        write_msr(MSR_LSTAR, (uint64_t)peek_entry);
        write_cr4(read_cr4() | CR4_SMAP);
        set_handler(PF, on_peek);
        user_call(user_syscall, (uint64_t)&user_value);
        set_handler(PF, NULL);
        check("with SMAP", peek_failed);
        write_cr4(read_cr4() & ~CR4_SMAP);
        check_equal("    and without", user_call(user_syscall, (uint64_t)&user_value), 77);
    } else {
        skip("system calls with SMAP", "the CPU has none");
    }
    write_msr(MSR_EFER, read_msr(MSR_EFER) & ~EFER_SCE);
    user_call(user_syscall, 0);
    check_equal("EFER.SCE off again", trap.vector, UD);
    write_msr(MSR_EFER, read_msr(MSR_EFER) | EFER_SCE);
}

static uint64_t step_rip, step_cs;

static void on_step(struct frame *frame)
{
    if (!step_rip) {
        step_rip = frame->rip;
        step_cs = frame->cs;
    }
    frame->rflags &= ~FLAG_TF;
}

static void sysret_step(void)
{
    set_handler(DB, on_step);
    write_msr(MSR_LSTAR, (uint64_t)step_entry);
    user_call(user_syscall, 0);
    set_handler(DB, NULL);
    check_equal("SYSRET that sets TF traps itself", step_rip, seen_rcx);
    check_equal("    in user mode", step_cs, SEL_USER_CODE);
}

static void sysenter(void)
{
    uint32_t vendor[4];

    cpuid(0, 0, vendor);
    if (vendor[2] == 0x444d4163) { /* "cAMD": not in long mode there */
        user_call(user_sysenter, 0);
        check_equal("SYSENTER in 64-bit mode raises #UD on AMD", trap.vector, UD);
        return;
    }
    write_msr(MSR_SYSENTER_CS, 0);
    user_call(user_sysenter, 0);
    check_equal("SYSENTER with a null CS raises #GP", trap.vector, GP);
    write_msr(MSR_SYSENTER_CS, SEL_CODE);
    write_msr(MSR_SYSENTER_ESP, (uint64_t)entry_stack + sizeof(entry_stack));
    write_msr(MSR_SYSENTER_EIP, (uint64_t)sysenter_entry);
    /* SYSEXIT wants user CS and SS 32 and 40 behind the kernel's CS. */
    uint64_t saved[2] = {gdt[5], gdt[6]};
    gdt[5] = gdt[6];
    gdt[6] = saved[0];
    check_equal("SYSENTER and SYSEXIT", user_call(user_sysenter, 40), 42);
    gdt[5] = saved[0];
    gdt[6] = saved[1];
    check_equal("    stack pointer from the MSR", seen_rsp,
                (uint64_t)entry_stack + sizeof(entry_stack));
    check_equal("    interrupts are off", seen_rflags & FLAG_IF, 0);
}

static void call_gate(void)
{
    uint64_t target = (uint64_t)gate_entry;

    gdt[SEL_SPARE / 8] =
        (target & 0xffff) | SEL_CODE << 16 | 0xecull << 40 | (target >> 16 & 0xffff) << 48;
    gdt[SEL_SPARE / 8 + 1] = target >> 32;
    check_equal("call gate to CPL 0 and RETF back", user_call(user_gate, 39), 42);
    check_equal("    nothing raised", trap.vector, NO_TRAP);
    check_equal("    CS", seen_cs & 0xffff, SEL_CODE);
    check_equal("    the stack is RSP0, with four words on it", seen_rsp, task->rsp[0] - 32);
    check_equal("    the caller's CS", seen_rax, SEL_USER_CODE);
    gdt[SEL_SPARE / 8] &= ~(3ull << 45); /* DPL 0 */
    user_call(user_gate, 0);
    check_equal("call gate of DPL 0 from CPL 3", trap.vector, GP);
    check_equal("    error code", trap.error, SEL_SPARE);
    gdt[SEL_SPARE / 8] |= 3ull << 45;
    gdt[SEL_SPARE / 8] &= ~(1ull << 47); /* not present */
    user_call(user_gate, 0);
    check_equal("call gate that is not present", trap.vector, NP);
}

static USER_DATA uint64_t gs_user_word = 0xfeedface12345678;

static USER_CODE uint64_t user_gs_word(uint64_t x)
{
    asm volatile("mov %%gs:0, %0" : "=r"(x));
    return x;
}

static USER_CODE uint64_t user_gs_selector(uint64_t x)
{
    asm volatile("mov %%gs, %0" : "=r"(x));
    return x;
}

/* A data segment that CPL 3 may not use is lost on the way there, but for its base. */
static void outer_segments(void)
{
    asm volatile("mov %0, %%gs" : : "r"(SEL_DATA));
    check_equal("IRET to CPL 3 makes a segment of DPL 0 null", user_call(user_gs_selector, 0), 0);
    asm volatile("mov %0, %%gs" : : "r"(SEL_DATA));
    write_msr(MSR_GS_BASE, (uint64_t)&gs_user_word);
    check_equal("    its base stays", user_call(user_gs_word, 0), gs_user_word);
}

static USER_CODE uint64_t user_hypercall(uint64_t x)
{
    asm volatile("vmmcall" : "+a"(x) : : "memory");
    return x;
}

static void hypercall(void)
{
    uint32_t out[4];
    uint64_t rax = ~0ull;

    cpuid(0x40000000, 0, out);
    if (out[1] != 0x4b4d564b) { /* "KVMK" */
        skip("hypercalls", "CPUID does not name KVM");
        return;
    }
    TRY("vmmcall", : "+a"(rax) : : "memory");
    check_equal("an unknown hypercall", rax, -1000ull);
    check_equal("    from CPL 3 is not permitted", user_call(user_hypercall, 0), -1ull);
}

static void iret(void)
{
    uint64_t value = 0;

    /* To compatibility mode at CPL 0 and back by a far jump: the upper halves vanish. */
    asm volatile("mov %%rsp, %%rbx\n"
                 "mov $0x123456789, %%rcx\n"
                 "mov %%ss, %%eax\n"
                 "push %%rax\n"
                 "push %%rbx\n"
                 "pushfq\n"
                 "push $0x18\n"
                 "push $1f\n"
                 "iretq\n"
                 ".code32\n"
                 "1: inc %%ecx\n" /* 41: a REX prefix in 64-bit mode */
                 "dec %%eax\n"
                 "mov %%ecx, %%edx\n"
                 "ljmp $0x08, $2f\n"
                 ".code64\n"
                 "2: mov %%rdx, %0\n"
                 : "=r"(value)
                 :
                 : "rax", "rbx", "rcx", "rdx", "memory", "cc");
    check_equal("IRET to compatibility mode", value, 0x2345678a);

    TRY("push $0; push %%rsp; pushfq; push $0x33; push $1f; " HERE "iretq; 1:", : : : "memory");
    check_equal("IRET to CPL 3 with a null SS", trap.vector, GP);
    uint64_t bad = 0x0000800000000000;
    TRY("mov %%ss, %%eax; push %%rax; push %%rsp; pushfq; push $8; push %0; " HERE "iretq",
        :
        : "r"(bad)
        : "rax", "memory");
    check_equal("IRET to a non-canonical address", trap.vector, GP);
    TRY("pushfq; orl $0x4000, (%%rsp); popfq; " HERE "iretq", : : : "memory", "cc");
    check_equal("IRET with NT in long mode", trap.vector, GP);
    check_equal("interrupts are off in user mode as its flags say",
                user_call(user_flags, 0) & FLAG_IF, 0);
}

void guest_main(void)
{
    fast_calls();
    repeated();
    sysret_step();
    sysenter();
    call_gate();
    iret();
    outer_segments();
    hypercall();
}
