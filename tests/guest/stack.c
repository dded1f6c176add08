/*
 * Stacks in awkward places: across pages, on read-only and absent pages, on a page with code, moved
 * to another frame in the middle of a function, seen by two privilege levels. What each instruction
 * does there is exact: nothing is stored and no dirty bit is set before the access that asks for
 * it. Intel SDM volume 1, 6.2 (stacks), volume 3, 4.8 (accessed and dirty flags).
 */
#include "lib/guest.h"

#define STACK                                                                                      \
    0x0000420000000000ull /* three pages in a row are mapped here, each to its own frame */
#define RIGHTS (PTE_P | PTE_W)

static uint64_t frame[3];

static uint64_t word(unsigned page, unsigned offset)
{
    return *(volatile uint64_t *)(frame[page] + offset);
}

static void map(unsigned page, uint64_t to, uint64_t flags)
{
    page_map(STACK + page * PAGE_SIZE, to, flags);
    asm volatile("invlpg (%0)" : : "r"(STACK + page * PAGE_SIZE) : "memory");
}

static void map_all(void)
{
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned j = 0; j < PAGE_SIZE / 8; j++)
            ((volatile uint64_t *)frame[i])[j] = 0;
        map(i, frame[i], RIGHTS);
    }
}

/* Runs the assembler text with rsp = `at`; the vector of its exception, and in `end` rsp behind it.
 * Its result is in rax, its arguments are rbx and rcx. */
static uint64_t end, result;

#define ON_STACK(at, one, two, text)                                                               \
    ({                                                                                             \
        uint64_t vector_ = TRY("mov %%rsp, %%r15\n\tmov %2, %%rsp\n\t" text                        \
                               "\n\tmov %%rsp, %1\n\tmov %%r15, %%rsp",                            \
                               : "=a"(result), "=m"(end)                                           \
                               : "r"((uint64_t)(at)), "b"((uint64_t)(one)), "c"((uint64_t)(two))   \
                               : "rdx", "rsi", "rdi", "r8", "r15", "memory", "cc");                \
        vector_;                                                                                   \
    })

/* A frame of a function: stores, loads, pushes and pops around rsp. */
#define FUNCTION                                                                                   \
    "push %%rbx\n\tpush %%rcx\n\tsub $24, %%rsp\n\tmov %%rbx, (%%rsp)\n\tmov %%rcx, 16(%%rsp)\n\t" \
    "mov (%%rsp), %%rax\n\tadd 16(%%rsp), %%rax\n\tmov 24(%%rsp), %%rdx\n\tadd %%rdx, %%rax\n\t"   \
    "add $24, %%rsp\n\tpop %%rdx\n\tpop %%rsi\n\tadd %%rsi, %%rax"

static void at_every_offset(void)
{
    bool good = true;

    for (unsigned offset = PAGE_SIZE - 80; offset <= PAGE_SIZE + 80; offset += 4) {
        uint64_t vector = ON_STACK(STACK + offset, offset, 3, FUNCTION);

        good &= vector == NO_TRAP && end == STACK + offset && result == 2 * offset + 6;
    }
    check("a frame at every place around a page boundary", good);
    good = true;
    for (unsigned i = 0; i < 300; i++) {
        uint64_t at = STACK + (i % 3 + 1) * PAGE_SIZE - (i % 5) * 24;

        good &= ON_STACK(at, i, 7, FUNCTION) == NO_TRAP && result == 2 * i + 14;
    }
    check("frames on three pages in turn", good);
}

static void read_only(void)
{
    map_all();
    ON_STACK(STACK + PAGE_SIZE, 1, 2, FUNCTION);
    *(volatile uint64_t *)(frame[0] + 0xff8) = 77;
    map(0, frame[0], PTE_P);
    check_equal("a read-only stack is popped from",
                ON_STACK(STACK + 0xff8, 0, 0, "pop %%rax\n\tadd $1, %%rax"), NO_TRAP);
    check_equal("    with its value", result, 78);
    check_equal("a push there faults", ON_STACK(STACK + PAGE_SIZE, 5, 6, FUNCTION), PF);
    check_equal("    with the address", trap.cr2, STACK + 0xff8);
    check_equal("    and the error code", trap.error, PF_P | PF_W);
    check_equal("    and rsp as it was", trap.rsp, STACK + PAGE_SIZE);
    check_equal("    and nothing stored", word(0, 0xff8), 77);
}

static void absent(void)
{
    map_all();
    map(0, frame[0], 0);
    check_equal("pushes into an absent page: fault",
                ON_STACK(STACK + PAGE_SIZE + 8, 0x11, 0x22, FUNCTION), PF);
    check_equal("    at the first that reaches it", trap.cr2, STACK + PAGE_SIZE - 8);
    check_equal("    behind the one that does not", word(1, 0), 0x11);
    check_equal("    with rsp between them", trap.rsp, STACK + PAGE_SIZE);
    map_all();
    map(0, frame[0], 0);
    check_equal("a push across into it", ON_STACK(STACK + PAGE_SIZE + 4, 0x11, 0x22, FUNCTION), PF);
    check_equal("    stores nothing in the page that is there", word(1, 0), 0);
    check_equal("    nor moves rsp", trap.rsp, STACK + PAGE_SIZE + 4);
}

static void dirty_bits(void)
{
    map_all();
    check_equal("loads from a clean stack",
                ON_STACK(STACK + 0x800, 0, 0, "mov 8(%%rsp), %%rax\n\tadd 16(%%rsp), %%rax"),
                NO_TRAP);
    check("    set A, not D", (*page_entry(STACK, 1) & (PTE_A | PTE_D)) == PTE_A);
    check_equal("a fault before the store",
                ON_STACK(STACK + 0x800, 0, 0, "mov 8(%%rsp), %%rax\n\tud2\n\tpush %%rax"), UD);
    check("    leaves D clear", !(*page_entry(STACK, 1) & PTE_D));
    check_equal("the store", ON_STACK(STACK + 0x800, 0, 0, "mov 8(%%rsp), %%rax\n\tpush %%rax"),
                NO_TRAP);
    check("    sets it", *page_entry(STACK, 1) & PTE_D);
}

/* INVLPG between two accesses of a run: the second reaches the new frame. */
static void moved(void)
{
    map_all();
    *(volatile uint64_t *)(frame[0] + 0x800) = 1;
    *(volatile uint64_t *)(frame[1] + 0x800) = 2;
    ON_STACK(STACK + 0x800, page_entry(STACK, 1), frame[1] | RIGHTS,
             "mov (%%rsp), %%rax\n\tpush %%rax\n\tmov %%rcx, (%%rbx)\n\tinvlpg (%%rsp)\n\t"
             "push %%rcx\n\tshl $8, %%rax\n\tadd 16(%%rsp), %%rax\n\tadd $16, %%rsp");
    check_equal("the stack's frame changes between two accesses", result, 0x102);
    check_equal("    the first push went to the old", word(0, 0x7f8), 1);
    check_equal("    the second to the new", word(1, 0x7f0), frame[1] | RIGHTS);
    map_all();
}

/* Accesses too far apart for one page, between a comparison and the use of its result. */
static void far_apart(void)
{
    map_all();
    map(1, frame[0], RIGHTS); /* so that the two frames are no neighbours */
    *(volatile uint64_t *)(frame[2] + 0x3b8) = 0x4200;
    for (unsigned i = 0; i < 3; i++) {
        uint64_t vector = ON_STACK(STACK + PAGE_SIZE + 0x808, 5, 5,
                                   "cmp %%rbx, %%rcx\n\tpush %%rbx\n\tmov 3000(%%rsp), %%rax\n\t"
                                   "sete %%al\n\tadd $8, %%rsp");

        check_equal("a push and a load 3000 bytes up", vector, NO_TRAP);
        check_equal("    finds what is there", result, 0x4201);
    }
    for (unsigned i = 0; i < 3; i++) {
        /* Both checks could be made before the XOR, where no flag is needed. */
        uint64_t vector = ON_STACK(STACK + PAGE_SIZE + 0x808, 0x77 + i, 5,
                                   "xor %%eax, %%eax\n\tmovb %%bl, 3000(%%rsp)\n\tpush %%rbx\n\t"
                                   "sete %%al\n\tadd $8, %%rsp");

        check_equal("a store 3000 bytes up and a push", vector, NO_TRAP);
        check_equal("    both arrive: the store", word(2, 0x3c0) & 0xff, 0x77 + i);
        check_equal("    and the push", word(0, 0x800), 0x77 + i);
        check_equal("    with the flags as they were", result, 1);
    }
    map_all();
}

/* mov $imm32, %eax; ret at the stack pointer's page, rewritten by pushes. */
static void code_on_it(void)
{
    uint64_t (*code)(void) = (uint64_t(*)(void))(STACK + 0x400);
    bool good = true;

    map_all();
    for (uint64_t i = 1; i < 50; i++) {
        ON_STACK(STACK + 0x408, 0xc300000000b8 | i << 8, 9,
                 "push %%rbx\n\tpush %%rcx\n\tadd $16, %%rsp");
        good &= code() == i;
    }
    check("pushes over code that has run", good);
    good = true;
    for (uint64_t i = 1; i < 50; i++) {
        ON_STACK(STACK + 0x408, 0xc300000000b8 | i << 8, code,
                 "push %%rbx\n\tsub $8, %%rsp\n\tcall *%%rcx\n\tadd $16, %%rsp");
        good &= result == i;
    }
    check("    and called in the same run", good);
}

static void not_canonical(void)
{
    static const uint64_t places[] = {0x0000800000000008, 0x8000000000000000, 0x8000000000000010,
                                      0xffff7ffffffffff8};

    for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        ON_STACK(STACK + 0x800, 1, 2, FUNCTION);
        check_equal("a stack at no canonical address", ON_STACK(places[i], 1, 2, FUNCTION), SS);
        check_equal("    error code", trap.error, 0);
    }
}

/* The same while no page is pinned: INVLPG has just let it go. */
#define AFTER_FLUSH(text)                                                                          \
    do {                                                                                           \
        TRY("invlpg (%1)\n\tmov %0, %%rsp\n\t" HERE text, : : "r"(places[i]), "r"(STACK) : "rax"); \
        check_equal(text " there after INVLPG", trap.vector, SS);                                  \
        check_equal("    error code", trap.error, 0);                                              \
        check_equal("    rip", trap.rip, trap_start);                                              \
        check_equal("    rsp", trap.rsp, places[i]);                                               \
    } while (0)

/* A register that has just changed, and is used again, has its value in the handler. */
#define KEPT(text)                                                                                 \
    do {                                                                                           \
        register uint64_t kept asm("r12") = 40;                                                    \
                                                                                                   \
        TRY("invlpg (%2)\n\tmov %1, %%rsp\n\tadd $2, %0\n\t" text "\n\tmov %0, %%rcx",             \
            : "+r"(kept)                                                                           \
            : "r"(place), "r"(STACK)                                                               \
            : "rax", "rcx");                                                                       \
        check_equal("    and changes no register", kept, 42);                                      \
    } while (0)

static void kept_by_push(uint64_t place)
{
    KEPT("push %%rax");
}

static void kept_by_pop(uint64_t place)
{
    KEPT("pop %%rax");
}

static void not_canonical_after_flush(void)
{
    static const uint64_t places[] = {0x8000000000000008, 0x8000000000000800, 0x0000800000000008};

    for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        AFTER_FLUSH("push %%rax");
        AFTER_FLUSH("push %%r12");
        AFTER_FLUSH("pushfq");
        AFTER_FLUSH("pop %%rax");
        AFTER_FLUSH("addq $1, -8(%%rsp)");
        AFTER_FLUSH("call finish");
        AFTER_FLUSH("ret");
        kept_by_push(places[i]);
        kept_by_pop(places[i]);
    }
}

static USER_DATA uint64_t user_stack[64];

/* A page that the supervisor has used as its stack is none of user mode's. */
static USER_CODE uint64_t on_supervisor_stack(uint64_t at)
{
    uint64_t value;

    asm volatile("mov %%rsp, %%r15\n\tmov %1, %%rsp\n\tpop %0\n\tpush %0\n\tmov %%r15, %%rsp"
                 : "=a"(value)
                 : "r"(at)
                 : "r15", "memory");
    return value;
}

static void by_privilege(void)
{
    map_all();
    ON_STACK(STACK + 0x800, 1, 2, FUNCTION);
    user_call(on_supervisor_stack, STACK + 0x7f8);
    check_equal("user mode pops from the supervisor's stack", trap.vector, PF);
    check_equal("    error code", trap.error, PF_P | PF_U);
    user_stack[8] = 42;
    check_equal("user mode's own stack", user_call(on_supervisor_stack, (uint64_t)&user_stack[8]),
                42);
    check_equal("    raises nothing", trap.vector, NO_TRAP);
}

void guest_main(void)
{
    for (unsigned i = 0; i < 3; i++)
        frame[i] = (uint64_t)page_new();
    map_all();
    at_every_offset();
    read_only();
    absent();
    dirty_bits();
    moved();
    far_apart();
    code_on_it();
    not_canonical();
    not_canonical_after_flush();
    by_privilege();
    finish();
}
