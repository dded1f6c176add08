/*
 * The USB tablet and keyboard as a host controller sees them: standard and HID requests, reports,
 * what happens when nobody takes them.
 */
#include "state_rig.h"

#include <string.h>

#include "dev/usb/usb_input.h"

#define ENDPOINT 1
#define QUEUE 16

static struct input *hub;
static struct clock *vm_clock;
static struct usb_device *tablet, *keyboard;
static bool listens;
static unsigned wakes;

static void port_wake(struct usb_port *port, unsigned endpoint)
{
    assert_int_equal(endpoint, ENDPOINT);
    wakes++;
}

static bool port_listens(struct usb_port *port, unsigned endpoint)
{
    return listens;
}

static const struct usb_port_ops port_ops = {.wake = port_wake, .listens = port_listens};
static struct usb_port port = {&port_ops};

static enum usb_result control(struct usb_device *usb, uint8_t type, uint8_t request,
                               uint16_t value, uint16_t index, uint16_t length, uint8_t *data,
                               unsigned *got)
{
    const struct usb_setup setup = {type, request, value, index, length};

    *got = length;
    return usb_device_control(usb, &setup, data, got);
}

/* A request without data. */
static enum usb_result order(struct usb_device *usb, uint8_t type, uint8_t request, uint16_t value,
                             uint16_t index)
{
    uint8_t data[USB_CONTROL_MAX];
    unsigned got;

    return control(usb, type, request, value, index, 0, data, &got);
}

static int setup(void **state)
{
    hub = input_new();
    assert_int_equal(clock_new_manual(&vm_clock), 0);
    assert_int_equal(usb_tablet_new(&tablet, "tablet", hub), 0);
    assert_int_equal(usb_keyboard_new(&keyboard, "keyboard", hub, vm_clock), 0);
    tablet->port = keyboard->port = &port;
    listens = true;
    wakes = 0;
    assert_int_equal(order(tablet, 0, USB_SET_CONFIGURATION, 1, 0), USB_OK);
    assert_int_equal(order(keyboard, 0, USB_SET_CONFIGURATION, 1, 0), USB_OK);
    return 0;
}

static int teardown(void **state)
{
    tablet->dev.ops->destroy(&tablet->dev);
    keyboard->dev.ops->destroy(&keyboard->dev);
    input_free(hub);
    clock_free(vm_clock);
    return 0;
}

static void expect_report(struct usb_device *usb, const uint8_t *report, unsigned length)
{
    uint8_t data[64];
    unsigned got;

    assert_int_equal(usb_device_in(usb, ENDPOINT, data, sizeof(data), &got), USB_OK);
    assert_int_equal(got, length);
    assert_memory_equal(data, report, length);
}

static void expect_place(unsigned x, unsigned y, int wheel, unsigned buttons)
{
    const uint8_t report[] = {buttons, x & 0xff, x >> 8, y & 0xff, y >> 8, (uint8_t)wheel};

    expect_report(tablet, report, sizeof(report));
}

static void expect_nothing(struct usb_device *usb)
{
    uint8_t data[64];
    unsigned got;

    assert_int_equal(usb_device_in(usb, ENDPOINT, data, sizeof(data), &got), USB_NAK);
}

/* ---- requests ---- */

static void descriptors_agree_with_each_other(void **state)
{
    struct usb_device *const devices[] = {tablet, keyboard};
    uint8_t data[USB_CONTROL_MAX];
    unsigned got;

    for (unsigned i = 0; i < ARRAY_SIZE(devices); i++) {
        assert_int_equal(control(devices[i], 0x80, USB_GET_DESCRIPTOR, 0x0100, 0, 64, data, &got),
                         USB_OK);
        assert_int_equal(got, 18);
        assert_int_equal(data[0], 18);
        assert_int_equal(data[17], 1);
        assert_int_equal(control(devices[i], 0x80, USB_GET_DESCRIPTOR, 0x0200, 0, 255, data, &got),
                         USB_OK);
        assert_int_equal(got, data[2] | data[3] << 8);
        unsigned at = 0, kinds = 0, report_length = 0;
        for (; at < got; at += data[at]) {
            assert_true(data[at] >= 2 && at + data[at] <= got);
            if (data[at + 1] == 0x21)
                report_length = data[at + 7] | data[at + 8] << 8;
            kinds++;
        }
        assert_int_equal(at, got);
        assert_int_equal(kinds, 4);
        assert_int_equal(control(devices[i], 0x81, USB_GET_DESCRIPTOR, 0x2200, 0, 256, data, &got),
                         USB_OK);
        assert_int_equal(got, report_length);
        assert_int_equal(data[got - 1], 0xc0);
        assert_int_equal(control(devices[i], 0x81, USB_GET_DESCRIPTOR, 0x2100, 0, 256, data, &got),
                         USB_OK);
        assert_int_equal(got, 9);
    }
}

static void strings_are_utf16(void **state)
{
    uint8_t data[USB_CONTROL_MAX];
    unsigned got;

    assert_int_equal(control(tablet, 0x80, USB_GET_DESCRIPTOR, 0x0300, 0, 255, data, &got), USB_OK);
    assert_memory_equal(data, "\4\3\x09\4", 4);
    assert_int_equal(control(tablet, 0x80, USB_GET_DESCRIPTOR, 0x0301, 0, 255, data, &got), USB_OK);
    assert_int_equal(got, 10);
    assert_memory_equal(data, "\x0a\3S\0i\0l\0l", 10);
    assert_int_equal(control(tablet, 0x80, USB_GET_DESCRIPTOR, 0x0303, 0, 255, data, &got),
                     USB_STALL);
}

static void endpoint_halts_and_goes_on(void **state)
{
    uint8_t data[USB_CONTROL_MAX];
    unsigned got;

    assert_int_equal(order(tablet, 2, USB_SET_FEATURE, 0, 0x81), USB_OK);
    assert_int_equal(control(tablet, 0x82, USB_GET_STATUS, 0, 0x81, 2, data, &got), USB_OK);
    assert_int_equal(data[0], 1);
    assert_int_equal(usb_device_in(tablet, ENDPOINT, data, 8, &got), USB_STALL);
    assert_int_equal(order(tablet, 2, USB_CLEAR_FEATURE, 0, 0x81), USB_OK);
    assert_int_equal(usb_device_in(tablet, ENDPOINT, data, 8, &got), USB_NAK);
    assert_int_equal(usb_device_in(tablet, 2, data, 8, &got), USB_STALL);
    assert_int_equal(order(tablet, 2, USB_SET_FEATURE, 0, 0x82), USB_STALL);
}

static void hid_requests(void **state)
{
    uint8_t data[USB_CONTROL_MAX] = {0};
    unsigned got;

    input_place(hub, 5, 6, 1, INPUT_LEFT);
    assert_int_equal(control(tablet, 0xa1, 1, 0x0100, 0, 8, data, &got), USB_OK); /* GET_REPORT */
    assert_int_equal(got, 6);
    assert_memory_equal(data, "\1\5\0\6\0\0", 6);
    assert_int_equal(order(keyboard, 0x21, 0x0a, 0x7d00, 0), USB_OK); /* SET_IDLE */
    assert_int_equal(control(keyboard, 0xa1, 2, 0, 0, 1, data, &got), USB_OK);
    assert_int_equal(data[0], 0x7d);
    assert_int_equal(order(keyboard, 0x21, 0x0b, 0, 0), USB_OK); /* SET_PROTOCOL: boot */
    assert_int_equal(control(keyboard, 0xa1, 3, 0, 0, 1, data, &got), USB_OK);
    assert_int_equal(data[0], 0);
    assert_int_equal(order(tablet, 0x21, 0x0b, 0, 0), USB_STALL);
    assert_int_equal(order(keyboard, 0x21, 9, 0x0200, 0), USB_STALL); /* SET_REPORT of nothing */
}

static void any_request_is_answered_or_refused(void **state)
{
    uint8_t data[USB_CONTROL_MAX];
    unsigned got;

    for (unsigned type = 0; type < 256; type++) {
        for (unsigned request = 0; request < 16; request++) {
            for (unsigned value = 0; value < 0x2400; value += 0x7f) {
                control(keyboard, type, request, value, value % 5, 256, data, &got);
                assert_true(got <= 256);
            }
        }
    }
}

static void nothing_is_sent_before_configuration(void **state)
{
    uint8_t data[64];
    unsigned got;

    usb_device_reset(tablet);
    input_place(hub, 5, 6, 0, 0);
    assert_int_equal(usb_device_in(tablet, ENDPOINT, data, 8, &got), USB_STALL);
    assert_int_equal(control(tablet, 0xa1, 1, 0x0100, 0, 8, data, &got), USB_STALL);
    assert_int_equal(order(tablet, 0, USB_SET_CONFIGURATION, 2, 0), USB_STALL);
    assert_int_equal(order(tablet, 0, USB_SET_CONFIGURATION, 1, 0), USB_OK);
    expect_nothing(tablet);
}

/* ---- reports ---- */

static void movements_that_nobody_took_become_one(void **state)
{
    input_place(hub, 1, 2, 0, 0);
    input_place(hub, 0x7fff, 0x0102, 0, 0);
    assert_int_equal(wakes, 2);
    expect_place(0x7fff, 0x0102, 0, 0);
    expect_nothing(tablet);
    input_place(hub, 0x7fff, 0x0102, 0, 0); /* it is there already */
    expect_nothing(tablet);
}

static void clicks_are_not_lost_in_movements(void **state)
{
    input_place(hub, 10, 10, 0, 0);
    input_place(hub, 20, 20, 0, INPUT_LEFT);
    input_place(hub, 30, 30, 0, INPUT_LEFT);
    input_place(hub, 30, 30, 0, 0);
    input_place(hub, 40, 40, 0, 0);
    expect_place(10, 10, 0, 0);
    expect_place(30, 30, 0, 1);
    expect_place(40, 40, 0, 0);
    expect_nothing(tablet);
}

static void wheel_turns_add_up(void **state)
{
    input_place(hub, 0, 0, 1, 0);
    input_place(hub, 0, 0, 1, 0);
    input_place(hub, 5, 0, 0, 0);
    expect_place(5, 0, -2, 0);
    input_place(hub, 5, 0, -1000, 0);
    input_place(hub, 5, 0, -1000, 0);
    expect_place(5, 0, 127, 0);
    input_place(hub, 5, 0, 0, 0);
    expect_nothing(tablet);
}

static void full_queue_keeps_what_holds_in_the_end(void **state)
{
    uint8_t data[8] = {0};
    unsigned got, count = 0;

    for (unsigned i = 0; i < 99; i++)
        input_place(hub, i, i, 0, i % 2 ? INPUT_LEFT : INPUT_MIDDLE);
    while (usb_device_in(tablet, ENDPOINT, data, sizeof(data), &got) == USB_OK)
        count++;
    assert_int_equal(count, QUEUE);
    assert_int_equal(data[0], INPUT_MIDDLE);
    assert_int_equal(data[1], 98);
}

static void keys_and_modifiers(void **state)
{
    static const uint8_t reports[][8] = {
        {0x02}, {0x02, 0, 0x04}, {0x02, 0, 0x04, 0x52}, {0x02, 0, 0x52}, {0x02}, {0}, {0, 0, 0x48},
        {0},
    };

    input_key(hub, 0x2a, true);                  /* left shift */
    input_key(hub, 0x1e, true);                  /* a */
    input_key(hub, INPUT_EXTENDED | 0x48, true); /* up */
    input_key(hub, 0x1e, true);                  /* no news */
    input_key(hub, 0x1e, false);
    input_key(hub, INPUT_EXTENDED | 0x48, false);
    input_key(hub, 0x2a, false);
    input_key(hub, INPUT_KEY_PAUSE, true);
    input_key(hub, 0x7f, true); /* there are no such keys */
    input_key(hub, 0, true);
    input_key(hub, INPUT_EXTENDED | 0x01, true);
    assert_false(input_keys_taken(hub));
    for (unsigned i = 0; i < ARRAY_SIZE(reports); i++)
        expect_report(keyboard, reports[i], 8);
    expect_nothing(keyboard);
    assert_true(input_keys_taken(hub));
}

static void seventh_key_rolls_over(void **state)
{
    static const uint8_t six[8] = {0, 0, 0x1e, 0x1f, 0x20, 0x21, 0x22, 0x23};
    static const uint8_t rolled[8] = {0, 0, 1, 1, 1, 1, 1, 1};
    uint8_t data[8];
    unsigned got;

    for (unsigned code = 2; code < 9; code++)
        input_key(hub, code, true);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(usb_device_in(keyboard, ENDPOINT, data, 8, &got), USB_OK);
    expect_report(keyboard, six, 8);
    expect_report(keyboard, rolled, 8);
    input_key(hub, 8, false);
    expect_report(keyboard, six, 8);
}

static void keys_that_stay_down_are_told_at_the_idle_rate(void **state)
{
    static const uint8_t a[8] = {0, 0, 0x04}, none[8] = {0};

    input_key(hub, 0x1e, true);
    expect_report(keyboard, a, 8);
    clock_advance(vm_clock, NS_PER_SEC);
    expect_nothing(keyboard); /* the rate is 0 */
    input_key(hub, 0x1e, false);
    expect_report(keyboard, none, 8);

    assert_int_equal(order(keyboard, 0x21, 0x0a, 0x0800, 0), USB_OK); /* SET_IDLE: 32 ms */
    input_key(hub, 0x1e, true);
    expect_report(keyboard, a, 8);
    for (unsigned i = 0; i < 3; i++) {
        wakes = 0;
        clock_advance(vm_clock, 31999999);
        expect_nothing(keyboard);
        clock_advance(vm_clock, 1);
        assert_int_equal(wakes, 1);
        expect_report(keyboard, a, 8);
    }
    clock_advance(vm_clock, NS_PER_SEC); /* nobody takes it */
    expect_report(keyboard, a, 8);
    expect_nothing(keyboard);
    input_key(hub, 0x1e, false);
    expect_report(keyboard, none, 8);
    wakes = 0;
    clock_advance(vm_clock, NS_PER_SEC);
    assert_int_equal(wakes, 0);
    expect_nothing(keyboard);
}

static void unused_devices_get_nothing(void **state)
{
    listens = false;
    input_place(hub, 5, 6, 0, 0);
    input_key(hub, 0x1e, true);
    assert_int_equal(wakes, 0);
    expect_nothing(tablet);
    expect_nothing(keyboard);
}

static void state_is_saved_and_restored(void **state)
{
    input_place(hub, 100, 200, 3, INPUT_RIGHT);
    input_key(hub, 0x1d, true);
    input_key(hub, 0x1e, true);
    rig_check_state(&tablet->dev);
    rig_check_state(&keyboard->dev);
    expect_place(100, 200, -3, 2);
    expect_report(keyboard, (const uint8_t[8]){0x01}, 8);
    expect_report(keyboard, (const uint8_t[8]){0x01, 0, 0x04}, 8);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(descriptors_agree_with_each_other),
        T(strings_are_utf16),
        T(endpoint_halts_and_goes_on),
        T(hid_requests),
        T(any_request_is_answered_or_refused),
        T(nothing_is_sent_before_configuration),
        T(movements_that_nobody_took_become_one),
        T(clicks_are_not_lost_in_movements),
        T(wheel_turns_add_up),
        T(full_queue_keeps_what_holds_in_the_end),
        T(keys_and_modifiers),
        T(seventh_key_rolls_over),
        T(keys_that_stay_down_are_told_at_the_idle_rate),
        T(unused_devices_get_nothing),
        T(state_is_saved_and_restored),
    };
    return cmocka_run_group_tests_name("usb_hid", tests, NULL, NULL);
}
