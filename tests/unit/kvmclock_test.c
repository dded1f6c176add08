/* The paravirtual clock: what a guest reads out of the structures is the VM's time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "x86/kvmclock.h"

#define PAGE 0x3000ull

struct guest_view {
    uint32_t version, pad;
    uint64_t tsc, time;
    uint32_t mul;
    int8_t shift;
    uint8_t flags;
};

/* As Linux's pvclock_scale_delta() is specified. */
static uint64_t guest_reads(const struct guest_view *view, uint64_t tsc)
{
    uint64_t delta = tsc - view->tsc;
    delta = view->shift < 0 ? delta >> -view->shift : delta << view->shift;
    return view->time + (uint64_t)((__uint128_t)delta * view->mul >> 32);
}

static int setup(void **state)
{
    static struct memory memory;
    struct error err;
    memory_init(&memory, 0);
    assert_int_equal(memory_add(&memory, 0, 0x10000, 0, "ram", &err), 0);
    *state = &memory;
    return 0;
}

static int teardown(void **state)
{
    memory_done(*state);
    return 0;
}

static void the_guest_computes_vm_time(void **state)
{
    static const uint32_t khz[] = {10000, 999999, 1000000, 2596142, 4000000, 20000000};

    for (unsigned i = 0; i < sizeof(khz) / sizeof(khz[0]); i++) {
        struct kvmclock clock;
        struct guest_view view;

        kvmclock_init(&clock, khz[i], 123456, 789);
        kvmclock_publish(&clock, *state, PAGE | KVMCLOCK_ENABLE);
        assert_int_equal(memory_read(*state, PAGE, &view, sizeof(view)), 0);
        assert_int_equal(view.version % 2, 0);
        assert_int_equal(view.flags, 1);
        /* An hour later: within a microsecond. */
        uint64_t ticks = khz[i] * 1000ull * 3600;
        int64_t error = (int64_t)(guest_reads(&view, 123456 + ticks) - 789 - 3600000000000ull);
        assert_true(error > -2000 && error < 2000);
        /* Our own conversion is the guest's, rounded up. */
        uint64_t own = kvmclock_time(&clock, 123456 + ticks);
        assert_true(own - guest_reads(&view, 123456 + ticks) <= 1);
    }
}

static void each_update_changes_the_version(void **state)
{
    struct kvmclock clock;
    uint32_t first, second;

    kvmclock_init(&clock, 2000000, 0, 0);
    kvmclock_publish(&clock, *state, PAGE | KVMCLOCK_ENABLE);
    assert_int_equal(memory_read(*state, PAGE, &first, 4), 0);
    kvmclock_publish(&clock, *state, PAGE | KVMCLOCK_ENABLE);
    assert_int_equal(memory_read(*state, PAGE, &second, 4), 0);
    assert_int_equal(second, first + 2);
}

static void disabled_or_outside_ram_writes_nothing(void **state)
{
    struct kvmclock clock;
    uint32_t version;

    kvmclock_init(&clock, 2000000, 0, 0);
    kvmclock_publish(&clock, *state, PAGE);
    kvmclock_publish(&clock, *state, 0xfffff000 | KVMCLOCK_ENABLE);
    kvmclock_publish(&clock, *state, (0x10000 - 16) | KVMCLOCK_ENABLE);
    kvmclock_publish(&clock, *state, (PAGE + 2) | KVMCLOCK_ENABLE);
    assert_int_equal(memory_read(*state, PAGE, &version, 4), 0);
    assert_int_equal(version, 0);
}

static void wall_clock_is_the_time_at_zero(void **state)
{
    uint32_t wall[3];

    kvmclock_publish_wall(*state, PAGE, 1700000005500000000ull, 5000000000ull);
    assert_int_equal(memory_read(*state, PAGE, wall, sizeof(wall)), 0);
    assert_int_equal(wall[0] % 2, 0);
    assert_int_equal(wall[1], 1700000000);
    assert_int_equal(wall[2], 500000000);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_guest_computes_vm_time),
        TEST(each_update_changes_the_version),
        TEST(disabled_or_outside_ram_writes_nothing),
        TEST(wall_clock_is_the_time_at_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
