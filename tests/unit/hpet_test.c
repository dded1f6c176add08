/* The HPET: counter, one-shot and periodic comparators, wires, messages, legacy replacement. */
#include "device_rig.h"

#include "dev/legacy/hpet.h"

#define BASE HPET_DEFAULT_BASE
#define ISA_TIMER 25
#define ISA_RTC 26
#define ROUTE 20 /* the one IOAPIC input that the tests connect */
#define NS_PER_MS 1000000ull
#define TICKS_PER_MS 100000ull

#define CONFIG 0x10
#define STATUS 0x20
#define COUNTER 0xf0

struct fixture {
    struct device_rig rig;
    struct hpet *hpet;
    struct msi_message last;
    unsigned messages;
};

static void take_message(void *opaque, const struct msi_message *message)
{
    struct fixture *f = opaque;

    f->last = *message;
    f->messages++;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct hpet_config config = {.msi = {.send = take_message, .opaque = f}};

    rig_init(&f->rig);
    config.clock = f->rig.clock;
    config.route[ROUTE] = rig_line(&f->rig, ROUTE);
    config.isa_timer = rig_line(&f->rig, ISA_TIMER);
    config.isa_rtc = rig_line(&f->rig, ISA_RTC);
    assert_int_equal(hpet_new(&f->hpet, &config), 0);
    assert_int_equal(hpet_attach(f->hpet, &f->rig.bus, BASE, NULL), 0);
    clock_advance(f->rig.clock, 12345678);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    struct device *device = hpet_device(f->hpet);

    device->ops->destroy(device);
    rig_done(&f->rig);
    free(f);
    return 0;
}

static uint64_t get(struct fixture *f, unsigned reg)
{
    return mmio_read(&f->rig, BASE + reg, 8);
}

static void put(struct fixture *f, unsigned reg, uint64_t value)
{
    mmio_write(&f->rig, BASE + reg, 8, value);
}

/* Registers of comparator n. */
static unsigned timer_config(unsigned n)
{
    return 0x100 + 0x20 * n;
}

static unsigned comparator(unsigned n)
{
    return 0x108 + 0x20 * n;
}

static void capabilities(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(get(f, 0), 0x009896808086a201);
    assert_int_equal(mmio_read(&f->rig, BASE + 4, 4), 10000000); /* femtoseconds */
    for (unsigned n = 0; n < 3; n++)
        assert_int_equal(get(f, timer_config(n)), 0x0010000000008030);
    put(f, 0, 0);
    assert_int_equal(mmio_read(&f->rig, BASE, 4), HPET_BLOCK_ID);
    assert_int_equal(get(f, 0x160), UINT64_MAX);
    uint64_t value;
    assert_int_equal(bus_read(&f->rig.bus, BUS_MMIO, BASE + 0xf4, 8, &value), BUS_ERROR);
}

static void the_counter_runs_while_enabled(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(get(f, COUNTER), 0);
    clock_advance(f->rig.clock, NS_PER_MS);
    assert_int_equal(get(f, COUNTER), 0);
    put(f, COUNTER, 0xfffffffff0);
    put(f, CONFIG, 1);
    clock_advance(f->rig.clock, NS_PER_MS);
    assert_int_equal(get(f, COUNTER), 0xfffffffff0 + TICKS_PER_MS);
    assert_int_equal(mmio_read(&f->rig, BASE + COUNTER, 4), (uint32_t)(0xfffffff0 + TICKS_PER_MS));
    assert_int_equal(mmio_read(&f->rig, BASE + COUNTER + 4, 4), 0x100);
    put(f, CONFIG, 0);
    clock_advance(f->rig.clock, NS_PER_MS);
    assert_int_equal(get(f, COUNTER), 0xfffffffff0 + TICKS_PER_MS);
    put(f, CONFIG, 1);
    clock_advance(f->rig.clock, NS_PER_MS);
    assert_int_equal(get(f, COUNTER), 0xfffffffff0 + 2 * TICKS_PER_MS);
}

static void a_one_shot_fires_once(void **state)
{
    struct fixture *f = *state;

    put(f, timer_config(2), ROUTE << 9 | 0x04);
    put(f, comparator(2), 3 * TICKS_PER_MS);
    put(f, CONFIG, 1);
    clock_advance(f->rig.clock, 3 * NS_PER_MS - 10);
    assert_int_equal(f->rig.rises[ROUTE], 0);
    clock_advance(f->rig.clock, 10);
    assert_int_equal(f->rig.rises[ROUTE], 1);
    clock_advance(f->rig.clock, 60 * NS_PER_SEC);
    assert_int_equal(f->rig.rises[ROUTE], 1);
}

static void a_32_bit_comparator_matches_every_time_round(void **state)
{
    struct fixture *f = *state;

    put(f, timer_config(2), ROUTE << 9 | 0x104);
    put(f, comparator(2), 0x5500000000 + TICKS_PER_MS);
    assert_int_equal(get(f, comparator(2)), TICKS_PER_MS);
    put(f, CONFIG, 1);
    clock_advance(f->rig.clock, 40 * NS_PER_SEC);
    assert_int_equal(f->rig.rises[ROUTE], 1);
    clock_advance(f->rig.clock, 10 * NS_PER_SEC); /* 2^32 ticks are 42.9 s */
    assert_int_equal(f->rig.rises[ROUTE], 2);
}

/* The two writes by which Linux starts a tick: first the accumulator, then the period. */
static void periodic_mode(void **state)
{
    struct fixture *f = *state;

    put(f, CONFIG, 3);
    put(f, timer_config(0), 0x14c); /* 32 bits, set accumulator, periodic, enabled */
    assert_int_equal(get(f, timer_config(0)) & 0x7ffe, 0x13c);
    mmio_write(&f->rig, BASE + comparator(0), 4, 5 * TICKS_PER_MS);
    mmio_write(&f->rig, BASE + comparator(0), 4, 4 * TICKS_PER_MS);
    assert_int_equal(get(f, comparator(0)), 5 * TICKS_PER_MS);
    clock_advance(f->rig.clock, 5 * NS_PER_MS);
    assert_int_equal(f->rig.rises[ISA_TIMER], 1);
    assert_int_equal(get(f, comparator(0)), 9 * TICKS_PER_MS);
    clock_advance(f->rig.clock, 100 * NS_PER_SEC);
    assert_int_equal(f->rig.rises[ISA_TIMER], 25001);
}

static void absurd_periods_are_thinned_out(void **state)
{
    struct fixture *f = *state;

    put(f, CONFIG, 3);
    put(f, timer_config(0), 0x4c);
    put(f, comparator(0), 1);
    clock_advance(f->rig.clock, NS_PER_MS);
    assert_in_range(f->rig.rises[ISA_TIMER], 10, 60);
    put(f, timer_config(0), 0x4c);
    put(f, comparator(0), 0);
    clock_advance(f->rig.clock, NS_PER_MS);
}

static void level_interrupts_last_until_their_status_is_cleared(void **state)
{
    struct fixture *f = *state;

    put(f, timer_config(1), ROUTE << 9 | 0x06);
    put(f, comparator(1), TICKS_PER_MS);
    put(f, CONFIG, 1);
    clock_advance(f->rig.clock, NS_PER_MS);
    assert_true(f->rig.level[ROUTE]);
    assert_int_equal(get(f, STATUS), 2);
    put(f, timer_config(1), ROUTE << 9 | 0x02); /* disabled */
    assert_false(f->rig.level[ROUTE]);
    put(f, timer_config(1), ROUTE << 9 | 0x06);
    assert_true(f->rig.level[ROUTE]);
    put(f, STATUS, 5);
    assert_true(f->rig.level[ROUTE]);
    put(f, STATUS, 2);
    assert_false(f->rig.level[ROUTE]);
    assert_int_equal(get(f, STATUS), 0);
}

static void status_is_set_without_interrupt(void **state)
{
    struct fixture *f = *state;

    put(f, timer_config(1), 0x02);
    put(f, comparator(1), TICKS_PER_MS);
    put(f, CONFIG, 1);
    clock_advance(f->rig.clock, 2 * NS_PER_MS);
    assert_int_equal(get(f, STATUS), 2);
}

static void delivery_as_a_message(void **state)
{
    struct fixture *f = *state;

    put(f, timer_config(2), 0x4004);
    put(f, 0x150, 0xfee0300000004051);
    put(f, comparator(2), TICKS_PER_MS);
    put(f, CONFIG, 1);
    clock_advance(f->rig.clock, NS_PER_MS);
    assert_int_equal(f->messages, 1);
    assert_int_equal(f->last.address, 0xfee03000);
    assert_int_equal(f->last.data, 0x4051);
}

static void routes_that_are_not_offered_do_not_stick(void **state)
{
    struct fixture *f = *state;

    put(f, timer_config(0), ROUTE << 9);
    put(f, timer_config(0), 5 << 9);
    assert_int_equal(get(f, timer_config(0)) >> 9 & 31, ROUTE);
    put(f, timer_config(0), 31 << 9);
    assert_int_equal(get(f, timer_config(0)) >> 9 & 31, ROUTE);
}

static void legacy_replacement_takes_the_isa_wires_over(void **state)
{
    struct fixture *f = *state;
    struct irq_line pit = hpet_timer_input(f->hpet);
    struct irq_line rtc = hpet_rtc_input(f->hpet);

    irq_line_set(&pit, true);
    assert_true(f->rig.level[ISA_TIMER]);
    put(f, CONFIG, 2);
    assert_false(f->rig.level[ISA_TIMER]);
    irq_line_set(&rtc, true);
    assert_false(f->rig.level[ISA_RTC]);
    put(f, timer_config(1), 0x04);
    put(f, comparator(1), TICKS_PER_MS);
    put(f, CONFIG, 3);
    clock_advance(f->rig.clock, NS_PER_MS);
    assert_int_equal(f->rig.rises[ISA_RTC], 1);
    put(f, CONFIG, 1);
    assert_true(f->rig.level[ISA_TIMER] && f->rig.level[ISA_RTC]);
    irq_line_set(&rtc, false);
    assert_false(f->rig.level[ISA_RTC]);
}

static void state_survives_save_and_restore(void **state)
{
    struct fixture *f = *state;

    put(f, CONFIG, 3);
    put(f, timer_config(0), 0x4c);
    put(f, comparator(0), TICKS_PER_MS);
    put(f, timer_config(2), ROUTE << 9 | 0x06);
    put(f, comparator(2), 10 * TICKS_PER_MS);
    clock_advance(f->rig.clock, NS_PER_MS + 500);
    rig_check_state(hpet_device(f->hpet));
    f->rig.rises[ISA_TIMER] = 0;
    assert_int_equal(get(f, COUNTER), TICKS_PER_MS + 50);
    clock_advance(f->rig.clock, 10 * NS_PER_MS);
    assert_int_equal(f->rig.rises[ISA_TIMER], 10);
    assert_true(f->rig.level[ROUTE]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(capabilities, setup, teardown),
        cmocka_unit_test_setup_teardown(the_counter_runs_while_enabled, setup, teardown),
        cmocka_unit_test_setup_teardown(a_one_shot_fires_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_32_bit_comparator_matches_every_time_round, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(periodic_mode, setup, teardown),
        cmocka_unit_test_setup_teardown(absurd_periods_are_thinned_out, setup, teardown),
        cmocka_unit_test_setup_teardown(level_interrupts_last_until_their_status_is_cleared, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(status_is_set_without_interrupt, setup, teardown),
        cmocka_unit_test_setup_teardown(delivery_as_a_message, setup, teardown),
        cmocka_unit_test_setup_teardown(routes_that_are_not_offered_do_not_stick, setup, teardown),
        cmocka_unit_test_setup_teardown(legacy_replacement_takes_the_isa_wires_over, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(state_survives_save_and_restore, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
