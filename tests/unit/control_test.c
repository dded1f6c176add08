/*
 * What the control socket types: characters and names to keys, and the pace at which they go to the
 * keyboard that the guest uses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "vm/control/keys.h"
#include "vm/control/typist.h"

#define KEYS_MAX 64

static struct keyboard {
    struct input_sink sink;
    unsigned count;
    struct typist_event got[KEYS_MAX];
    bool busy;
    int dx, dy;
    unsigned x, y, places;
    bool tablet_in_use;
} keyboard;

static struct typist typist;

static void take_key(void *opaque, unsigned code, bool down)
{
    keyboard.got[keyboard.count++] = (struct typist_event){(uint16_t)code, down};
}

static bool keys_taken(void *opaque)
{
    return !keyboard.busy;
}

static void take_move(void *opaque, int dx, int dy, int dz, unsigned buttons)
{
    keyboard.dx += dx;
    keyboard.dy += dy;
}

static bool tablet_in_use(void *opaque)
{
    return keyboard.tablet_in_use;
}

static void take_place(void *opaque, unsigned x, unsigned y, int dz, unsigned buttons)
{
    keyboard.x = x;
    keyboard.y = y;
    keyboard.places++;
}

static const struct input_sink_ops keyboard_ops = {
    .key = take_key, .keys_taken = keys_taken, .move = take_move};
static const struct input_sink_ops tablet_ops = {.in_use = tablet_in_use, .place = take_place};

static int set_up(void **state)
{
    memset(&keyboard, 0, sizeof(keyboard));
    memset(&typist, 0, sizeof(typist));
    typist.input = input_new();
    keyboard.sink.ops = &keyboard_ops;
    input_add(typist.input, &keyboard.sink);
    return 0;
}

static int tear_down(void **state)
{
    input_remove(typist.input, &keyboard.sink);
    input_free(typist.input);
    return 0;
}

/* Lets time go by until nothing is left to type. */
static void type_all(void)
{
    for (uint64_t now = 1; typist_is_busy(&typist); now += NS_PER_SEC / 1000) {
        assert_true(typist_timeout(&typist, now) > 0);
        typist_work(&typist, now);
    }
    assert_int_equal(typist_timeout(&typist, 0), -1);
}

static void assert_got(const struct typist_event *expected, unsigned count)
{
    assert_int_equal(keyboard.count, count);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(keyboard.got[i].code, expected[i].code);
        assert_int_equal(keyboard.got[i].down, expected[i].down);
    }
}

static void test_text_becomes_keys(void **state)
{
    const struct typist_event expected[] = {{0x2a, true},  {0x1e, true}, {0x1e, false},
                                            {0x2a, false}, {0x02, true}, {0x02, false},
                                            {0x1c, true},  {0x1c, false}};
    assert_int_equal(typist_text(&typist, "A1\n", NULL), 0);
    type_all();
    assert_got(expected, ARRAY_SIZE(expected));
}

static void test_every_printable_character_has_a_key_of_its_own(void **state)
{
    bool seen[0x100][2] = {{false}};
    for (int c = ' '; c <= '~'; c++) {
        unsigned code;
        bool shift;
        assert_true(key_of_character((char)c, &code, &shift));
        assert_false(seen[code][shift]);
        seen[code][shift] = true;
    }
}

static void test_what_no_key_writes_is_refused_whole(void **state)
{
    struct error err;
    char longest[TYPIST_TEXT_MAX + 2];
    assert_int_equal(typist_text(&typist, "ab\x01", &err), -EINVAL);
    assert_non_null(strstr(err.text, "character 3"));
    memset(longest, 'a', sizeof(longest));
    longest[TYPIST_TEXT_MAX + 1] = '\0';
    assert_int_equal(typist_text(&typist, longest, &err), -EINVAL);
    assert_false(typist_is_busy(&typist));
    memset(longest, 'A', TYPIST_TEXT_MAX);
    longest[TYPIST_TEXT_MAX] = '\0';
    assert_int_equal(typist_text(&typist, longest, &err), 0);
    assert_int_equal(typist.count, ARRAY_SIZE(typist.event));
}

static void test_named_keys_are_held_together(void **state)
{
    const struct typist_event expected[] = {{0x1d, true},  {0x38, true},  {0xd3, true},
                                            {0xd3, false}, {0x38, false}, {0x1d, false}};
    assert_int_equal(typist_keys(&typist, "ctrl-alt-Delete", NULL), 0);
    type_all();
    assert_got(expected, ARRAY_SIZE(expected));
}

static void test_names_with_a_hyphen(void **state)
{
    static const char *const wrong[] = {"",       "-",          "enter-", "-enter",
                                        "shift-", "ctrl-nokey", "page",   "a-b-c-d-e-f-g-h-i"};
    struct error err;
    assert_int_equal(typist_keys(&typist, "shift-page-up", NULL), 0);
    assert_int_equal(typist.count, 4);
    assert_int_equal(typist_keys(&typist, "ctrl--", NULL), 0);
    assert_int_equal(typist.count, 4);
    for (size_t i = 2; i < ARRAY_SIZE(wrong); i++)
        assert_int_equal(typist_keys(&typist, wrong[i], &err), -EINVAL);
    assert_int_equal(typist_keys(&typist, wrong[0], &err), -EINVAL);
}

static void test_waits_for_the_guest_and_gives_up(void **state)
{
    assert_int_equal(typist_text(&typist, "ab", NULL), 0);
    typist_work(&typist, 1);
    assert_int_equal(keyboard.count, 1);
    keyboard.busy = true;
    typist_work(&typist, NS_PER_SEC);
    assert_int_equal(keyboard.count, 1);
    keyboard.busy = false;
    typist_work(&typist, 2 * NS_PER_SEC);
    assert_int_equal(keyboard.count, 2);
    keyboard.busy = true;
    type_all();
    assert_true(typist.ignored);
    assert_int_equal(keyboard.count, 2);
}

static void test_pointer_goes_to_the_tablet_in_use_else_to_the_mouse(void **state)
{
    struct input_sink tablet = {.ops = &tablet_ops};
    input_add(typist.input, &tablet);
    input_place(typist.input, 320, 640, 0, 0);
    assert_int_equal(keyboard.dx, 10);
    assert_int_equal(keyboard.dy, 20);
    /* Ways of less than a count add up. */
    for (unsigned x = 320; x <= 352; x += 8)
        input_place(typist.input, x, 640, 0, 0);
    assert_int_equal(keyboard.dx, 11);
    keyboard.tablet_in_use = true;
    input_place(typist.input, 5, INPUT_POSITION_MAX + 1, 0, INPUT_LEFT);
    assert_int_equal(keyboard.places, 1);
    assert_int_equal(keyboard.x, 5);
    assert_int_equal(keyboard.y, INPUT_POSITION_MAX);
    assert_int_equal(keyboard.dx, 11);
    input_remove(typist.input, &tablet);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_text_becomes_keys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_every_printable_character_has_a_key_of_its_own, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_what_no_key_writes_is_refused_whole, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_named_keys_are_held_together, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_names_with_a_hyphen, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_waits_for_the_guest_and_gives_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_pointer_goes_to_the_tablet_in_use_else_to_the_mouse,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
