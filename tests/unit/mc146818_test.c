/* The real-time clock: formats, setting the time, the three interrupts, CMOS memory. */
#include "device_rig.h"

#include <time.h>

#include "dev/legacy/mc146818.h"

#define IRQ 8
#define NMI_MASK 30
#define ALARM_WIRE 31
#define NS_PER_MS 1000000ull

#define PERIODIC 0x40
#define ALARM 0x20
#define UPDATE 0x10

struct fixture {
    struct device_rig rig;
    struct mc146818 *rtc;
    int64_t start; /* UTC at VM time 0 */
};

static int64_t utc_now(void *opaque)
{
    struct fixture *f = opaque;

    return f->start + clock_now(f->rig.clock);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    /* Thursday, 29 February 2024, 13:59:58 UTC */
    struct tm tm = {
        .tm_year = 124, .tm_mon = 1, .tm_mday = 29, .tm_hour = 13, .tm_min = 59, .tm_sec = 58};
    struct mc146818_config config = {.utc_now = utc_now, .utc_opaque = f};

    rig_init(&f->rig);
    f->start = timegm(&tm) * (int64_t)NS_PER_SEC;
    config.clock = f->rig.clock;
    config.irq = rig_line(&f->rig, IRQ);
    config.nmi_mask = rig_line(&f->rig, NMI_MASK);
    assert_int_equal(mc146818_new(&f->rtc, &config), 0);
    struct irq_line alarm = rig_line(&f->rig, ALARM_WIRE);
    mc146818_connect_alarm(f->rtc, &alarm);
    assert_int_equal(mc146818_attach(f->rtc, &f->rig.bus, NULL), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    struct device *device = mc146818_device(f->rtc);

    device->ops->destroy(device);
    rig_done(&f->rig);
    free(f);
    return 0;
}

static uint8_t get(struct fixture *f, uint8_t index)
{
    outb(&f->rig, 0x70, index);
    return inb(&f->rig, 0x71);
}

static void put(struct fixture *f, uint8_t index, uint8_t value)
{
    outb(&f->rig, 0x70, index);
    outb(&f->rig, 0x71, value);
}

static void assert_time(struct fixture *f, unsigned hours, unsigned minutes, unsigned seconds)
{
    assert_int_equal(get(f, 4), hours);
    assert_int_equal(get(f, 2), minutes);
    assert_int_equal(get(f, 0), seconds);
}

static void time_is_utc_in_bcd(void **state)
{
    struct fixture *f = *state;

    assert_time(f, 0x13, 0x59, 0x58);
    assert_int_equal(get(f, 6), 0x05);
    assert_int_equal(get(f, 7), 0x29);
    assert_int_equal(get(f, 8), 0x02);
    assert_int_equal(get(f, 9), 0x24);
    assert_int_equal(get(f, 0x32), 0x20);
    assert_int_equal(get(f, 0x0d), 0x80);
    clock_advance(f->rig.clock, 2 * NS_PER_SEC);
    assert_time(f, 0x14, 0x00, 0x00);
}

static void binary_and_12_hour_formats(void **state)
{
    struct fixture *f = *state;

    put(f, 0x0b, 0x06);
    assert_time(f, 13, 59, 58);
    put(f, 0x0b, 0x04);
    assert_time(f, 0x81, 59, 58);
    put(f, 0x0b, 0x00);
    assert_time(f, 0x81, 0x59, 0x58);
    clock_advance(f->rig.clock, 10 * 3600 * NS_PER_SEC + 2 * NS_PER_SEC);
    assert_time(f, 0x12, 0x00, 0x00); /* midnight */
    assert_int_equal(get(f, 8), 0x03);
    assert_int_equal(get(f, 7), 0x01);
}

static void the_guest_sets_its_clock(void **state)
{
    struct fixture *f = *state;

    put(f, 0x0b, 0x82);
    put(f, 0x0a, 0x76);
    clock_advance(f->rig.clock, 10 * NS_PER_SEC);
    assert_time(f, 0x13, 0x59, 0x58); /* stopped */
    put(f, 9, 0x99);
    put(f, 0x32, 0x19);
    put(f, 8, 0x12);
    put(f, 7, 0x31);
    put(f, 4, 0x23);
    put(f, 2, 0x59);
    put(f, 0, 0x59);
    put(f, 0x0b, 0x02);
    clock_advance(f->rig.clock, 10 * NS_PER_SEC);
    assert_time(f, 0x23, 0x59, 0x59); /* the divider still stands */
    put(f, 0x0a, 0x26);
    assert_time(f, 0x23, 0x59, 0x59);
    clock_advance(f->rig.clock, NS_PER_SEC);
    assert_time(f, 0x00, 0x00, 0x00);
    assert_int_equal(get(f, 9), 0x00);
    assert_int_equal(get(f, 0x32), 0x20);
    /* One register alone, while it runs. */
    put(f, 4, 0x07);
    assert_time(f, 0x07, 0x00, 0x00);
}

static void nonsense_in_the_time_registers_is_survived(void **state)
{
    struct fixture *f = *state;

    for (unsigned i = 0; i < 10; i++)
        put(f, i, 0xff);
    put(f, 0x32, 0xff);
    for (unsigned i = 0; i < 10; i++)
        get(f, i);
    clock_advance(f->rig.clock, 100 * NS_PER_SEC);
    put(f, 0x0b, 0x00);
    for (unsigned i = 0; i < 10; i++)
        put(f, i, 0xff);
}

static void update_in_progress_warns_before_each_second(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(get(f, 0x0a), 0x26);
    clock_advance(f->rig.clock, NS_PER_SEC - 245000);
    assert_int_equal(get(f, 0x0a), 0x26);
    clock_advance(f->rig.clock, 2000);
    assert_int_equal(get(f, 0x0a), 0xa6);
    clock_advance(f->rig.clock, 243000);
    assert_int_equal(get(f, 0x0a), 0x26);
}

static void the_update_interrupt_comes_each_second(void **state)
{
    struct fixture *f = *state;

    put(f, 0x0a, 0x20); /* no periodic flag */
    clock_advance(f->rig.clock, 300 * NS_PER_MS);
    put(f, 0x0b, 0x02 | UPDATE);
    clock_advance(f->rig.clock, 699 * NS_PER_MS);
    assert_false(f->rig.level[IRQ]);
    clock_advance(f->rig.clock, 1 * NS_PER_MS);
    assert_true(f->rig.level[IRQ]);
    assert_int_equal(get(f, 0x0c), 0x90);
    assert_false(f->rig.level[IRQ]);
    assert_int_equal(get(f, 0x0c), 0x00);
    clock_advance(f->rig.clock, NS_PER_SEC);
    assert_int_equal(f->rig.rises[IRQ], 2);
}

static void flags_are_set_without_their_interrupts(void **state)
{
    struct fixture *f = *state;

    get(f, 0x0c);
    clock_advance(f->rig.clock, 999 * NS_PER_MS);
    assert_int_equal(get(f, 0x0c), PERIODIC);
    clock_advance(f->rig.clock, 1 * NS_PER_MS);
    assert_int_equal(get(f, 0x0c) & UPDATE, UPDATE);
    assert_int_equal(f->rig.rises[IRQ], 0);
}

static void the_alarm_rings_when_all_three_match(void **state)
{
    struct fixture *f = *state;

    put(f, 0x0a, 0x20); /* no periodic flag */
    put(f, 5, 0x14);
    put(f, 3, 0x30);
    put(f, 1, 0x05);
    put(f, 0x0b, 0x02 | ALARM);
    clock_advance(f->rig.clock, (30 * 60 + 6) * NS_PER_SEC);
    assert_false(f->rig.level[IRQ]);
    clock_advance(f->rig.clock, 1 * NS_PER_SEC);
    assert_true(f->rig.level[IRQ]);
    assert_true(f->rig.level[ALARM_WIRE]);
    assert_int_equal(get(f, 0x0c), 0x80 | ALARM | UPDATE);
    assert_false(f->rig.level[ALARM_WIRE]);
    /* "Don't care" hours and minutes: once a minute. */
    put(f, 5, 0xff);
    put(f, 3, 0xc0);
    f->rig.rises[IRQ] = 0;
    for (int i = 0; i < 3; i++) {
        clock_advance(f->rig.clock, 60 * NS_PER_SEC);
        assert_int_equal(get(f, 0x0c) & 0xa0, 0x80 | ALARM);
    }
    assert_int_equal(f->rig.rises[IRQ], 3);
    /* An alarm at 25 o'clock never rings. */
    put(f, 5, 0x25);
    clock_advance(f->rig.clock, 86400 * NS_PER_SEC);
    assert_int_equal(get(f, 0x0c) & ALARM, 0);
}

static void the_periodic_interrupt_follows_the_rate(void **state)
{
    struct fixture *f = *state;
    unsigned count = 0;

    put(f, 0x0b, 0x02 | PERIODIC);
    for (int i = 0; i < 1024; i++) {
        clock_advance(f->rig.clock, NS_PER_SEC / 1024);
        count += get(f, 0x0c) == (0x80 | PERIODIC);
    }
    assert_in_range(count, 1022, 1024);
    put(f, 0x0a, 0x2f); /* 2 Hz */
    get(f, 0x0c);
    f->rig.rises[IRQ] = 0;
    for (int i = 0; i < 100; i++) {
        clock_advance(f->rig.clock, 100 * NS_PER_MS);
        get(f, 0x0c);
    }
    assert_int_equal(f->rig.rises[IRQ], 20);
}

static void the_board_fills_the_memory_sizes_in(void **state)
{
    struct fixture *f = *state;

    mc146818_set_memory(f->rtc, 128 * MIB, 5 * GIB);
    assert_int_equal(get(f, 0x15) | get(f, 0x16) << 8, 640);
    assert_int_equal(get(f, 0x17) | get(f, 0x18) << 8, 0xffff);
    assert_int_equal(get(f, 0x30) | get(f, 0x31) << 8, 0xffff);
    assert_int_equal(get(f, 0x34) | get(f, 0x35) << 8, 112 * 16);
    assert_int_equal(get(f, 0x5b) | get(f, 0x5c) << 8 | get(f, 0x5d) << 16, 5 * 16384);
    mc146818_set_memory(f->rtc, 16 * MIB, 0);
    assert_int_equal(get(f, 0x17) | get(f, 0x18) << 8, 15 * 1024);
    assert_int_equal(get(f, 0x34) | get(f, 0x35) << 8, 0);
    mc146818_set_byte(f->rtc, 0x3d, 0x21);
    assert_int_equal(get(f, 0x3d), 0x21);
    mc146818_set_byte(f->rtc, 0x0b, 0xff);
    assert_int_equal(get(f, 0x0b), 0x02);
}

static void the_index_port_masks_nmi(void **state)
{
    struct fixture *f = *state;

    mc146818_set_byte(f->rtc, 0x3d, 0x21);
    assert_int_equal(get(f, 0x80 | 0x3d), 0x21);
    assert_true(f->rig.level[NMI_MASK]);
    get(f, 0x3d);
    assert_false(f->rig.level[NMI_MASK]);
}

static void memory_and_time_survive_a_reset(void **state)
{
    struct fixture *f = *state;
    struct device *device = mc146818_device(f->rtc);

    put(f, 0x40, 0x77);
    put(f, 4, 0x03);
    put(f, 0x0b, 0x02 | UPDATE);
    device->ops->reset(device);
    assert_int_equal(get(f, 0x40), 0x77);
    assert_int_equal(get(f, 4), 0x03);
    assert_int_equal(get(f, 0x0b), 0x02);
}

static void state_survives_save_and_restore(void **state)
{
    struct fixture *f = *state;

    put(f, 0x0a, 0x20);
    put(f, 0x40, 0x77);
    put(f, 4, 0x03);
    put(f, 0x0b, 0x02 | UPDATE);
    rig_check_state(mc146818_device(f->rtc));
    assert_int_equal(get(f, 0x40), 0x77);
    assert_time(f, 0x03, 0x59, 0x58);
    clock_advance(f->rig.clock, NS_PER_SEC);
    assert_int_equal(get(f, 0x0c), 0x90);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(time_is_utc_in_bcd, setup, teardown),
        cmocka_unit_test_setup_teardown(binary_and_12_hour_formats, setup, teardown),
        cmocka_unit_test_setup_teardown(the_guest_sets_its_clock, setup, teardown),
        cmocka_unit_test_setup_teardown(nonsense_in_the_time_registers_is_survived, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(update_in_progress_warns_before_each_second, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_update_interrupt_comes_each_second, setup, teardown),
        cmocka_unit_test_setup_teardown(flags_are_set_without_their_interrupts, setup, teardown),
        cmocka_unit_test_setup_teardown(the_alarm_rings_when_all_three_match, setup, teardown),
        cmocka_unit_test_setup_teardown(the_periodic_interrupt_follows_the_rate, setup, teardown),
        cmocka_unit_test_setup_teardown(the_board_fills_the_memory_sizes_in, setup, teardown),
        cmocka_unit_test_setup_teardown(the_index_port_masks_nmi, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_and_time_survive_a_reset, setup, teardown),
        cmocka_unit_test_setup_teardown(state_survives_save_and_restore, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
