/* The keyboard controller with keyboard and mouse, through its two ports as drivers use them. */
#include "device_rig.h"

#include "dev/legacy/i8042.h"

#define KEYBOARD_IRQ 1
#define MOUSE_IRQ 12
#define NS_PER_MS 1000000ull

struct fixture {
    struct device_rig rig;
    struct i8042 *kbc;
    struct board_events events;
    unsigned resets;
};

static void on_reset(void *opaque)
{
    struct fixture *f = opaque;

    f->resets++;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct i8042_config config = {.events = &f->events};

    rig_init(&f->rig);
    f->events = (struct board_events){.opaque = f, .reset = on_reset};
    config.clock = f->rig.clock;
    config.keyboard_irq = rig_line(&f->rig, KEYBOARD_IRQ);
    config.mouse_irq = rig_line(&f->rig, MOUSE_IRQ);
    assert_int_equal(i8042_new(&f->kbc, &config), 0);
    assert_int_equal(i8042_attach(f->kbc, &f->rig.bus, NULL), 0);
    struct device *device = i8042_device(f->kbc);
    assert_int_equal(device->ops->start(device, NULL), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    struct device *device = i8042_device(f->kbc);

    device->ops->destroy(device);
    rig_done(&f->rig);
    free(f);
    return 0;
}

static void command(struct fixture *f, uint8_t byte)
{
    outb(&f->rig, 0x64, byte);
}

static void set_mode(struct fixture *f, uint8_t mode)
{
    command(f, 0x60);
    outb(&f->rig, 0x60, mode);
}

static void to_mouse(struct fixture *f, uint8_t byte)
{
    command(f, 0xd4);
    outb(&f->rig, 0x60, byte);
}

/* Reads what is there and compares it; status bit 5 says whose bytes they are. */
static void expect_from(struct fixture *f, uint8_t source, const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(inb(&f->rig, 0x64) & 0x21, 0x01 | source);
        assert_int_equal(inb(&f->rig, 0x60), bytes[i]);
    }
    assert_int_equal(inb(&f->rig, 0x64) & 0x01, 0);
}

#define EXPECT_KEYBOARD(...)                                                                       \
    expect_from(f, 0, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))
#define EXPECT_MOUSE(...)                                                                          \
    expect_from(f, 0x20, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void the_controller_answers_its_commands(void **state)
{
    struct fixture *f = *state;

    command(f, 0xaa);
    EXPECT_KEYBOARD(0x55);
    command(f, 0xab);
    EXPECT_KEYBOARD(0x00);
    command(f, 0xa9);
    EXPECT_KEYBOARD(0x00);
    command(f, 0x20);
    EXPECT_KEYBOARD(0x45);
    set_mode(f, 0x43);
    command(f, 0x20);
    EXPECT_KEYBOARD(0x43);
    assert_int_equal(inb(&f->rig, 0x64), 0x18);
    command(f, 0xa7);
    command(f, 0xad);
    command(f, 0x20);
    EXPECT_KEYBOARD(0x73);
    command(f, 0x7f);
    outb(&f->rig, 0x60, 0xa5);
    command(f, 0x3f);
    EXPECT_KEYBOARD(0xa5);
    command(f, 0xd3);
    outb(&f->rig, 0x60, 0x5a);
    EXPECT_MOUSE(0x5a);
    command(f, 0xd2);
    outb(&f->rig, 0x60, 0x5b);
    EXPECT_KEYBOARD(0x5b);
}

static void a20_and_reset_through_the_output_port(void **state)
{
    struct fixture *f = *state;

    command(f, 0xd0);
    EXPECT_KEYBOARD(0x03);
    command(f, 0xd1);
    outb(&f->rig, 0x60, 0x01);
    command(f, 0xd0);
    EXPECT_KEYBOARD(0x01);
    command(f, 0xdf);
    command(f, 0xd0);
    EXPECT_KEYBOARD(0x03);
    assert_int_equal(f->resets, 0);
    command(f, 0xff);
    assert_int_equal(f->resets, 0);
    command(f, 0xfe);
    assert_int_equal(f->resets, 1);
    command(f, 0xd1);
    outb(&f->rig, 0x60, 0x02);
    assert_int_equal(f->resets, 2);
}

static void keys_are_translated_to_set_1(void **state)
{
    struct fixture *f = *state;

    i8042_key(f->kbc, 0x1e, true); /* A */
    assert_true(f->rig.level[KEYBOARD_IRQ]);
    i8042_key(f->kbc, 0x1e, false);
    EXPECT_KEYBOARD(0x1e, 0x9e);
    assert_int_equal(f->rig.rises[KEYBOARD_IRQ], 2);
    assert_false(f->rig.level[KEYBOARD_IRQ]);
    i8042_key(f->kbc, 0x48 | INPUT_EXTENDED, true); /* up */
    i8042_key(f->kbc, 0x48 | INPUT_EXTENDED, false);
    EXPECT_KEYBOARD(0xe0, 0x48, 0xe0, 0xc8);
    i8042_key(f->kbc, INPUT_KEY_PAUSE, true);
    EXPECT_KEYBOARD(0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5);
}

static void every_key_makes_the_round_trip(void **state)
{
    struct fixture *f = *state;

    for (unsigned code = 0x01; code <= 0x7f; code++) {
        i8042_key(f->kbc, code, true);
        i8042_key(f->kbc, code, false);
        EXPECT_KEYBOARD(code, code | 0x80);
    }
}

static void untranslated_keys_are_set_2_or_1(void **state)
{
    struct fixture *f = *state;

    set_mode(f, 0x05);
    i8042_key(f->kbc, 0x1e, true);
    i8042_key(f->kbc, 0x1e, false);
    EXPECT_KEYBOARD(0x1c, 0xf0, 0x1c);
    i8042_key(f->kbc, 0x41, true); /* F7 */
    i8042_key(f->kbc, 0x41, false);
    EXPECT_KEYBOARD(0x83, 0xf0, 0x83);
    outb(&f->rig, 0x60, 0xf0);
    EXPECT_KEYBOARD(0xfa);
    outb(&f->rig, 0x60, 0x01);
    EXPECT_KEYBOARD(0xfa);
    outb(&f->rig, 0x60, 0xf0);
    EXPECT_KEYBOARD(0xfa);
    outb(&f->rig, 0x60, 0x00);
    EXPECT_KEYBOARD(0xfa, 0x01);
    i8042_key(f->kbc, 0x1e, true);
    i8042_key(f->kbc, 0x1e, false);
    EXPECT_KEYBOARD(0x1e, 0x9e);
}

static void the_keyboard_answers_its_commands(void **state)
{
    struct fixture *f = *state;

    outb(&f->rig, 0x60, 0xff);
    EXPECT_KEYBOARD(0xfa, 0xaa);
    outb(&f->rig, 0x60, 0xf2);
    EXPECT_KEYBOARD(0xfa, 0xab, 0x41); /* 0x83, translated */
    outb(&f->rig, 0x60, 0xee);
    EXPECT_KEYBOARD(0xee);
    outb(&f->rig, 0x60, 0xfe);
    EXPECT_KEYBOARD(0xee);
    outb(&f->rig, 0x60, 0xed);
    EXPECT_KEYBOARD(0xfa);
    outb(&f->rig, 0x60, 0x02);
    EXPECT_KEYBOARD(0xfa);
    outb(&f->rig, 0x60, 0x01);
    EXPECT_KEYBOARD(0xfe);
    outb(&f->rig, 0x60, 0xf5);
    EXPECT_KEYBOARD(0xfa);
    i8042_key(f->kbc, 0x1e, true);
    assert_int_equal(inb(&f->rig, 0x64) & 1, 0);
    outb(&f->rig, 0x60, 0xf4);
    EXPECT_KEYBOARD(0xfa);
    i8042_key(f->kbc, 0x1e, true);
    EXPECT_KEYBOARD(0x1e);
}

static void held_keys_repeat(void **state)
{
    struct fixture *f = *state;

    outb(&f->rig, 0x60, 0xf3);
    EXPECT_KEYBOARD(0xfa);
    outb(&f->rig, 0x60, 0x00); /* 250 ms, then 30 a second */
    EXPECT_KEYBOARD(0xfa);
    i8042_key(f->kbc, 0x1e, true);
    EXPECT_KEYBOARD(0x1e);
    i8042_key(f->kbc, 0x1e, true); /* the display's own repetition */
    clock_advance(f->rig.clock, 249 * NS_PER_MS);
    assert_int_equal(inb(&f->rig, 0x64) & 1, 0);
    clock_advance(f->rig.clock, 1 * NS_PER_MS);
    EXPECT_KEYBOARD(0x1e);
    clock_advance(f->rig.clock, 100 * NS_PER_MS);
    EXPECT_KEYBOARD(0x1e, 0x1e, 0x1e);
    i8042_key(f->kbc, 0x1e, false);
    EXPECT_KEYBOARD(0x9e);
    clock_advance(f->rig.clock, NS_PER_SEC);
    assert_int_equal(inb(&f->rig, 0x64) & 1, 0);
}

static void keys_nobody_reads_are_dropped_whole(void **state)
{
    struct fixture *f = *state;
    unsigned bytes = 0, releases = 0;

    for (unsigned i = 0; i < 100; i++) {
        i8042_key(f->kbc, 0x1e, true);
        i8042_key(f->kbc, 0x1e, false);
    }
    for (; inb(&f->rig, 0x64) & 1; bytes++) {
        uint8_t byte = inb(&f->rig, 0x60);
        assert_int_equal(byte & 0x7f, 0x1e);
        releases += byte >> 7;
    }
    assert_in_range(bytes, 4, 32);
    assert_in_range(releases, 2, bytes);
}

static void a_disabled_port_holds_its_bytes_back(void **state)
{
    struct fixture *f = *state;

    command(f, 0xad);
    i8042_key(f->kbc, 0x1e, true);
    assert_int_equal(inb(&f->rig, 0x64) & 1, 0);
    command(f, 0xae);
    EXPECT_KEYBOARD(0x1e);
}

static void the_mouse_reports_movement(void **state)
{
    struct fixture *f = *state;

    set_mode(f, 0x47);
    i8042_mouse(f->kbc, 1, 1, 0, 0);
    assert_int_equal(inb(&f->rig, 0x64) & 1, 0); /* not enabled yet */
    to_mouse(f, 0xf4);
    assert_true(f->rig.level[MOUSE_IRQ]);
    EXPECT_MOUSE(0xfa);
    i8042_mouse(f->kbc, 5, 3, 0, INPUT_LEFT);
    EXPECT_MOUSE(0x29, 5, 0xfd);
    i8042_mouse(f->kbc, -300, 0, 0, 0);
    EXPECT_MOUSE(0x18, 0x01, 0, 0x18, 0xd3, 0);
    assert_false(f->rig.level[MOUSE_IRQ]);
    to_mouse(f, 0xf5);
    EXPECT_MOUSE(0xfa);
    i8042_mouse(f->kbc, 5, 3, 0, 0);
    assert_int_equal(inb(&f->rig, 0x64) & 1, 0);
}

static void the_mouse_answers_its_commands(void **state)
{
    struct fixture *f = *state;

    to_mouse(f, 0xff);
    EXPECT_MOUSE(0xfa, 0xaa, 0x00);
    to_mouse(f, 0xf2);
    EXPECT_MOUSE(0xfa, 0x00);
    to_mouse(f, 0xe8);
    to_mouse(f, 0x03);
    to_mouse(f, 0xe7);
    EXPECT_MOUSE(0xfa, 0xfa); /* the first answer, in the buffer already, and the last */
    to_mouse(f, 0xe9);
    EXPECT_MOUSE(0xfa, 0x10, 0x03, 100);
    to_mouse(f, 0xf0);
    EXPECT_MOUSE(0xfa);
    to_mouse(f, 0xf4);
    EXPECT_MOUSE(0xfa);
    i8042_mouse(f->kbc, 7, 0, 0, 0);
    assert_int_equal(inb(&f->rig, 0x64) & 1, 0); /* remote mode */
    to_mouse(f, 0xeb);
    EXPECT_MOUSE(0xfa, 0x08, 7, 0);
    to_mouse(f, 0xee);
    EXPECT_MOUSE(0xfa);
    to_mouse(f, 0x12);
    EXPECT_MOUSE(0x12);
    to_mouse(f, 0xec);
    EXPECT_MOUSE(0xfa);
    to_mouse(f, 0x12);
    EXPECT_MOUSE(0xfe);
}

static void the_knock_turns_the_wheel_on(void **state)
{
    struct fixture *f = *state;
    static const uint8_t rates[] = {200, 200, 100, 80};

    for (size_t i = 0; i < sizeof(rates); i++) {
        to_mouse(f, 0xf3);
        EXPECT_MOUSE(0xfa);
        to_mouse(f, rates[i]);
        EXPECT_MOUSE(0xfa);
    }
    to_mouse(f, 0xf2);
    EXPECT_MOUSE(0xfa, 0x03);
    to_mouse(f, 0xf4);
    EXPECT_MOUSE(0xfa);
    i8042_mouse(f->kbc, 0, 0, -1, INPUT_MIDDLE);
    EXPECT_MOUSE(0x0c, 0, 0, 0xff);
}

static void a_slow_guest_gets_few_large_movements(void **state)
{
    struct fixture *f = *state;
    int total = 0;
    unsigned packets = 0;

    to_mouse(f, 0xf4);
    EXPECT_MOUSE(0xfa);
    for (int i = 0; i < 100; i++)
        i8042_mouse(f->kbc, 2, 0, 0, 0);
    for (; inb(&f->rig, 0x64) & 1; packets++) {
        assert_int_equal(inb(&f->rig, 0x60), 0x08);
        total += inb(&f->rig, 0x60);
        assert_int_equal(inb(&f->rig, 0x60), 0);
    }
    assert_int_equal(total, 200);
    assert_in_range(packets, 1, 10);
}

static void state_survives_save_and_restore(void **state)
{
    struct fixture *f = *state;

    set_mode(f, 0x47);
    to_mouse(f, 0xf4);
    i8042_mouse(f->kbc, 1, 2, 3, 1);
    i8042_key(f->kbc, 0x1e, true);
    command(f, 0xdd);
    rig_check_state(i8042_device(f->kbc));
    assert_true(f->rig.level[MOUSE_IRQ]);
    assert_int_equal(inb(&f->rig, 0x60), 0xfa);
    assert_int_equal(inb(&f->rig, 0x60), 0x1e);
    EXPECT_MOUSE(0x29, 0x01, 0xfe);
    command(f, 0xd0);
    EXPECT_KEYBOARD(0x01);
    clock_advance(f->rig.clock, 500 * NS_PER_MS);
    EXPECT_KEYBOARD(0x1e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_controller_answers_its_commands, setup, teardown),
        cmocka_unit_test_setup_teardown(a20_and_reset_through_the_output_port, setup, teardown),
        cmocka_unit_test_setup_teardown(keys_are_translated_to_set_1, setup, teardown),
        cmocka_unit_test_setup_teardown(every_key_makes_the_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(untranslated_keys_are_set_2_or_1, setup, teardown),
        cmocka_unit_test_setup_teardown(the_keyboard_answers_its_commands, setup, teardown),
        cmocka_unit_test_setup_teardown(held_keys_repeat, setup, teardown),
        cmocka_unit_test_setup_teardown(keys_nobody_reads_are_dropped_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(a_disabled_port_holds_its_bytes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(the_mouse_reports_movement, setup, teardown),
        cmocka_unit_test_setup_teardown(the_mouse_answers_its_commands, setup, teardown),
        cmocka_unit_test_setup_teardown(the_knock_turns_the_wheel_on, setup, teardown),
        cmocka_unit_test_setup_teardown(a_slow_guest_gets_few_large_movements, setup, teardown),
        cmocka_unit_test_setup_teardown(state_survives_save_and_restore, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
