/* The walk through paging structures from outside, in every paging mode. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "x86/arch.h"
#include "x86/paging.h"

#define TABLE(n) (0x1000ull * (n))
#define PRESENT X86_PTE_P

static struct memory memory;
static struct x86_vcpu_state cpu;

static int setup(void **state)
{
    memory_init(&memory, 0);
    x86_vcpu_state_reset(&cpu, true, 0);
    return memory_add(&memory, 0, 64 * KIB, 0, "ram", NULL);
}

static int teardown(void **state)
{
    memory_done(&memory);
    return 0;
}

static void put(gpa_t table, unsigned index, uint64_t entry, unsigned size)
{
    assert_int_equal(memory_write(&memory, table + index * size, &entry, size), 0);
}

static void assert_at(gva_t linear, gpa_t expected)
{
    gpa_t gpa = 0;

    assert_true(x86_paging_translate(&cpu, &memory, linear, &gpa));
    assert_int_equal(gpa, expected);
}

static void assert_nowhere(gva_t linear)
{
    gpa_t gpa;

    assert_false(x86_paging_translate(&cpu, &memory, linear, &gpa));
}

static void without_paging_addresses_are_physical(void **state)
{
    assert_at(0x12345678, 0x12345678);
    assert_at(0x100000000, 0);
}

static void with_32bit_paging(void **state)
{
    cpu.cr0 |= X86_CR0_PE | X86_CR0_PG;
    cpu.cr3 = TABLE(1) | 0x18; /* PWT and PCD are no part of the address */
    put(TABLE(1), 1, TABLE(2) | PRESENT, 4);
    put(TABLE(2), 3, 0xabcde000 | PRESENT, 4);
    put(TABLE(1), 2, 0x00c00000 | 0x5u << 13 | PRESENT | X86_PTE_PS, 4);
    assert_at(0x00403123, 0xabcde123);
    assert_nowhere(0x00404000);
    assert_nowhere(0x01000000);
    cpu.cr4 = X86_CR4_PSE;
    assert_at(0x00812345, 0x500c12345);
    cpu.cr4 = 0; /* then the bit means nothing, and the table is outside of memory */
    assert_nowhere(0x00812345);
}

static void with_pae_paging(void **state)
{
    cpu.cr0 |= X86_CR0_PE | X86_CR0_PG;
    cpu.cr4 = X86_CR4_PAE;
    cpu.cr3 = TABLE(1) | 0x20; /* 32-byte aligned */
    put(TABLE(1) + 0x20, 3, TABLE(2) | PRESENT, 8);
    put(TABLE(2), 1, TABLE(3) | PRESENT, 8);
    put(TABLE(3), 2, 0x8000000123456000 | PRESENT, 8); /* no-execute is no part of it */
    put(TABLE(2), 2, 0x123400000 | PRESENT | X86_PTE_PS, 8);
    assert_at(0xc0202abc, 0x123456abc);
    assert_at(0xc0512345, 0x123512345);
    assert_nowhere(0x80000000);
}

static void with_4_and_5_levels(void **state)
{
    const gva_t high = 0xffff800000000000;

    cpu.cr0 |= X86_CR0_PE | X86_CR0_PG;
    cpu.cr4 = X86_CR4_PAE;
    cpu.efer = X86_EFER_LME | X86_EFER_LMA;
    cpu.cr3 = TABLE(1) | 0x005; /* a PCID */
    put(TABLE(1), 256, TABLE(2) | PRESENT, 8);
    put(TABLE(2), 1, TABLE(3) | PRESENT, 8);
    put(TABLE(2), 2, 0x80000000 | PRESENT | X86_PTE_PS, 8);
    put(TABLE(3), 1, TABLE(4) | PRESENT, 8);
    put(TABLE(3), 2, 0x40200000 | PRESENT | X86_PTE_PS, 8);
    put(TABLE(4), 5, 0x7000 | PRESENT, 8);
    assert_at(high + 0x40205678, 0x7678);
    assert_at(high + 0x40412345, 0x40212345);
    assert_at(high + 0x92345678, 0x92345678);
    assert_nowhere(high);
    assert_nowhere(0x800040205678); /* not canonical */

    put(TABLE(5), 0, TABLE(1) | PRESENT, 8);
    cpu.cr3 = TABLE(5);
    cpu.cr4 |= X86_CR4_LA57;
    assert_at(0x800040205678, 0x7678);
    assert_nowhere(high + 0x40205678);
}

int main(void)
{
#define PAGING_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        PAGING_TEST(without_paging_addresses_are_physical),
        PAGING_TEST(with_32bit_paging),
        PAGING_TEST(with_pae_paging),
        PAGING_TEST(with_4_and_5_levels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
