/*
 * A USB tablet: a pointer that says where it is, so that guest and viewer agree without counting.
 * HID 1.11; HID Usage Tables 1.12, sections 4 (generic desktop) and 12 (buttons).
 *
 *     byte   0          1-2    3-4    5
 *            buttons    X      Y      wheel, away from the user
 *
 * Movements with the same buttons that the guest has not asked for yet become one report.
 */
#include "dev/usb/usb_input.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/usb/usb_hid.h"

#define BUTTONS (INPUT_LEFT | INPUT_RIGHT | INPUT_MIDDLE) /* numbered as HID does */
#define WHEEL_MAX 127

enum { BYTE_BUTTONS, BYTE_X, BYTE_Y = 3, BYTE_WHEEL = 5, REPORT_LENGTH };

/* 6.2.2: each item is a byte of tag, kind and size, and its data. */
static const uint8_t report_descriptor[] = {
    0x05, 0x01,       /* usage page: generic desktop */
    0x09, 0x02,       /* usage: mouse */
    0xa1, 0x01,       /* collection: application */
    0x09, 0x01,       /*   usage: pointer */
    0xa1, 0x00,       /*   collection: physical */
    0x05, 0x09,       /*     usage page: buttons */
    0x19, 0x01,       /*     first usage: button 1 */
    0x29, 0x03,       /*     last usage: button 3 */
    0x15, 0x00,       /*     logical minimum 0 */
    0x25, 0x01,       /*     logical maximum 1 */
    0x95, 0x03,       /*     three of them */
    0x75, 0x01,       /*     of one bit */
    0x81, 0x02,       /*     input: data, variable, absolute */
    0x95, 0x01,       /*     one */
    0x75, 0x05,       /*     of five bits */
    0x81, 0x01,       /*     input: constant */
    0x05, 0x01,       /*     usage page: generic desktop */
    0x09, 0x30,       /*     usage: X */
    0x09, 0x31,       /*     usage: Y */
    0x15, 0x00,       /*     logical minimum 0 */
    0x26, 0xff, 0x7f, /*     logical maximum INPUT_POSITION_MAX */
    0x35, 0x00,       /*     physical minimum: the same */
    0x46, 0xff, 0x7f, /*     physical maximum */
    0x75, 0x10,       /*     16 bits */
    0x95, 0x02,       /*     two of them */
    0x81, 0x02,       /*     input: data, variable, absolute */
    0x09, 0x38,       /*     usage: wheel */
    0x15, 0x81,       /*     logical minimum -WHEEL_MAX */
    0x25, 0x7f,       /*     logical maximum WHEEL_MAX */
    0x35, 0x00,       /*     physical minimum: undefined */
    0x45, 0x00,       /*     physical maximum */
    0x75, 0x08,       /*     8 bits */
    0x95, 0x01,       /*     one */
    0x81, 0x06,       /*     input: data, variable, relative */
    0xc0,             /*   end */
    0xc0,             /* end */
};

static int clamp_wheel(int wheel)
{
    return wheel > WHEEL_MAX ? WHEEL_MAX : wheel < -WHEEL_MAX ? -WHEEL_MAX : wheel;
}

/* Adds to the last report where that loses nothing, else queues another. */
static void queue_place(struct hid *hid, unsigned x, unsigned y, int wheel, uint8_t buttons)
{
    uint8_t report[REPORT_LENGTH] = {
        buttons, x & 0xff, (uint8_t)(x >> 8), y & 0xff, (uint8_t)(y >> 8), 0,
    };
    uint8_t *last = hid_last(hid);

    if (!wheel && !memcmp(report, hid->now, BYTE_WHEEL))
        return;
    if (last && last[BYTE_BUTTONS] == buttons) {
        report[BYTE_WHEEL] = (uint8_t)clamp_wheel((int8_t)last[BYTE_WHEEL] + wheel);
        memcpy(last, report, sizeof(report));
        memcpy(hid->now, report, sizeof(report));
    } else {
        report[BYTE_WHEEL] = (uint8_t)clamp_wheel(wheel);
        hid_push(hid, report);
    }
    hid->now[BYTE_WHEEL] = 0; /* which is a way, not a place */
}

static void tablet_place(void *opaque, unsigned x, unsigned y, int dz, unsigned buttons)
{
    struct hid *hid = opaque;

    pthread_mutex_lock(&hid->usb.lock);
    queue_place(hid, x, y, -clamp_wheel(dz), buttons & BUTTONS);
    pthread_mutex_unlock(&hid->usb.lock);
    hid_wake(hid);
}

static const struct input_sink_ops tablet_sink_ops = {
    .in_use = hid_in_use,
    .place = tablet_place,
};

/* All that it has is in the reports. */
static void tablet_bus_reset(struct usb_device *usb)
{
}

static void tablet_reset(struct device *dev)
{
    usb_device_reset(CONTAINER_OF(dev, struct usb_device, dev));
}

static void tablet_destroy(struct device *dev)
{
    struct hid *hid = CONTAINER_OF(dev, struct hid, usb.dev);

    hid_done(hid);
    free(hid);
}

static int tablet_post_load(void *object, struct error *err)
{
    return hid_check(object, err);
}

static const struct state_desc tablet_state = {
    .name = "usb-tablet",
    .version = 1,
    .fields = hid_fields,
    .post_load = tablet_post_load,
};

static const struct device_ops tablet_ops = {
    .type = "usb-tablet",
    .reset = tablet_reset,
    .destroy = tablet_destroy,
    .state = &tablet_state,
};

static const struct hid_model tablet_model = {
    .product = 0x0011,
    .name = "USB tablet",
    .report_descriptor = report_descriptor,
    .report_descriptor_length = sizeof(report_descriptor),
    .report_length = REPORT_LENGTH,
    .interval = 4,
    .device_ops = &tablet_ops,
    .sink_ops = &tablet_sink_ops,
    .reset = tablet_bus_reset,
};

int usb_tablet_new(struct usb_device **out, const char *name, struct input *input)
{
    struct hid *hid = calloc(1, sizeof(*hid));

    if (!hid)
        return -ENOMEM;
    hid_init(hid, name, &tablet_model, input, hid);
    *out = &hid->usb;
    return 0;
}
