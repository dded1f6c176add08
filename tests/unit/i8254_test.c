/* The 8254: counting and output in each mode, latches, BCD, the interrupt's edges, port 0x61. */
#include "device_rig.h"

#include "base/ticks.h"
#include "dev/legacy/i8254.h"

#define IRQ 0

struct fixture {
    struct device_rig rig;
    struct i8254 *pit;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct irq_line irq;

    rig_init(&f->rig);
    irq = rig_line(&f->rig, IRQ);
    assert_int_equal(i8254_new(&f->pit, f->rig.clock, &irq), 0);
    assert_int_equal(i8254_attach(f->pit, &f->rig.bus, NULL), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    struct device *device = i8254_device(f->pit);

    device->ops->destroy(device);
    rig_done(&f->rig);
    free(f);
    return 0;
}

/* Moves time to `ticks` clocks of the timer later. */
static void run(struct fixture *f, uint64_t ticks)
{
    uint64_t now = clock_now(f->rig.clock);

    clock_advance(f->rig.clock, ns_of_tick(tick_at(now, I8254_HZ) + ticks, I8254_HZ) - now);
}

static void program(struct fixture *f, unsigned channel, unsigned mode, uint16_t count)
{
    outb(&f->rig, 0x43, channel << 6 | 0x30 | mode << 1);
    outb(&f->rig, 0x40 + channel, count);
    outb(&f->rig, 0x40 + channel, count >> 8);
}

static uint16_t latched_count(struct fixture *f, unsigned channel)
{
    uint8_t low;

    outb(&f->rig, 0x43, channel << 6);
    low = inb(&f->rig, 0x40 + channel);
    return low | inb(&f->rig, 0x40 + channel) << 8;
}

static uint8_t status(struct fixture *f, unsigned channel)
{
    outb(&f->rig, 0x43, 0xe0 | 2 << channel);
    return inb(&f->rig, 0x40 + channel);
}

static void mode_2_interrupts_every_period(void **state)
{
    struct fixture *f = *state;

    program(f, 0, 2, 1193);
    f->rig.rises[IRQ] = 0;
    clock_advance(f->rig.clock, NS_PER_SEC);
    assert_int_equal(f->rig.rises[IRQ], I8254_HZ / 1193);
    run(f, 1193 - (I8254_HZ % 1193) + 10);
    assert_int_equal(latched_count(f, 0), 1183);
}

static void periods_that_are_too_short_are_thinned_out(void **state)
{
    struct fixture *f = *state;

    program(f, 0, 2, 2);
    f->rig.rises[IRQ] = 0;
    clock_advance(f->rig.clock, NS_PER_SEC / 1000);
    assert_in_range(f->rig.rises[IRQ], 10, 50);
}

static void mode_0_interrupts_once(void **state)
{
    struct fixture *f = *state;

    program(f, 0, 0, 100);
    assert_false(f->rig.level[IRQ]);
    run(f, 99);
    assert_false(f->rig.level[IRQ]);
    assert_int_equal(latched_count(f, 0), 1);
    run(f, 1);
    assert_true(f->rig.level[IRQ]);
    run(f, 10);
    assert_int_equal(latched_count(f, 0), 0xfff6);
    run(f, 0x20000);
    assert_int_equal(f->rig.rises[IRQ], 1);
    /* A new count starts it again; the first byte alone stops it. */
    outb(&f->rig, 0x40, 50);
    run(f, 1000);
    assert_int_equal(f->rig.rises[IRQ], 1);
    outb(&f->rig, 0x40, 0);
    assert_false(f->rig.level[IRQ]);
    run(f, 50);
    assert_int_equal(f->rig.rises[IRQ], 2);
}

static void mode_4_strobes_once(void **state)
{
    struct fixture *f = *state;

    program(f, 0, 4, 100);
    f->rig.rises[IRQ] = 0;
    run(f, 100);
    assert_int_equal(status(f, 0), 0x38); /* output low for one clock */
    run(f, 1);
    assert_int_equal(f->rig.rises[IRQ], 1);
    assert_int_equal(status(f, 0), 0xb8);
    run(f, 0x20000);
    assert_int_equal(f->rig.rises[IRQ], 1);
}

static void mode_3_is_a_square_wave(void **state)
{
    struct fixture *f = *state;

    outb(&f->rig, 0x61, 1);
    program(f, 2, 3, 100);
    assert_int_equal(status(f, 2), 0xb6);
    run(f, 49);
    assert_int_equal(status(f, 2), 0xb6);
    assert_int_equal(latched_count(f, 2), 2);
    run(f, 1);
    assert_int_equal(status(f, 2), 0x36);
    assert_int_equal(latched_count(f, 2), 100);
    run(f, 50);
    assert_int_equal(status(f, 2), 0xb6);
    program(f, 2, 3, 101);
    assert_int_equal(latched_count(f, 2), 100);
    run(f, 50);
    assert_int_equal(latched_count(f, 2), 0);
    assert_int_equal(status(f, 2), 0xb6);
    run(f, 1);
    assert_int_equal(status(f, 2), 0x36);
    run(f, 50);
    assert_int_equal(status(f, 2), 0xb6);
}

static void a_new_count_waits_for_the_end_of_the_period(void **state)
{
    struct fixture *f = *state;

    program(f, 0, 2, 1000);
    f->rig.rises[IRQ] = 0;
    run(f, 400);
    outb(&f->rig, 0x40, 100);
    outb(&f->rig, 0x40, 0);
    assert_int_equal(status(f, 0) & 0x40, 0x40); /* null count */
    assert_int_equal(latched_count(f, 0), 600);
    run(f, 600);
    assert_int_equal(f->rig.rises[IRQ], 1);
    assert_int_equal(status(f, 0) & 0x40, 0);
    run(f, 300);
    assert_int_equal(f->rig.rises[IRQ], 4);
}

static void the_gate_triggers_modes_1_and_5(void **state)
{
    struct fixture *f = *state;

    program(f, 2, 1, 50);
    assert_int_equal(status(f, 2), 0xf2);
    run(f, 100);
    assert_int_equal(inb(&f->rig, 0x61) & 0x20, 0x20);
    outb(&f->rig, 0x61, 1);
    assert_int_equal(inb(&f->rig, 0x61) & 0x20, 0);
    run(f, 30);
    outb(&f->rig, 0x61, 0);
    outb(&f->rig, 0x61, 1); /* again, from the start */
    run(f, 49);
    assert_int_equal(inb(&f->rig, 0x61) & 0x20, 0);
    run(f, 1);
    assert_int_equal(inb(&f->rig, 0x61) & 0x20, 0x20);

    outb(&f->rig, 0x61, 0);
    program(f, 2, 5, 50);
    outb(&f->rig, 0x61, 1);
    run(f, 49);
    assert_int_equal(inb(&f->rig, 0x61) & 0x20, 0x20);
    run(f, 1);
    assert_int_equal(inb(&f->rig, 0x61) & 0x20, 0);
    run(f, 1);
    assert_int_equal(inb(&f->rig, 0x61) & 0x20, 0x20);
}

static void the_gate_stops_modes_0_and_2(void **state)
{
    struct fixture *f = *state;

    outb(&f->rig, 0x61, 1);
    program(f, 2, 0, 100);
    run(f, 40);
    outb(&f->rig, 0x61, 0);
    run(f, 1000);
    assert_int_equal(latched_count(f, 2), 60);
    outb(&f->rig, 0x61, 1);
    run(f, 59);
    assert_int_equal(inb(&f->rig, 0x61) & 0x20, 0);
    run(f, 1);
    assert_int_equal(inb(&f->rig, 0x61) & 0x20, 0x20);

    program(f, 2, 2, 100);
    run(f, 40);
    outb(&f->rig, 0x61, 0);
    run(f, 1000);
    outb(&f->rig, 0x61, 1); /* starts a period */
    assert_int_equal(latched_count(f, 2), 100);
}

/* How kernels measure the TSC: a 50 ms one-shot on channel 2, polled through port 0x61. */
static void calibration_by_channel_2(void **state)
{
    struct fixture *f = *state;
    uint64_t start = clock_now(f->rig.clock);

    outb(&f->rig, 0x61, (inb(&f->rig, 0x61) & ~2) | 1);
    program(f, 2, 0, I8254_HZ / 20);
    while (!(inb(&f->rig, 0x61) & 0x20))
        clock_advance(f->rig.clock, 1000);
    assert_in_range(clock_now(f->rig.clock) - start, 49998000, 50002000);
}

static void the_refresh_bit_toggles(void **state)
{
    struct fixture *f = *state;
    uint8_t first = inb(&f->rig, 0x61) & 0x10;

    run(f, 18);
    assert_int_equal(inb(&f->rig, 0x61) & 0x10, first ^ 0x10);
}

static void latches_hold_until_read(void **state)
{
    struct fixture *f = *state;

    program(f, 0, 2, 0); /* 65536 */
    assert_int_equal(latched_count(f, 0), 0);
    run(f, 0x1234);
    outb(&f->rig, 0x43, 0xc2); /* status and count of channel 0 */
    run(f, 0x1000);
    outb(&f->rig, 0x43, 0x00); /* a second latch is ignored */
    assert_int_equal(inb(&f->rig, 0x40), 0xb4);
    assert_int_equal(inb(&f->rig, 0x40), 0xcc);
    assert_int_equal(inb(&f->rig, 0x40), 0xed);
    /* Unlatched: the running count. */
    assert_int_equal(inb(&f->rig, 0x40), 0xcc);
    assert_int_equal(inb(&f->rig, 0x40), 0xdd);
}

static void one_byte_counts(void **state)
{
    struct fixture *f = *state;

    outb(&f->rig, 0x43, 0x14); /* low byte only */
    outb(&f->rig, 0x40, 200);
    run(f, 20);
    assert_int_equal(inb(&f->rig, 0x40), 180);
    assert_int_equal(inb(&f->rig, 0x40), 180);
    outb(&f->rig, 0x43, 0x24); /* high byte only */
    outb(&f->rig, 0x40, 2);
    run(f, 1);
    assert_int_equal(inb(&f->rig, 0x40), 1);
}

static void bcd_counts_in_decimal(void **state)
{
    struct fixture *f = *state;

    outb(&f->rig, 0x43, 0x31); /* mode 0, BCD */
    outb(&f->rig, 0x40, 0x34);
    outb(&f->rig, 0x40, 0x12);
    run(f, 300);
    assert_int_equal(latched_count(f, 0), 0x0934);
    run(f, 934);
    assert_true(f->rig.level[IRQ]);
    run(f, 1);
    assert_int_equal(latched_count(f, 0), 0x9999);
}

static void state_survives_save_and_restore(void **state)
{
    struct fixture *f = *state;

    outb(&f->rig, 0x61, 1);
    program(f, 2, 0, 5000);
    program(f, 0, 2, 1000);
    run(f, 300);
    rig_check_state(i8254_device(f->pit));
    f->rig.rises[IRQ] = 0;
    assert_int_equal(latched_count(f, 0), 700);
    assert_int_equal(latched_count(f, 2), 4700);
    run(f, 2700);
    assert_int_equal(f->rig.rises[IRQ], 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(mode_2_interrupts_every_period, setup, teardown),
        cmocka_unit_test_setup_teardown(periods_that_are_too_short_are_thinned_out, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(mode_0_interrupts_once, setup, teardown),
        cmocka_unit_test_setup_teardown(mode_4_strobes_once, setup, teardown),
        cmocka_unit_test_setup_teardown(mode_3_is_a_square_wave, setup, teardown),
        cmocka_unit_test_setup_teardown(a_new_count_waits_for_the_end_of_the_period, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_gate_triggers_modes_1_and_5, setup, teardown),
        cmocka_unit_test_setup_teardown(the_gate_stops_modes_0_and_2, setup, teardown),
        cmocka_unit_test_setup_teardown(calibration_by_channel_2, setup, teardown),
        cmocka_unit_test_setup_teardown(the_refresh_bit_toggles, setup, teardown),
        cmocka_unit_test_setup_teardown(latches_hold_until_read, setup, teardown),
        cmocka_unit_test_setup_teardown(one_byte_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(bcd_counts_in_decimal, setup, teardown),
        cmocka_unit_test_setup_teardown(state_survives_save_and_restore, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
