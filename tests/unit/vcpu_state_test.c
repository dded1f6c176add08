/* The power-on state against Intel SDM volume 3, table 10-1. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "x86/arch.h"
#include "x86/lapic.h"
#include "x86/msr.h"
#include "x86/vcpu_state.h"

static struct x86_vcpu_state vcpu;

static void bootstrap_starts_at_the_reset_vector(void **state)
{
    x86_vcpu_state_reset(&vcpu, true, 0);
    assert_int_equal(vcpu.segment[X86_CS].base + vcpu.rip, 0xfffffff0);
    assert_int_equal(vcpu.segment[X86_CS].selector, 0xf000);
    assert_int_equal(vcpu.rflags, 2);
    assert_int_equal(vcpu.cr0, 0x60000010);
    assert_int_equal(vcpu.efer, 0);
    assert_int_equal(vcpu.run_state, X86_RUNNABLE);
    assert_int_equal(vcpu.apic_base, 0xfee00900);
    assert_int_equal(vcpu.msr.pat, 0x0007040600070406);
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++) {
        assert_int_equal(vcpu.segment[i].limit, 0xffff);
        assert_int_equal(vcpu.segment[i].attributes, i == X86_CS ? 0x9b : 0x93);
    }
}

static void others_wait_for_a_startup_ipi(void **state)
{
    x86_vcpu_state_reset(&vcpu, false, 3);
    assert_int_equal(vcpu.run_state, X86_WAIT_FOR_SIPI);
    assert_int_equal(vcpu.apic_base, 0xfee00800);
}

static void fpu_area_is_what_reset_leaves(void **state)
{
    uint16_t fcw;
    uint32_t mxcsr;

    x86_vcpu_state_reset(&vcpu, true, 0);
    memcpy(&fcw, vcpu.xsave, 2);
    memcpy(&mxcsr, vcpu.xsave + 24, 4);
    assert_int_equal(fcw, 0x40);
    assert_int_equal(vcpu.xsave[4], 0xff);
    assert_int_equal(mxcsr, 0x1f80);
    assert_int_equal(vcpu.xsave[512], 3);
    assert_int_equal(vcpu.xcr0, 1);
}

static void no_event(void *opaque, enum lapic_event event, uint8_t vector)
{
}

/* The page written here and the one a reset local APIC saves must be the same. */
static void lapic_page_is_a_reset_lapics(void **state)
{
    static const struct lapic_ops ops = {.event = no_event};
    struct clock *clock;
    struct lapic_bus *bus;
    struct lapic *apic;
    uint8_t page[1024];
    uint64_t base, deadline;

    assert_int_equal(clock_new_manual(&clock), 0);
    assert_int_equal(lapic_bus_new(&bus, 1), 0);
    assert_int_equal(lapic_new(&apic, bus, 5, false, clock, &ops, NULL), 0);
    lapic_save(apic, page, &base, &deadline);
    x86_vcpu_state_reset(&vcpu, false, 5);
    assert_memory_equal(page, vcpu.lapic, sizeof(page));
    assert_int_equal(base, vcpu.apic_base);
    lapic_free(apic);
    lapic_bus_free(bus);
    clock_free(clock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bootstrap_starts_at_the_reset_vector),
        cmocka_unit_test(others_wait_for_a_startup_ipi),
        cmocka_unit_test(fpu_area_is_what_reset_leaves),
        cmocka_unit_test(lapic_page_is_a_reset_lapics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
