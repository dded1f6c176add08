/* String instructions of the software engine: every direction and repeat, cut by pages, faults,
 * devices, segment limits and the time they may take. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "dbt_machine.h"

static struct dbt_vcpu *const v = &machine.v;

static void set(uint64_t source, uint64_t destination, uint64_t count)
{
    v->gpr[X86_RSI] = source;
    v->gpr[X86_RDI] = destination;
    v->gpr[X86_RCX] = count;
}

static void expect(uint64_t source, uint64_t destination, uint64_t count)
{
    assert_int_equal(v->gpr[X86_RSI], source);
    assert_int_equal(v->gpr[X86_RDI], destination);
    assert_int_equal(v->gpr[X86_RCX], count);
}

static void fill(uint64_t address, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        machine.memory[address + i] = (uint8_t)(i * 7 + 1);
}

static void moves_cross_pages(void **state)
{
    machine_long();
    fill(0x10ff0, 10000);
    set(0x10ff0, 0x20ffb, 10000);
    assert_int_equal(EXECUTE(0xf3, 0xa4), DBT_NEXT);
    expect(0x10ff0 + 10000, 0x20ffb + 10000, 0);
    assert_memory_equal(machine.memory + 0x10ff0, machine.memory + 0x20ffb, 10000);
    assert_int_equal(v->rip, MACHINE_CODE + 2);

    machine_long();
    fill(0x10ff3, 800);
    set(0x10ff3, 0x20ffb, 100);
    assert_int_equal(EXECUTE(0xf3, 0x48, 0xa5), DBT_NEXT); /* elements cross pages too */
    expect(0x10ff3 + 800, 0x20ffb + 800, 0);
    assert_memory_equal(machine.memory + 0x10ff3, machine.memory + 0x20ffb, 800);
}

static void moves_go_down(void **state)
{
    machine_long();
    fill(0x10ff3, 800);
    v->flags_arith |= X86_FLAG_DF;
    set(0x10ff3 + 792, 0x20ffb + 792, 100);
    assert_int_equal(EXECUTE(0xf3, 0x48, 0xa5), DBT_NEXT);
    expect(0x10ff3 - 8, 0x20ffb - 8, 0);
    assert_memory_equal(machine.memory + 0x10ff3, machine.memory + 0x20ffb, 800);
    assert_true(v->flags_arith & X86_FLAG_DF);
}

static void an_overlapping_move_repeats_its_pattern(void **state)
{
    machine_long();
    fill(0x10f00, 3);
    set(0x10f00, 0x10f03, 1000);
    assert_int_equal(EXECUTE(0xf3, 0xa4), DBT_NEXT);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(machine.memory[0x10f03 + i], machine.memory[0x10f00 + i % 3]);
}

static void a_fault_leaves_the_registers_at_the_element(void **state)
{
    machine_long();
    fill(0x10100, 5000);
    machine.absent[0x22] = true;
    set(0x10100, 0x21800, 5000);
    assert_int_equal(EXECUTE(0xf3, 0xa4), DBT_FAULT);
    assert_int_equal(v->exception.vector, X86_VECTOR_PF);
    assert_int_equal(v->exception.address, 0x22000);
    assert_int_equal(v->exception.error, X86_PF_W);
    expect(0x10100 + 0x800, 0x22000, 5000 - 0x800);
    assert_int_equal(v->rip, MACHINE_CODE);
    machine.absent[0x22] = false;
    assert_int_equal(EXECUTE(0xf3, 0xa4), DBT_NEXT);
    expect(0x10100 + 5000, 0x21800 + 5000, 0);
    assert_memory_equal(machine.memory + 0x10100, machine.memory + 0x21800, 5000);

    /* An element half in the absent page stores nothing. */
    machine_long();
    machine.absent[0x22] = true;
    v->gpr[X86_RAX] = ~0ull;
    set(0, 0x21ff5, 5);
    assert_int_equal(EXECUTE(0xf3, 0x48, 0xab), DBT_FAULT);
    expect(0, 0x21ffd, 4);
    assert_int_equal(machine_peek(0x21ff5, 8), ~0ull);
    assert_int_equal(machine_peek(0x21ffd, 3), 0);
}

static void devices_take_one_element_at_a_time(void **state)
{
    machine_long();
    fill(0x10000, 64);
    machine.device[0x21] = true;
    set(0x10000, 0x20ff0, 8);
    assert_int_equal(EXECUTE(0xf3, 0x48, 0xa5), DBT_NEXT);
    expect(0x10040, 0x21030, 0);
    assert_memory_equal(machine.memory + 0x10000, machine.memory + 0x20ff0, 64);
}

static void long_runs_pause(void **state)
{
    unsigned calls = 1;

    machine_long();
    v->gpr[X86_RAX] = 0x5a;
    set(0, 0x10000, 0x28000);
    while (EXECUTE(0xf3, 0xaa) == DBT_JUMP) {
        assert_int_equal(v->rip, MACHINE_CODE);
        calls++;
    }
    assert_int_equal(calls, 3);
    expect(0, 0x38000, 0);
    assert_int_equal(machine.memory[0x10000], 0x5a);
    assert_int_equal(machine.memory[0x37fff], 0x5a);
    assert_int_equal(machine.memory[0x38000], 0);
}

static void single_step_sees_each_element(void **state)
{
    machine_long();
    v->flags_sys |= X86_FLAG_TF;
    mode_update(v);
    set(0, 0x10000, 2);
    assert_int_equal(EXECUTE(0xf3, 0xaa), DBT_JUMP);
    expect(0, 0x10001, 1);
    assert_int_equal(v->rip, MACHINE_CODE);
    assert_int_equal(EXECUTE(0xf3, 0xaa), DBT_NEXT);
    assert_int_equal(v->rip, MACHINE_CODE + 2);
}

static void comparisons_stop_and_set_flags(void **state)
{
    machine_long();
    fill(0x10f00, 600);
    memcpy(machine.memory + 0x20e80, machine.memory + 0x10f00, 600);
    machine.memory[0x20e80 + 555]++;
    set(0x10f00, 0x20e80, 600);
    assert_int_equal(EXECUTE(0xf3, 0xa6), DBT_NEXT);
    expect(0x10f00 + 556, 0x20e80 + 556, 600 - 556);
    assert_false(v->flags_arith & X86_FLAG_ZF);
    assert_true(v->flags_arith & X86_FLAG_CF); /* source below destination */

    machine_poke(0x30000 + 300, 1, 'x');
    v->gpr[X86_RAX] = 'x';
    set(0, 0x30000, ~0ull);
    assert_int_equal(EXECUTE(0xf2, 0xae), DBT_NEXT); /* repne scasb */
    expect(0, 0x30000 + 301, ~0ull - 301);
    assert_true(v->flags_arith & X86_FLAG_ZF);
    assert_int_equal(v->gpr[X86_RAX], 'x');

    v->flags_arith = X86_FLAG_CF;
    set(1, 2, 0);
    assert_int_equal(EXECUTE(0xf3, 0xa6), DBT_NEXT);
    expect(1, 2, 0);
    assert_int_equal(v->flags_arith, X86_FLAG_CF); /* no element, no flags */
}

static void loads_and_single_elements(void **state)
{
    machine_long();
    machine_poke(0x10000, 8, 0x1122334455667788);
    v->gpr[X86_RAX] = ~0ull;
    set(0x10000, 0, 9);
    assert_int_equal(EXECUTE(0x66, 0xad), DBT_NEXT); /* lodsw */
    assert_int_equal(v->gpr[X86_RAX], 0xffffffffffff7788);
    expect(0x10002, 0, 9);
    assert_int_equal(EXECUTE(0xad), DBT_NEXT);
    assert_int_equal(v->gpr[X86_RAX], 0x33445566);
    /* FS moves the source. */
    v->segment[X86_FS].base = 0x8000;
    v->gpr[X86_RSI] = 0x8000;
    assert_int_equal(EXECUTE(0x64, 0xac), DBT_NEXT);
    assert_int_equal(v->gpr[X86_RAX] & 0xff, 0x88);
}

static void narrow_addresses_wrap(void **state)
{
    machine_long();
    set(0xffffffff00010000, 0xffffffff00020000, 0xffffffff00000002);
    assert_int_equal(EXECUTE(0x67, 0xf3, 0xa4), DBT_NEXT);
    expect(0x10002, 0x20002, 0);

    machine_real();
    fill(0xfff0, 16);
    set(0x1234fff0, 0x5678, 0x12340010);
    assert_int_equal(EXECUTE(0xf3, 0xa4), DBT_NEXT);
    expect(0x12340000, 0x5688, 0x12340000);
    assert_memory_equal(machine.memory + 0x5678, machine.memory + 0xfff0, 16);
    set(0xfff8, 0x5678, 0x20);
    assert_int_equal(EXECUTE(0xf3, 0xa4), DBT_NEXT); /* from the segment's end to its start */
    expect(0x18, 0x5698, 0);
}

static void segment_limits_cut_a_run(void **state)
{
    machine_protected();
    machine_descriptor(SEL_FREE, 0x10000, 0xff, ACCESS_DATA, FLAG_DB);
    v->gpr[X86_RAX] = SEL_FREE;
    assert_int_equal(EXECUTE(0x8e, 0xc0), DBT_JUMP); /* mov %eax, %es: no longer flat */
    v->gpr[X86_RAX] = 0x5a;
    set(0, 0xf0, 0x20);
    assert_int_equal(EXECUTE(0xf3, 0xaa), DBT_FAULT);
    assert_int_equal(v->exception.vector, X86_VECTOR_GP);
    expect(0, 0x100, 0x10);
    assert_int_equal(machine.memory[0x100ff], 0x5a);
    assert_int_equal(machine.memory[0x10100], 0);
}

static void ports(void **state)
{
    machine_long();
    machine.port_value = 0x40;
    v->gpr[X86_RDX] = 0x1f0;
    set(0, 0x10fff, 4);
    assert_int_equal(EXECUTE(0xf3, 0x6c), DBT_NEXT); /* rep insb */
    expect(0, 0x11003, 0);
    assert_int_equal(machine_peek(0x10fff, 4), 0x43424140);
    assert_int_equal(machine.port_accesses, 4);
    set(0x10fff, 0, 1);
    assert_int_equal(EXECUTE(0xf3, 0x6f), DBT_NEXT); /* rep outsl */
    assert_int_equal(machine.port_value, 0x43424140);
    assert_int_equal(machine.port_size, 4);

    /* The port is not read if the byte cannot be stored. */
    machine.absent[0x11] = true;
    machine.port_accesses = 0;
    set(0, 0x10fff, 4);
    assert_int_equal(EXECUTE(0xf3, 0x6c), DBT_FAULT);
    assert_int_equal(machine.port_accesses, 1);
    expect(0, 0x11000, 3);
    machine_user();
    v->tr.limit = 0x66; /* no room for the bitmap's base */
    EXPECT_FAULT(X86_VECTOR_GP, 0, 0x6c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moves_cross_pages),
        cmocka_unit_test(moves_go_down),
        cmocka_unit_test(an_overlapping_move_repeats_its_pattern),
        cmocka_unit_test(a_fault_leaves_the_registers_at_the_element),
        cmocka_unit_test(devices_take_one_element_at_a_time),
        cmocka_unit_test(long_runs_pause),
        cmocka_unit_test(single_step_sees_each_element),
        cmocka_unit_test(comparisons_stop_and_set_flags),
        cmocka_unit_test(loads_and_single_elements),
        cmocka_unit_test(narrow_addresses_wrap),
        cmocka_unit_test(segment_limits_cut_a_run),
        cmocka_unit_test(ports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
