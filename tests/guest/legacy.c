/*
 * 32-bit protected mode: what 64-bit mode has no more. Segment limits and types, BOUND and INTO,
 * decimal arithmetic, 2-level paging with 4 MiB pages, PAE paging, hardware task switches, virtual
 * 8086 mode, real mode. Intel SDM volume 3, chapters 3, 4, 5, 8 (tasks) and 21.
 */
#include "lib/legacy.h"

#define SEL_SMALL 0x18 /* data, limit 0xfff */
#define SEL_DOWN 0x20  /* data, expanding down from 4 GiB to above 0xfff */
#define SEL_READ 0x28  /* data, read-only */
#define SEL_TSS 0x30
#define SEL_TSS2 0x38
#define SEL_TASK_GATE 0x40
#define SEL_CODE16 0x48
#define SEL_DATA16 0x50
#define SEL_STACK 0x58

#define PTE_P 1u
#define PTE_W 2u
#define PTE_PS 0x80u
#define CR0_PE 1u
#define CR0_WP (1u << 16)
#define CR0_PG (1u << 31)
#define CR4_VME 1u
#define CR4_PSE (1u << 4)
#define CR4_PAE (1u << 5)

struct tss {
    uint32_t link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags;
    uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi, es, cs, ss, ds, fs, gs, ldt;
    uint16_t trace, iomap;
    uint8_t bitmap[32];
} __attribute__((packed));

static struct tss main_tss, other_tss;
static uint8_t other_stack[4096] __attribute__((aligned(16)));
static uint8_t monitor_stack[4096] __attribute__((aligned(16)));

static void segments(void)
{
    gdt[SEL_SMALL / 8] = descriptor(0x400000, 0xfff, 0x493);
    gdt[SEL_DOWN / 8] = descriptor(0, 0, 0xc97);
    gdt[SEL_READ / 8] = descriptor(0, 0xfffff, 0xc91);
    asm volatile("mov %0, %%fs; mov %1, %%gs" : : "r"(SEL_SMALL), "r"(SEL_DOWN));
    TRY("movb $5, %%fs:0xfff", ::);
    check_equal("the last byte within the limit", trap.vector, NO_TRAP);
    check_equal("    lies at base plus offset", *(volatile uint8_t *)0x400fff, 5);
    TRY("movb $5, %%fs:0x1000", ::);
    check_equal("the first byte beyond the limit", trap.vector, GP);
    TRY("movl $5, %%fs:0xffd", ::);
    check_equal("a word that reaches beyond it", trap.vector, GP);
    TRY("mov %%fs:0xfffffffc, %%eax", : : : "eax");
    check_equal("the top of 4 GiB", trap.vector, GP);
    TRY("movb %%gs:0xfff, %%al", : : : "eax");
    check_equal("expand-down: below its limit", trap.vector, GP);
    TRY("movb %%gs:0x1000, %%al", : : : "eax");
    check_equal("expand-down: above its limit", trap.vector, NO_TRAP);
    asm volatile("mov %0, %%fs" : : "r"(SEL_READ));
    TRY("movb %%fs:0x100000, %%al", : : : "eax");
    check_equal("a load from a read-only segment", trap.vector, NO_TRAP);
    TRY("movb $0, %%fs:0x400000", ::);
    check_equal("a store to a read-only segment", trap.vector, GP);
    TRY("movb $0, %%cs:0x400000", ::);
    check_equal("a store to a code segment", trap.vector, GP);
    asm volatile("mov %0, %%fs" : : "r"(0));
    TRY("movb %%fs:0, %%al", : : : "eax");
    check_equal("a load by a null selector", trap.vector, GP);
    /* The exception itself needs the stack, so it must lie within. */
    gdt[SEL_STACK / 8] = descriptor(0, 0x7fff, 0x493);
    TRY("mov %0, %%ss; mov $0x7000, %%esp; " HERE "mov %%ss:0x8000, %%eax",
        :
        : "r"(SEL_STACK)
        : "eax", "memory");
    asm volatile("mov %0, %%ss" : : "r"(SEL_DATA));
    check_equal("a load beyond the stack segment's limit", trap.vector, SS);
    uint32_t limit, rights;
    asm volatile("lsl %1, %0" : "=r"(limit) : "r"(SEL_SMALL));
    check_equal("LSL", limit, 0xfff);
    asm volatile("lar %1, %0" : "=r"(rights) : "r"(SEL_READ));
    check_equal("LAR", rights, 0xc09100);
    check("loading a segment sets its accessed bit", gdt[SEL_SMALL / 8] >> 40 & 1);
}

static void old_instructions(void)
{
    static const int32_t bounds[2] = {-5, 10};
    uint32_t eax = 0x0f9c;

    TRY("bound %0, %1", : : "r"(10), "m"(bounds[0]));
    check_equal("BOUND within", trap.vector, NO_TRAP);
    TRY("bound %0, %1", : : "r"(11), "m"(bounds[0]));
    check_equal("BOUND outside", trap.vector, BR);
    TRY("mov $0x7fffffff, %%eax; inc %%eax; " HERE "into", : : : "eax", "cc");
    check_equal("INTO with OF", trap.vector, OF);
    TRY("xor %%eax, %%eax; into", : : : "eax", "cc");
    check_equal("INTO without OF", trap.vector, NO_TRAP);
    asm("clc; daa" : "+a"(eax) : : "cc");
    check_equal("DAA", eax, 0x0f02);
    asm("aam" : "+a"(eax) : : "cc");
    check_equal("AAM", eax, 2);
    eax = 0x0307;
    asm("aad" : "+a"(eax) : : "cc");
    check_equal("AAD", eax, 37);
    eax = 0;
    TRY(".byte 0xd4, 0", : "+a"(eax) : : "cc");
    check_equal("AAM by zero", trap.vector, DE);
    asm volatile("stc; .byte 0xd6" : "+a"(eax)); /* SALC */
    check_equal("SALC", eax & 0xff, 0xff);
    uint32_t found;
    asm volatile("pusha; mov 28(%%esp), %%ecx; mov %%ecx, 24(%%esp); popa"
                 : "=c"(found)
                 : "a"(0x1234));
    check_equal("PUSHA stores EAX first, POPA loads ECX from its place", found, 0x1234);
}

static uint32_t *const directory = (uint32_t *)0x400000;
static uint32_t *const table = (uint32_t *)0x401000;
#define FRAME 0x500000u

static void two_levels(void)
{
    write_cr4(read_cr4() | CR4_PSE);
    for (uint32_t i = 0; i < 1024; i++)
        directory[i] = 0;
    directory[0] = PTE_P | PTE_W | PTE_PS;
    directory[1] = 0x400000 | PTE_P | PTE_W | PTE_PS;
    directory[512] = (uint32_t)table | PTE_P | PTE_W;
    directory[513] = 0x400000 | PTE_P | PTE_W | PTE_PS;
    for (uint32_t i = 0; i < 1024; i++)
        table[i] = 0;
    table[3] = FRAME | PTE_P | PTE_W;
    write_cr3((uint32_t)directory);
    write_cr0(read_cr0() | CR0_PG | CR0_WP);
    *(volatile uint32_t *)0x80003010 = 99;
    check_equal("2-level paging: a 4 KiB page", *(volatile uint32_t *)(FRAME + 0x10), 99);
    check_equal("    a 4 MiB page", *(volatile uint32_t *)(0x80400000 + FRAME - 0x400000 + 0x10),
                99);
    TRY("mov 0x80004000, %%eax", : : : "eax");
    check_equal("    not present", trap.vector, PF);
    check_equal("    CR2", trap.cr2, 0x80004000);
    check_equal("    error code", trap.error, 0);
    table[3] &= ~PTE_W;
    asm volatile("invlpg 0x80003000" : : : "memory");
    TRY("movl $1, 0x80003000", : : : "memory");
    check_equal("    read-only: error code", trap.error, 3);
    check("    accessed and dirty", (table[3] & 0x60) == 0x60 && (directory[513] & 0x20));
    write_cr0(read_cr0() & ~CR0_PG);
    check("paging is off again", *(volatile uint32_t *)(FRAME + 0x10) == 99);
}

static void pae(void)
{
    uint64_t *pdpt = (uint64_t *)0x402000, *pd = (uint64_t *)0x403000, *pt = (uint64_t *)0x404000;

    for (int i = 0; i < 512; i++)
        pdpt[i] = pd[i] = pt[i] = 0;
    pdpt[0] = pdpt[2] = (uint32_t)pd | PTE_P;
    for (uint32_t i = 0; i < 4; i++)
        pd[i] = i << 21 | PTE_P | PTE_W | PTE_PS;
    pd[4] = (uint32_t)pt | PTE_P | PTE_W;
    pt[1] = FRAME | PTE_P | PTE_W;
    write_cr4(read_cr4() | CR4_PAE);
    write_cr3((uint32_t)pdpt);
    write_cr0(read_cr0() | CR0_PG);
    *(volatile uint32_t *)0x801010 = 7;
    check_equal("PAE paging: a 4 KiB page", *(volatile uint32_t *)(FRAME + 0x10), 7);
    check_equal("    a 2 MiB page, by another pointer",
                *(volatile uint32_t *)(0x80000000 + FRAME + 0x10), 7);
    TRY("mov 0x40000000, %%eax", : : : "eax");
    check_equal("    a pointer that is not present", trap.vector, PF);
    pdpt[1] = (uint32_t)pd | PTE_P;
    TRY("mov 0x40000000, %%eax", : : : "eax");
    check_equal("    the pointers are cached by MOV to CR3", trap.vector, PF);
    write_cr3((uint32_t)pdpt);
    TRY("mov 0x40000000, %%eax", : : : "eax");
    check_equal("    and loaded again by it", trap.vector, NO_TRAP);
    pdpt[3] = (uint32_t)pd | PTE_P | PTE_W;
    TRY("mov %0, %%cr3", : : "r"(pdpt));
    check_equal("    a reserved bit in a pointer: MOV to CR3 raises #GP", trap.vector, GP);
    pdpt[3] = 0;
    write_cr0(read_cr0() & ~CR0_PG);
    write_cr4(read_cr4() & ~(CR4_PAE | CR4_PSE));
}

extern const uint8_t other_task[];
asm("other_task: incl other_count\n"
    "iret\n"
    "incl other_count\n"
    "ljmp $0x30, $0\n"
    "jmp other_task");
uint32_t other_count;

static void prepare_tasks(void)
{
    gdt[SEL_TSS / 8] = descriptor((uint32_t)&main_tss, sizeof(main_tss) - 1, 0x089);
    gdt[SEL_TSS2 / 8] = descriptor((uint32_t)&other_tss, sizeof(other_tss) - 1, 0x089);
    main_tss = (struct tss){.ss0 = SEL_DATA,
                            .esp0 = (uint32_t)monitor_stack + sizeof(monitor_stack),
                            .iomap = offsetof(struct tss, bitmap)};
    other_tss = (struct tss){.eip = (uint32_t)other_task,
                             .eflags = 2,
                             .esp = (uint32_t)other_stack + sizeof(other_stack),
                             .cs = SEL_CODE,
                             .ss = SEL_DATA,
                             .ds = SEL_DATA,
                             .es = SEL_DATA,
                             .iomap = sizeof(struct tss)};
    asm volatile("ltr %w0" : : "r"(SEL_TSS) : "memory");
    check("LTR makes the TSS busy", gdt[SEL_TSS / 8] >> 41 & 1);
}

static unsigned type_of(unsigned selector)
{
    return (unsigned)(gdt[selector / 8] >> 40) & 15;
}

static void tasks(void)
{
    asm volatile("lcall $0x38, $0" : : : "memory", "cc");
    check_equal("CALL to a TSS: the task runs, and IRET returns", other_count, 1);
    check_equal("    the link is the caller", other_tss.link & 0xffff, SEL_TSS);
    check_equal("    afterwards it is available", type_of(SEL_TSS2), 9);
    check_equal("    and the caller busy", type_of(SEL_TSS), 11);
    uint32_t cr0;
    asm volatile("mov %%cr0, %0" : "=r"(cr0));
    check("    TS is set", cr0 & 8);
    asm volatile("clts");
    asm volatile("ljmp $0x38, $0" : : : "memory", "cc");
    check_equal("JMP to a TSS goes on where it stopped, and back", other_count, 2);
    check("    NT is not set by it", !(main_tss.eflags & 1u << 14));
    asm volatile("clts");
    TRY("ljmp $0x30, $0", ::);
    check_equal("JMP to the busy TSS", trap.vector, GP);
    gdt[SEL_TASK_GATE / 8] = (uint64_t)SEL_TSS2 << 16 | 0x85ull << 40;
    asm volatile("lcall $0x40, $0" : : : "memory", "cc");
    check_equal("CALL through a task gate", other_count, 3);
    asm volatile("clts");
    /* EIP stands behind the IRET now; an exception through a task gate in the IDT. */
    other_tss.eip = (uint32_t)other_task;
    set_gate(0x30, SEL_TSS2, 0, 0x85);
    asm volatile("int $0x30" : : : "memory", "cc");
    check_equal("INT through a task gate", other_count, 4);
    asm volatile("clts");
}

/* --- virtual-8086 mode: code at 0x7000:0, stack 0x6000:0x1000 --- */

static volatile uint32_t vm_vector, vm_eip, vm_cs, vm_eflags, vm_eax, vm_ds, monitor_esp;

static void leave_vm86(struct frame *frame)
{
    vm_vector = frame->vector;
    vm_eip = frame->eip;
    vm_cs = frame->cs;
    vm_eflags = frame->eflags;
    vm_eax = frame->eax;
    vm_ds = frame->vm_ds;
    asm volatile("mov %0, %%esp; popa; popf; ret" : : "r"(monitor_esp));
    __builtin_unreachable();
}

__attribute__((noinline)) static void enter_vm86(uint32_t flags)
{
    asm volatile("push $1f\n"
                 "pushf\n"
                 "pusha\n"
                 "mov %%esp, monitor_esp\n"
                 "push $0\n"      /* GS */
                 "push $0\n"      /* FS */
                 "push $0x5000\n" /* DS */
                 "push $0x5000\n" /* ES */
                 "push $0x6000\n" /* SS */
                 "push $0x1000\n"
                 "push %0\n"
                 "push $0x7000\n"
                 "push $0\n"
                 "iret\n"
                 "1:"
                 :
                 : "r"(flags | FLAG_VM | 2)
                 : "memory", "cc");
    asm volatile("mov %0, %%ds; mov %0, %%es; mov %1, %%fs; mov %1, %%gs"
                 :
                 : "r"(SEL_DATA), "r"(0)
                 : "memory");
}

static void put_code(const uint8_t *code, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        ((volatile uint8_t *)0x70000)[i] = code[i];
}

static void vm86(void)
{
    /* mov ax, [0x10]; add ax, 1; mov [0x12], ax; hlt */
    static const uint8_t arithmetic[] = {0xa1, 0x10, 0, 5, 1, 0, 0xa3, 0x12, 0, 0xf4};
    static const uint8_t interrupt[] = {0xb8, 7, 0, 0xcd, 0x20, 0xf4};
    static const uint8_t port[] = {0xb0, 1, 0xe6, 0x42, 0xf4};
    static const uint8_t far_jump[] = {0xea, 5, 0, 0x00, 0x70, 0xf4};

    set_handler(GP, leave_vm86);
    set_handler(0x20, leave_vm86);
    *(volatile uint16_t *)0x50010 = 0x1233;
    put_code(arithmetic, sizeof(arithmetic));
    enter_vm86(0);
    check_equal("virtual-8086 mode: HLT raises #GP", vm_vector, GP);
    check_equal("    IP", vm_eip, sizeof(arithmetic) - 1);
    check_equal("    CS", vm_cs, 0x7000);
    check("    VM in the pushed flags", vm_eflags & FLAG_VM);
    check_equal("    DS on the stack", vm_ds, 0x5000);
    check_equal("    addresses are segment times 16", *(volatile uint16_t *)0x50012, 0x1234);
    put_code(interrupt, sizeof(interrupt));
    enter_vm86(0);
    check_equal("    INT n with IOPL 0 raises #GP", vm_vector, GP);
    set_gate(0x20, SEL_CODE, 0, 0);
    extern const uint8_t trap_stubs[];
    set_gate(0x20, SEL_CODE, (uint32_t)trap_stubs + 16 * 0x20, 0xee);
    enter_vm86(3 << 12);
    check_equal("    INT n with IOPL 3 goes through the IDT", vm_vector, 0x20);
    check_equal("    with AX", vm_eax & 0xffff, 7);
    put_code(port, sizeof(port));
    main_tss.bitmap[0x42 / 8] = 1 << (0x42 & 7);
    enter_vm86(3 << 12);
    check_equal("    OUT that the I/O bitmap forbids", vm_eip, 2);
    main_tss.bitmap[0x42 / 8] = 0;
    enter_vm86(3 << 12);
    check_equal("    OUT that it allows", vm_eip, 4);
    put_code(far_jump, sizeof(far_jump));
    enter_vm86(0);
    check_equal("    a far jump", vm_eip, 5);
    set_handler(GP, NULL);
}

/* --- real mode and back: the code is copied below 64 KiB --- */

extern const uint8_t real_begin[], real_end[];
asm(".pushsection .rodata\n"
    "real_begin:\n" /* at 0x9000, entered with CS SEL_CODE16 */
    ".code16\n"
    "mov %cr0, %eax\n"
    "and $~1, %al\n"
    "mov %eax, %cr0\n"
    "ljmp $0x900, $(1f - real_begin)\n"
    "1: mov $0x5000, %ax\n"
    "mov %ax, %ds\n"
    "movw $0x4321, 0x20\n"
    "mov $0x10000, %ebx\n" /* beyond the limit of 64 KiB, which real mode still has */
    "mov $0xa55a, %ax\n"
    "push %ds\n"
    "pop %cx\n"
    "mov %cr0, %edx\n"
    "or $1, %dl\n"
    "mov %edx, %cr0\n"
    "ljmpl $0x08, $real_back\n"
    ".code32\n"
    "real_end:\n"
    ".popsection");

static void real_mode(void)
{
    volatile uint8_t *to = (volatile uint8_t *)0x9000;
    uint32_t ax = 0, cx = 0;

    for (const uint8_t *from = real_begin; from < real_end; from++)
        *to++ = *from;
    gdt[SEL_CODE16 / 8] = descriptor(0x9000, 0xffff, 0x09b);
    gdt[SEL_DATA16 / 8] = descriptor(0, 0xffff, 0x093);
    asm volatile("mov %%esp, %%esi\n"
                 "mov %2, %%ds\n"
                 "mov %2, %%ss\n"
                 "mov $0x8000, %%esp\n"
                 "ljmp $0x48, $0\n"
                 "real_back: mov $0x10, %%edx\n"
                 "mov %%edx, %%ds\n"
                 "mov %%edx, %%es\n"
                 "mov %%edx, %%ss\n"
                 "mov %%esi, %%esp\n"
                 : "=a"(ax), "=c"(cx)
                 : "r"(SEL_DATA16)
                 : "ebx", "edx", "esi", "memory", "cc");
    check_equal("real mode and back", ax & 0xffff, 0xa55a);
    check_equal("    a segment's value", cx & 0xffff, 0x5000);
    check_equal("    a store by DS times 16", *(volatile uint16_t *)0x50020, 0x4321);
}

void guest_main(void)
{
    segments();
    old_instructions();
    two_levels();
    pae();
    prepare_tasks();
    tasks();
    vm86();
    real_mode();
}
