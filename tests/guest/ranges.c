/*
 * Several accesses from one unchanged register, which an engine may be tempted to check together:
 * across a page boundary, into absent and read-only pages, over code, with exact faults, dirty bits
 * and order. Intel SDM volume 3, 4.7 (page faults) and 4.8 (accessed and dirty flags).
 */
#include "lib/guest.h"

#define AREA 0x0000430000000000ull /* two pages in a row are mapped here, each to its own frame */
#define RIGHTS (PTE_P | PTE_W)

static uint64_t frame[2];

static volatile uint64_t *word(unsigned page, unsigned offset)
{
    return (volatile uint64_t *)(frame[page] + offset);
}

static void map(unsigned page, uint64_t flags)
{
    page_map(AREA + page * PAGE_SIZE, frame[page], flags);
    asm volatile("invlpg (%0)" : : "r"(AREA + page * PAGE_SIZE) : "memory");
}

static void reset(void)
{
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned j = 0; j < PAGE_SIZE / 8; j++)
            *word(i, j * 8) = 0;
        map(i, RIGHTS);
    }
}

static uint64_t result;

/* Runs the text with rbx = `base` and rcx = `value`; what is in rax then is `result`. */
#define WITH(base, value, text)                                                                    \
    TRY("xor %%eax, %%eax\n\t" text,                                                               \
        : "=a"(result)                                                                             \
        : "b"((uint64_t)(base)), "c"((uint64_t)(value))                                            \
        : "rdx", "rsi", "rdi", "memory", "cc")

#define OBJECT                                                                                     \
    "mov (%%rbx), %%rax\n\tadd 8(%%rbx), %%rax\n\tmov %%rcx, 16(%%rbx)\n\tadd %%rax, 8(%%rbx)\n\t" \
    "incq (%%rbx)\n\tmov 16(%%rbx), %%rdx\n\tlea (%%rax, %%rdx), %%rax"

static void around_the_boundary(void)
{
    bool good = true;

    for (unsigned offset = PAGE_SIZE - 40; offset <= PAGE_SIZE + 16; offset += 2) {
        volatile uint64_t *object = (volatile uint64_t *)(AREA + offset);

        reset();
        object[0] = 100;
        object[1] = 20;
        good &= WITH(object, 3, OBJECT) == NO_TRAP && result == 123;
        good &= object[0] == 101 && object[1] == 140 && object[2] == 3;
    }
    check("an object at every place around a page boundary", good);
}

static void absent(void)
{
    reset();
    map(1, 0);
    *word(0, 0xff0) = 5;
    check_equal("its third word in an absent page", WITH(AREA + 0xff0, 7, OBJECT), PF);
    check_equal("    address", trap.cr2, AREA + PAGE_SIZE);
    check_equal("    error code", trap.error, PF_W);
    check_equal("    nothing behind that is done", *word(0, 0xff8), 0);
    check_equal("a store before the one that faults",
                WITH(AREA + 0xff8, 9, "mov %%rcx, (%%rbx)\n\tmov %%rcx, 8(%%rbx)"), PF);
    check_equal("    is done", *word(0, 0xff8), 9);
}

static void read_only(void)
{
    reset();
    map(1, PTE_P);
    check_equal(
        "loads from a read-only page and a store to the other",
        WITH(AREA + 0xff8, 4, "mov %%rcx, (%%rbx)\n\tmov 8(%%rbx), %%rax\n\tadd (%%rbx), %%rax"),
        NO_TRAP);
    check_equal("    have their values", result, 4);
    check_equal("a store behind a load in a read-only page",
                WITH(AREA + PAGE_SIZE, 4, "mov (%%rbx), %%rax\n\tmov %%rcx, 8(%%rbx)"), PF);
    check_equal("    address", trap.cr2, AREA + PAGE_SIZE + 8);
    check_equal("    error code", trap.error, PF_P | PF_W);
}

static void dirty_bits(void)
{
    reset();
    check_equal("an exception between load and store",
                WITH(AREA, 4, "mov (%%rbx), %%rax\n\tud2\n\tmov %%rcx, 8(%%rbx)"), UD);
    check("    sets A, not D", (*page_entry(AREA, 1) & (PTE_A | PTE_D)) == PTE_A);
    map(0, RIGHTS);
    check_equal(
        "a division error before load and store",
        WITH(AREA, 0, "xor %%edx, %%edx\n\tdiv %%rcx\n\tmov (%%rbx), %%rax\n\tmov %%rcx, 8(%%rbx)"),
        DE);
    check("    leaves A and D clear", !(*page_entry(AREA, 1) & (PTE_A | PTE_D)));
    map(1, 0);
    check_equal("a page fault between load and store",
                WITH(AREA, AREA + PAGE_SIZE,
                     "mov (%%rbx), %%rax\n\tmov (%%rcx), %%rdx\n\tmov %%rcx, 8(%%rbx)\n\t"
                     "xor %%edx, %%edx"),
                PF);
    check("    leaves D clear", !(*page_entry(AREA, 1) & PTE_D));
    check_equal("both", WITH(AREA, 1, "mov (%%rbx), %%rax\n\tmov %%rcx, 8(%%rbx)"), NO_TRAP);
    check("    set it", *page_entry(AREA, 1) & PTE_D);
}

/* mov $imm32, %eax; ret, put in place by two stores. */
static void code(void)
{
    uint64_t (*function)(void) = (uint64_t(*)(void))(AREA + 0x100);
    bool good = true;

    reset();
    for (uint64_t i = 1; i < 50; i++) {
        WITH(AREA + 0x100, 0xc300000000b8 | i << 8,
             "movl %%ecx, (%%rbx)\n\tshr $32, %%rcx\n\tmovl %%ecx, 4(%%rbx)");
        good &= function() == i;
    }
    check("two stores over code that has run", good);
}

/* The register of the address changes in the middle, or another mapping comes between. */
static void changes(void)
{
    reset();
    *word(0, 0x10) = 0x20;
    *word(0, 0x20) = 0x300;
    check_equal("a chain of pointers",
                WITH(AREA, AREA,
                     "mov 0x10(%%rbx), %%rdx\n\tadd %%rdx, %%rbx\n\tmov (%%rbx), %%rax\n\t"
                     "add 0x10(%%rcx), %%rax"),
                NO_TRAP);
    check_equal("    leads where it should", result, 0x320);
    *word(1, 0x20) = 0x4000;
    check_equal(
        "INVLPG between two accesses",
        WITH(AREA + 0x20, page_entry(AREA, 1),
             "mov (%%rbx), %%rax\n\tmov (%%rcx), %%rdx\n\tmov 8(%%rcx), %%rsi\n\t"
             "mov %%rsi, (%%rcx)\n\tinvlpg (%%rbx)\n\tadd (%%rbx), %%rax\n\tmov %%rdx, (%%rcx)"),
        NO_TRAP);
    check_equal("    the second sees the new frame", result, 0x4300);
    asm volatile("invlpg (%0)" : : "r"(AREA) : "memory");
}

static void not_canonical(void)
{
    check_equal("accesses at no canonical address",
                WITH(0x00007ffffffffff0, 0, "mov (%%rbx), %%rax\n\tmov 8(%%rbx), %%rax"), PF);
    check_equal("    the other side",
                WITH(0x0000800000000000, 0,
                     "mov -4096(%%rcx), %%rax\n\tmov 8(%%rbx), %%rax\n\t"
                     "mov 16(%%rbx), %%rax"),
                PF);
    check_equal("    from a canonical base",
                WITH(0x00007fffffffffe0, 0, "mov 32(%%rbx), %%rax\n\tmov 40(%%rbx), %%rax"), GP);
}

void guest_main(void)
{
    for (unsigned i = 0; i < 2; i++)
        frame[i] = (uint64_t)page_new();
    around_the_boundary();
    absent();
    read_only();
    dirty_bits();
    code();
    changes();
    not_canonical();
    finish();
}
