/*
 * Self-modifying code: stores over code that has run, in the same and in another page, through
 * another mapping, in the middle of a loop, just ahead, by string instructions. Then the same
 * function at two addresses and code that crosses a page boundary. Intel SDM volume 3, 8.1.3.
 */
#include "lib/guest.h"

typedef uint64_t code_fn(void);

static uint8_t *area; /* four pages in a row, executable */

/* mov $value, %eax; ret */
static void put_return(volatile uint8_t *at, uint32_t value)
{
    at[0] = 0xb8;
    for (int i = 0; i < 4; i++)
        at[1 + i] = (uint8_t)(value >> 8 * i);
    at[5] = 0xc3;
}

static uint64_t call(const volatile void *at)
{
    return ((code_fn *)at)();
}

static void simple(void)
{
    bool good = true;

    for (uint32_t i = 0; i < 1000; i++) {
        put_return(area, i);
        good &= call(area) == i;
    }
    check("code rewritten between calls", good);
    for (uint32_t i = 0; i < 1000; i++) {
        *(volatile uint32_t *)(area + 1) = i * 3;
        good &= call(area) == i * 3;
    }
    check("its immediate rewritten between calls", good);
    put_return(area, 1);
    put_return(area + 64, 2);
    call(area);
    call(area + 64);
    put_return(area + 64, 3);
    check("a neighbour in the page is rewritten", call(area) == 1 && call(area + 64) == 3);
}

static void by_strings(void)
{
    uint8_t *source = page_new();
    uint64_t rdi = (uint64_t)area, rsi = (uint64_t)source, rcx = 6;

    put_return(area, 1);
    call(area);
    put_return(source, 77);
    asm volatile("rep movsb" : "+D"(rdi), "+S"(rsi), "+c"(rcx) : : "memory");
    check_equal("code rewritten by REP MOVSB", call(area), 77);
    put_return(source, 78);
    asm volatile("movups (%0), %%xmm0; movups %%xmm0, (%1)" : : "r"(source), "r"(area) : "memory");
    check_equal("code rewritten by an SSE store", call(area), 78);
    put_return(source, 79);
    uint64_t old = *(uint64_t *)area, new = *(uint64_t *)source;
    asm volatile("lock cmpxchg %2, (%1)" : "+a"(old) : "r"(area), "r"(new) : "memory", "cc");
    check_equal("code rewritten by LOCK CMPXCHG", call(area), 79);
}

static void by_alias(void)
{
    static const uint64_t alias = 0x0000410000000000ull;

    page_map(alias, (uint64_t)area, PTE_P | PTE_W);
    put_return(area, 5);
    check_equal("through another mapping: run", call((void *)alias), 5);
    put_return(area, 6);
    check_equal("    stored at the first, run at the second", call((void *)alias), 6);
    put_return((uint8_t *)alias, 7);
    check_equal("    stored at the second, run at the first", call(area), 7);
    check_equal("    and at the second", call((void *)alias), 7);
}

/* The store is the instruction before the one that it changes. */
static void just_ahead(void)
{
    uint64_t result = 0;

    for (uint8_t i = 1; i < 100; i++) {
        uint32_t got;
        asm volatile("movb %1, 1f+1(%%rip)\n"
                     "1: mov $0, %%eax\n"
                     "mov %%eax, %0"
                     : "=r"(got)
                     : "r"(i)
                     : "rax", "memory");
        result += got == i;
    }
    check_equal("the next instruction is rewritten", result, 99);
}

/* A loop that counts how often its own immediate was what the last round stored. */
static void loop(void)
{
    uint64_t sum = 0, count = 200;

    asm volatile("1: mov $0, %%eax\n"
                 "add %%rax, %0\n"
                 "movb %b1, 1b+1(%%rip)\n"
                 "dec %1\n"
                 "jnz 1b\n"
                 "movb $0, 1b+1(%%rip)"
                 : "+r"(sum), "+r"(count)
                 :
                 : "rax", "memory", "cc");
    check_equal("a loop rewrites itself", sum, 200 * 201 / 2 - 1);
}

static void crossing(void)
{
    bool good = true;

    for (unsigned before = 1; before < 6; before++) {
        uint8_t *at = area + PAGE_SIZE - before;
        put_return(at, 0x11223344);
        good &= call(at) == 0x11223344;
        put_return(at, 0x55667788);
        good &= call(at) == 0x55667788;
        at[4] ^= 1; /* for some, in the second page alone */
        good &= call(at) == (0x55667788 ^ 1 << 24);
    }
    check("code across a page boundary", good);
}

static void remapped(void)
{
    static const uint64_t address = 0x0000410000010000ull;
    uint8_t *other = page_new();

    put_return(area, 1);
    put_return(other, 2);
    page_map(address, (uint64_t)area, PTE_P | PTE_W);
    check_equal("a page is run", call((void *)address), 1);
    page_map(address, (uint64_t)other, PTE_P | PTE_W);
    invlpg((void *)address);
    check_equal("    its address then maps another", call((void *)address), 2);
    page_map(address + PAGE_SIZE, (uint64_t)area, PTE_P | PTE_W);
    put_return(other + PAGE_SIZE - 3, 0);
    other[PAGE_SIZE - 3] = 0xb8; /* mov $imm: the rest lies in the next page */
    other[PAGE_SIZE - 2] = other[PAGE_SIZE - 1] = 0;
    area[0] = 1;
    area[1] = 2;
    area[2] = 0xc3;
    check_equal("code across two mappings", call((void *)(address + PAGE_SIZE - 3)), 0x02010000);
    uint8_t *third = page_new();
    third[0] = 3;
    third[1] = 4;
    third[2] = 0xc3;
    page_map(address + PAGE_SIZE, (uint64_t)third, PTE_P | PTE_W);
    invlpg((void *)(address + PAGE_SIZE));
    check_equal("    the second one is exchanged", call((void *)(address + PAGE_SIZE - 3)),
                0x04030000);
}

/* The same bytes in two modes of their meaning: nothing of one may be used for the other. */
static void data_beside(void)
{
    volatile uint32_t *counter = (volatile uint32_t *)(area + 256);
    uint64_t start = read_tsc();

    put_return(area, 9);
    *counter = 0;
    bool good = true;
    for (int i = 0; i < 20000; i++) {
        (*counter)++;
        good &= call(area) == 9;
    }
    check("data in a page of code", good && *counter == 20000);
    print("-- %lu cycles a store beside code\n", (read_tsc() - start) / 20000);
}

void guest_main(void)
{
    area = page_new();
    for (int i = 0; i < 3; i++)
        page_new();
    simple();
    by_strings();
    by_alias();
    just_ahead();
    loop();
    crossing();
    remapped();
    data_beside();
}
