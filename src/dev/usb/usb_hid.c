/*
 * The HID class: descriptors (6.2, appendix E), requests (7.2) and the queue of reports; see
 * usb_hid.h.
 */
#include "dev/usb/usb_hid.h"

#include <errno.h>
#include <string.h>

/* Vendor 0x0627 is the one that emulated input devices go by; drivers know them by their class. */
#define VENDOR 0x0627
#define RELEASE 0x0100
#define USB_VERSION 0x0200
#define HID_VERSION 0x0111
#define ENDPOINT_ZERO_PACKET 64
#define STRING_MANUFACTURER 1
#define STRING_PRODUCT 2

#define BUS_POWERED 0x80
#define POWER_2_MA 50
#define CLASS_HID 3
#define SUBCLASS_BOOT 1
#define INTERRUPT_ENDPOINT 3

/* 7.1 */
#define DESCRIPTOR_HID 0x21
#define DESCRIPTOR_REPORT 0x22
#define HID_DESCRIPTOR_OFFSET 18 /* in the configuration */
#define HID_DESCRIPTOR_LENGTH 9

/* 7.2 */
enum hid_request {
    GET_REPORT = 0x01,
    GET_IDLE = 0x02,
    GET_PROTOCOL = 0x03,
    SET_REPORT = 0x09,
    SET_IDLE = 0x0a,
    SET_PROTOCOL = 0x0b,
};
enum report_type { REPORT_INPUT = 1, REPORT_OUTPUT = 2 };

#define LOW(x) ((x)&0xff)
#define HIGH(x) ((x) >> 8)

static void describe(struct hid *hid)
{
    const struct hid_model *model = hid->model;
    /* USB 2.0, table 9-8 */
    const uint8_t device[] = {
        USB_DEVICE_DESCRIPTOR_LENGTH,
        USB_DESCRIPTOR_DEVICE,
        LOW(USB_VERSION),
        HIGH(USB_VERSION),
        0, /* class, subclass and protocol are the interface's */
        0,
        0,
        ENDPOINT_ZERO_PACKET,
        LOW(VENDOR),
        HIGH(VENDOR),
        LOW(model->product),
        (uint8_t)HIGH(model->product),
        LOW(RELEASE),
        HIGH(RELEASE),
        STRING_MANUFACTURER,
        STRING_PRODUCT,
        0, /* no serial number */
        1, /* configuration */
    };
    const uint8_t configuration[] = {
        /* table 9-10 */
        9,
        USB_DESCRIPTOR_CONFIGURATION,
        HID_CONFIGURATION_LENGTH,
        0, /* the length's upper byte */
        1, /* interface */
        1, /* what SET_CONFIGURATION calls it */
        0, /* it has no name */
        BUS_POWERED,
        POWER_2_MA,
        /* table 9-12 */
        9,
        USB_DESCRIPTOR_INTERFACE,
        0, /* its number */
        0, /* its only setting */
        1, /* endpoint */
        CLASS_HID,
        model->protocol ? SUBCLASS_BOOT : 0,
        (uint8_t)model->protocol,
        0, /* it has no name */
        /* HID, 6.2.1 */
        HID_DESCRIPTOR_LENGTH,
        DESCRIPTOR_HID,
        LOW(HID_VERSION),
        HIGH(HID_VERSION),
        0, /* made for no country */
        1, /* more descriptor */
        DESCRIPTOR_REPORT,
        (uint8_t)LOW(model->report_descriptor_length),
        (uint8_t)HIGH(model->report_descriptor_length),
        /* table 9-13 */
        7,
        USB_DESCRIPTOR_ENDPOINT,
        USB_TYPE_IN | HID_ENDPOINT,
        INTERRUPT_ENDPOINT,
        HID_REPORT_MAX, /* bytes a packet */
        0,
        (uint8_t)model->interval,
    };

    _Static_assert(sizeof(configuration) == HID_CONFIGURATION_LENGTH, "as it says");
    _Static_assert(sizeof(device) == sizeof(hid->device_descriptor), "as it says");
    memcpy(hid->device_descriptor, device, sizeof(device));
    memcpy(hid->configuration_descriptor, configuration, sizeof(configuration));
    hid->strings[STRING_MANUFACTURER - 1] = "Sill";
    hid->strings[STRING_PRODUCT - 1] = model->name;
    hid->descriptors = (struct usb_descriptors){
        .device = hid->device_descriptor,
        .configuration = hid->configuration_descriptor,
        .configuration_length = HID_CONFIGURATION_LENGTH,
        .strings = hid->strings,
        .string_count = ARRAY_SIZE(hid->strings),
        .in_endpoints = 1u << HID_ENDPOINT,
    };
}

/* ---- the queue ---- */

uint8_t *hid_last(struct hid *hid)
{
    return hid->count ? hid->report[(hid->head + hid->count - 1) % HID_QUEUE] : NULL;
}

void hid_push(struct hid *hid, const uint8_t *report)
{
    if (hid->count < HID_QUEUE)
        hid->count++;
    memcpy(hid_last(hid), report, hid->model->report_length);
    memcpy(hid->now, report, hid->model->report_length);
}

void hid_wake(struct hid *hid)
{
    if (hid->usb.port)
        hid->usb.port->ops->wake(hid->usb.port, HID_ENDPOINT);
}

bool hid_in_use(void *opaque)
{
    struct hid *hid = opaque;

    return hid->usb.port && hid->usb.port->ops->listens(hid->usb.port, HID_ENDPOINT);
}

bool hid_is_empty(void *opaque)
{
    struct hid *hid = opaque;

    pthread_mutex_lock(&hid->usb.lock);
    bool empty = !hid->count;
    pthread_mutex_unlock(&hid->usb.lock);
    return empty;
}

static enum usb_result hid_in(struct usb_device *usb, unsigned endpoint, uint8_t *data,
                              unsigned size, unsigned *length)
{
    struct hid *hid = CONTAINER_OF(usb, struct hid, usb);

    if (!hid->count)
        return USB_NAK;
    *length = size < hid->model->report_length ? size : hid->model->report_length;
    memcpy(data, hid->report[hid->head], *length);
    hid->head = (hid->head + 1) % HID_QUEUE;
    hid->count--;
    return USB_OK;
}

/* ---- requests ---- */

static void hid_reset(struct usb_device *usb)
{
    struct hid *hid = CONTAINER_OF(usb, struct hid, usb);

    hid->head = hid->count = 0;
    memset(hid->report, 0, sizeof(hid->report));
    memset(hid->now, 0, sizeof(hid->now));
    hid->idle = 0;
    hid->output = 0;
    hid->report_protocol = 1;
    hid->model->reset(usb);
}

static enum usb_result answer(uint8_t *data, unsigned *length, const void *bytes, unsigned count)
{
    memcpy(data, bytes, count);
    *length = count;
    return USB_OK;
}

static enum usb_result hid_request(struct usb_device *usb, const struct usb_setup *setup,
                                   uint8_t *data, unsigned *length)
{
    struct hid *hid = CONTAINER_OF(usb, struct hid, usb);
    const struct hid_model *model = hid->model;
    unsigned kind = setup->value >> 8;

    if ((setup->type & USB_TYPE_KIND) == USB_TYPE_STANDARD) {
        if (setup->request != USB_GET_DESCRIPTOR)
            return USB_STALL;
        if (kind == DESCRIPTOR_REPORT)
            return answer(data, length, model->report_descriptor, model->report_descriptor_length);
        if (kind == DESCRIPTOR_HID)
            return answer(data, length, hid->configuration_descriptor + HID_DESCRIPTOR_OFFSET,
                          HID_DESCRIPTOR_LENGTH);
        return USB_STALL;
    }
    if ((setup->type & ~USB_TYPE_IN) != (USB_TYPE_CLASS | USB_TYPE_INTERFACE))
        return USB_STALL;
    switch (setup->request) {
    case GET_REPORT:
        if (kind == REPORT_INPUT)
            return answer(data, length, hid->now, model->report_length);
        return USB_STALL;
    case SET_REPORT:
        if (kind != REPORT_OUTPUT || *length < 1)
            return USB_STALL;
        hid->output = data[0];
        return USB_OK;
    case GET_IDLE:
        return answer(data, length, &hid->idle, 1);
    case SET_IDLE:
        hid->idle = (uint8_t)kind;
        return USB_OK;
    case GET_PROTOCOL:
        return answer(data, length, &hid->report_protocol, 1);
    case SET_PROTOCOL: /* a boot keyboard's reports are the same in both */
        hid->report_protocol = setup->value & 1;
        return model->protocol ? USB_OK : USB_STALL;
    }
    return USB_STALL;
}

static const struct usb_device_ops hid_ops = {
    .reset = hid_reset,
    .request = hid_request,
    .in = hid_in,
};

/* ---- life and state ---- */

void hid_init(struct hid *hid, const char *name, const struct hid_model *model, struct input *input,
              void *state_object)
{
    hid->model = model;
    hid->input = input;
    hid->usb.dev = (struct device){model->device_ops, name, state_object};
    describe(hid);
    usb_device_init(&hid->usb, &hid_ops, &hid->descriptors, USB_FULL_SPEED);
    usb_device_reset(&hid->usb);
    hid->sink = (struct input_sink){.ops = model->sink_ops, .opaque = hid};
    input_add(input, &hid->sink);
}

void hid_done(struct hid *hid)
{
    input_remove(hid->input, &hid->sink);
    usb_device_done(&hid->usb);
}

const struct state_field hid_fields[] = {
    STATE_STRUCT(struct hid, usb, usb_device_fields),
    STATE_BYTES(struct hid, report),
    STATE_INT(struct hid, head),
    STATE_INT(struct hid, count),
    STATE_BYTES(struct hid, now),
    STATE_INT(struct hid, idle),
    STATE_INT(struct hid, report_protocol),
    STATE_INT(struct hid, output),
    STATE_END,
};

int hid_check(const struct hid *hid, struct error *err)
{
    if (!usb_device_is_valid(&hid->usb) || hid->head >= HID_QUEUE || hid->count > HID_QUEUE ||
        hid->report_protocol > 1)
        return error_set(err, -EBADMSG, "%s: the saved state of the USB device is impossible",
                         hid->usb.dev.name);
    return 0;
}
