/*
 * A USB keyboard with the reports of the boot protocol, which firmware understands too. HID 1.11,
 * appendices B.1 and F; HID Usage Tables 1.12, section 10.
 *
 *     byte   0            1       2-7
 *            modifiers    0       the keys that are down, up to six
 *
 * Drivers repeat keys themselves. Firmware lets the idle rate (7.2.4) remind it: a report is told
 * again when so much time has passed. That is done while keys are down, which is when it matters.
 */
#include "dev/usb/usb_input.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/usb/usb_hid.h"

#define REPORT_LENGTH 8
#define FIRST_KEY 2
#define KEYS 6
#define USAGES 0x100
#define USAGE_ROLL_OVER 0x01    /* in place of each key: too many are down */
#define USAGE_LEFT_CONTROL 0xe0 /* the first of the eight modifiers */
#define USAGE_PAUSE 0x48

struct usb_keyboard {
    struct hid hid;
    struct timer reminder;

    /* hid.usb.lock */
    uint8_t down[USAGES / 8]; /* bit per usage */
};

/* Appendix B.1 */
static const uint8_t report_descriptor[] = {
    0x05, 0x01,       /* usage page: generic desktop */
    0x09, 0x06,       /* usage: keyboard */
    0xa1, 0x01,       /* collection: application */
    0x05, 0x07,       /*   usage page: keyboard */
    0x19, 0xe0,       /*   first usage: left control */
    0x29, 0xe7,       /*   last usage: right GUI */
    0x15, 0x00,       /*   logical minimum 0 */
    0x25, 0x01,       /*   logical maximum 1 */
    0x75, 0x01,       /*   one bit */
    0x95, 0x08,       /*   eight of them */
    0x81, 0x02,       /*   input: data, variable, absolute: the modifiers */
    0x95, 0x01,       /*   one */
    0x75, 0x08,       /*   of eight bits */
    0x81, 0x01,       /*   input: constant */
    0x95, 0x05,       /*   five */
    0x75, 0x01,       /*   of one bit */
    0x05, 0x08,       /*   usage page: lights */
    0x19, 0x01,       /*   first usage: num lock */
    0x29, 0x05,       /*   last usage: kana */
    0x91, 0x02,       /*   output: data, variable, absolute */
    0x95, 0x01,       /*   one */
    0x75, 0x03,       /*   of three bits */
    0x91, 0x01,       /*   output: constant */
    0x95, 0x06,       /*   six */
    0x75, 0x08,       /*   of eight bits */
    0x15, 0x00,       /*   logical minimum 0 */
    0x26, 0xff, 0x00, /* logical maximum 255 */
    0x05, 0x07,       /*   usage page: keyboard */
    0x19, 0x00,       /*   first usage 0 */
    0x2a, 0xff, 0x00, /* last usage 255 */
    0x81, 0x00,       /*   input: data, array: the keys */
    0xc0,             /* end */
};

/* Usages by scan code of set 1; 0: there is no such key. */
static const uint8_t usages[] = {
    /* 00 */ 0x00, 0x29, 0x1e, 0x1f, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27,
    /* 0c */ 0x2d, 0x2e, 0x2a, 0x2b, 0x14, 0x1a, 0x08, 0x15, 0x17, 0x1c, 0x18, 0x0c,
    /* 18 */ 0x12, 0x13, 0x2f, 0x30, 0x28, 0xe0, 0x04, 0x16, 0x07, 0x09, 0x0a, 0x0b,
    /* 24 */ 0x0d, 0x0e, 0x0f, 0x33, 0x34, 0x35, 0xe1, 0x31, 0x1d, 0x1b, 0x06, 0x19,
    /* 30 */ 0x05, 0x11, 0x10, 0x36, 0x37, 0x38, 0xe5, 0x55, 0xe2, 0x2c, 0x39, 0x3a,
    /* 3c */ 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x40, 0x41, 0x42, 0x43, 0x53, 0x47, 0x5f,
    /* 48 */ 0x60, 0x61, 0x56, 0x5c, 0x5d, 0x5e, 0x57, 0x59, 0x5a, 0x5b, 0x62, 0x63,
    /* 54 */ 0x46, 0x00, 0x64, 0x44, 0x45,
};

/* Those behind the prefix 0xe0. */
static const struct {
    uint8_t code, usage;
} extended[] = {
    {0x1c, 0x58}, /* keypad enter */
    {0x1d, 0xe4}, /* right control */
    {0x35, 0x54}, /* keypad / */
    {0x37, 0x46}, /* print screen */
    {0x38, 0xe6}, /* right alt */
    {0x46, 0x48}, /* break: pause with control */
    {0x47, 0x4a}, /* home */
    {0x48, 0x52}, /* up */
    {0x49, 0x4b}, /* page up */
    {0x4b, 0x50}, /* left */
    {0x4d, 0x4f}, /* right */
    {0x4f, 0x4d}, /* end */
    {0x50, 0x51}, /* down */
    {0x51, 0x4e}, /* page down */
    {0x52, 0x49}, /* insert */
    {0x53, 0x4c}, /* delete */
    {0x5b, 0xe3}, /* left GUI */
    {0x5c, 0xe7}, /* right GUI */
    {0x5d, 0x65}, /* menu */
};

static uint8_t usage_of(unsigned code)
{
    if (code == INPUT_KEY_PAUSE)
        return USAGE_PAUSE;
    if (code < ARRAY_SIZE(usages))
        return usages[code];
    for (size_t i = 0; i < ARRAY_SIZE(extended); i++) {
        if (code == (INPUT_EXTENDED | extended[i].code))
            return extended[i].usage;
    }
    return 0;
}

static bool is_down(const struct usb_keyboard *keyboard, unsigned usage)
{
    return keyboard->down[usage / 8] >> usage % 8 & 1;
}

static bool any_down(const struct usb_keyboard *keyboard)
{
    for (size_t i = 0; i < sizeof(keyboard->down); i++) {
        if (keyboard->down[i])
            return true;
    }
    return false;
}

static void set_reminder(struct usb_keyboard *keyboard)
{
    struct timer *timer = &keyboard->reminder;

    if (keyboard->hid.idle && any_down(keyboard))
        timer_set(timer, clock_now(timer->clock) + keyboard->hid.idle * HID_IDLE_UNIT_NS);
    else
        timer_cancel(timer);
}

/* The clock's thread. Who has not taken the last report needs no other. */
static void remind(void *opaque)
{
    struct usb_keyboard *keyboard = opaque;

    pthread_mutex_lock(&keyboard->hid.usb.lock);
    if (keyboard->hid.idle && any_down(keyboard) && !hid_last(&keyboard->hid))
        hid_push(&keyboard->hid, keyboard->hid.now);
    set_reminder(keyboard);
    pthread_mutex_unlock(&keyboard->hid.usb.lock);
    hid_wake(&keyboard->hid);
}

static void queue_keys(struct usb_keyboard *keyboard)
{
    uint8_t report[REPORT_LENGTH] = {keyboard->down[USAGE_LEFT_CONTROL / 8]};
    unsigned count = 0;

    for (unsigned usage = 0; usage < USAGE_LEFT_CONTROL; usage++) {
        if (is_down(keyboard, usage) && count++ < KEYS)
            report[FIRST_KEY + count - 1] = (uint8_t)usage;
    }
    if (count > KEYS)
        memset(report + FIRST_KEY, USAGE_ROLL_OVER, KEYS);
    hid_push(&keyboard->hid, report);
    set_reminder(keyboard);
}

static void press(struct usb_keyboard *keyboard, unsigned usage, bool down)
{
    if (is_down(keyboard, usage) == down)
        return;
    keyboard->down[usage / 8] ^= (uint8_t)(1u << usage % 8);
    queue_keys(keyboard);
}

static void keyboard_key(void *opaque, unsigned code, bool down)
{
    struct usb_keyboard *keyboard = opaque;
    uint8_t usage = usage_of(code);

    if (!usage)
        return;
    pthread_mutex_lock(&keyboard->hid.usb.lock);
    press(keyboard, usage, down);
    if (code == INPUT_KEY_PAUSE) /* whose release nobody tells */
        press(keyboard, usage, false);
    pthread_mutex_unlock(&keyboard->hid.usb.lock);
    hid_wake(&keyboard->hid);
}

static const struct input_sink_ops keyboard_sink_ops = {
    .in_use = hid_in_use,
    .key = keyboard_key,
    .keys_taken = hid_is_empty,
};

static struct usb_keyboard *of_device(struct device *dev)
{
    return CONTAINER_OF(dev, struct usb_keyboard, hid.usb.dev);
}

static void keyboard_bus_reset(struct usb_device *usb)
{
    struct usb_keyboard *keyboard = CONTAINER_OF(usb, struct usb_keyboard, hid.usb);

    memset(keyboard->down, 0, sizeof(keyboard->down));
    set_reminder(keyboard);
}

static void keyboard_reset(struct device *dev)
{
    usb_device_reset(&of_device(dev)->hid.usb);
}

static void keyboard_destroy(struct device *dev)
{
    struct usb_keyboard *keyboard = of_device(dev);

    timer_cancel_sync(&keyboard->reminder);
    hid_done(&keyboard->hid);
    free(keyboard);
}

static int keyboard_post_load(void *object, struct error *err)
{
    struct usb_keyboard *keyboard = object;
    int result = hid_check(&keyboard->hid, err);

    if (!result)
        set_reminder(keyboard);
    return result;
}

static const struct state_field keyboard_fields[] = {
    STATE_STRUCT(struct usb_keyboard, hid, hid_fields),
    STATE_BYTES(struct usb_keyboard, down),
    STATE_END,
};

static const struct state_desc keyboard_state = {
    .name = "usb-keyboard",
    .version = 1,
    .fields = keyboard_fields,
    .post_load = keyboard_post_load,
};

static const struct device_ops keyboard_ops = {
    .type = "usb-keyboard",
    .reset = keyboard_reset,
    .destroy = keyboard_destroy,
    .state = &keyboard_state,
};

static const struct hid_model keyboard_model = {
    .product = 0x0012,
    .name = "USB keyboard",
    .protocol = HID_PROTOCOL_KEYBOARD,
    .report_descriptor = report_descriptor,
    .report_descriptor_length = sizeof(report_descriptor),
    .report_length = REPORT_LENGTH,
    .interval = 8,
    .device_ops = &keyboard_ops,
    .sink_ops = &keyboard_sink_ops,
    .reset = keyboard_bus_reset,
};

int usb_keyboard_new(struct usb_device **out, const char *name, struct input *input,
                     struct clock *clock)
{
    struct usb_keyboard *keyboard = calloc(1, sizeof(*keyboard));

    if (!keyboard)
        return -ENOMEM;
    timer_init(&keyboard->reminder, clock, remind, keyboard);
    hid_init(&keyboard->hid, name, &keyboard_model, input, keyboard);
    *out = &keyboard->hid.usb;
    return 0;
}
