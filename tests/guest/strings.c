/*
 * MOVS and STOS of every size, with and without REP, upward and downward, at places around page
 * borders, where source and destination overlap, onto absent, read-only and code pages, and between
 * STAC and CLAC. What memory and registers hold afterwards is compared with element by element
 * copies. Intel SDM volume 2, MOVS, STOS, REP; volume 1, 7.3.9.3.
 */
#include "lib/guest.h"

#define AREA 0x0000430000000000ull /* three pages in a row, each mapped to its own frame */
#define AREA_BYTES (3 * PAGE_SIZE)
#define RIGHTS (PTE_P | PTE_W)

static uint64_t frame[3];
static uint8_t *before, *expected; /* three pages each */

struct registers {
    uint64_t rdi, rsi, rcx;
};

/* One instruction, with the flags written right behind it so that they are dead before; `vector` is
 * what it raised. */
#define RUN(r, down, text)                                                                         \
    ((down) ? TRY("std\n\t" text "\n\tcld\n\txor %%edx, %%edx", RUN_OPERANDS(r))                   \
            : TRY(text "\n\txor %%edx, %%edx", RUN_OPERANDS(r)))
#define RUN_OPERANDS(r)                                                                            \
    : "+D"((r)->rdi), "+S"((r)->rsi), "+c"((r)->rcx)                                               \
    : "a"(0x1122334455667788)                                                                      \
    : "rdx", "memory", "cc"

struct form {
    const char *name;
    bool movs, rep;
    unsigned size;
};

static const struct form forms[] = {
    {"stosb", false, false, 1},    {"stosw", false, false, 2},    {"stosl", false, false, 4},
    {"stosq", false, false, 8},    {"rep stosb", false, true, 1}, {"rep stosw", false, true, 2},
    {"rep stosl", false, true, 4}, {"rep stosq", false, true, 8}, {"movsb", true, false, 1},
    {"movsw", true, false, 2},     {"movsl", true, false, 4},     {"movsq", true, false, 8},
    {"rep movsb", true, true, 1},  {"rep movsw", true, true, 2},  {"rep movsl", true, true, 4},
    {"rep movsq", true, true, 8},
};

static uint64_t run(const struct form *form, struct registers *r, bool down)
{
    switch (form - forms) {
    case 0:
        return RUN(r, down, "stosb");
    case 1:
        return RUN(r, down, "stosw");
    case 2:
        return RUN(r, down, "stosl");
    case 3:
        return RUN(r, down, "stosq");
    case 4:
        return RUN(r, down, "rep stosb");
    case 5:
        return RUN(r, down, "rep stosw");
    case 6:
        return RUN(r, down, "rep stosl");
    case 7:
        return RUN(r, down, "rep stosq");
    case 8:
        return RUN(r, down, "movsb");
    case 9:
        return RUN(r, down, "movsw");
    case 10:
        return RUN(r, down, "movsl");
    case 11:
        return RUN(r, down, "movsq");
    case 12:
        return RUN(r, down, "rep movsb");
    case 13:
        return RUN(r, down, "rep movsw");
    case 14:
        return RUN(r, down, "rep movsl");
    default:
        return RUN(r, down, "rep movsq");
    }
}

static void map(unsigned page, uint64_t flags)
{
    page_map(AREA + page * PAGE_SIZE, frame[page], flags);
    invlpg((void *)(AREA + page * PAGE_SIZE));
}

static void fill(void)
{
    for (unsigned i = 0; i < AREA_BYTES; i++) {
        before[i] = expected[i] = (uint8_t)(i * 7 + i / 256);
        ((volatile uint8_t *)frame[i / PAGE_SIZE])[i % PAGE_SIZE] = before[i];
    }
}

static bool same(void)
{
    for (unsigned i = 0; i < AREA_BYTES; i++)
        if (((volatile uint8_t *)frame[i / PAGE_SIZE])[i % PAGE_SIZE] != expected[i])
            return false;
    return true;
}

/* What `count` elements do to `expected` and to the registers. */
static void model(const struct form *form, struct registers *r, bool down, uint64_t count)
{
    static const uint64_t rax = 0x1122334455667788;
    int64_t step = down ? -(int64_t)form->size : (int64_t)form->size;

    while (count--) {
        uint8_t element[8];

        for (unsigned i = 0; i < form->size; i++)
            element[i] = form->movs ? expected[r->rsi - AREA + i] : (uint8_t)(rax >> 8 * i);
        for (unsigned i = 0; i < form->size; i++)
            expected[r->rdi - AREA + i] = element[i];
        r->rdi += (uint64_t)step;
        if (form->movs)
            r->rsi += (uint64_t)step;
        if (form->rep)
            r->rcx--;
    }
}

static bool equal(const struct registers *a, const struct registers *b)
{
    return a->rdi == b->rdi && a->rsi == b->rsi && a->rcx == b->rcx;
}

/* The form at offsets of the area, for `count` elements if it has REP. */
static bool one(const struct form *form, bool down, uint64_t to, uint64_t from, uint64_t count)
{
    struct registers r = {AREA + to, AREA + from, count}, m = r;

    fill();
    model(form, &m, down, form->rep ? count : 1);
    return run(form, &r, down) == NO_TRAP && equal(&r, &m) && same();
}

static void everywhere(void)
{
    static const unsigned counts[] = {0, 1, 5, 500};

    for (unsigned f = 0; f < sizeof(forms) / sizeof(forms[0]); f++) {
        bool good = true;

        for (unsigned down = 0; down < 2; down++)
            for (unsigned c = 0; c < (forms[f].rep ? 4 : 1); c++)
                for (unsigned i = 0; i < 3; i++) {
                    uint64_t edge = PAGE_SIZE - 4 * forms[f].size + i * (4 * forms[f].size - 3);

                    good &= one(&forms[f], down, edge, PAGE_SIZE + 512, counts[c]);
                    good &= one(&forms[f], down, PAGE_SIZE + 256, edge, counts[c]);
                    good &= one(&forms[f], down, edge + 3, edge, counts[c]); /* overlapping */
                }
        check(forms[f].name, good);
    }
    check("a whole page stored", one(&forms[7], false, PAGE_SIZE, 0, PAGE_SIZE / 8));
    check("a whole page copied", one(&forms[15], false, PAGE_SIZE, 0, PAGE_SIZE / 8));
    check("a page and one element", one(&forms[15], false, PAGE_SIZE, 0, PAGE_SIZE / 8 + 1));
}

/* Arithmetic flags are left alone, whatever they are. */
static void flags(void)
{
    static const uint64_t mask = 0x8d5; /* OF SF ZF AF PF CF */
    bool good = true;

    for (unsigned i = 0; i < 64; i++) {
        uint64_t value = (i & 1) | (i & 2) << 1 | (i & 4) << 2 | (i & 0x18) << 3 | (i & 0x20) << 6;
        struct registers r = {AREA + (i & 1 ? 64 : PAGE_SIZE - 3), AREA + 200, i % 7};

        asm volatile("push %[value]\n\tpopfq\n\trep movsb\n\tpushfq\n\tpop %[value]"
                     : "+D"(r.rdi), "+S"(r.rsi), "+c"(r.rcx), [value] "+r"(value)
                     :
                     : "memory", "cc");
        good &= (value & mask) ==
                    ((i & 1) | (i & 2) << 1 | (i & 4) << 2 | (i & 0x18) << 3 | (i & 0x20) << 6) &&
                r.rcx == 0;
    }
    check("the flags", good);
}

/* Faults after `done` elements in the last page, which is absent or read-only. */
static bool fault(const struct form *form, uint64_t to, uint64_t from, uint64_t done,
                  uint64_t flags, uint64_t error)
{
    struct registers r = {AREA + to, AREA + from, 100}, m = r;
    bool good;

    fill();
    model(form, &m, false, done);
    map(2, flags);
    good = run(form, &r, false) == PF && trap.error == error &&
           read_cr2() == AREA + 2 * PAGE_SIZE && equal(&r, &m);
    map(2, RIGHTS);
    return good && same();
}

static void faults(void)
{
    uint64_t last = 2 * PAGE_SIZE;

    check("REP STOS onto an absent page", fault(&forms[7], last - 24, 0, 3, 0, PF_W));
    check("    at its start", fault(&forms[7], last, 0, 0, 0, PF_W));
    check("    a read-only one", fault(&forms[7], last - 24, 0, 3, PTE_P, PF_P | PF_W));
    check("REP MOVS onto an absent page", fault(&forms[12], last - 5, 64, 5, 0, PF_W));
    check("    a read-only one", fault(&forms[12], last, 64, 0, PTE_P, PF_P | PF_W));
    check("    from an absent page", fault(&forms[14], 64, last - 8, 2, 0, 0));
}

static void code(void)
{
    static const struct form rep_movsb = {"rep movsb", true, true, 1};
    struct registers r;
    uint64_t (*function)(void) = (uint64_t(*)(void))AREA;
    uint8_t *bytes = (uint8_t *)AREA;
    bool good = true;

    for (unsigned i = 1; i < 20; i++) {
        /* mov $i, %eax; ret, copied over the one before */
        static const uint8_t text[6] = {0xb8, 0, 0, 0, 0, 0xc3};

        for (unsigned j = 0; j < 6; j++)
            bytes[PAGE_SIZE + j] = text[j];
        bytes[PAGE_SIZE + 1] = (uint8_t)i;
        r = (struct registers){AREA, AREA + PAGE_SIZE, 6};
        RUN(&r, false, "rep movsb");
        good &= function() == i && r.rdi == AREA + rep_movsb.size * 6;
    }
    check("code that REP MOVS replaces", good);
}

/* A user page read and written at CPL 0 between STAC and CLAC, all in a row. */
static void smap(void)
{
    struct registers r = {AREA, AREA + 64, 8};
    uint64_t value = 0;

    if (!cpu_has(7, 1, 20)) {
        skip("SMAP", "the CPU has none");
        return;
    }
    fill();
    map(0, RIGHTS | PTE_U);
    write_cr4(read_cr4() | CR4_SMAP);
    for (unsigned i = 0; i < 3; i++) {
        check_equal("before STAC", TRY("mov (%1), %0", : "=r"(value) : "r"(AREA)), PF);
        r = (struct registers){AREA, AREA + 64, 8};
        check_equal("STAC, REP MOVS, a store, CLAC",
                    RUN(&r, false, "stac\n\trep movsb\n\tmovb $9, 100(%%rdi)\n\tclac"), NO_TRAP);
        check_equal("    memory", *(uint64_t *)frame[0], *(uint64_t *)(frame[0] + 64));
        check_equal("    AC afterwards", read_flags() & FLAG_AC, 0);
        check_equal("CLAC ends it", RUN(&r, false, "stac\n\tclac\n\tmov (%%rsi), %%rdx"), PF);
        check_equal("    error code", trap.error, PF_P);
        check_equal("STAC twice", RUN(&r, false, "stac\n\tstac\n\tmov (%%rsi), %%rdx\n\tclac"),
                    NO_TRAP);
        check_equal(
            "STAC in a loop",
            RUN(&r, false, "mov $50, %%ecx\n1:\tstac\n\tmovb (%%rsi), %%dl\n\tclac\n\tloop 1b"),
            NO_TRAP);
        check_equal("a fault between them",
                    RUN(&r, false, "stac\n\tmovb (%%rsi), %%dl\n\tud2\n\tclac"), UD);
        check_equal("    shows AC", trap.rflags & FLAG_AC, FLAG_AC);
        asm volatile("clac");
    }
    write_cr4(read_cr4() & ~CR4_SMAP);
}

void guest_main(void)
{
    before = page_new();
    for (unsigned i = 1; i < 3; i++)
        page_new();
    expected = page_new();
    for (unsigned i = 1; i < 3; i++)
        page_new();
    for (unsigned i = 0; i < 3; i++) {
        frame[i] = (uint64_t)page_new();
        map(i, RIGHTS);
    }
    everywhere();
    flags();
    faults();
    code();
    smap();
}
